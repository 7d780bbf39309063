"""Starts `tests.training.process`, alone or many, waits for an epoch, compares what two trainings left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from glt.motion.disentangle import Motions
from glt.recipe import Recipe
from glt.reporter import Reporter
from tests.training.process import train

ROOT = Path(__file__).parents[2]
MODULE = "tests.training.process"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")


class Training:
    """A training of `recipe` in processes of its own, in a folder of its own."""

    def __init__(self, folder: Path, motions: Motions, recipe: Recipe) -> None:
        folder.mkdir(exist_ok=True)
        self.out, self.states, self.recipe, self.motions = folder / "out", folder / "states", folder / "r.yaml", motions
        self.recipe.write_text(yaml.safe_dump(recipe.model_dump(mode="json")), encoding="utf-8")

    def start(self, *more: str, processes: int = 1, states: str = "") -> subprocess.Popen[str]:
        """Start it; it goes on where it was."""
        how = [*TORCHRUN, str(processes), "-m"] if processes > 1 else ["-m"]
        what = [self.motions.path, self.recipe, self.out, states or self.states, *more]
        return subprocess.Popen(
            [sys.executable, *how, MODULE, *map(str, what)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def finish(self, *more: str, processes: int = 1) -> None:
        """Start it and let it end well."""
        out, err = (run := self.start(*more, processes=processes)).communicate(timeout=120)
        assert run.returncode == 0, err
        assert f"done by {processes}" in out

    def here(self, reporter: Reporter) -> None:
        """Go on with it in this process."""
        train(self.motions.path, str(self.recipe), self.out, str(self.states), reporter)

    def break_off(self, epoch: int, signal: int, processes: int = 1) -> tuple[int, str]:
        """Start it and send a signal when it has done `epoch` epochs; exit code and stderr."""
        run = self.start(processes=processes)
        assert run.stdout is not None
        while run.stdout.readline() != f"epoch {epoch}\n":
            assert run.poll() is None, run.stderr
        run.send_signal(signal)
        _, err = run.communicate(timeout=120)
        return run.returncode, err

    def names(self) -> list[str]:
        """The checkpoints, hidden things too."""
        return sorted(path.name for path in self.states.iterdir())

    def weights(self) -> dict[str, Tensor]:
        """Of the encoder it made."""
        weights: dict[str, Tensor] = load_file(self.out / "model.safetensors")
        return weights

    def history(self) -> list[dict[str, float]]:
        """Of the encoder it made, without what depends on the clock."""
        rows = json.loads((self.out / "history.json").read_text(encoding="utf-8"))
        return [{name: value for name, value in row.items() if not name.startswith("speed/")} for row in rows]


def same(a: Training, b: Training) -> bool:
    """Bit for bit."""
    first, second = a.weights(), b.weights()
    return a.history() == b.history() and all(torch.equal(first[name], second[name]) for name in first)


def assert_close(a: Training, b: Training, within: float = 1e-5) -> None:
    """The same metrics and weights up to rounding.

    But for the bias of attention's keys: softmax does not change with it, so its gradient is rounding alone, which
    Adam divides by its own size.
    """
    for one, other in zip(a.history(), b.history(), strict=True):
        assert one.keys() == other.keys()
        assert max(abs(one[name] - other[name]) for name in one) < within
    first, second = a.weights(), b.weights()
    assert first.keys() == second.keys()
    for name, value in first.items():
        apart = (value - second[name]).abs()
        if name.endswith("qkv.bias"):
            third = len(apart) // 3
            apart = torch.cat([apart[:third], apart[2 * third :]])
        assert apart.max() < within, name
