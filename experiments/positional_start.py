"""The loss of the first epochs of MPDP, by the initial value of the positional table.

    python -m experiments.positional_start --recipe nw-ucla --recordings path/to/all_sqe.zip

Pretrains the recipe's encoder for the first epochs (the schedule stays that of the whole training) from sinusoids and
from zeros, with the same seed, and writes both losses to results/positional-start-<recipe>.json.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from benchmarks.hardware import ROOT, commit, hardware
from glt import artifact, recipe
from glt.data.clips import ClipStore
from glt.data.ingest import ingest
from glt.lifecycle.dvc_hash import content_md5
from glt.motion.disentangle import Motions, write_motions
from glt.reporter import Silent
from glt.training.checkpoint import Checkpoint
from glt.training.pretrain import train_encoder

STARTS = ("sinusoidal", "zeros")


class EnoughEpochs(Exception):
    """The epochs asked for are done."""


class LossRecorder(Silent):
    """Keeps the loss of each epoch and ends the training after `epochs`."""

    def __init__(self, epochs: int) -> None:
        """The losses are in `values`."""
        self.values: list[float] = []
        self._epochs = epochs

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Take the loss of an epoch."""
        self.values.append(round(values["pretrain/loss"], 4))
        print(f"  epoch {step}: {self.values[-1]:.3f}", flush=True)
        if step == self._epochs:
            raise EnoughEpochs


def main() -> None:
    """Measure, print, write the result."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--recipe", default="sample")
    arguments.add_argument("--recordings", type=Path, default=ROOT / "data")
    arguments.add_argument("--epochs", type=int, default=6)
    options = arguments.parse_args()
    base = recipe.load(options.recipe)
    with tempfile.TemporaryDirectory() as folder:
        clips, motions = Path(folder) / "clips", Path(folder) / "motions"
        ingest(options.recordings, base, clips, {}, Silent(), Path(folder) / "segments")
        write_motions(ClipStore(clips), base, motions, {}, Silent())
        losses = {start: first_losses(Motions(motions), base, start, options.epochs) for start in STARTS}
    result = {
        "loss": losses,
        "seed": base.seed,
        "recipe": base.model_dump(mode="json"),
        "data_version": content_md5(options.recordings),
        "commit": commit(),
        "hardware": hardware(torch.get_num_threads()),
    }
    path = ROOT / "results" / f"positional-start-{base.name}.json"
    artifact.write_json(path, result)
    print(path)


def first_losses(motions: Motions, base: recipe.Recipe, start: str, epochs: int) -> list[float]:
    """Train for the first epochs and return the loss of each."""
    print(start)
    chosen = base.model_copy(update={"model": base.model.model_copy(update={"positional_start": start})})
    losses = LossRecorder(epochs)
    with contextlib.suppress(EnoughEpochs):
        train_encoder(motions, chosen, torch.device("cpu"), losses, Checkpoint(None))
    return losses.values


if __name__ == "__main__":
    main()
