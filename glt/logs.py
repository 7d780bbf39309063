"""Messages of our programs beside their results: one line each on stderr, by the standard `logging`.

Modules log to ``logging.getLogger(__name__)``. Nothing is printed until a program starts by `run_entry`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TextIO, TypeVar

from glt import settings
from glt.errors import GltError, SharedError, machine_failure, path_failure
from glt.text import printable

P = ParamSpec("P")
T = TypeVar("T")

_LOGGER = logging.getLogger("glt")
_LOG = logging.getLogger(__name__)


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to the stderr of the moment, which a test or a progress bar may have replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _Line(logging.Formatter):
    """`glt: message`, or `glt: error: message`; debug messages name their module."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        message = printable(record.message)
        if record.levelno >= logging.ERROR:
            return f"glt: error: {message}"
        return f"glt: {record.name}: {message}" if record.levelno < logging.INFO else f"glt: {message}"


def to_stderr() -> None:
    """Print information, warnings and errors from now on; for the entry of a program only."""
    handler = _Stderr()
    handler.setFormatter(_Line())
    _LOGGER.handlers[:] = [handler]
    _LOGGER.propagate = False  # a runner may have set up the root logger in its own way
    set_verbosity(0)


def set_verbosity(verbosity: int) -> None:
    """Print details, too (above 0), or warnings and errors only (below 0)."""
    _LOGGER.setLevel(logging.INFO if verbosity == 0 else logging.DEBUG if verbosity > 0 else logging.WARNING)


def quiet() -> bool:
    """True if the user has asked for warnings and errors only."""
    return _LOGGER.level > logging.INFO


def _fail(error: GltError) -> NoReturn:
    """End the program with one line on the error, and its exit code.

    Of an error that all processes of a training share, only the first process prints the line.
    """
    if not isinstance(error, SharedError) or os.environ.get("RANK", "0") == "0":
        _LOG.error("%s", error, exc_info=error if _LOGGER.level == logging.DEBUG else None)
    sys.exit(error.exit_code)


def run_entry(entry: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the entry of a program, a command line's or a component's: messages go to stderr.

    Before that, what a pod names otherwise gets the names that libraries read (`settings.apply_pod_names`).

    A GltError ends the program with one line on stderr and the error's exit code: 1, or 143 after SIGTERM. So does a
    failure of the machine (disk full, no permission, out of memory, ...), wherever it happens, and an invalid path.
    """
    to_stderr()
    settings.apply_pod_names()
    try:
        try:
            return entry(*args, **kwargs)
        finally:
            _deliver_output()
    except GltError as error:
        _fail(error)
    except Exception as error:
        failure = machine_failure(error) or path_failure(error)
        if not failure:
            raise
        failed = GltError(failure)
        failed.__cause__ = error
        _fail(failed)


def _deliver_output() -> None:
    """Flush stdout, so that a full disk behind it is reported by the program and not by the interpreter at exit."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # its reader has ended, as `head` does
        _discard_output()
    except OSError:
        _discard_output()
        raise


def _discard_output() -> None:
    with contextlib.suppress(OSError):  # a test's stdout has no descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
