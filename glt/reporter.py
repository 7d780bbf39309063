"""Progress and metrics of a running protocol. The science knows no MLflow: a step passes it a Reporter."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from glt import logs
from glt.console import cell, console


class Reporter(Protocol):
    """Takes metrics (fixed keys, see docs/operate.md) and progress."""

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Record `values` at `step` (an epoch, unless the key says otherwise)."""

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units of `task` are finished."""


class ConsoleReporter:
    """Shows progress on stderr: a rich bar on a terminal, else a line every `every` seconds (pod logs, a pipe)."""

    def __init__(self, every: float = 5.0) -> None:
        self._every = every
        self._console = console(stderr=True)
        self._bar: Progress | None = None
        self._tasks: dict[str, int] = {}
        self._started: dict[str, tuple[float, int]] = {}
        self._said: dict[str, float] = {}

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Metrics are for the tracker; the console shows them in the progress note."""

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        """Draw or print the state of `task`; nothing if the user has asked for quiet."""
        if logs.quiet():
            return
        task, note = cell(task), cell(note)
        if self._console.is_terminal:
            self._draw(task, done, total, note)
        else:
            self._print(task, done, total, note)

    def _draw(self, task: str, done: int, total: int, note: str) -> None:
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=self._console,
            )
            self._bar.start()
        if task not in self._tasks:
            self._tasks[task] = self._bar.add_task(task, total=total, note=note)
        self._bar.update(self._tasks[task], completed=done, total=total, note=note)  # type: ignore[arg-type]
        if done >= total and self._bar.finished:
            self._bar.stop()
            self._bar, self._tasks = None, {}

    def _print(self, task: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        started, before = self._started.setdefault(task, (now, done))
        if done < total and now - self._said.get(task, -self._every) < self._every:
            return
        self._said[task] = now
        left = f"{(now - started) / (done - before) * (total - done):.0f} s left" if before < done < total else ""
        filled = 20 * done // max(total, 1)
        parts = [f"{task:<12}", "█" * filled + "░" * (20 - filled), f"{done}/{total}", note, left]
        print("  ".join(part for part in parts if part), file=sys.stderr, flush=True)


class Silent:
    """For tests and notebooks that want neither."""

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Drop them."""

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        """Drop it."""
