"""What a clip index must be, as a table schema; it is checked before a folder of clips is sealed."""

from __future__ import annotations

from typing import Any

import pandas as pd

from glt.errors import GltError, first_line


def checked_index(index: pd.DataFrame) -> pd.DataFrame:
    """The clip index (columns as `ClipStore.index`) if it is one.

    Raises:
        GltError: a column is missing, has another type, or holds a value that cannot be; names the column and the clip.
    """
    from pandera.errors import SchemaError

    try:
        checked: pd.DataFrame = _schema().validate(index)
    except SchemaError as error:
        cases = error.failure_cases
        said = ""
        if isinstance(cases, pd.DataFrame) and len(cases) and cases["index"].notna().any():
            row = cases.iloc[0]
            name = index["name"].get(row["index"]) if "name" in index else None
            said = f": {row['failure_case']!r:.60} of clip {name!r:.80}"
        column = getattr(error.schema, "name", None) or "index"
        what = getattr(error.check, "error", None) or first_line(error)
        raise GltError(f"clip index, column {column}: {what}{said}; mend it at its source and ingest again") from error
    return checked


def _schema() -> Any:
    # Imported where it is needed: no process that only reads clips waits for it.
    from pandera.pandas import Check, Column, DataFrameSchema

    def number(least: int, **more: Any) -> Any:
        return Column("int64", Check.ge(least, error=f"a whole number of at least {least}"), **more)

    def text(pattern: str, what: str, **more: Any) -> Any:
        return Column(object, Check.str_matches(pattern, error=what), coerce=True, **more)

    code = Column("Int64", Check.ge(0, error="a whole number of at least 0"), nullable=True)
    return DataFrameSchema(
        {
            "name": text(r"(?s).", "a name", unique=True),
            "offset": number(0),
            "length": number(1),
            "label": text(r"(?s).", "a class name, or none", nullable=True),
            **dict.fromkeys(("subject", "camera", "setup", "replication"), code),
            "splits": text(r"(?s).", "names of splits, or none", nullable=True),
            "persons": number(1),
            "source": text(r"(?s).", "a file"),
            "sha256": text(r"^[0-9a-f]{64}$", "64 hexadecimal digits"),
            "warnings": Column(object, coerce=True),
        },
        strict=False,
        name="clips",
    )
