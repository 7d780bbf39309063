"""Bodies of a recording: tracks that belong to one person, ghosts, and the persons to keep."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glt.data.checks.faults import scale
from glt.data.layouts import Skeleton

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

GHOST = 0.1  # a body present in fewer frames than this share of the most present one's is a sensor error


def handovers(
    frames: Floats, present: Bools, skeleton: Skeleton, seconds: float, metres: float
) -> list[tuple[int, int]]:
    """Pairs (body, later body) of one person whom the sensor lost and found again under another id.

    The later body begins within `seconds` after the end of the first, with its centroid within `metres` of where the
    first one ended; of several candidates the nearest is chosen. The two are never present together.
    """
    times = [np.flatnonzero(present[:, body]) for body in range(present.shape[1])]
    centroid = frames.mean(axis=2)
    near, gap = metres * scale(frames, present, skeleton), round(seconds * skeleton.rate)
    candidates = []
    for first in range(len(times)):
        for later in range(len(times)):
            if first == later or not len(times[first]) or not len(times[later]):
                continue
            end, begin = int(times[first][-1]), int(times[later][0])
            if 0 < begin - end <= gap + 1:
                distance = float(np.linalg.norm(centroid[begin, later] - centroid[end, first]))
                if distance <= near:
                    candidates.append((distance, first, later))
    pairs: list[tuple[int, int]] = []
    for _, first, later in sorted(candidates):
        if all(first != a and later != b for a, b in pairs):
            pairs.append((first, later))
    return pairs


def join(frames: Floats, present: Bools, pairs: list[tuple[int, int]]) -> tuple[Floats, Bools]:
    """Move each pair's later body into the slot of the first (of the very first in a chain); freed slots are empty."""
    frames, present = frames.copy(), present.copy()
    slots: dict[int, int] = {}
    for first, later in sorted(pairs, key=lambda pair: int(np.argmax(present[:, pair[1]]))):
        slot = slots.get(first, first)
        slots[later] = slot
        times = present[:, later].copy()
        frames[times, slot], present[times, slot] = frames[times, later], True
        frames[times, later], present[times, later] = 0, False
    return frames, present


def select(frames: Floats, present: Bools, persons: int, first: bool) -> tuple[list[int], list[str]]:
    """Indices of the bodies to keep, at most `persons`, and warnings.

    The most active come first; if `first`, bodies are kept in the order of the file.
    """
    counts = present.sum(axis=0)
    if first:
        in_file = [int(body) for body in np.flatnonzero(counts > 0)]
        surplus = [f"bodies: {len(in_file)} in the file, the first {persons} kept"] if len(in_file) > persons else []
        return in_file[:persons], surplus
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
    """Activity of a body [t, K, 3]: the spread of its joints times its number of frames, so that a ghost ranks low."""
    return float(frames.std(axis=0, dtype=np.float64).sum()) * len(frames)
