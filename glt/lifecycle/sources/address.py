"""How the place of recordings is written: a path, ``s3://bucket/prefix`` or ``dvc+<git repository>@<revision>``."""

from __future__ import annotations

import re
from pathlib import Path

from glt.errors import GltError
from glt.lifecycle import s3

DVC = "dvc+"
_REVISION = re.compile(r"dvc\+(?P<repository>.+)@(?P<revision>[^@:\s]+)")


def absolute(recordings: str) -> str:
    """The same place, valid in any working directory: a path becomes absolute, other addresses stay as they are."""
    if recordings.startswith((s3.SCHEME, DVC)):
        return recordings
    return str(Path(recordings).expanduser().resolve())


def repository_and_revision(recordings: str) -> tuple[str, str]:
    """The two parts of ``dvc+<git repository>@<revision>``.

    Raises:
        GltError: it is not written like that.
    """
    match = _REVISION.fullmatch(recordings)
    if match is None:
        raise GltError(f"recordings {recordings!r}: write dvc+<git repository>@<tag, branch or commit>")
    return match["repository"], match["revision"]
