"""Example clips and their figures, for the report and for MLflow."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure

from glt.analysis.figures import decomposition
from glt.data.clips import ClipStore
from glt.motion.augment import augment
from glt.motion.augment import draw as sample_augmentation
from glt.motion.disentangle import Motions, entangle, motion_tokens
from glt.motion.packed import Packed
from glt.recipe import Recipe


def choose(motions: Motions, count: int = 3) -> list[int]:
    """Rows of `count` training clips with little to much global translation, each of another class.

    Each class is represented by the clip of median length among those with the most persons.
    """
    index = motions.index
    table = index[(index["split"] == "train") & (index["length"] > 1)]
    typical = []
    for _, rows in table.groupby(table["label"].fillna("unlabelled")):
        rows = rows[rows["persons"] == rows["persons"].max()].sort_values(["length", "name"])
        typical.append(int(rows.index[len(rows) // 2]))
    ranked = sorted(typical, key=lambda row: -_extent(motions, row))
    ranks = np.linspace(0, len(ranked) - 1, min(count, len(ranked)))
    return [ranked[round(rank)] for rank in ranks]


def draw(clips: ClipStore, motions: Motions, recipe: Recipe, row: int, *, with_title: bool = True) -> Figure:
    """Draw the clip in a row as recorded, its global translation and local motion, and an augmented copy."""
    frames, present = clips.clip(row)
    separate = recipe.motion.model_copy(update={"global_translation": "separate", "stream": "joint"})
    tokens = motion_tokens(frames, present, motions.skeleton, separate)
    config = recipe.pretrain.augment
    batch = Packed(torch.from_numpy(tokens), torch.from_numpy(present), (len(tokens),))
    draws = sample_augmentation(config, recipe.seed, 0, [row])
    changed = augment(batch, config, draws, recipe.model, motions.skeleton.up, motions.mirror)
    augmented = entangle(changed.tokens.numpy(), changed.present.numpy(), motions.skeleton.centre)
    title = caption(motions, row) if with_title else ""
    return decomposition(frames, present, tokens, augmented, motions.skeleton, title)


def caption(motions: Motions, row: int) -> str:
    """Class, name and length of a clip, for a caption."""
    clip = motions.index.iloc[row]
    label = clip["label"] if isinstance(clip["label"], str) else "unlabelled"
    return f"{label} ({clip['name']}, {clip['length']} frames)"


def _extent(motions: Motions, row: int) -> float:
    """The longest diagonal, in metres, of the box in which a person's centre joint moves."""
    clip = motions.batch(np.array([row]))
    if motions.translation == "none":
        return 0.0
    positions = clip.tokens[:, :, 0 if clip.global_tokens else motions.skeleton.centre]  # T, P, 3
    return float((positions.amax(0) - positions.amin(0)).norm(dim=-1).max())
