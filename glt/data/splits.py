"""Splits: which clips train and which test, the groups that validation holds out, and the test clips that leak.

The split of a clip follows from its own columns alone, so it never changes as data grow. The exception is
`deduplicate`, which looks at the content of other clips and is therefore a function of its own.

Clips that hold the same recording, or parts of it, have the same value in the column `original`
(`glt.data.duplicates.originals`); without that column, clips of equal content do.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glt.data.protocols import TEST, TRAIN, UNUSED
from glt.data.protocols import protocol as protocol
from glt.errors import GltError
from glt.recipe import DataConfig

Splits = NDArray[np.object_]  # [n] of TRAIN, TEST or UNUSED, one per clip
CONTENT_GROUPS = 5  # validation groups of clips that have no number to group by
_GROUP_COLUMN = {"xsub": "subject", "xview": "camera", "xset": "setup"}  # by the name of a given split


def split(index: pd.DataFrame, data: DataConfig) -> pd.DataFrame:
    """Split the clips of an index: one row per clip with the columns split, group and clean.

    Raises:
        GltError: see `assign`; or deduplication leaves no training clip.
    """
    assigned, group = assign(index, data), groups(index, data)
    if data.deduplicate:
        assigned = deduplicate(index, assigned)
        if TRAIN not in assigned:
            raise GltError(
                "data.deduplicate: every training clip is a duplicate of a test clip; "
                "add other recordings, or set it to false"
            )
    columns = {"split": assigned, "group": group, "clean": clean_mask(index, assigned)}
    return pd.DataFrame(columns, index=index.index)


def assign(index: pd.DataFrame, data: DataConfig) -> Splits:
    """``train``, ``test`` or ``unused`` for each row of a clip index, from that row's own columns alone.

    Raises:
        GltError: the format has no such protocol, a clip lacks the number that the protocol splits by, the data set
            lists a clip in both splits, or a split is empty.
    """
    chosen = protocol(data)
    if chosen.column == "splits":
        return _assign_given(index, data)
    values = _complete_column(index, chosen.column, data)
    assigned = np.array([chosen.split(int(value)) for value in values], object)
    examples = _examples(values)
    for split in (TRAIN, TEST):
        if split not in assigned:
            raise GltError(
                f"data.protocol {data.protocol_name}: no clip in the {split} split "
                f"({chosen.column} numbers: {examples}); add recordings of another {chosen.column}, "
                "or change data.protocol or its fields"
            )
    return assigned


def groups(index: pd.DataFrame, data: DataConfig) -> NDArray[np.int64]:
    """The validation group of each clip [n]: validation holds out what the test split holds out.

    The group is the number that the protocol splits by: the clip's subject, camera, setup, pair or replication. For
    `given` splits it is what the name of the split stands for (``xsub`` the subject, ``xview`` the camera, ``xset``
    the setup), else the subject, provided that every clip in use has that number. Where none is known, clips are
    grouped into `CONTENT_GROUPS` by their original, so that duplicates stay together. An unused clip without a number
    has group -1.

    Raises:
        GltError: see `assign`.
    """
    column = protocol(data).column
    if column != "splits":
        return _complete_column(index, column, data)
    in_use = _assign_given(index, data) != UNUSED
    for candidate in (_GROUP_COLUMN.get(data.given, "subject"), "subject"):
        if candidate in index and index[candidate][in_use].notna().all():
            return index[candidate].fillna(-1).to_numpy(np.int64)
    return np.array([int(sha256[:8], 16) % CONTENT_GROUPS for sha256 in originals(index)], np.int64)


def originals(index: pd.DataFrame) -> pd.Series:
    """The column `original` of an index; of one without it, the content hashes."""
    return index["original"] if "original" in index else index["sha256"]


def deduplicate(index: pd.DataFrame, assigned: Splits) -> Splits:
    """The splits with every training clip ``unused`` that has a duplicate in the test split.

    Unlike `assign` this depends on other clips: adding a copy to the test split removes a training clip. The test
    split itself never changes.
    """
    original = originals(index)
    leaks = original.isin(original[assigned == TEST]).to_numpy(bool)
    return np.where((assigned == TRAIN) & leaks, UNUSED, assigned)


def clean_mask(index: pd.DataFrame, assigned: Splits) -> NDArray[np.bool_]:
    """False for a test clip that has a duplicate in the training split, True for all others; [n]."""
    original = originals(index)
    in_training = original.isin(original[assigned == TRAIN]).to_numpy(bool)
    mask: NDArray[np.bool_] = ~((assigned == TEST) & in_training)
    return mask


def _complete_column(index: pd.DataFrame, column: str, data: DataConfig) -> NDArray[np.int64]:
    """A column as numbers; a GltError names the first clip that lacks one."""
    missing = index["name"][index[column].isna()]
    if len(missing):
        raise GltError(f"clip {missing.iloc[0]}: no {column}, which {data.protocol} splits by; change data.protocol")
    return index[column].to_numpy(np.int64)


def _assign_given(index: pd.DataFrame, data: DataConfig) -> Splits:
    """`assign` for splits that the data set itself lists."""
    split_of = protocol(data).split
    column = index["splits"] if "splits" in index else pd.Series(None, index.index, object)
    names = [frozenset(text.split(";")) - {""} if isinstance(text, str) else frozenset() for text in column]
    assigned = np.empty(len(index), object)
    for row, clip_names in enumerate(names):
        try:
            assigned[row] = split_of(clip_names)
        except ValueError:
            raise GltError(
                f"clip {index['name'].iloc[row]}: in both the training and the test split of {data.given or 'given'} "
                f"({', '.join(sorted(clip_names))}); correct the recordings' splits, or change data.protocol"
            ) from None
    examples = _examples(frozenset().union(*names))
    for split in (TRAIN, TEST):
        if split not in assigned:
            raise GltError(
                f"data.given {data.given!r}: no clip in the {split} split (names of splits: {examples}); "
                "name one of these splits, or change data.protocol"
            )
    return assigned


def _examples(values: object) -> str:
    """Up to ten of the values, for a message."""
    ordered = sorted(set(values))  # type: ignore[call-overload]
    return ", ".join(map(str, ordered[:10])) + (", ..." if len(ordered) > 10 else "") or "none"
