"""The screen during a local run: steps and their progress. Everything else goes to a log file."""

from __future__ import annotations

import io
import re
import time
from typing import TextIO

from glt.text import printable
from pipelines.reuse import Reuse

_COLOUR = re.compile(r"\x1b\[\d*m")
ERROR = "glt: error: "  # start of the error line of a failed step
_EXECUTING = re.compile(r"Executing task '([\w-]+)'")
_FINISHED = re.compile(r"Task '([\w-]+)' finished with status (\w+)")
_REUSED = re.compile(r"Task ([\w-]+) cache hit")
_PROGRESS = re.compile(r"\S.*[█░]{20}.*")
_MESSAGE = re.compile(r"glt: .*")


def plain(text: str) -> str:
    """Text without the colours that Kubeflow's local runner gives it."""
    return _COLOUR.sub("", text)


class StepDisplay(io.TextIOBase):
    """A stream for the output of Kubeflow's local runner: all lines go to `log`, the few that matter to `screen`.

    On a terminal the progress of a step is one line, redrawn; elsewhere each update is a line.
    """

    def __init__(self, screen: TextIO, log: TextIO, reuse: Reuse | None = None) -> None:
        """Pass the stream to print to, the log file, and the record that explains why a step is run again."""
        self._screen, self._log, self._reuse = screen, log, reuse
        self._live = screen.isatty()
        self._buffer = ""
        self._started: dict[str, float] = {}

    def write(self, text: str) -> int:
        """Process a piece of the runner's output, which may end in the middle of a line."""
        self._buffer += text
        *lines, self._buffer = self._buffer.split("\n")
        for line in lines:
            self._log.write(plain(line) + "\n")
            self._handle(printable(plain(line)).strip())
        return len(text)

    def flush(self) -> None:
        """Flush the log and the screen."""
        self._log.flush()
        self._screen.flush()

    def _handle(self, line: str) -> None:
        if match := _EXECUTING.search(line):
            self._started[match[1]] = time.monotonic()
            if self._reuse and (reason := self._reuse.reason(match[1])):
                self._show(f"{match[1]:<13} {reason}")
        elif match := _FINISHED.search(line):
            seconds = time.monotonic() - self._started.get(match[1], time.monotonic())
            done = "done" if match[2] == "SUCCESS" else "failed"
            self._show(f"{match[1]:<13} {done} in {seconds:.0f} s")
            if self._reuse and done == "done":
                self._reuse.complete(match[1])
        elif match := _REUSED.search(line):
            self._show(f"{match[1]:<13} nothing changed, reused")
            if self._reuse:
                self._reuse.complete(match[1])
        elif match := _PROGRESS.search(line):
            self._show("  " + match[0], transient=True)
        elif match := _MESSAGE.search(line):
            self._show(match[0])

    def _show(self, line: str, *, transient: bool = False) -> None:
        if self._live:
            self._screen.write(f"\r\x1b[K{line[:119]}" + ("" if transient else "\n"))
        else:
            self._screen.write(line + "\n")
        self._screen.flush()
