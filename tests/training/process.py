"""A process that pretrains, alone or under torchrun, as the step does but without MLflow: to be killed by tests.

`python -m tests.training.process MOTIONS RECIPE OUT CHECKPOINTS [die=N]`: a checkpoint a step, a line an epoch; with
`die` it kills itself with SIGKILL while it writes the N-th checkpoint. `{rank}` in CHECKPOINTS is the process's number.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from glt import logs
from glt.errors import GltError
from glt.motion.disentangle import Motions
from glt.recipe import load
from glt.reporter import Reporter, Silent
from glt.training import checkpoint as checkpoints
from glt.training.distributed import world
from glt.training.encoder import save_encoder
from glt.training.pretrain import train_encoder


class Lines(Silent):
    """Says every epoch that is done, so that a test knows when to strike."""

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        print(f"epoch {done}", flush=True)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Not needed."""


def die_while_saving(number: int) -> None:
    """The process ends, as by `kill -9`, when the weights of a checkpoint are half written."""
    write, count = checkpoints.write_weights, 0

    def strike(path: Path, tensors: Mapping[str, Tensor]) -> None:
        nonlocal count
        count += 1
        write(path, tensors)
        if count == number:
            with path.open("r+b") as file:
                file.truncate(path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoints.write_weights = strike


def train(motions: Path, recipe: str, out: Path, folder: str, reporter: Reporter) -> None:
    """Pretrain and write the encoder."""
    data, settings = Motions(motions), load(recipe)
    identity = {"recipe": settings.model_dump(mode="json"), "data": data.digest}
    with world("cpu") as here:
        checkpoint = checkpoints.Checkpoint(Path(folder.format(rank=here.rank)), identity, every=0)
        encoder, history = train_encoder(data, settings, here, reporter if here.is_first else Silent(), checkpoint)
        if here.is_first:
            save_encoder(encoder, history, out, {})
            print(f"done by {here.size}", flush=True)


def main() -> None:
    """As the module says."""
    logs.to_stderr()
    motions, recipe, out, folder, *more = sys.argv[1:]
    if more:
        die_while_saving(int(more[0].removeprefix("die=")))
    train(Path(motions), recipe, Path(out), folder, Lines())


if __name__ == "__main__":
    try:
        main()
    except GltError as error:
        print(f"glt: error: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
