"""Whether the classes, subjects and sides of a set are what a protocol needs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glt.data.findings import Finding

FEW = 10  # labelled training clips of a class, below which its score is chance
_UNEVEN = 10.0  # times as many clips in the largest class as in the smallest


def findings(index: pd.DataFrame, sides: NDArray[np.object_] | None, held: str | None) -> list[Finding]:
    """What of the labels and sides is worth knowing.

    Args:
        index: of the clips: label, subject, camera, setup, replication.
        sides: ``train``, ``test`` or ``unused`` for each; None if the clips cannot be split.
        held: the column that the protocol holds out; None if it holds out none.
    """
    found = []
    label = index["label"]
    bare = int(label.isna().sum())
    if bare == len(index):
        found.append(Finding("labels", "warning", "no recording is labelled: a model can be pretrained, not measured"))
    elif bare:
        text = f"{bare} of {len(index)} recordings ({bare / len(index):.0%}) are unlabelled"
        found.append(Finding("labels", "note", text))
    counts = label.value_counts()
    if len(counts) > 1 and counts.iloc[0] > _UNEVEN * counts.iloc[-1]:
        text = f"{counts.iloc[0]} recordings of {counts.index[0]}, {counts.iloc[-1]} of {counts.index[-1]}"
        found.append(Finding("balance", "warning", f"classes are uneven: {text}", (str(counts.index[-1]),)))
    if sides is None:
        return found
    table = pd.crosstab(label, pd.Series(sides, index.index)).reindex(columns=["train", "test"], fill_value=0)
    for side, other in (("train", "test"), ("test", "train")):
        only = table.index[(table[side] > 0) & (table[other] == 0)]
        if len(only):
            severity, what = ("alarm", "cannot be learned") if side == "test" else ("warning", "are never tested")
            text = f"{len(only)} classes stand on the {side} side only and {what}"
            found.append(Finding("classes", severity, text, tuple(map(str, only))))  # type: ignore[arg-type]
    few = table.index[(table["train"] > 0) & (table["train"] < FEW)]
    if len(few):
        text = f"{len(few)} classes have fewer than {FEW} labelled training recordings"
        found.append(Finding("classes", "warning", text, tuple(map(str, few))))
    for column in ("subject", "camera", "setup"):
        values = index[column]
        both = set(values[sides == "train"].dropna()) & set(values[sides == "test"].dropna())
        if both and column == held:
            text = f"{len(both)} {column}s stand on both sides of a split that holds {column}s out"
            found.append(Finding("sides", "alarm", text, tuple(str(value) for value in sorted(both))))
    return found
