"""One at a time: a lock that a process holds, and that is free again when the process ends, however it ends."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glt.errors import GltError


@contextmanager
def of_this_machine(file: Path, what: str) -> Iterator[None]:
    """Hold the lock that a file stands for.

    Args:
        file: made if it is not there; it stays.
        what: is done under it, for the error.

    Raises:
        GltError: another process of this machine holds it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise GltError(f"{what} is being done by another process ({file}); run again when it has ended") from None
        yield
