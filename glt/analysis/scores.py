"""Scores of a run under their fixed keys, with the uncertainty that a finite test set leaves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from glt.errors import GltError

Finetuned = tuple[float, int, Mapping[str, float]]

_Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Score:
    """`right` of `total` clips, as a share with its Wilson 95 % interval; all NaN where there is no clip."""

    right: int
    total: int

    @property
    def share(self) -> float:
        """Top-1 accuracy, 0 to 1."""
        return self.right / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high) of the share."""
        return wilson(self.right, self.total)

    @staticmethod
    def of(share: float, total: int) -> Score:
        """The score whose share of `total` clips is known."""
        return Score(round(share * total) if total else 0, total)


def wilson(right: int, total: int) -> tuple[float, float]:
    """Wilson 95 % interval of a share of `right` in `total`; (NaN, NaN) for a total of 0."""
    if not total:
        return math.nan, math.nan
    share, z2 = right / total, _Z95**2 / total
    middle = (share + z2 / 2) / (1 + z2)
    half = _Z95 / (1 + z2) * math.sqrt(share * (1 - share) / total + z2 / (4 * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def score(predictions: pd.DataFrame, clean: bool = False) -> Score:
    """Right and all clips of a table of predictions (label, predicted, clean); only the clean ones if asked."""
    if clean:
        predictions = predictions[predictions["clean"]]
    return Score(int((predictions["label"] == predictions["predicted"]).sum()), len(predictions))


def top1(predictions: pd.DataFrame, clean: bool = False) -> float:
    """Share of right predictions; NaN where there is no clip."""
    return score(predictions, clean).share


def per_class(predictions: pd.DataFrame) -> pd.DataFrame:
    """A row a class of the test clips, the weakest first: label, right, total, share, confused, times.

    `confused` is the wrong answer given most often (None if there is none) and `times` how often it was.
    """
    rows = []
    for label, group in predictions.groupby("label", sort=True):
        wrong = group["predicted"][group["predicted"] != label].value_counts()
        worst = sorted(wrong[wrong == wrong.max()].index)[0] if len(wrong) else None
        right, total = len(group) - int(wrong.sum()), len(group)
        rows.append((label, right, total, right / total, worst, int(wrong.max()) if len(wrong) else 0))
    table = pd.DataFrame(rows, columns=["label", "right", "total", "share", "confused", "times"])
    return table.sort_values(["share", "label"], ignore_index=True)


def ensemble(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Several classifiers' predictions of the same clips as one: the mean of their probabilities.

    Args:
        tables: a row a clip: name, label, clean, persons, and a column p_<class> for each class.

    Raises:
        GltError: they are of other clips, or know other classes.
    """
    first = tables[0].set_index("name")
    classes = [column for column in first if str(column).startswith("p_")]
    total = first[classes] * 0.0
    for table in tables:
        one = table.set_index("name")
        if set(one.index) != set(first.index) or not set(classes) <= set(one):
            raise GltError("an ensemble of classifiers of other clips or classes; give the streams of one protocol")
        total = total + one.loc[first.index, classes]
    mean = total / len(tables)
    predicted = [str(column).removeprefix("p_") for column in mean.idxmax(axis=1)]
    kept = first[["label", "clean", "persons"]].assign(predicted=predicted, confidence=mean.max(axis=1))
    return pd.concat([kept, mean], axis=1).reset_index()


def fraction_key(fraction: float) -> str:
    """A labelled fraction as part of a metric key: 0.05 -> ``05pct``, 0.005 -> ``0.5pct``."""
    percent = round(100.0 * fraction, 6)
    return f"{percent:02.0f}pct" if percent.is_integer() else f"{percent:g}pct"


def summary(metrics: Mapping[str, float], finetunes: Sequence[Finetuned]) -> dict[str, float]:
    """A run's metrics under flat keys, as the parent run in MLflow holds them.

    Args:
        metrics: the classifier's ``metrics.json`` (``probe/top1``, ``probe/top1_clean``, ...), kept as it is.
        finetunes: (labelled fraction, seed, its ``metrics.json``) of each fine-tuning.

    Returns:
        `metrics` and, for each fraction, ``finetune/05pct/``: ``top1_mean``, ``top1_clean_mean``, ``labelled_mean``
        and, from two seeds on, the sample standard deviations ``top1_sd``, ``top1_clean_sd``, ``labelled_sd``; and
        ``seeds``. Values that do not exist (no clean clip) are left out.

    Raises:
        GltError: one fraction has a seed twice.
    """
    result = {key: float(value) for key, value in metrics.items() if math.isfinite(value)}
    for fraction in sorted({fraction for fraction, _, _ in finetunes}):
        seeds = [seed for f, seed, _ in finetunes if f == fraction]
        if len(set(seeds)) < len(seeds):
            raise GltError(f"finetune {fraction:.0%}: seeds {sorted(seeds)}; give each seed's classifier once")
        rows = [values for f, _, values in finetunes if f == fraction]
        key = f"finetune/{fraction_key(fraction)}"
        for name in ("top1", "top1_clean", "labelled"):
            values = [float(row[name]) for row in rows if math.isfinite(row.get(name, math.nan))]
            if values:
                result[f"{key}/{name}_mean"] = sum(values) / len(values)
            if len(values) > 1:
                result[f"{key}/{name}_sd"] = pd.Series(values).std(ddof=1)
        result[f"{key}/seeds"] = float(len(seeds))
    return result
