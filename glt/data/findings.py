"""Findings of the checks across recordings, for a person to judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from glt import artifact
from glt.recipe.data import FORMER_CHECKS

Severity = Literal["note", "warning", "alarm"]


@dataclass(frozen=True)
class Finding:
    """A problem, or something worth knowing, in a set of recordings.

    Attributes:
        check: name of the check, one word.
        severity: a note is informative, a warning should be looked at, an alarm says that scores or models may be
            wrong.
        text: what was found and what it means, one sentence.
        names: the clips, classes or joints concerned; if there are many, the first of them.
    """

    check: str
    severity: Severity
    text: str
    names: tuple[str, ...] = ()


def write(path: Path, findings: Sequence[Finding]) -> None:
    """Write findings as JSON, atomically."""
    artifact.write_json(path, [asdict(finding) for finding in findings])


def read(path: Path) -> list[Finding]:
    """Read findings that `write` wrote; checks that have been renamed since get their present names."""
    rows = artifact.read_json(Path(path), list)
    return [
        Finding(FORMER_CHECKS.get(row["check"], row["check"]), row["severity"], row["text"], tuple(row["names"]))
        for row in rows
    ]
