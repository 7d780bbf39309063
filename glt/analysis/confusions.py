"""A confusion matrix that is small enough for the metadata of a pipeline run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd

from glt.text import clean

# Kubeflow Pipelines keeps the matrix in its metadata store and draws every cell as an element of the page.
MOST = 30  # classes
OTHERS = "all other classes"
_LONGEST = 40  # characters of a name


def of_classifier(folder: Path) -> tuple[list[str], list[list[int]]]:
    """As `bounded`, for the test clips of a ``classifier`` artifact."""
    table = pd.read_parquet(folder / "predictions.parquet", columns=["label", "predicted"])
    return bounded(table["label"].tolist(), table["predicted"].tolist())


def bounded(
    labels: list[str], predicted: list[str], most: int = MOST, others: str = OTHERS
) -> tuple[list[str], list[list[int]]]:
    """Names of classes, and how often each (a row) was given each answer (a column).

    Of more than `most` classes those with the most errors stay, in alphabetical order; the rest are one class.
    """
    wrong: Counter[str] = Counter()
    for label, answer in zip(labels, predicted, strict=True):
        wrong.update({label: int(label != answer), answer: int(label != answer)})
    kept = sorted(wrong)
    if len(kept) > most:
        kept = sorted(sorted(wrong, key=lambda name: (-wrong[name], name))[: most - 1])
    index = {name: position for position, name in enumerate(kept)}
    rest = [others] if len(kept) < len(wrong) else []
    counts = [[0] * (len(kept) + len(rest)) for _ in (*kept, *rest)]
    for label, answer in zip(labels, predicted, strict=True):
        counts[index.get(label, len(kept))][index.get(answer, len(kept))] += 1
    return _distinct([*kept, *rest]), counts


def _distinct(names: list[str]) -> list[str]:
    """The names, cleaned and cut; where two become equal, with their position."""
    short = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in map(clean, names)]
    often = Counter(short)
    return [name if often[name] == 1 else f"{name} ({position})" for position, name in enumerate(short, 1)]
