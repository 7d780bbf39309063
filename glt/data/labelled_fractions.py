"""Labelled fractions: the training clips whose labels a semi-supervised protocol may use; the same for every method.

The lists are drawn once, when the clips are disentangled, and stored with the motions, whose manifest names the data
version. A list that is not stored is drawn by the same rule.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glt import artifact
from glt.data.protocols import TRAIN
from glt.errors import GltError

FILE = "labelled.parquet"
# Stored whatever a recipe trains on: 1, 5 and 10 % of the labels, five draws of each.
TRIALS = tuple((fraction, seed) for fraction in (0.01, 0.05, 0.10) for seed in range(5))


def draw(index: pd.DataFrame, fraction: float, seed: int) -> NDArray[np.int64]:
    """Draw `fraction` of the labelled training clips of each class, at least one per class.

    Of the n clips of a class, the ``max(1, round(fraction * n))`` that come first by the SHA-256 of seed and name are
    drawn. So for one seed the clips of a smaller fraction are among those of a larger one, and a new clip replaces at
    most one old clip.

    Args:
        index: one row per clip with name, label (None if unlabelled) and split.
        fraction: above 0, at most 1.
        seed: of the draw.

    Returns:
        Row numbers, ascending.
    """
    train = np.flatnonzero((index["split"] == TRAIN).to_numpy(bool) & index["label"].notna().to_numpy(bool))
    names, labels = index["name"].to_numpy()[train], index["label"].to_numpy()[train].astype(str)
    keys = np.array([hashlib.sha256(f"{seed} {name}".encode()).hexdigest() for name in names], str)
    order = np.lexsort((keys, labels))
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    per_class = [order[s : s + max(1, round(fraction * int(n)))] for s, n in zip(starts, counts, strict=True)]
    return np.sort(train[np.concatenate(per_class)]) if per_class else np.zeros(0, np.int64)


def write_lists(folder: Path, index: pd.DataFrame, trials: Iterable[tuple[float, int]]) -> None:
    """Draw the list of each (fraction, seed) and store all in the folder, one row per clip: fraction, seed, name."""
    names = index["name"].to_numpy()
    lists = [
        pd.DataFrame({"fraction": fraction, "seed": seed, "name": names[draw(index, fraction, seed)]})
        for fraction, seed in sorted(set(trials))
    ]
    pd.concat(lists, ignore_index=True).to_parquet(folder / FILE, index=False)


def read_list(folder: Path, index: pd.DataFrame, fraction: float, seed: int) -> NDArray[np.int64] | None:
    """Row numbers, ascending, of the stored list of a fraction and seed; None if there is none.

    Raises:
        GltError: the list names a clip that is no labelled training clip of the index.
    """
    if not (folder / FILE).is_file():
        return None
    with artifact.reading(folder / FILE):
        lists = pd.read_parquet(folder / FILE)
        names = set(lists["name"][(lists["fraction"] == fraction) & (lists["seed"] == seed)])
    if not names:
        return None
    listed = index["name"].isin(names) & index["label"].notna() & (index["split"] == TRAIN)
    if listed.sum() != len(names):
        unknown = min(names - set(index["name"][listed]))
        raise GltError(f"{folder / FILE}: {unknown} is no labelled training clip; run disentangle again")
    return np.flatnonzero(listed.to_numpy(bool))
