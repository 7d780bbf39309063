"""What a person sees while the graph runs locally: the steps and their progress. All the rest goes to a log file."""

from __future__ import annotations

import io
import re
import time
from typing import TextIO

_COLOUR = re.compile(r"\x1b\[\d*m")
_EXECUTING = re.compile(r"Executing task '([\w-]+)'")
_FINISHED = re.compile(r"Task '([\w-]+)' finished with status (\w+)")
_REUSED = re.compile(r"Task ([\w-]+) cache hit")
_PROGRESS = re.compile(r"\S.*[█░]{20}.*")
_MESSAGE = re.compile(r"glt: .*")


class StepDisplay(io.TextIOBase):
    """A stream to run Kubeflow's local runner into: keeps every line in `log`, shows the few that matter on `screen`.

    On a terminal the progress of a step is one line that changes; elsewhere it is a line now and then.
    """

    def __init__(self, screen: TextIO, log: TextIO) -> None:
        """Lines arrive through `write`."""
        self._screen, self._log = screen, log
        self._live = screen.isatty()
        self._buffer = ""
        self._started: dict[str, float] = {}

    def write(self, text: str) -> int:
        """Take a piece of the runner's output."""
        self._buffer += text
        *lines, self._buffer = self._buffer.split("\n")
        for line in lines:
            self._log.write(line + "\n")
            self._line(_COLOUR.sub("", line).strip())
        return len(text)

    def flush(self) -> None:
        """Flush both."""
        self._log.flush()
        self._screen.flush()

    def _line(self, line: str) -> None:
        if found := _EXECUTING.search(line):
            self._started[found[1]] = time.monotonic()
        elif found := _FINISHED.search(line):
            seconds = time.monotonic() - self._started.get(found[1], time.monotonic())
            done = "done" if found[2] == "SUCCESS" else "failed"
            self._say(f"{found[1]:<14}{done} in {seconds:.0f} s")
        elif found := _REUSED.search(line):
            self._say(f"{found[1]:<14}nothing changed, reused")
        elif found := _PROGRESS.search(line):
            self._say("  " + found[0], passing=True)
        elif found := _MESSAGE.search(line):
            self._say(found[0])

    def _say(self, line: str, *, passing: bool = False) -> None:
        if self._live:
            self._screen.write(f"\r\x1b[K{line[:119]}" + ("" if passing else "\n"))
        else:
            self._screen.write(line + "\n")
        self._screen.flush()
