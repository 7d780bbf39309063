"""Reads rows of an array on disk on demand.

The file is not mapped into memory: the pages of a map count as the process's own, so training on a large data set
would appear to need as much memory as the file is long, and would hit a pod's limit.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glt.errors import GltError


class NpyRowReader:
    """Reads rows (slices of the first axis) of a ``.npy`` file of float32.

    Attributes:
        shape: of the whole array.
    """

    def __init__(self, path: Path) -> None:
        """Open the file; a GltError if it is no C-ordered float32 array."""
        self._path = Path(path)
        try:
            with self._path.open("rb") as stream:
                version = np.lib.format.read_magic(stream)
                header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                self.shape, fortran, dtype = header[version](stream)
                self._start = stream.tell()
        except (OSError, ValueError, KeyError) as error:
            raise GltError(f"{path}: not a readable array ({error}); run the step that makes it again") from error
        if fortran or dtype != np.float32:
            raise GltError(f"{path}: not rows of float32; run the step that makes it again")
        self._row_bytes = 4 * math.prod(self.shape[1:])
        self._file = os.open(self._path, os.O_RDONLY)

    def __del__(self) -> None:
        """Close the file."""
        if hasattr(self, "_file"):
            os.close(self._file)

    def __len__(self) -> int:
        """Number of rows."""
        return int(self.shape[0])

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Read the rows from `start` to `stop` (exclusive) into a new array.

        Raises:
            GltError: the file ends before them.
        """
        rows = np.empty((stop - start, *self.shape[1:]), np.float32)
        view, at = rows.data.cast("B") if rows.size else memoryview(b""), 0
        while at < len(view):
            count = os.preadv(self._file, [view[at:]], self._start + start * self._row_bytes + at)
            if not count:
                raise GltError(f"{self._path}: ends before row {stop}; run the step that makes it again")
            at += count
        return rows
