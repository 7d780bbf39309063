"""A lock file: one process of this machine at a time, released by the system when its holder ends, however it ends."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glt.errors import GltError

_PAUSE = 0.5  # seconds between two attempts


class LockedError(GltError):
    """Another process holds the lock."""


@contextmanager
def file_lock(path: Path, action: str, patience: float | None = 0) -> Iterator[None]:
    """Hold an exclusive lock on a file.

    Args:
        path: the file; it is created if missing, with its folder, and stays.
        action: what is done under the lock, for the error message.
        patience: seconds to wait for another holder; None waits as long as it takes.

    Raises:
        LockedError: another process of this machine holds the lock.
        OSError: the file system has no locks, as some network volumes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as lock:
        if patience is None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        else:
            _wait(lock.fileno(), time.monotonic() + patience, f"{action}: another process does that now ({path})")
        yield


def _wait(lock: int, deadline: float, reason: str) -> None:
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise LockedError(f"{reason}; run again later") from None
            time.sleep(_PAUSE)
