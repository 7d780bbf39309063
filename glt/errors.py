"""The exceptions a person is meant to read."""

from __future__ import annotations

import sys
from types import TracebackType


class GltError(Exception):
    """Something the user can mend: the message names the file or field and the remedy.

    The command line and the pipeline components print it without a traceback and exit with `exit_code`, a component
    with 1.
    """

    exit_code = 1


class SharedError(GltError):
    """Raised by all processes of a training at the same step: each waits for the others before it ends."""


class Interrupted(SharedError):
    """A training that was asked to end (SIGTERM) and has saved its state: the same command goes on from there."""

    exit_code = 143  # 128 + SIGTERM, as a shell says it; not 0, so Kubernetes and Kubeflow Pipelines try again


def print_plainly() -> None:
    """From now on a GltError that nobody catches ends the process with its message alone, no traceback."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, GltError):
            print(f"glt: error: {error}", file=sys.stderr)
        else:
            before(kind, error, trace)

    sys.excepthook = hook
