"""Checks that people stand upright: if heads are beside or below feet, the layout's `up` is wrong."""

from __future__ import annotations

import numpy as np

from glt.data.clips import ClipStore
from glt.data.findings import Finding
from glt.data.layouts import Skeleton

CLIPS = 200  # clips that are checked, drawn at random
_SEED = 0
_HEADS = ("head", "nose", "neck")
_FEET = ("foot", "ankle", "toe", "knee", "hip")
_MANY, _NEARLY_ALL = 0.5, 0.75  # shares of the clips
_LEAST = 3  # clips; of fewer, all may show people lying down
_TILT = 0.5  # least upward share of the vector from feet to head of a person who stands or sits


def findings(store: ClipStore) -> list[Finding]:
    """An alarm if heads are not above feet in most clips, and on the same other side in nearly all.

    A clip counts by the median of its frames. People who lie down raise no alarm, as they lie in many directions.
    Nothing is found for a layout without heads or without feet, or for fewer than three clips.
    """
    heads, feet = _joints(store.skeleton, _HEADS), _joints(store.skeleton, _FEET)
    if not heads or not feet or len(store.index) < _LEAST:
        return []
    rows = np.sort(np.random.default_rng(_SEED).permutation(len(store.index))[:CLIPS])
    ways = np.zeros((len(rows), 3))
    for way, row in zip(ways, rows.tolist(), strict=True):
        frames, present = store.clip(row)
        points = frames[present].astype(np.float64)  # n, K, 3
        way[:] = np.median(points[:, heads].mean(axis=1) - points[:, feet].mean(axis=1), axis=0)
    lengths = np.linalg.norm(ways, axis=1, keepdims=True)
    along = np.concatenate([ways, -ways], axis=1) > _TILT * lengths  # x, y, z, -x, -y, -z
    fallen = ~along[:, store.skeleton.up]
    other = int(np.argmax(along.mean(axis=0)))
    if fallen.mean() <= _MANY or along[:, other].mean() < _NEARLY_ALL:
        return []
    names = store.index["name"].to_numpy()[rows[fallen]]
    side = ("x", "y", "z", "-x", "-y", "-z")[other]
    remedy = f"set `up: {side}`" if other < 3 else f"turn the recordings over, `up` is {side}"
    text = (
        f"heads are not above feet in {int(fallen.sum())} of {len(rows)} clips, but towards {side}: check `up: "
        f"{'xyz'[store.skeleton.up]}` of layout {store.skeleton.name} ({remedy})"
    )
    return [Finding("upright", "alarm", text, tuple(map(str, names[:20])))]


def _joints(skeleton: Skeleton, names: tuple[str, ...]) -> list[int]:
    """Indices of the joints whose name contains the first of `names` that any joint's name contains."""
    for name in names:
        if found := [joint for joint, given in enumerate(skeleton.joints) if name in given.lower()]:
            return found
    return []
