"""Guards inside the process that runs the cases: memory, writes outside of the sandbox, programs and connections."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Any

from tests.fuzz.outcome import Broken

_HARD = 6 << 30  # bytes of address space that a case may add
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.symlink", "os.link", "os.truncate"}
_PROGRAMS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "pty.spawn"}
_FREE = ("/dev/", "/proc/self/clear_refs")


class Guard:
    """Notes what a case does to files outside of the sandbox, and the programs that it starts."""

    def __init__(self, sandbox: Path, programs: bool) -> None:
        self.sandbox, self.programs = str(sandbox), programs
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = (*arguments, None, None, None)[:3]
            writes = isinstance(flags, int) and bool(flags & _WRITES)
            if isinstance(path, (str, bytes)) and writes:
                self._changes(event, path)
        elif event in _CHANGES:
            for path in arguments[:2] if event in ("os.rename", "os.symlink", "os.link") else arguments[:1]:
                if isinstance(path, (str, bytes)):
                    self._changes(event, path)
        elif event in _PROGRAMS and not self.programs:
            self.seen.append(f"starts a program: {arguments!r:.100}")

    def _changes(self, event: str, path: str | bytes) -> None:
        try:
            place = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - links count as they are named
        except ValueError:  # a NUL, which the system refuses
            return
        if not place.startswith((self.sandbox, *_FREE)) and "/__pycache__" not in place:
            self.seen.append(f"{event} {place!r:.100}")

    def check(self) -> None:
        """Raise Broken if anything was seen since the last check."""
        if self.seen:
            seen, self.seen[:] = self.seen[0], []
            raise Broken(f"outside: {seen.partition(' ')[0]}", seen)


def limit_memory() -> None:
    """End an allocation that would endanger the machine; what a case may take is measured by `peak`."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _HARD, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def reset_peak() -> None:
    """Forget the peak of the process's memory."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> tuple[float, float]:
    """MiB of this process: at its peak since `reset_peak`, and now."""
    status = Path("/proc/self/status").read_text()
    high, now = (int(status.partition(f"{name}:")[2].split()[0]) for name in ("VmHWM", "VmRSS"))
    return high / 1024, now / 1024


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes | str]]:
    """Mode, time and content of every path below a folder."""
    found = {}
    for path in folder.rglob("*"):
        state = path.lstat()
        content: bytes | str = b""
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        found[str(path)] = (state.st_mode, state.st_mtime_ns, content)
    return found
