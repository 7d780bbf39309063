"""What the product promises of its answers, whatever the input: the invariants that several targets check."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from glt import text
from glt.data.recording import Recording, Rejection
from glt.errors import GltError
from tests.fuzz.outcome import Broken

LONGEST = 2000  # characters of a message


def refusal(action: Callable[[], Any]) -> tuple[Any, str]:
    """The result of an action, or the message of its GltError: one readable line."""
    try:
        return action(), ""
    except GltError as error:
        message(str(error))
        return None, str(error)


def message(said: str) -> None:
    """A message for people is one line of bounded length that has something to say."""
    if not said.strip():
        raise Broken("message: empty", repr(said))
    if "\n" in said or "\r" in said:
        raise Broken("message: several lines", repr(said))
    if len(said) > LONGEST:
        raise Broken("message: too long", f"{len(said)} characters: {said[:200]!r}")


def printed(said: str) -> None:
    """Text on a terminal has no control characters, apart from line ends and tabs, and is UTF-8."""
    shown = text.printable(said)
    if shown != said:
        odd = next((a for a, b in zip(said, shown, strict=False) if a != b), said[-1:])
        raise Broken("message: a control character", f"{odd!r} in {said[:200]!r}")


def stored(value: str, what: str) -> None:
    """Text that is stored is clean."""
    if not isinstance(value, str):
        raise Broken(f"{what}: no text", repr(value)[:100])
    if not text.is_clean(value):
        raise Broken(f"{what}: not clean text", repr(value)[:200])
    value.encode()


def result(given: Recording | Rejection) -> None:
    """A clip or a rejection that can be stored, shown and trained on."""
    if isinstance(given, Rejection):
        stored(given.check, "check")
        message(given.reason)
        printed(given.reason)
        stored(given.name, "name of a rejected recording")
        return
    stored(given.name, "name")
    if not given.name.strip():
        raise Broken("name: empty", repr(given.name))
    for what, value in (("label", given.label), *(("split", split) for split in given.splits)):
        if value is not None:
            stored(value, what)
    for what, number in (("subject", given.subject), ("camera", given.camera), ("setup", given.setup)):
        if number is not None and not (type(number) is int and 0 <= number < 2**63):
            raise Broken(f"{what}: not a number that can be stored", repr(number)[:100])
    for warning in given.warnings:
        message(warning)
    frames, present = given.frames, given.present
    if frames.dtype != np.float32 or frames.ndim != 4 or frames.shape[2:] != (len(given.skeleton.joints), 3):
        raise Broken("frames: shape or type", f"{frames.shape} {frames.dtype}")
    if present.dtype != bool or present.shape != frames.shape[:2] or not present.any():
        raise Broken("present: shape, type, or nobody", f"{present.shape} {present.dtype}")
    if not np.isfinite(frames).all():
        raise Broken("frames: not finite", given.name)
    json.dumps(given.skeleton.to_dict()).encode()


def account(info: dict[str, Any], seen: int | None = None) -> None:
    """The three counts sum to the number of files seen."""
    counts = info["account"]
    total = counts["taken"] + counts["rejected"] + counts["left_out"]
    if total != counts["seen"] or (seen is not None and counts["seen"] != seen):
        raise Broken("account: does not add up", f"{counts}, and {seen} files are there")


def unchanged(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Two snapshots are equal."""
    if before != after:
        names = sorted(str(name) for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        raise Broken("outside: files changed", f"{Path(names[0])} and {len(names) - 1} more")
