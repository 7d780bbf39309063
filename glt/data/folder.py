"""Lists the files of a folder without opening them, so that no pipe or device can block."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from glt.data.account import UnreadFile
from glt.data.machine import raise_machine_failure
from glt.text import clean

_NOWHERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}  # errors of a link that leads nowhere


@dataclass
class FolderFiles:
    """The contents of a folder and its subfolders.

    Attributes:
        files: path on disk, relative to the folder, of each regular file by its clean name.
        rejected: folders and files that cannot be read, and files whose clean name is that of another file.
        left_out: broken links, links to a folder that is read anyway, pipes, sockets and devices.
    """

    files: dict[str, str] = field(default_factory=dict)
    rejected: list[UnreadFile] = field(default_factory=list)
    left_out: list[UnreadFile] = field(default_factory=list)


def list_folder(root: Path) -> FolderFiles:
    """List a folder; links to folders are followed, but no folder is read twice.

    Raises:
        MachineFailure: an input/output error.
    """
    found = FolderFiles()
    names: list[str] = []
    links: list[str] = []
    above = {_identity(folder) for folder in root.resolve().parents}
    read: set[tuple[int, int]] = set()
    for name, kind in _entries(root, "", found, read):
        (links if kind == "link" else names).append(name)
    while links:  # after the folders themselves, so that a folder is found under its own name
        link = min(links)
        links.remove(link)
        if _identity(root / link) in above | read:
            found.left_out.append(
                UnreadFile(clean(link), "link", "a link to a folder that is read anyway or contains the link")
            )
            continue
        for name, kind in _entries(root, link, found, read):
            (links if kind == "link" else names).append(name)
    for name in sorted(names):
        if (known := clean(name)) in found.files:
            reason = "another file has the same name as it is stored: rename one of the two"
            found.rejected.append(UnreadFile(known, "duplicate", reason))
        else:
            found.files[known] = name
    return found


def _entries(root: Path, start: str, found: FolderFiles, read: set[tuple[int, int]]) -> Iterator[tuple[str, str]]:
    """(name, ``file`` or ``link``) of the regular files and links to folders below `start`."""
    folders = [start]
    while folders:
        folder = folders.pop()
        try:
            identity = _identity(root / folder)
            if identity in read:
                continue
            read.add(identity)
            with os.scandir(root / folder) as opened:
                entries = sorted(opened, key=lambda entry: entry.name)
        except OSError as error:
            raise_machine_failure(error, root / folder)
            reason = f"the folder cannot be read: {error.strerror}"
            found.rejected.append(UnreadFile(clean(folder) or ".", "unreadable", reason))
            continue
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            try:
                mode = entry.stat().st_mode
            except OSError as error:
                raise_machine_failure(error, root / name)
                if error.errno in _NOWHERE:
                    found.left_out.append(UnreadFile(clean(name), "link", f"a broken link ({error.strerror})"))
                else:
                    found.rejected.append(UnreadFile(clean(name), "unreadable", f"cannot be read: {error.strerror}"))
                continue
            if stat.S_ISREG(mode):
                yield name, "file"
            elif not stat.S_ISDIR(mode):
                found.left_out.append(UnreadFile(clean(name), "special", "a pipe, socket or device"))
            elif entry.is_symlink():
                yield name, "link"
            else:
                folders.append(name)


def _identity(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_dev, state.st_ino
