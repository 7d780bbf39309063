"""Failures of the machine, told apart from faults of a file: they stop a run instead of rejecting a recording."""

from __future__ import annotations

import errno

from glt.errors import GltError

# A file that is missing, unreadable for this user or a loop of links is rejected; these concern all files.
_FAILURES = frozenset(
    getattr(errno, name)
    for name in (
        *("EIO", "ENOSPC", "EDQUOT", "EMFILE", "ENFILE", "ENOMEM", "EROFS", "ESTALE", "ENODEV", "ENXIO", "EAGAIN"),
        *("ENOTCONN", "ETIMEDOUT", "EREMOTEIO", "ECONNRESET", "EHOSTDOWN", "EHOSTUNREACH"),
    )
    if hasattr(errno, name)
)


class MachineFailure(GltError):
    """A failure of the machine while a file was read or written."""


def is_machine_failure(error: BaseException) -> bool:
    """True for an OSError that is not about the file: disk full or failing, too many open files, ..."""
    return isinstance(error, OSError) and error.errno in _FAILURES


def raise_machine_failure(error: BaseException, name: object) -> None:
    """Raise a MachineFailure, with `name` for the file that was read, if `error` is a failure of the machine."""
    if isinstance(error, MachineFailure):
        raise error
    if isinstance(error, OSError) and is_machine_failure(error):
        raise MachineFailure(
            f"{name}: cannot be read ({error.strerror}): a failure of this machine or its disk, not of the file; "
            "correct it (dmesg, df, ulimit -n), then run again: finished segments are reused"
        ) from error
