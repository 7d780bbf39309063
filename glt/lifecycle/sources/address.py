"""Addresses of recordings: a path, ``s3://bucket/prefix`` or ``dvc+<git repository>@<revision>``."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from glt.errors import GltError
from glt.lifecycle import s3

DVC = "dvc+"
_OTHER_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/.*")
_REVISION = re.compile(r"dvc\+(?P<repository>.+)@(?P<revision>[^@:\s]+)")


def absolute(recordings: str) -> str:
    """The same place, valid in any working directory: a path becomes absolute, other addresses stay as they are."""
    if recordings.startswith((s3.SCHEME, DVC)):
        return recordings
    with suppress(RuntimeError):  # no user of that name: a file may be called so
        recordings = str(Path(recordings).expanduser())
    return str(Path(recordings).resolve())


def local_path(recordings: str) -> Path:
    """The absolute path that an address means if it is neither a bucket's nor a revision's.

    Raises:
        GltError: it is empty, or the address of something else.
    """
    if not recordings:
        raise GltError("recordings: no address; give a path, s3://bucket/prefix or dvc+<git repository>@<revision>")
    if _OTHER_SCHEME.fullmatch(recordings):
        raise GltError(
            f"recordings {recordings}: not an address that can be read; "
            "give a path, s3://bucket/prefix or dvc+<git repository>@<revision>"
        )
    return Path(absolute(recordings))


def repository_and_revision(recordings: str) -> tuple[str, str]:
    """The two parts of ``dvc+<git repository>@<revision>``.

    Raises:
        GltError: it is not written like that.
    """
    match = _REVISION.fullmatch(recordings)
    if match is None:
        raise GltError(f"recordings {recordings!r}: write dvc+<git repository>@<tag, branch or commit>")
    return match["repository"], match["revision"]
