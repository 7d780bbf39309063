"""Checks that the classes, subjects and splits of a data set are what a protocol needs."""

from __future__ import annotations

import pandas as pd

from glt.data.findings import Finding
from glt.data.splits import Splits

FEW = 10  # labelled training clips of a class, below which its score is chance
_UNEVEN = 10.0  # times as many clips in the largest class as in the smallest


def findings(index: pd.DataFrame, splits: Splits | None, held_out: str | None) -> list[Finding]:
    """Findings on labels, class sizes and splits.

    Args:
        index: one row per clip with label, subject, camera, setup and replication.
        splits: ``train``, ``test`` or ``unused`` for each clip; None if the clips cannot be split.
        held_out: the column that the protocol holds out; None if it holds out none.
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
    if splits is None:
        return found
    table = pd.crosstab(label, pd.Series(splits, index.index)).reindex(columns=["train", "test"], fill_value=0)
    for split, other in (("train", "test"), ("test", "train")):
        only = table.index[(table[split] > 0) & (table[other] == 0)]
        if len(only):
            severity, what = ("alarm", "cannot be learned") if split == "test" else ("warning", "never tested")
            are = "class is" if len(only) == 1 else "classes are"
            text = f"{len(only)} {are} in the {split} split only and {what}"
            found.append(Finding("classes", severity, text, tuple(map(str, only))))  # type: ignore[arg-type]
    few = table.index[(table["train"] > 0) & (table["train"] < FEW)]
    if len(few):
        have = "class has" if len(few) == 1 else "classes have"
        text = f"{len(few)} {have} fewer than {FEW} labelled training recordings"
        found.append(Finding("classes", "warning", text, tuple(map(str, few))))
    for column in ("subject", "camera", "setup"):
        values = index[column]
        both = set(values[splits == "train"].dropna()) & set(values[splits == "test"].dropna())
        if both and column == held_out:
            text = f"{len(both)} {column}s are in both splits of a protocol that holds {column}s out"
            found.append(Finding("overlap", "alarm", text, tuple(str(value) for value in sorted(both))))
    return found
