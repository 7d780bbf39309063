"""Operations of a pretraining step on a GPU, counted without one.

    python -m benchmarks.operations        # prints JSON

A step of `glt.training.pretrain`, from the augmentation to AdamW, is run on tensors that have shapes and no values,
with the code that a GPU runs. Counted are all operations that torch dispatches, views and copies to the GPU included
(`aten`); those of them that launch a kernel (`launches`); and those that let the host wait for a result (`syncs`): the
losses are read every ten steps, and not in the step that is counted. A call of fused attention counts as one.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.clips import RECORDINGS, pack
from glt import accelerator
from glt.motion.displacement import fit_bins
from glt.motion.packed import Packed
from glt.recipe import Recipe, load
from glt.training.batches import ClipIds
from glt.training.checkpoint import Checkpoint
from glt.training.distributed import World
from glt.training.pretrain import PretrainingRun

RECIPE = "ntu60-xsub-paper"
NO_KERNEL = {  # beside views: memory without a value, and what only the host knows
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "alias", "lift_fresh"),
    *("_unsafe_view", "_reshape_alias", "sym_size", "sym_stride", "set_", "resize_"),
    *("_record_function_enter_new", "_record_function_exit"),
}
WAITING = {
    *("_local_scalar_dense", "nonzero", "masked_select", "bincount", "equal", "is_nonzero", "_unique2"),
    *("unique_dim", "unique_consecutive", "histc", "allclose"),
}


class Count(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that are dispatched within the block.

    Attributes:
        by_name: number of calls of every operation.
        launches: number of those that launch a kernel.
        syncs: number of those that let the host wait.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.by_name: Counter[str] = Counter()
        self.launches = self.syncs = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Count one, if it is not one of those by which Python asks for a tensor's device."""
        if func.namespace == "prim":
            return func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.by_name[name] += 1
        self.launches += not (func.is_view or name in NO_KERNEL)
        self.syncs += name in WAITING or (name in ("index", "index_put_", "_index_put_impl_") and _selects(args[1]))
        return func(*args, **(kwargs or {}))

    def copy(self, tensor: Tensor, _: torch.device) -> Tensor:
        """Count a copy to the GPU, in place of `glt.accelerator.pinned`: to pinned memory, then to the device."""
        self.by_name["copy to pinned memory"] += 1
        self.by_name["copy to the device"] += 1
        self.launches += 1
        return tensor

    def to_dict(self) -> dict[str, int]:
        """The counts as JSON values."""
        return {"aten": self.by_name.total(), "launches": self.launches, "syncs": self.syncs}


def _selects(indices: Sequence[Tensor | None]) -> bool:
    """True if an index is a mask: the size of the result is then known to the device only."""
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


class SyntheticMotions:
    """Stand-in for `Motions` in a `PretrainingRun`: one batch of the clips of benchmarks/clips.py, again and again."""

    def __init__(self, name: str, batch: int) -> None:
        """`name` is a key of RECORDINGS; seed 0."""
        recordings = RECORDINGS[name]
        self.persons, self.joints, self.global_tokens = recordings.persons, recordings.joints, 1
        self._clips = recordings.clips(recordings.lengths(batch))
        many = pack(recordings.clips(recordings.lengths(64), seed=1))
        self.bins = fit_bins(many, load(RECIPE).motion)
        self.index = pd.DataFrame({"length": [len(tokens) for tokens, _ in self._clips]})
        self.skeleton, self.mirror = _Upright(), tuple(range(self.joints))

    def clip_ids(self, split: str, *, labelled: bool = False) -> ClipIds:
        """All."""
        return np.arange(len(self._clips))

    def batch(self, clip_ids: ClipIds) -> Packed:
        """The clips with these indices."""
        return pack([self._clips[n] for n in clip_ids])


class _Upright:
    up = 1


def as_on_a_gpu() -> AbstractContextManager[object]:
    """Let this CPU run the code of a GPU within the block."""
    return patch.object(accelerator, "GPUS", accelerator.GPUS | {"cpu"})


def repeat_first_epoch(run: PretrainingRun, times: int) -> list[ClipIds]:
    """Let a run have the batches of its first epoch so many times in one epoch; returns them."""
    batches = run.begin_epoch() * times
    run.feed.batches = lambda _: batches
    return batches


def count(recipe: Recipe, name: str = "ntu") -> Count:
    """The operations of the second step of a pretraining; the first one makes the optimiser's state."""
    motions: Any = SyntheticMotions(name, recipe.pretrain.batch)
    counter = Count()
    with as_on_a_gpu(), FakeTensorMode(allow_non_fake_inputs=True):
        with patch.object(torch.nn.Module, "to", lambda module, *_: module):  # fails without values
            run = PretrainingRun(motions, recipe, World(torch.device("cpu")), Checkpoint(None), None)
        batches = repeat_first_epoch(run, 4)
        run.step(batches, ending=False)
        with patch.object(accelerator, "pinned", counter.copy), counter:
            run.step(batches, ending=False)
    return counter


def main() -> None:
    """Print the counts."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--recipe", default=RECIPE, help="whose sizes; the clips are as long as NTU's")
    arguments.add_argument("--names", action="store_true", help="the operations, too, the most frequent first")
    given = arguments.parse_args()
    counter = count(load(given.recipe))
    print(json.dumps(counter.to_dict() | ({"by_name": dict(counter.by_name.most_common())} if given.names else {})))


if __name__ == "__main__":
    main()
