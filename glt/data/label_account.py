"""The account of labels.csv: rows that match no file, and files that no row names.

Without it, a misspelt name would leave recordings unlabelled unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from glt.data.findings import Finding
from glt.data.formats.labels import Labels, Row, parse_labels
from glt.data.formats.table import LABELS
from glt.data.recording import Rejection
from glt.data.sources import Batch

CHECK = "label-rows"
EXAMPLES = 20  # rows and files that are named


@dataclass(frozen=True)
class LabelAccount:
    """Counts of the rows of all labels.csv, and of the files that they describe.

    Attributes:
        rows: number of rows.
        unmatched: number of rows that match no file.
        files: number of recordings' files in the batches that hold a labels.csv.
        unnamed: number of these that no row names.
        row_examples: the first unmatched rows: file, line and name.
        file_examples: the first unnamed files.
    """

    rows: int
    unmatched: int
    files: int
    unnamed: int
    row_examples: tuple[str, ...] = ()
    file_examples: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @property
    def text(self) -> str:
        """The account in one line; empty if every row and every file has its counterpart."""
        parts = []
        if not self.rows:
            parts.append("it has no rows")
        if self.unmatched:
            which = "none of its" if self.unmatched == self.rows else f"{self.unmatched} of {self.rows}"
            verb = "matches a file" if self.unmatched == self.rows else "match no file"
            parts.append(f"{which} {'rows' if self.rows != 1 else 'row'} {verb} (e.g. {self.row_examples[0]})")
        if self.unnamed:
            parts.append(f"{self.unnamed} of {self.files} files have no row (e.g. {self.file_examples[0]})")
        return f"{LABELS}: {'; '.join(parts)}" if parts else ""


def count(batches: Iterable[Batch]) -> dict[str, Any] | None:
    """The account of the labels.csv in these batches, as JSON values; None if there is none."""
    account = match(batches)
    return account.to_dict() if account else None


def match(batches: Iterable[Batch]) -> LabelAccount | None:
    """The account of the labels.csv in these batches; None if there is none. An unreadable one has no rows."""
    tables: dict[tuple[str, str], tuple[Labels, set[int]]] = {}
    files, unnamed = 0, []
    for batch in batches:
        sidecars = [name for name in batch.sidecar_names if name.rpartition("/")[2].lower() == LABELS]
        nearest: dict[str, tuple[Labels, set[int]] | None] = {}
        for sidecar in sidecars:
            folder = sidecar.rpartition("/")[0]
            if labels := _labels(batch, folder):
                tables[str(batch.path), folder] = nearest[folder] = (labels, set())
        if not sidecars:
            continue
        for name in batch.names:
            folder = name.rpartition("/")[0]
            if folder not in nearest:
                above = (str(parent) for parent in PurePosixPath(folder).parents)
                nearest[folder] = next(
                    (nearest[up] for up in ("" if up == "." else up for up in above) if up in nearest), None
                )
            files += 1
            if not _match(nearest[folder], name):
                unnamed.append(name)
    if not tables:
        return None
    missed = [
        f"{folder}/{LABELS}".lstrip("/") + f" line {row.line}: {'/'.join(row.parts)}"
        for (_, folder), (labels, matched) in tables.items()
        for row in _rows(labels)
        if row.line not in matched
    ]
    rows = sum(labels.count for labels, _ in tables.values())
    return LabelAccount(
        rows, len(missed), files, len(unnamed), tuple(missed[:EXAMPLES]), tuple(sorted(unnamed)[:EXAMPLES])
    )


def findings(account: Mapping[str, Any] | None) -> list[Finding]:
    """The findings on an account as a clip store's manifest holds it: an alarm if no row matches a file."""
    if account is None:
        return []
    try:
        known = LabelAccount(**account)
    except TypeError:
        return []
    if not known.text:
        return []
    lost = known.unmatched == known.rows
    severity = "alarm" if lost else "warning" if known.unmatched else "note"
    remedy = "; compare the column `name` with the files' names" if known.unmatched or lost else ""
    return [Finding(CHECK, severity, known.text + remedy, (*known.row_examples, *known.file_examples))]  # type: ignore[arg-type]


def _labels(batch: Batch, folder: str) -> Labels | None:
    try:
        content = batch.sidecars(f"{folder}/x" if folder else "x").get(LABELS)
        return None if content is None else parse_labels(content)
    except Rejection:
        return None


def _match(table: tuple[Labels, set[int]] | None, name: str) -> bool:
    """Mark the row that names a file; False if there is none."""
    if table is None:
        return False
    try:
        row = table[0].find(name)
    except Rejection:  # several rows name it: the file is rejected for that
        return True
    if row is None:
        return False
    table[1].add(row.line)
    return True


def _rows(labels: Labels) -> list[Row]:
    return sorted((row for rows in labels.rows.values() for row in rows), key=lambda row: row.line)
