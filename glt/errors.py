"""The exceptions a person is meant to read."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from glt import settings

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")  # user:password@ of a URL
_LONGEST = 300  # characters


class GltError(Exception):
    """Something the user can mend: the message names the file or field and the remedy.

    The command line and the pipeline components print it as one line without a traceback, and exit with `exit_code`.
    """

    exit_code = 1


class SharedError(GltError):
    """Raised by all processes of a training at the same step: each waits for the others before it ends."""


class Interrupted(SharedError):
    """A training that was asked to end (SIGTERM) and has saved its state: the same command goes on from there."""

    exit_code = 143  # 128 + SIGTERM, as a shell says it; not 0, so Kubernetes and Kubeflow Pipelines try again


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, or the name of its class if it has none.

    Credentials in URLs and GLT_GIT_TOKEN are masked; more than 300 characters are cut off.
    """
    line = (str(error).strip() or type(error).__name__).splitlines()[0].strip()
    if token := settings.git_token():
        line = line.replace(token, "***").replace(quote(token, safe=""), "***")
    return _CREDENTIALS.sub("***@", line)[:_LONGEST]


@contextmanager
def wrap_errors(description: str, remedy: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn exceptions of the block into a GltError: "description: first line of the exception; remedy".

    Args:
        description: what was attempted, naming the file or address.
        remedy: what the user can do.
        errors: the exceptions to catch; all if none are given. A GltError passes unchanged.
    """
    expected = errors or (Exception,)
    try:
        yield
    except GltError:
        raise
    except expected as error:
        raise GltError(f"{description}: {first_line(error)}; {remedy}") from error


# Failures of the machine, not of the data or the program, with their remedies.
_MACHINE = {
    errno.ENOSPC: "make room on that disk (or give it more inodes: df -i) and run the same again",
    errno.EDQUOT: "make room within the quota and run the same again",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f) and run the same again",
    errno.EROFS: "give another path, or set GLT_HOME to a folder that can be written to",
    errno.EACCES: "correct the permissions, give another path, or set GLT_HOME to a folder that can be written to",
    errno.EPERM: "correct the permissions, give another path, or set GLT_HOME to a folder that can be written to",
    errno.EMFILE: "raise the limit on open files (ulimit -n) and run the same again",
    errno.ENFILE: "close other programs, or raise the system's limit on open files",
    errno.EIO: "check the disk, or the connection to it, and run the same again",
    errno.ESTALE: "check the connection to the network volume and run the same again",
    errno.ENOMEM: "give the process more memory, or use fewer processes",
}
# Errors of a path, which may come from an archive or a table: no failures of the machine.
_NO_PATH = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO})
_SHOWN = 100  # characters of a path
_SQLITE = {"SQLITE_FULL": errno.ENOSPC, "SQLITE_READONLY": errno.EROFS, "SQLITE_IOERR": errno.EIO}
_SQLITE["SQLITE_CANTOPEN"] = errno.EACCES
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")
_NO_TEMPORARY = "temporary directory"  # in what `tempfile` says if no folder can be written to


def system_errno(error: BaseException) -> int:
    """The errno of a system error; 0 for any other error.

    NumPy's `tofile` reports a short write without a number: the disk is full.
    """
    if not isinstance(error, OSError):
        return 0
    if error.errno is None and _SHORT_WRITE.fullmatch(str(error)):
        return errno.ENOSPC
    return error.errno or 0


def machine_failure(error: BaseException | None) -> str:
    """The machine's failure (disk, permission, memory, ...) behind an error, with the remedy; empty if there is none.

    Args:
        error: the error; the errors that caused it are examined too.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, MemoryError) or _is_torch_out_of_memory(error):
            return "out of memory; give the process more memory, or use fewer processes or smaller batches"
        if isinstance(error, OSError) and error.errno == errno.ENOENT and _NO_TEMPORARY in str(error.strerror):
            return "no folder for temporary files can be written to; make room in /tmp, or set TMPDIR to another folder"
        code = system_errno(error)
        if code in _MACHINE:
            filename = getattr(error, "filename", None)
            where = f"{os.fsdecode(filename)}: " if isinstance(filename, str | bytes) else ""
            return f"{where}{os.strerror(code)}; {_MACHINE[code]}"
        if isinstance(error, sqlite3.Error):
            name = getattr(error, "sqlite_errorname", "") or ""
            code = next((code for known, code in _SQLITE.items() if name.startswith(known)), 0)
            if code:
                return f"{settings.store_uri()}: {first_line(error)}; {_MACHINE[code]}"
        error = error.__cause__ or error.__context__
    return ""


def path_failure(error: BaseException) -> str:
    """The reason why a path cannot be that of a file or folder, as one line; empty for any other error."""
    if not isinstance(error, OSError) or error.errno not in _NO_PATH:
        return ""
    filename = error.filename
    path = os.fsdecode(filename) if isinstance(filename, str | bytes) else ""
    shown = path if len(path) <= _SHOWN else f"{path[:_SHOWN]}..."
    return f"{shown}: {os.strerror(error.errno)}; give another path".removeprefix(": ")


def _is_torch_out_of_memory(error: BaseException) -> bool:
    """True for torch's out-of-memory errors on a GPU and on a CPU, recognised without importing torch."""
    name = type(error).__name__
    return name == "OutOfMemoryError" or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
