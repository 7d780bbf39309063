"""Clips worth looking at, drawn as they were recorded, disentangled and augmented."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure

from glt.analysis import figures
from glt.data.clips import ClipStore
from glt.motion.disentangle import Motions, face_forward
from glt.recipe import Recipe
from glt.training.batches import training_batch


def choose(motions: Motions, count: int = 3) -> list[int]:
    """Numbers of training clips with much, middling and little global translation, each of another class."""
    index = motions.index
    table = index[(index["side"] == "train") & (index["length"] > 1)].copy()
    table["class"] = table["label"].fillna("unlabelled")
    typical = []
    for _, rows in table.groupby("class"):
        rows = rows[rows["persons"] == rows["persons"].max()].sort_values(["length", "name"])
        typical.append(int(rows.index[len(rows) // 2]))

    def way(number: int) -> float:
        world = motions.batch(np.array([number])).tokens[:, :, 0]
        return float((world.amax(0) - world.amin(0)).norm(dim=-1).max())

    ranked = sorted(typical, key=way, reverse=True)
    places = np.linspace(0, len(ranked) - 1, min(count, len(ranked)))
    return [ranked[round(place)] for place in places]


def draw(clips: ClipStore, motions: Motions, recipe: Recipe, number: int) -> Figure:
    """The clip as recorded, its global translation and local motion, and as pretraining may see it."""
    frames, present = clips.clip(number)
    if recipe.motion.yaw == "first-frame":
        frames = face_forward(frames, present, clips.skeleton)
    here = np.array([number])
    copy, _ = training_batch(
        motions, here, recipe.pretrain.augment, recipe.seed, 0, recipe.model.frames, torch.device("cpu")
    )
    tokens = motions.batch(here).tokens.numpy()
    augmented, shown = copy.tokens.numpy(), copy.present.numpy()
    return figures.decomposition(frames, present, tokens, augmented, shown, clips.skeleton)
