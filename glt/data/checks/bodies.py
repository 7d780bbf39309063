"""Which bodies of a recording are persons, and which of them are kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glt.data.checks.faults import scale
from glt.data.layouts import Skeleton

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

GHOST = 0.1  # a body seen in fewer frames than this share of the most-seen body's is the sensor's mistake


def handovers(
    frames: Floats, present: Bools, skeleton: Skeleton, seconds: float, metres: float
) -> list[tuple[int, int]]:
    """(body, later body): one person whom the sensor lost and found again under another id.

    The second begins within `seconds` after the end of the first, its middle within `metres` of where that ended; of
    several the nearest. They are never seen together.
    """
    seen = [np.flatnonzero(present[:, body]) for body in range(present.shape[1])]
    middle = frames.mean(axis=2)
    near, gap = metres * scale(frames, present, skeleton), round(seconds * skeleton.rate)
    candidates = []
    for first in range(len(seen)):
        for later in range(len(seen)):
            if first == later or not len(seen[first]) or not len(seen[later]):
                continue
            end, begin = int(seen[first][-1]), int(seen[later][0])
            if 0 < begin - end <= gap + 1:
                distance = float(np.linalg.norm(middle[begin, later] - middle[end, first]))
                if distance <= near:
                    candidates.append((distance, first, later))
    found: list[tuple[int, int]] = []
    for _, first, later in sorted(candidates):
        if all(first != a and later != b for a, b in found):
            found.append((first, later))
    return found


def joined(frames: Floats, present: Bools, pairs: list[tuple[int, int]]) -> tuple[Floats, Bools]:
    """Each pair's later body in the slot of the first, of chains in the first of all; the freed slots are empty."""
    frames, present = frames.copy(), present.copy()
    home: dict[int, int] = {}
    for first, later in sorted(pairs, key=lambda pair: int(np.argmax(present[:, pair[1]]))):
        place = home.get(first, first)
        home[later] = place
        there = present[:, later].copy()
        frames[there, place], present[there, place] = frames[there, later], True
        frames[there, later], present[there, later] = 0, False
    return frames, present


def chosen(frames: Floats, present: Bools, persons: int, first: bool) -> tuple[list[int], list[str]]:
    """Bodies to keep, the most active first (or as the file has them, if `first`), and what to warn of."""
    counts = present.sum(axis=0)
    if first:
        there = [int(body) for body in np.flatnonzero(counts > 0)]
        more = [f"bodies: {len(there)} in the file, the first {persons} kept"] if len(there) > persons else []
        return there[:persons], more
    real = [int(body) for body in np.flatnonzero(counts >= max(1, GHOST * counts.max()))]
    ranked = sorted(real, key=lambda body: -_activity(frames[present[:, body], body]))
    warnings = []
    ghosts = int((counts > 0).sum()) - len(real)
    if ghosts:
        warnings.append(f"bodies: {ghosts} ghosts dropped (seen in under {GHOST:.0%} of the frames)")
    if len(ranked) > persons:
        warnings.append(f"bodies: {len(ranked)} persons, the {persons} most active kept")
    return ranked[:persons], warnings


def _activity(frames: Floats) -> float:
    """How much a body [t, K, 3] moves: spread of its joints, times the frames it is seen in, so that a ghost loses."""
    return float(frames.std(axis=0, dtype=np.float64).sum()) * len(frames)
