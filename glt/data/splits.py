"""Splits: the side of each clip, the group that validation holds out with it, and whether its content leaks.

The side that a protocol gives a clip depends on the clip's own columns alone, so no clip changes side as data grow.
The one exception is `deduplicated`, which asks what other clips hold, and is kept apart for that reason.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glt.data.protocols import TEST, TRAIN, UNUSED
from glt.data.protocols import protocol as protocol
from glt.errors import GltError
from glt.recipe import DataConfig

Sides = NDArray[np.object_]
PARTS = 5  # groups of clips of which nothing else is known
_NAMED_AFTER = {"xsub": "subject", "xview": "camera", "xset": "setup"}


def split(index: pd.DataFrame, data: DataConfig) -> pd.DataFrame:
    """What a recipe makes of a clip index: columns side, group and clean, a row a clip.

    Raises:
        GltError: as `sides`; or deduplication leaves no training clip.
    """
    side, group = sides(index, data), groups(index, data)
    if data.deduplicate:
        side = deduplicated(index, side)
        if TRAIN not in side:
            raise GltError(
                "data.deduplicate: the content of every training clip stands on the test side, too; "
                "add other recordings, or set it to false"
            )
    return pd.DataFrame({"side": side, "group": group, "clean": clean(index, side)}, index=index.index)


def sides(index: pd.DataFrame, data: DataConfig) -> Sides:
    """``train``, ``test`` or ``unused`` for each row of a clip index; of the row's own columns alone.

    Raises:
        GltError: the format has no such protocol, a clip lacks the number that it splits by, a clip is given on both
            sides, or a side stays empty.
    """
    chosen = protocol(data)
    if chosen.column == "splits":
        return _given_sides(index, data)
    held = _numbers(index, chosen.column, data)
    result = np.array([chosen.side(int(value)) for value in held], object)
    there = _some(held)
    for side in (TRAIN, TEST):
        if side not in result:
            raise GltError(
                f"data.protocol {data.split}: no clip on the {side} side ({chosen.column} numbers: {there}); "
                f"add recordings of another {chosen.column}, or change data.protocol or its fields"
            )
    return result


def groups(index: pd.DataFrame, data: DataConfig) -> NDArray[np.int64]:
    """What validation folds hold out together: whatever the test side changes, so that they ask the same of a model.

    That is the number that the protocol splits by: the subject, camera, setup, pair or replication of each clip. Of
    `given` splits it is what their name stands for (``xsub`` the subject, ``xview`` the camera, ``xset`` the setup),
    else the subject, where every used clip has that number; where none is known, one of five parts by content, so
    that equal clips stay together. A clip that is not used and has no number is of group -1.

    Raises:
        GltError: as `sides`.
    """
    column = protocol(data).column
    if column != "splits":
        return _numbers(index, column, data)
    used = _given_sides(index, data) != UNUSED
    for candidate in (_NAMED_AFTER.get(data.given, "subject"), "subject"):
        if candidate in index and index[candidate][used].notna().all():
            return index[candidate].fillna(-1).to_numpy(np.int64)
    return np.array([int(content[:8], 16) % PARTS for content in index["sha256"]], np.int64)


def deduplicated(index: pd.DataFrame, sides: Sides) -> Sides:
    """The sides, but a training clip whose very content (sha256) also stands on the test side is ``unused``.

    Unlike `sides` this depends on other clips: a training clip is given up when its twin is added to the test side.
    The test side never changes by it.
    """
    leaks = index["sha256"].isin(index["sha256"][sides == TEST]).to_numpy(bool)
    return np.where((sides == TRAIN) & leaks, UNUSED, sides)


def clean(index: pd.DataFrame, sides: Sides) -> NDArray[np.bool_]:
    """False for a test clip whose very content (sha256) also stands on the train side, True for all others."""
    on_both = index["sha256"].isin(index["sha256"][sides == TRAIN]).to_numpy(bool)
    kept: NDArray[np.bool_] = ~((sides == TEST) & on_both)
    return kept


def _numbers(index: pd.DataFrame, column: str, data: DataConfig) -> NDArray[np.int64]:
    """A column that no clip may lack."""
    missing = index["name"][index[column].isna()]
    if len(missing):
        raise GltError(f"clip {missing.iloc[0]}: no {column}, which {data.protocol} splits by; change data.protocol")
    return index[column].to_numpy(np.int64)


def _given_sides(index: pd.DataFrame, data: DataConfig) -> Sides:
    side = protocol(data).side
    named = index["splits"] if "splits" in index else pd.Series(None, index.index, object)
    names = [frozenset(text.split(";")) - {""} if isinstance(text, str) else frozenset() for text in named]
    result = np.empty(len(index), object)
    for number, of_clip in enumerate(names):
        try:
            result[number] = side(of_clip)
        except ValueError:
            raise GltError(
                f"clip {index['name'].iloc[number]}: on both sides of the split {data.given or 'given'} "
                f"({', '.join(sorted(of_clip))}); mend the recordings' splits, or change data.protocol"
            ) from None
    there = _some(frozenset().union(*names))
    for wanted in (TRAIN, TEST):
        if wanted not in result:
            raise GltError(
                f"data.given {data.given!r}: no clip on the {wanted} side (names of splits: {there}); "
                "name one of these splits, or change data.protocol"
            )
    return result


def _some(values: object) -> str:
    """A few of the values, for a message."""
    found = sorted(set(values))  # type: ignore[call-overload]
    return ", ".join(map(str, found[:10])) + (", ..." if len(found) > 10 else "") or "none"
