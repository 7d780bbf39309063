"""The columns of the clip table, declared once.

The Arrow schema, the checks of values and the table in docs/formats.md follow from `COLUMNS`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from glt.errors import GltError, first_line
from glt.text import is_clean

LONGEST_TEXT = 100_000  # characters of a value; a label or a name has a few


@dataclass(frozen=True)
class Column:
    """A column of the clip table.

    Attributes:
        name: of the column.
        meaning: for docs/formats.md, with the unit.
        kind: ``text`` or ``integer``.
        required: every clip has a value; else it may be missing (None, or NA for an integer).
        at_least: the smallest valid integer.
        pattern: regular expression that valid text starts with.
        expected: what the pattern stands for, for messages.
        unique: no two clips have the same value.
    """

    name: str
    meaning: str
    kind: str = "text"
    required: bool = True
    at_least: int = 0
    pattern: str = r"(?s)."
    expected: str = "text that is not empty"
    unique: bool = False


COLUMNS = (
    Column("name", "the recording's own name", unique=True),
    Column("offset", "the clip's first frame in the files of its segment", "integer"),
    Column("length", "T, frames", "integer", at_least=1),
    Column("label", "class name; none if the recording is unlabelled", required=False),
    Column("subject", "number of the person recorded (of the pair in SBU)", "integer", required=False),
    Column("camera", "number of the camera or view", "integer", required=False),
    Column("setup", "number of the camera setup", "integer", required=False),
    Column("replication", "number of the take", "integer", required=False),
    Column(
        "splits",
        "names of the data set's own splits that list it, separated by `;` (one in a name is `%3B`)",
        required=False,
    ),
    Column("persons", "persons present in at least one frame", "integer", at_least=1),
    Column("source", "the recording's file, as a path below the batch"),
    Column(
        "sha256", "SHA-256 of shape, frames and presence", pattern=r"^[0-9a-f]{64}$", expected="64 hexadecimal digits"
    ),
    Column("warnings", "warnings of the checks, `check: text`, separated by `; `; empty if there are none", pattern=""),
)
NAMES = tuple(column.name for column in COLUMNS)
_PATTERNS = {column.name: re.compile(column.pattern) for column in COLUMNS}
_NULLABLE = {column.name: column.kind for column in COLUMNS if not column.required}

ARROW = pa.schema(
    [
        pa.field(column.name, pa.int64() if column.kind == "integer" else pa.string(), nullable=not column.required)
        for column in COLUMNS
    ]
)


def from_arrow(table: pa.Table) -> pd.DataFrame:
    """One row per clip; missing integers are NA (Int64), missing texts None."""
    clips: pd.DataFrame = table.to_pandas(integer_object_nulls=True)
    clips = clips.astype({name: "Int64" for name, kind in _NULLABLE.items() if kind == "integer"})
    for name in (name for name, kind in _NULLABLE.items() if kind == "text"):
        clips[name] = clips[name].astype(object).where(clips[name].notna(), None)
    return clips


def problem(row: Mapping[str, Any]) -> str:
    """The first violation of `COLUMNS` in a row of the table; an empty string if there is none."""
    for column in COLUMNS:
        value = row[column.name]
        if value is None:
            if column.required:
                return f"{column.name}: {column.meaning} is missing"
        elif column.kind == "integer":
            whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
            if not whole or not column.at_least <= value < 2**63:
                return f"{column.name}: {value!r:.40} is not a whole number from {column.at_least} to 2^63 - 1"
        elif not isinstance(value, str) or not is_clean(value):
            return f"{column.name}: {value!r:.40} is not text in valid UTF-8 (NFC, without control characters)"
        elif len(value) > LONGEST_TEXT:
            return f"{column.name}: {len(value):,} characters, more than {LONGEST_TEXT:,}"
        elif not _PATTERNS[column.name].match(value):
            return f"{column.name}: {value!r:.40}: expected {column.expected}"
    return ""


def validate(index: pd.DataFrame) -> pd.DataFrame:
    """Check a clip index (`ClipStore.index`) against `COLUMNS` and return it.

    Raises:
        GltError: a column is missing, has another type, or holds an invalid value; names the column and the clip.
    """
    from pandera.errors import SchemaError

    try:
        checked: pd.DataFrame = _pandera_schema().validate(index)
    except SchemaError as error:
        cases = error.failure_cases
        example = ""
        if isinstance(cases, pd.DataFrame) and len(cases) and cases["index"].notna().any():
            row = cases.iloc[0]
            name = index["name"].get(row["index"]) if "name" in index else None
            example = f": {row['failure_case']!r:.60} of clip {name!r:.80}"
        column = getattr(error.schema, "name", None) or "index"
        problem = getattr(error.check, "error", None) or first_line(error)
        raise GltError(
            f"clip index, column {column}: {problem}{example}; correct it at its source and ingest again"
        ) from error
    return checked


def _pandera_schema() -> Any:
    # Imported here, so that processes that only read clips need not wait for it.
    from pandera.pandas import Check, DataFrameSchema
    from pandera.pandas import Column as Checked

    def checked(column: Column) -> Any:
        if column.kind == "integer":
            check = Check.ge(column.at_least, error=f"expected an integer of at least {column.at_least}")
            dtype: Any = "int64" if column.required else "Int64"
        else:
            expected = f"expected {column.expected}{'' if column.required else ', or none'}"
            check, dtype = Check.str_matches(column.pattern, error=expected), object
        coerce = column.kind == "text"
        return Checked(dtype, check, nullable=not column.required, unique=column.unique, coerce=coerce)

    return DataFrameSchema({column.name: checked(column) for column in COLUMNS}, strict=False, name="clips")
