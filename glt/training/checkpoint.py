"""Training state on disk: an interrupted run goes on where it was, bit for bit on a CPU.

A checkpoint is an artifact folder (safetensors + JSON, nothing pickled) that replaces the one before atomically. It
belongs to one run: recipe, data and code are hashed into its fingerprint, and another fingerprint starts afresh.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from glt import artifact
from glt.errors import GltError

KIND = "checkpoint"


@dataclass
class Checkpoint:
    """Where a run keeps its state; `folder` None keeps none.

    Attributes:
        folder: the checkpoint's place.
        fingerprint: what the run is; from `fingerprint`.
        every: seconds between two states that `keep` saves.
    """

    folder: Path | None
    fingerprint: str
    every: float = 30.0
    _saved: float = field(default_factory=time.monotonic)

    def keep(self, epoch: int, model: nn.Module, optimizer: torch.optim.Optimizer, history: list[Any]) -> None:
        """Save the state if the last one is old enough."""
        if time.monotonic() - self._saved >= self.every:
            self.save(epoch, model, optimizer, history)
            self._saved = time.monotonic()

    def save(self, epoch: int, model: nn.Module, optimizer: torch.optim.Optimizer, history: list[Any]) -> None:
        """The state after `epoch` epochs."""
        if self.folder is None:
            return
        optimized = optimizer.state_dict()
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        for number, state in optimized["state"].items():
            tensors |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in state.items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        with artifact.create(self.folder, KIND, {"epoch": epoch, "fingerprint": self.fingerprint}) as draft:
            save_file({name: value.contiguous() for name, value in tensors.items()}, draft / "state.safetensors")
            state = {"groups": optimized["param_groups"], "history": history}
            (draft / "state.json").write_text(json.dumps(state), encoding="utf-8")

    def drop(self) -> None:
        """Delete the state: the run is done."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, list[Any]]:
        """Load the state into `model` and `optimizer`; how many epochs are done, and their history.

        (0, []) without a checkpoint, or with one that is damaged or of another run: the run starts afresh.
        """
        if self.folder is None or not self.folder.exists():
            return 0, []
        try:
            info = artifact.open_artifact(self.folder, KIND)
        except GltError:
            return 0, []
        if info["fingerprint"] != self.fingerprint:
            return 0, []
        tensors = load_file(self.folder / "state.safetensors")
        state = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        model.load_state_dict({n.removeprefix("model."): v for n, v in tensors.items() if n.startswith("model.")})
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, number, key = name.split(".", 2)
                moments.setdefault(int(number), {})[key] = value
        optimizer.load_state_dict({"state": moments, "param_groups": state["groups"]})
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random.cuda"])
        return int(info["epoch"]), state["history"]


def fingerprint(*parts: str) -> str:
    """One hash of all that a run depends on."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
