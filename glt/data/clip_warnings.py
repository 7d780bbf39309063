"""Warnings of accepted clips: stored in one column, and counted.

A warning is ``check: text``. A clip counts once per check.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import pandas as pd

SEPARATOR = "; "
_CHANGED = re.compile(r"(\d+) points .*interpolated$|.*(?:dropped|taken back)$")  # the texts of repairs
READER = "reader"  # the check of a warning that names none
_CHECK = re.compile(r"([a-z][a-z_-]*): ")
_FIRST_WORD = re.compile(r"[a-z][a-z_-]*")  # of older warnings, such as `body 7 twice in a frame: the first is kept`


@dataclass(frozen=True)
class CheckWarnings:
    """Clips with a warning from one check, and an example: name of the clip, text."""

    check: str
    count: int
    name: str
    text: str


def join(warnings: Iterable[str]) -> str:
    """The warnings of a clip as one text."""
    return SEPARATOR.join(warning.replace(SEPARATOR, ", ") for warning in warnings)


def split(warnings: str) -> Iterator[tuple[str, str]]:
    """(check, text) of each warning of a clip."""
    for warning in warnings.split(SEPARATOR) if warnings else ():
        if named := _CHECK.match(warning):
            yield named[1], warning[named.end() :]
        else:
            word = _FIRST_WORD.match(warning)
            yield word[0] if word else READER, warning


def repairs(index: pd.DataFrame, joints: int, least: float) -> pd.DataFrame:
    """The clips with those of their warnings that report a change of recorded positions.

    Args:
        index: one row per clip with name, length, persons and warnings.
        joints: K.
        least: share of a clip's points; fewer interpolated points are left out.
    """
    rows = zip(index["warnings"], index["length"], index["persons"], strict=True)
    changes = []
    for warnings, length, persons in rows:
        found = [(check, text, _CHANGED.match(text)) for check, text in split(warnings)]
        changed = [(check, text, match) for check, text, match in found if match]
        points = sum(int(match[1] or 0) for _, _, match in changed)
        enough = points > least * length * persons * joints
        changes.append(join(f"{check}: {text}" for check, text, match in changed if enough or match[1] is None))
    return index[["name"]].assign(warnings=changes)


def by_check(index: pd.DataFrame) -> list[CheckWarnings]:
    """Count warnings by check, the check with most clips first.

    Args:
        index: one row per clip with name and warnings.
    """
    found: dict[str, CheckWarnings] = {}
    for name, warnings in zip(index["name"], index["warnings"], strict=True):
        for check, text in dict(reversed(list(split(warnings)))).items():  # the first text of each check
            one = found.get(check, CheckWarnings(check, 0, name, text))
            found[check] = replace(one, count=one.count + 1)
    return sorted(found.values(), key=lambda one: (-one.count, one.check))


def count(index: pd.DataFrame) -> int:
    """Number of clips with a warning."""
    return int((index["warnings"] != "").sum())


def describe(index: pd.DataFrame) -> str:
    """The counts as text: ``7 clips with a warning: 5 speed, 3 bodies``."""
    total = count(index)
    checks = ", ".join(f"{one.count} {one.check}" for one in by_check(index))
    return f"{total} clip{'' if total == 1 else 's'} with a warning" + (f": {checks}" if checks else "")


def to_dict(index: pd.DataFrame) -> dict[str, object]:
    """The counts for a manifest: ``clips``, and ``checks`` by name."""
    return {"clips": count(index), "checks": {one.check: one.count for one in by_check(index)}}
