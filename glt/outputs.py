"""Files that a command writes where the user says.

A file that is already there is replaced only if it is of the same kind, so that a mistyped path costs nobody a file.
`glt.artifact` does the same for folders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from glt import artifact
from glt.errors import GltError
from glt.text import csv_cell

if TYPE_CHECKING:  # the commands import this module for help, too
    import pandas as pd


@dataclass(frozen=True)
class FileKind:
    """A kind of file that glt writes.

    Attributes:
        name: what an error message calls it.
        is_ours: whether a file is of this kind, by its first mebibyte.
    """

    name: str
    is_ours: Callable[[bytes], bool]

    def check(self, path: Path) -> None:
        """Refuse a path that holds anything but a file of this kind or an empty file.

        Raises:
            GltError: names the path and the remedy; nothing was changed.
        """
        path = Path(path)
        artifact.check_parents(path)
        if not path.exists():
            return
        try:
            replaceable = path.is_file() and (path.stat().st_size == 0 or self.is_ours(_start(path)))
        except OSError as error:
            raise GltError(
                f"{path}: cannot be read ({error.strerror}), so it is not replaced; give another path"
            ) from error
        if not replaceable:
            what = "folder" if path.is_dir() else "file"
            raise GltError(
                f"{path}: this {what} is not a {self.name} written by glt, so it is not replaced; "
                "give another path, or move it away"
            )

    def write(self, path: Path, content: bytes) -> None:
        """Write a file of this kind atomically; into the target of a symbolic link.

        Raises:
            GltError: as `check`.
        """
        self.check(path)
        artifact.write_bytes(artifact.real_path(path), content)


def _start(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(1 << 20)


def csv_bytes(table: pd.DataFrame) -> bytes:
    """A table as CSV for people: UTF-8, without cells that a spreadsheet takes for formulas."""
    neutral = table.map(lambda value: csv_cell(value) if isinstance(value, str) else value)
    return neutral.rename(columns=lambda name: csv_cell(str(name))).to_csv(index=False).encode()
