"""Content hashes of files that are remembered, so that a file that did not change is not read again."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

from glt import artifact

_FRESH = 2.0  # seconds: a file younger than this may change again within the same time stamp


class FileHashes:
    """Hashes by path, size, time of change and inode, kept in a JSON file."""

    def __init__(self, path: Path, algorithm: str = "sha256") -> None:
        """Open what is remembered at `path`; a file that is missing or damaged is an empty memory."""
        self._path, self._algorithm = Path(path), algorithm
        self._changed = False
        self._known: dict[str, list[int | str]] = {}
        try:
            known = json.loads(self._path.read_text(encoding="utf-8"))
            if known["algorithm"] == algorithm:
                self._known = {str(name): list(entry) for name, entry in known["files"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            pass

    def of(self, file: Path) -> str:
        """The hex hash of a file's bytes.

        Raises:
            OSError: it cannot be read.
        """
        place, state = os.path.abspath(file), Path(file).stat()  # noqa: PTH100 - links keep their own names
        stamp: list[int | str] = [state.st_size, state.st_mtime_ns, state.st_ino]
        entry = self._known.get(place)
        if entry is not None and entry[:-1] == stamp:
            return str(entry[-1])
        with Path(file).open("rb") as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.new(self._algorithm, usedforsecurity=False)).hexdigest()
        if time.time() - state.st_mtime > _FRESH:
            self._known[place], self._changed = [*stamp, found], True
        return found

    def remember(self, file: Path, found: str) -> None:
        """Take a file's hash from one who has just written or read it, and is the only one to write it."""
        state = Path(file).stat()
        stamp: list[int | str] = [state.st_size, state.st_mtime_ns, state.st_ino]
        place = os.path.abspath(file)  # noqa: PTH100 - links keep their own names
        if self._known.get(place) != [*stamp, found]:
            self._known[place], self._changed = [*stamp, found], True

    def save(self) -> None:
        """Write the memory down, atomically, without the files that are gone."""
        if self._changed:
            there = {place: entry for place, entry in self._known.items() if Path(place).exists()}
            artifact.write_json(self._path, {"algorithm": self._algorithm, "files": there})
            self._changed = False
