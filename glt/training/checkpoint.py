"""Training state on disk: an interrupted run goes on where it was, in the middle of an epoch too.

A checkpoint is an artifact folder ``step-00000123`` (safetensors + JSON, nothing pickled), written aside and renamed,
so that it is whole or not there. The last few stand beside each other. Each says in its manifest which run it is of
(recipe, data, code): another run refuses it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from glt import artifact
from glt.errors import GltError, SharedError
from glt.file_lock import LockedError, file_lock
from glt.recipe import flat
from glt.training.weights import read_weights, write_weights

_LOG = logging.getLogger(__name__)

KIND = "checkpoint"
_NAME, _DIGITS = "step-", 8
_LOCK = ".lock"
_FILES = ("state.safetensors", "state.json", artifact.MANIFEST)


@dataclass
class Progress:
    """The progress of a training.

    Attributes:
        epoch: epochs done.
        step: steps done of the epoch after those.
        steps: steps done in total; part of the name of a checkpoint.
        history: results of the epochs done; JSON values.
        sums: tensors summed over the steps of the current epoch.
        scalars: numbers summed over the steps of the current epoch.
    """

    epoch: int = 0
    step: int = 0
    steps: int = 0
    history: list[Any] = field(default_factory=list)
    sums: dict[str, Tensor] = field(default_factory=dict)
    scalars: dict[str, float] = field(default_factory=dict)


@dataclass
class Checkpoint:
    """The folder in which a run stores its state; with `folder` None nothing is stored.

    Attributes:
        folder: of the run's checkpoints; must outlive the process, and be the same for all processes of the run.
        identity: everything the run depends on, as nested JSON values. Only a state of equal identity is restored.
        every: seconds between two states.
        max_states: number of states stored; older ones are deleted.
    """

    folder: Path | None
    identity: Mapping[str, Any] = field(default_factory=dict)
    every: float = 30.0
    max_states: int = 2
    _saved: float = field(default_factory=time.monotonic)

    @property
    def is_due(self) -> bool:
        """True once `every` seconds have passed since the last state."""
        return self.folder is not None and time.monotonic() - self._saved >= self.every

    @property
    def has_state(self) -> bool:
        """True if there is a state to resume from."""
        return self.folder is not None and self.folder.exists() and bool(self._states())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from training with this folder.

        Raises:
            GltError: another process trains with it.
        """
        if self.folder is None:
            yield
            return
        with ExitStack() as stack:
            try:
                stack.enter_context(file_lock(self.folder / _LOCK, "training"))
            except LockedError:
                raise GltError(
                    f"checkpoints {self.folder}: another process trains with them; wait for it, or give another folder"
                ) from None
            except OSError as error:  # some network volumes have no locks
                _LOG.warning(
                    "checkpoints %s: cannot be locked (%s); start no second training", self.folder, error.strerror
                )
            try:
                yield
            finally:
                _remove_lock(self.folder / _LOCK)
                self._leave_no_empty_folder()

    def save(self, progress: Progress, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write a state, then delete all but the newest `max_states`.

        Raises:
            GltError: the folder cannot be written; earlier states stay.
        """
        if self.folder is None:
            return
        optimized = optimizer.state_dict()
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        for index, state in optimized["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        tensors |= {f"sums.{name}": value for name, value in progress.sums.items()}
        info = {"identity": self.identity, "epoch": progress.epoch, "step": progress.step, "steps": progress.steps}
        state = {"groups": optimized["param_groups"], "history": progress.history, "numbers": progress.scalars}
        try:
            with artifact.create(self.folder / f"{_NAME}{progress.steps:0{_DIGITS}d}", KIND, info) as draft:
                write_weights(draft / "state.safetensors", tensors)
                (draft / "state.json").write_text(json.dumps(state), encoding="utf-8")
        except OSError as error:
            raise GltError(
                f"checkpoints {self.folder}: cannot be written ({error}); make room or name another folder, "
                "and run the same again"
            ) from error
        for old in self._states()[: -self.max_states]:
            shutil.rmtree(old, ignore_errors=True)
        self._saved = time.monotonic()

    def sweep(self) -> None:
        """Delete unfinished states of killed processes, and damaged states newer than the last good one."""
        if self.folder is None or not self.folder.exists():
            return
        artifact.sweep(self.folder)
        for draft in self.folder.glob(f".{_NAME}*"):  # of earlier versions of glt
            if _holds_only_states(draft):
                shutil.rmtree(draft, ignore_errors=True)
        for state in reversed(self._states()):
            try:
                artifact.open_artifact(state, KIND)
                return
            except GltError as error:
                why = str(error).split(";")[0]
                _LOG.warning(
                    "checkpoint %s is damaged and deleted, the one before is taken if there is one (%s)", state, why
                )
                shutil.rmtree(state)

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer, *, quiet: bool = False) -> Progress:
        """Load the newest state into `model` and `optimizer`; how far it is, which is nowhere if there is none.

        Call `sweep` first, in one process. It says where the training goes on unless `quiet`.

        Raises:
            SharedError: the state is of another run; says what differs.
        """
        if not self.has_state:
            return Progress()
        states = self._states()
        info = artifact.open_artifact(states[-1], KIND, verify=False)
        tensors = read_weights(states[-1] / "state.safetensors")
        state = artifact.read_json(states[-1] / "state.json", dict)
        with artifact.reading(states[-1]):
            self._same_run(states[-1], info["identity"])
            progress = self._load(info, state, tensors, model, optimizer)
        if not quiet:
            _LOG.info("goes on from %s, %s epochs and %s steps done", states[-1], progress.epoch, progress.step)
        return progress

    def _load(
        self,
        info: Mapping[str, Any],
        state: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
    ) -> Progress:
        model.load_state_dict(_part(tensors, "model."))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _part(tensors, "optimizer.").items():
            index, key = name.split(".", 1)
            moments.setdefault(int(index), {})[key] = value
        optimizer.load_state_dict({"state": moments, "param_groups": state["groups"]})
        device = next(model.parameters()).device
        sums = {name: value.to(device) for name, value in _part(tensors, "sums.").items()}
        return Progress(info["epoch"], info["step"], info["steps"], state["history"], sums, state["numbers"])

    def delete(self) -> None:
        """Delete all states, once the run is done; other files in the folder stay."""
        if self.folder is None or not self.folder.exists():
            return
        for state in self._states():
            shutil.rmtree(state, ignore_errors=True)
        self._leave_no_empty_folder()

    def _leave_no_empty_folder(self) -> None:
        if self.folder is not None and self.folder.exists() and not [*self.folder.iterdir()]:
            with suppress(OSError):  # it may be where a volume is mounted
                self.folder.rmdir()

    def _states(self) -> list[Path]:
        """Oldest first; folders of such a name that hold anything else are the user's."""
        assert self.folder is not None
        return sorted(filter(_holds_only_states, self.folder.glob(_NAME + "[0-9]" * _DIGITS)))

    def _same_run(self, state: Path, identity: Any) -> None:
        theirs, ours = (flat(json.loads(json.dumps(one))) for one in (identity, self.identity))
        changed = [
            f"{name.removeprefix('recipe.')}: {theirs.get(name, 'absent')} in the checkpoint, "
            f"{ours.get(name, 'absent')} now"
            for name in sorted(theirs.keys() | ours.keys())
            if theirs.get(name) != ours.get(name)
        ]
        if changed:
            raise SharedError(
                f"{state} is of another run: {'; '.join(changed)}; "
                f"restore that, or delete {self.folder}, or give another --checkpoints"
            )


def fingerprint(identity: Mapping[str, Any]) -> str:
    """16 hex digits that identify a run: the hash of everything it depends on."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _holds_only_states(folder: Path) -> bool:
    """True if a folder holds nothing but files of a state, however damaged or unfinished."""
    files = (file.name for file in folder.rglob("*") if file.is_symlink() or not file.is_dir())
    own = all(name in _FILES or name.startswith(f".{artifact.MANIFEST}.") for name in files)
    return own and folder.is_dir() and not folder.is_symlink()


def _remove_lock(lock: Path) -> None:
    """Delete the lock file, unless it is the user's: ours is empty."""
    with suppress(FileNotFoundError):
        if lock.stat().st_size == 0:
            lock.unlink()


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
