"""`labels.csv`: one row per recording of the project's own format, as spreadsheets of many countries write it."""

from __future__ import annotations

import codecs
import csv
import functools
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from glt import text
from glt.data import limits
from glt.data.recording import Rejection

NUMBERS = ("subject", "camera", "setup", "replication")
COLUMNS = ("name", "label", "split", *NUMBERS)
_ENDINGS = (".npz", ".parquet")
_LINE_END = re.compile("\r\n?")
_NUMBER = re.compile(r"(\d{1,9})(?:\.0+)?", re.ASCII)  # also as pandas writes a column with empty cells
_SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab"}


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        line: its number in the file.
        parts: the recording's path, without its ending.
        cells: the cells that are not empty, by column.
    """

    line: int
    parts: tuple[str, ...]
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Labels:
    """The rows of labels.csv.

    Attributes:
        rows: all rows, by the last part of their name.
        warnings: on how the file was read.
        count: number of rows.
    """

    rows: Mapping[str, tuple[Row, ...]]
    warnings: tuple[str, ...] = ()
    count: int = field(default=0)

    def find(self, name: str) -> Row | None:
        """The row of a recording's file.

        A row names a file if one of the two paths is the end of the other, as with ``a`` and ``take/a.npz``.

        Raises:
            Rejection: several rows name the file equally well.
        """
        parts = _parts(name)
        fits = [(_common(row.parts, parts), row) for row in self.rows.get(parts[-1], ())]
        best = max((common for common, _ in fits), default=0)
        rows = [row for common, row in fits if common and common == best]
        rows = [row for row in rows if row.parts == parts] or rows
        if len(rows) > 1:
            lines = ", ".join(str(row.line) for row in rows[:5])
            raise _fault(f"lines {lines} all name {parts[-1]!r:.60}; give the names with their folders")
        return rows[0] if rows else None

    def row(self, name: str) -> Mapping[str, str]:
        """The cells of the row that names a file; empty if there is none."""
        found = self.find(name)
        return found.cells if found else {}


@functools.lru_cache(maxsize=64)
def parse_labels(content: bytes) -> Labels:
    """Parse a labels.csv.

    Columns without a name are not read: an index that pandas wrote, or empty ones of a spreadsheet.

    Raises:
        Rejection: it does not follow docs/formats.md.
    """
    if len(content) > limits.SIDECAR:
        raise _fault(f"{len(content)} bytes, more than {limits.SIDECAR >> 20} MiB")
    table, warnings = _decode(content)
    rows = _cells(table)
    header = [column.strip().lower() for column in rows[0][1]] if rows else []
    while header and not header[-1]:
        header.pop()
    columns = [column for column in header if column]
    if "name" not in columns or len(set(columns)) < len(columns):
        raise _fault("no column `name`, or a column is given twice")
    if unknown := [column for column in columns if column not in COLUMNS]:
        raise _fault(f"column {unknown[0]!r:.40}: expected some of {', '.join(COLUMNS)}")
    by_name: dict[str, list[Row]] = {}
    seen = set()
    for line, cells in rows[1:]:
        if not any(cell.strip() for cell in cells):
            continue
        if any(cell.strip() for cell in cells[len(header) :]) or len(cells) < len(header):
            raise _fault(f"line {line}: {len(cells)} cells, the header has {len(header)}")
        row = _row(line, {column: cell for column, cell in zip(header, cells, strict=False) if column})
        if row.parts in seen:
            raise _fault(f"line {line}: {'/'.join(row.parts)!r:.60} is given twice")
        seen.add(row.parts)
        by_name.setdefault(row.parts[-1], []).append(row)
    return Labels({name: tuple(rows) for name, rows in by_name.items()}, warnings, len(seen))


def _row(line: int, given: Mapping[str, str]) -> Row:
    cells = {}
    for column, cell in given.items():
        value, fault = limits.stored_text(cell.strip(), column)
        if fault:
            raise _fault(f"line {line}: {fault}")
        if value:
            cells[column] = value
    parts = _parts(cells.pop("name", ""))
    if not parts:
        raise _fault(f"line {line}: no name")
    for column in NUMBERS:
        if column not in cells:
            continue
        if (number := _NUMBER.fullmatch(cells[column])) is None:
            raise _fault(f"line {line}: {column} {cells[column]!r:.20} is not a whole number of at least 0")
        cells[column] = number[1]
    return Row(line, parts, cells)


def _decode(content: bytes) -> tuple[str, tuple[str, ...]]:
    """The text, and a warning if its encoding had to be guessed."""
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)) or _is_wide(content):
        raise _fault("text in UTF-32, or in UTF-16 without a byte order mark; save it as `CSV UTF-8`")
    try:
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return content.decode("utf-16"), ()
        return content.decode("utf-8-sig"), ()
    except UnicodeDecodeError as error:
        fault = _fault(
            f"not a CSV in UTF-8 ({error!s:.80}); save it as `CSV UTF-8`: other encodings cannot be told apart"
        )
    try:
        korean = content.decode("euc_kr")  # cp949 without its rare syllables, which text in other encodings gives
    except UnicodeDecodeError:
        raise fault from None
    # Chinese or European text decoded as Korean has characters other than Hangul.
    if not all(character.isascii() or "\uac00" <= character <= "\ud7a3" for character in korean):
        raise fault
    return korean, ("labels: labels.csv is in cp949, not in UTF-8: save it as `CSV UTF-8`",)


def _is_wide(content: bytes) -> bool:
    """True if every second byte at the start is zero, as in ASCII text in UTF-16."""
    return b"\0" * 4 in (content[:8:2], content[1:8:2])


def _cells(table: str) -> list[tuple[int, list[str]]]:
    """(line, cells) of each row; the separator is that of the header."""
    table = _LINE_END.sub("\n", table)
    first, _, rest = table.partition("\n")
    start = 1
    if first.lower().startswith("sep=") and len(first.strip()) == 5:  # Excel declares the separator like this
        table, start = rest, 2
    header = table.partition("\n")[0]
    separators = [one for one in _SEPARATORS if one in header] or [","]
    if len(separators) > 1:
        names = " and ".join(_SEPARATORS[one] for one in separators)
        raise _fault(f"its header has {names}: separate columns by commas")
    try:
        reader = csv.reader(io.StringIO(table, newline=""), delimiter=separators[0], strict=True)
        rows = []
        for cells in reader:
            rows.append((reader.line_num + start - 1, cells))
    except csv.Error as error:
        raise _fault(f"not a CSV in UTF-8 ({error!s:.80})") from None
    return rows


def _parts(name: str) -> tuple[str, ...]:
    """The parts of a recording's path: clean, without its ending and without empty and ``.`` parts."""
    path = text.clean(name).replace("\\", "/")
    parts = [part.strip() for part in path.split("/") if part.strip() not in ("", ".")]
    if parts and parts[-1].lower().endswith(_ENDINGS):
        parts[-1] = parts[-1].rpartition(".")[0].strip() or parts[-1]
    return tuple(parts)


def _common(row: tuple[str, ...], file: tuple[str, ...]) -> int:
    """Number of parts that two paths share if one is the end of the other; else 0."""
    shorter = min(len(row), len(file))
    return shorter if row[-shorter:] == file[-shorter:] else 0


def _fault(why: str) -> Rejection:
    return Rejection("labels", f"labels.csv: {why}")
