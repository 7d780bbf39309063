"""What looking across recordings has found, for a person to judge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from glt import artifact

Severity = Literal["note", "warning", "alarm"]


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        check: one word.
        severity: a note is good to know, a warning wants a look, an alarm says that scores or models may be wrong.
        text: what was found, and what it means.
        names: of the clips, classes or joints concerned; the first of many.
    """

    check: str
    severity: Severity
    text: str
    names: tuple[str, ...] = ()


def write(path: Path, findings: Sequence[Finding]) -> None:
    """Keep findings as JSON."""
    artifact.write_json(path, [asdict(finding) for finding in findings])


def read(path: Path) -> list[Finding]:
    """Findings that `write` kept."""
    rows = json.loads(Path(path).read_text(encoding="utf-8"))
    return [Finding(row["check"], row["severity"], row["text"], tuple(row["names"])) for row in rows]
