"""What looking across recordings has found, for a person to judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
