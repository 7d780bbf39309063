"""The exceptions a person is meant to read."""

from __future__ import annotations

import re
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
