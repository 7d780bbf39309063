"""A cache of content hashes, so that a file that has not changed is not read again."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from pathlib import Path
from typing import BinaryIO

from glt import artifact

_LOG = logging.getLogger(__name__)
_LARGEST = 1 << 30  # bytes
_BLOCK = 1 << 20
_FRESH = 2.0  # seconds; a file younger than this may change again within one time stamp


class FileHashes:
    """Hashes by path, size, modification time and inode, stored in a JSON file."""

    def __init__(self, path: Path, algorithm: str = "sha256") -> None:
        """Open the cache at `path`; it is empty if the file is missing, or not written by this class."""
        self._path, self._algorithm = Path(path), algorithm
        self._changed, self._foreign = False, False
        self._known: dict[str, list[int | str]] = {}
        try:
            content = artifact.read_bytes(self._path, _LARGEST)
            if content.strip():
                known = json.loads(content)
                files = {str(name): list(entry) for name, entry in known["files"].items()}
                self._known = files if known["algorithm"] == algorithm else {}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self._foreign = True

    def of(self, file: Path) -> str:
        """The hex hash of a file's bytes.

        Raises:
            OSError: it cannot be read.
        """
        absolute, state = os.path.abspath(file), file.stat()  # noqa: PTH100 - links keep their own names
        stamp: list[int | str] = [state.st_size, state.st_mtime_ns, state.st_ino]
        entry = self._known.get(absolute)
        if entry and entry[:-1] == stamp:
            return str(entry[-1])
        with file.open("rb") as stream:
            digest = self._digest(stream, state.st_size)
        if time.time() - state.st_mtime > _FRESH:
            self._known[absolute], self._changed = [*stamp, digest], True
        return digest

    def _digest(self, stream: BinaryIO, size: int) -> str:
        """The hex hash of the first `size` bytes, so that a growing file cannot keep it busy for ever."""
        digest = hashlib.new(self._algorithm, usedforsecurity=False)
        while block := stream.read(min(_BLOCK, size)):
            digest.update(block)
            size -= len(block)
        return digest.hexdigest()

    def save(self) -> None:
        """Write the cache to its file, atomically, without the files that no longer exist.

        A file there that another program wrote is kept, and nothing is cached.
        """
        if self._changed and self._foreign:
            _LOG.warning("%s: not written by glt, so it is kept and no hashes are cached; move it away", self._path)
        elif self._changed:
            existing = {file: entry for file, entry in self._known.items() if Path(file).exists()}
            artifact.write_json(self._path, {"algorithm": self._algorithm, "files": existing})
            self._changed = False
