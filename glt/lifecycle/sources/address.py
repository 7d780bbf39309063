"""Addresses of recordings: a path, ``s3://bucket/prefix`` or ``dvc+<git repository>@<revision>``."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from glt import settings
from glt.errors import GltError
from glt.lifecycle import s3

DVC = "dvc+"
_OTHER_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/.*")
_HOST = r"(\[[0-9A-Fa-f:.]+\]|[^/@:\s]*)(:\d{1,5})?(/.*)?"  # with its port, and what follows
_PUBLIC = re.compile(_HOST, re.DOTALL)
_SSH = re.compile(rf"[^/@:\s]+@{_HOST}", re.DOTALL)  # its user is no secret
_SERVER = re.compile(r"(?!file:)([A-Za-z][A-Za-z0-9+.-]*://[^/]|[^/~.:\s][^/:\s]+:)")  # a URL, or host:path as of ssh
_REVISION = re.compile(r"dvc\+(?P<repository>.+)@(?P<revision>[^@:\s]+)")


def refuse_account(recordings: str) -> None:
    """Refuse an address with a password or token in it, of which the message shows nothing.

    Addresses are stored with every run, for everybody to see.

    Raises:
        GltError: it holds one.
    """
    before, found, rest = recordings.partition("://")
    of_ssh = before.lower().endswith("ssh") and _SSH.fullmatch(rest)
    if found and not of_ssh and not _PUBLIC.fullmatch(rest):
        raise GltError(
            f"recordings {before:.40}://...: an address is stored with every run, so it must not hold an account; take "
            f"it out, and set {settings.GIT_USER}, {settings.GIT_TOKEN} and {settings.GIT_HOST}"
        )


def check_remote(recordings: str) -> None:
    """Check that an address has the form of one that another machine can read; nothing is read.

    Raises:
        GltError: it is neither ``s3://bucket/prefix`` nor ``dvc+<git repository>@<revision>`` of a repository on a
            server, or it holds an account.
    """
    refuse_account(recordings)
    if recordings.startswith(s3.SCHEME):
        s3.parts(recordings)
    elif recordings.startswith(DVC):
        repository, _ = repository_and_revision(recordings)
        if not _SERVER.match(repository):
            raise GltError(
                f"recordings {recordings!r:.200}: a cluster cannot read a repository of this machine; give the address "
                "of one on a server"
            )
    else:
        raise GltError(
            f"recordings {recordings!r:.200}: a cluster cannot read that; give s3://bucket/prefix or "
            "dvc+<git repository>@<revision>"
        )


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
    refuse_account(recordings)
    match = _REVISION.fullmatch(recordings)
    if match is None:
        raise GltError(f"recordings {recordings!r}: write dvc+<git repository>@<tag, branch or commit>")
    return match["repository"], match["revision"]
