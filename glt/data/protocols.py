"""Protocols: which column of a clip decides its split, and how.

A named protocol relies on a data set's own numbering of subjects, cameras or setups; the general ones fit any clips
that have the column.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from glt.errors import GltError
from glt.recipe import DataConfig

TRAIN, TEST, UNUSED = "train", "test", "unused"

# Cross-subject training subjects of NTU-120; the first 40 subjects fall as NTU-60's own list has them.
NTU_TRAIN_SUBJECTS = frozenset(
    (
        *(1, 2, 4, 5, 8, 9, *range(13, 20), 25, 27, 28, 31, 34, 35, 38, 45, 46, 47, 49, 50, *range(52, 60)),
        *(70, 74, 78, *range(80, 87), 89, *range(91, 96), 97, 98, 100, 103),
    )
)
# The five test folds of SBU: 1-based places of the pairs in their sorted list.
SBU_FOLDS = ({1, 9, 15, 19}, {5, 7, 10, 16}, {2, 3, 20, 21}, {4, 6, 8, 11}, {12, 13, 14, 17, 18})

# Protocols that count on a data set's own numbers, by the formats that may hold that data set.
_NTU = ("xsub", "xview", "xset")
_NAMED = {
    "ntu": _NTU,
    "nw-ucla": ("cross-view",),
    "sbu": ("5-fold",),
    "pyskl": (*_NTU, "cross-view"),
    "table": (*_NTU, "cross-view"),
}
_GENERAL = ("leave-one-subject-out", "random-subjects", "column", "given")


@dataclass(frozen=True)
class Protocol:
    """A rule that splits clips.

    Attributes:
        column: the column of the clip index that decides: what is held out (``subject``, ``camera``, ...), or
            ``splits``, the names of the data set's own splits.
        split: maps a clip's value of that column to ``train``, ``test`` or ``unused``; for ``splits`` it takes a set
            of names, which may be empty.
    """

    column: str
    split: Callable[[Any], str]


def protocol(data: DataConfig) -> Protocol:
    """The protocol that a recipe names.

    Raises:
        GltError: recordings of this format have no such protocol.
    """
    possible = (*_NAMED[data.format], *_GENERAL)
    if data.protocol not in possible:
        choices = ", ".join(possible)
        raise GltError(f"data.protocol: {data.format} recordings have no {data.protocol}; choose {choices}")
    if data.protocol == "given":
        return Protocol("splits", lambda names: _given(names, data.given))
    column, is_test = _held_out(data)
    return Protocol(column, lambda value: TEST if is_test(value) else TRAIN)


def _held_out(data: DataConfig) -> tuple[str, Callable[[int], bool]]:
    """The column that is held out, and a predicate that is True for its values in the test split."""
    match data.protocol:
        case "xsub":
            return "subject", lambda subject: subject not in NTU_TRAIN_SUBJECTS
        case "xview":
            return "camera", lambda camera: camera not in {2, 3}
        case "xset":
            return "setup", lambda setup: setup % 2 == 1
        case "cross-view":
            return "camera", lambda camera: camera not in {1, 2}
        case "5-fold":
            return "subject", SBU_FOLDS[data.fold - 1].__contains__
        case "leave-one-subject-out":
            return "subject", lambda subject: subject == data.held
        case "random-subjects":
            return "subject", lambda subject: _uniform(data.split_seed, subject) < data.test_share
        case "column":
            assert data.column is not None
            return data.column, frozenset(data.test_values).__contains__
        case _:
            raise GltError(f"data.protocol: {data.protocol} does not split by a number of a clip")


def _uniform(seed: int, subject: int) -> float:
    """A number in [0, 1) that depends on the seed and the subject alone."""
    digest = hashlib.sha256(f"split {seed} subject {subject}".encode()).digest()[:8]
    return int.from_bytes(digest, "big") / 2**64


def _given(names: frozenset[str], split: str) -> str:
    """``xsub_train``, ``xsub_val``, ``xsub_test`` of the split ``xsub``; ``train1``, ``test1`` of the split ``1``."""
    in_train = bool(names & _spellings("train", split))
    in_test = bool(names & (_spellings("val", split) | _spellings("test", split)))
    if in_train and in_test:
        raise ValueError("in both splits")
    return TRAIN if in_train else TEST if in_test else UNUSED


def _spellings(part: str, split: str) -> frozenset[str]:
    return frozenset({f"{split}_{part}", f"{part}{split}"}) if split else frozenset({part})
