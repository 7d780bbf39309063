"""A cache of content hashes, so that a file that has not changed is not read again."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

from glt import artifact

_FRESH = 2.0  # seconds; a file younger than this may change again within one time stamp


class FileHashes:
    """Hashes by path, size, modification time and inode, stored in a JSON file."""

    def __init__(self, path: Path, algorithm: str = "sha256") -> None:
        """Open the cache at `path`; it is empty if the file is missing or damaged."""
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
        absolute, state = os.path.abspath(file), Path(file).stat()  # noqa: PTH100 - links keep their own names
        stamp: list[int | str] = [state.st_size, state.st_mtime_ns, state.st_ino]
        entry = self._known.get(absolute)
        if entry is not None and entry[:-1] == stamp:
            return str(entry[-1])
        with Path(file).open("rb") as stream:
            digest = hashlib.file_digest(
                stream, lambda: hashlib.new(self._algorithm, usedforsecurity=False)
            ).hexdigest()
        if time.time() - state.st_mtime > _FRESH:
            self._known[absolute], self._changed = [*stamp, digest], True
        return digest

    def remember(self, file: Path, digest: str) -> None:
        """Store a hash that the caller knows, having just written or read the file; nobody else may write the file."""
        state = Path(file).stat()
        stamp: list[int | str] = [state.st_size, state.st_mtime_ns, state.st_ino]
        absolute = os.path.abspath(file)  # noqa: PTH100 - links keep their own names
        if self._known.get(absolute) != [*stamp, digest]:
            self._known[absolute], self._changed = [*stamp, digest], True

    def save(self) -> None:
        """Write the cache to its file, atomically, without the files that no longer exist."""
        if self._changed:
            existing = {file: entry for file, entry in self._known.items() if Path(file).exists()}
            artifact.write_json(self._path, {"algorithm": self._algorithm, "files": existing})
            self._changed = False
