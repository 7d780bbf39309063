"""Losses of 20 optimisation steps of the sample recipe's pretraining against a stored curve, in double precision.

python -m tests.training.test_curve        # stores the curve again
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from glt import recipe
from glt.data.clips import ClipStore
from glt.data.ingest import ingest
from glt.data.sample.recordings import record, skeleton_text, takes
from glt.motion.disentangle import Motions, write_motions
from glt.motion.packed import Packed
from glt.reporter import Silent
from glt.training.checkpoint import Checkpoint
from glt.training.distributed import World
from glt.training.pretrain import PretrainingRun

CURVE = Path(__file__).with_name("curve.json")
STEPS = 20
TAKES = slice(0, None, 9)  # 43 of the sample set's 384 takes, of all subjects
TOLERANCE = 1e-9  # relative; processors and numbers of threads differ by less than 1e-14
RENEW = (
    "The numerics of pretraining have changed. If that is intended, run `python -m tests.training.test_curve`, "
    "commit tests/training/curve.json, and explain the change in the commit's message."
)


class DoubleMotions(Motions):
    """Motions whose tokens are float64, so that rounding does not add up to a difference."""

    def batch(self, clip_ids: NDArray[np.int64]) -> Packed:
        """As `Motions.batch`, in float64."""
        batch = super().batch(clip_ids)
        return replace(batch, tokens=batch.tokens.double())


def test_losses_are_those_of_the_stored_curve(tmp_path: Path) -> None:
    stored = json.loads(CURVE.read_text(encoding="utf-8"))
    np.testing.assert_allclose(losses(tmp_path), stored, rtol=TOLERANCE, atol=0, err_msg=RENEW)


@contextmanager
def reproducible() -> Iterator[None]:
    """Float64 and one thread: initial weights drawn in float32 depend on the processor in their last bit."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)


def losses(folder: Path) -> list[float]:
    """The loss of each step, from recordings to optimiser; `folder` is empty."""
    settings, chosen = recipe.load("sample"), takes()[TAKES]
    (folder / "recordings").mkdir()
    for take in chosen:
        text = skeleton_text(record(take), 4 * take.serial)
        (folder / "recordings" / take.name).write_text(text, encoding="ascii", newline="")
    ingest(folder / "recordings", settings, folder / "clips", {}, Silent(), folder / "segments", processes=1)
    write_motions(ClipStore(folder / "clips"), settings, folder / "motions", {"data_version": "test"}, Silent())
    motions, cpu, result = DoubleMotions(folder / "motions"), World(torch.device("cpu")), list[float]()
    with reproducible():
        run = PretrainingRun(motions, settings, cpu, Checkpoint(None), None)
        while len(result) < STEPS:
            batches = run.begin_epoch()
            result += [run.step(batches, ending=False).item() for _ in batches]
            run.end_epoch()
    return result[:STEPS]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        CURVE.write_text(json.dumps(losses(Path(scratch)), indent=1) + "\n", encoding="utf-8")
