"""Protocols: which clips train, which test, and what a protocol holds out.

A clip's side depends on its own columns alone, so no clip changes side as data grow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glt.errors import GltError
from glt.recipe import DataConfig

# Cross-subject training subjects of NTU-120; the first 40 subjects fall as NTU-60's own list has them.
NTU_TRAIN_SUBJECTS = frozenset(
    (
        *(1, 2, 4, 5, 8, 9, *range(13, 20), 25, 27, 28, 31, 34, 35, 38, 45, 46, 47, 49, 50, *range(52, 60)),
        *(70, 74, 78, *range(80, 87), 89, *range(91, 96), 97, 98, 100, 103),
    )
)
# The five test folds of SBU: 1-based places of the pairs in their sorted list.
SBU_FOLDS = ({1, 9, 15, 19}, {5, 7, 10, 16}, {2, 3, 20, 21}, {4, 6, 8, 11}, {12, 13, 14, 17, 18})


@dataclass(frozen=True)
class Protocol:
    """`column` is what is held out (a subject, a camera, ...); `trains` says whether a value of it is for training."""

    column: str
    trains: Callable[[int], bool]


def protocol(data: DataConfig) -> Protocol:
    """The protocol of a recipe.

    Raises:
        GltError: the format's data have no such protocol.
    """
    known = {
        ("ntu", "xsub"): Protocol("subject", NTU_TRAIN_SUBJECTS.__contains__),
        ("ntu", "xview"): Protocol("camera", {2, 3}.__contains__),
        ("ntu", "xset"): Protocol("setup", lambda setup: setup % 2 == 0),
        ("nw-ucla", "cross-view"): Protocol("camera", {1, 2}.__contains__),
        ("sbu", "5-fold"): Protocol("subject", lambda pair: pair not in SBU_FOLDS[data.fold - 1]),
    }
    if (data.format, data.protocol) not in known:
        possible = ", ".join(name for form, name in known if form == data.format)
        raise GltError(f"data.protocol: {data.format} recordings have no {data.protocol}; choose {possible}")
    return known[data.format, data.protocol]


def sides(index: pd.DataFrame, data: DataConfig) -> NDArray[np.object_]:
    """``train`` or ``test`` for each row of a clip index.

    Raises:
        GltError: the format has no such protocol, a clip lacks the number that it splits by, or a side stays empty.
    """
    trains = protocol(data).trains
    held = groups(index, data)
    sides = np.array(["train" if trains(int(value)) else "test" for value in held], object)
    for side in ("train", "test"):
        if side not in sides:
            column = protocol(data).column
            there = ", ".join(map(str, np.unique(held)[:10]))
            raise GltError(
                f"data.protocol {data.protocol}: no clip on the {side} side ({column} numbers: {there or 'none'}); "
                f"add recordings of another {column}, or change the protocol"
            )
    return sides


def groups(index: pd.DataFrame, data: DataConfig) -> NDArray[np.int64]:
    """What the protocol holds out: the subject, camera, setup or pair of each clip (validation folds hold out these).

    Raises:
        GltError: as `sides`.
    """
    column = protocol(data).column
    missing = index["name"][index[column].isna()]
    if len(missing):
        raise GltError(f"clip {missing.iloc[0]}: no {column}, which {data.protocol} splits by; change data.protocol")
    return index[column].to_numpy(np.int64)


def clean(index: pd.DataFrame, sides: NDArray[np.object_]) -> NDArray[np.bool_]:
    """False for a test clip whose very content (sha256) also stands on the train side, True for all others."""
    on_both = index["sha256"].isin(index["sha256"][sides == "train"]).to_numpy(bool)
    kept: NDArray[np.bool_] = ~((sides == "test") & on_both)
    return kept
