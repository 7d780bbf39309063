"""Baselines without an encoder: logistic regression on positions, displacements, or statistics of them.

The floors that a pretrained encoder must beat. The strength of regularisation is chosen on validation folds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from glt.motion.disentangle import Motions
from glt.motion.packed import resample
from glt.training.classifier import accuracy
from glt.training.probe import validation_folds

ClipIds = NDArray[np.int64]
Features = Callable[[Motions, ClipIds], NDArray[np.float32]]
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def scores(motions: Motions, features: Features) -> dict[str, float]:
    """Fit on the training clips; returns top1 and top1_clean on the test clips, and val_top1."""
    train, test = motions.clip_ids("train", labelled=True), motions.clip_ids("test", labelled=True)
    x, y = features(motions, train), motions.labels(train)
    folds = validation_folds(motions, train)
    right = {}
    for strength in STRENGTHS:
        answers = [fit(x[a], y[a], strength).predict(x[b]) == y[b] for a, b in folds if len(b)]
        right[strength] = float(np.concatenate(answers).mean())
    best = max(right, key=lambda strength: right[strength])
    table = motions.index.iloc[test][["name", "label", "clean", "persons"]].reset_index(drop=True)
    predicted = fit(x, y, best).predict(features(motions, test))
    return {**accuracy(table.assign(predicted=predicted)), "val_top1": right[best]}


def raw_positions(frames: int) -> Features:
    """Positions and their displacements over one frame, of clips resampled to `frames` frames."""

    def features(motions: Motions, clip_ids: ClipIds) -> NDArray[np.float32]:
        batch = resample(motions.batch(clip_ids), (frames,) * len(clip_ids))
        positions = batch.tokens.numpy().reshape(len(clip_ids), frames, -1)
        moved = np.diff(positions, axis=1)
        return np.concatenate([positions.reshape(len(clip_ids), -1), moved.reshape(len(clip_ids), -1)], axis=1)

    return features


def pooled_statistics(motions: Motions, clip_ids: ClipIds) -> NDArray[np.float32]:
    """Mean, maximum and deviation over a clip of positions and of displacements over 1 and 5 frames."""
    rows = []
    for clip_id in clip_ids:
        positions = motions.batch(np.array([clip_id])).tokens.numpy().reshape(-1, motions.persons * motions.joints * 3)
        moved = [positions[step:] - positions[:-step] if len(positions) > step else 0 * positions for step in (1, 5)]
        rows.append(
            np.concatenate([f(part, axis=0) for part in (positions, *moved) for f in (np.mean, np.max, np.std)])
        )
    return np.stack(rows)


def fit(x: NDArray[np.float32], y: NDArray[np.str_], strength: float) -> Pipeline:
    """Fit a logistic regression on standardised features."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200, tol=1e-3)).fit(x, y)
