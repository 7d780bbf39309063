"""Local paths for objects of a bucket, whose names may be invalid for files, or differ in case only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import PurePosixPath

from glt import text

_PART, _FOLDER = 200, 600  # bytes; file systems allow 255 in a part, and 4,096 in a path


def local_paths(names: Iterable[str]) -> dict[str, str]:
    """A relative path for the name of each object, unique even where case is ignored.

    A path is clean text (`glt.text.clean`) with forward slashes, in which no part is ``..`` or too long for a file.
    Most names are their own paths. Of two names with the same path, or a name that is the folder of another, the later
    gets a folder ``~<hash>``.
    """
    paths: dict[str, str] = {}
    folders: dict[str, str] = {}  # path by name
    owners: dict[str, str] = {}  # name by path, in lower case

    def free(path: str, name: str) -> bool:
        return owners.setdefault(path.casefold(), name) == name

    def folder_of(parts: list[str]) -> str:
        name = path = ""
        for part in parts:
            name, above = f"{name}{part}/", path
            if name not in folders:
                path = _join(above, _part(part)) if part else above
                if part and not free(path, name):
                    path = f"{path}~{_hash(name)}"
                    free(path, name)
                folders[name] = path if len(path.encode()) <= _FOLDER else f"~{_hash(name)}"
            path = folders[name]
        return path

    for name in sorted(names):
        without_drive = f"{name[0]}%3A{name[2:]}" if name[1:2] == ":" else name  # as Windows would take it
        *parts, last = without_drive.replace("\\", "/").split("/")
        folder = folder_of(parts)
        path = _join(folder, _part(last) if last else "%2F")
        if not free(path, name):
            path = _join(_join(folder, f"~{_hash(name)}"), PurePosixPath(path).name)
        paths[name] = path
    return paths


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _part(part: str) -> str:
    """A part of a name as a part of a path."""
    cleaned = text.clean(part)
    if cleaned in (".", ".."):
        return cleaned.replace(".", "%2E")
    if len(cleaned.encode()) <= _PART:
        return cleaned
    stem = cleaned.encode()[: _PART - 40].decode(errors="ignore")
    suffix = PurePosixPath(cleaned).suffix
    return f"{stem}~{_hash(part)}{suffix if len(suffix.encode()) <= 20 else ''}"


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
