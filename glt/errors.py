"""The one exception a person is meant to read."""

from __future__ import annotations

import sys
from types import TracebackType


class GltError(Exception):
    """Something the user can mend: the message names the file or field and the remedy.

    The command line and the pipeline components print it without a traceback and exit with 1.
    """


def print_plainly() -> None:
    """From now on a GltError that nobody catches ends the process with its message alone, no traceback."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, GltError):
            print(f"glt: error: {error}", file=sys.stderr)
        else:
            before(kind, error, trace)

    sys.excepthook = hook
