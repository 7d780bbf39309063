"""The outcome of one case, and the invariant that it breaks."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Broken(Exception):
    """An invariant does not hold: its name, and what was seen."""

    def __init__(self, invariant: str, seen: str) -> None:
        super().__init__(f"{invariant}: {seen}")
        self.invariant, self.seen = invariant, seen


@dataclass(frozen=True)
class Outcome:
    """What a case did.

    Attributes:
        fault: names the broken invariant so that equal faults have equal names; empty if all hold.
        detail: for a person.
        seconds: that it took.
        mib: memory at its peak, above what the process had before.
    """

    fault: str = ""
    detail: str = ""
    seconds: float = 0.0
    mib: float = 0.0


def of_exception(error: BaseException) -> tuple[str, str]:
    """The fault's name and detail of an exception that left the product."""
    if isinstance(error, Broken):
        return error.invariant, error.seen[:400]
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(ROOT / "glt")]
    at = ours[-1] if ours else frames[-1] if frames else None
    place = f"{Path(at.filename).name}, {at.name}" if at else "nowhere"
    return f"exception {type(error).__name__} ({place})", f"{error!r:.300} at line {at.lineno if at else 0}"
