"""Recordings in a folder or file on this machine. They stay where they are, and changes are noticed."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from glt.errors import GltError
from glt.lifecycle import dvc_hash


class ChangedRecordings(GltError):
    """Recordings on this machine changed after they were listed."""


class ListedFile(NamedTuple):
    """A file as it was listed.

    Attributes:
        name: path within the folder, with forward slashes; the file's own name if no folder was listed.
        size: in bytes.
        modified: in nanoseconds since 1970.
        inode: its number in the file system.
    """

    name: str
    size: int
    modified: int
    inode: int


@dataclass(frozen=True)
class LocalSource:
    """A folder or file, and what it held when it was listed.

    Attributes:
        path: of the folder or file.
        files: all files, by name.
    """

    path: Path
    files: tuple[ListedFile, ...]

    @property
    def address(self) -> str:
        """The path."""
        return str(self.path)

    @functools.cached_property
    def version(self) -> str:
        """DVC's content hash.

        Raises:
            ChangedRecordings: a file changed since it was listed.
        """
        version = dvc_hash.content_md5(self.path)
        self.ensure_unchanged()
        return version

    def fetch(self, folder: Path) -> Path:
        """The path itself; nothing is copied to `folder`.

        Raises:
            ChangedRecordings: a file changed since it was listed.
        """
        self.ensure_unchanged()
        return self.path

    def ensure_unchanged(self) -> None:
        """Check that each file has the size, time and inode that it was listed with.

        Raises:
            ChangedRecordings: one does not, or one is new or gone; names it.
        """
        then, now = set(self.files), set(list_source(self.path).files)
        if then == now:
            return
        name = min(then ^ now).name
        known, there = {file.name for file in then}, {file.name for file in now}
        what = "changed" if name in known & there else "added" if name in there else "removed"
        raise ChangedRecordings(f"recordings {self.path}: {name} was {what} during the run; start a new run")


def list_source(path: Path) -> LocalSource:
    """List a folder with everything below it, or one file.

    Raises:
        GltError: nothing is there, or it cannot be read.
    """
    path = Path(path)
    with dvc_hash.readable():
        if path.is_dir():
            files = tuple(_listed(file, file.relative_to(path).as_posix()) for file in dvc_hash.list_files(path))
            return LocalSource(path, files)
        return LocalSource(path, (_listed(path, path.name),))


def _listed(file: Path, name: str) -> ListedFile:
    state = file.stat()
    return ListedFile(name, state.st_size, state.st_mtime_ns, state.st_ino)
