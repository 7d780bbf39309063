"""Repairs of a recording. Each returns new arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


def interpolate(frames: Floats, present: Bools, where: Bools) -> Floats:
    """Replace the points at `where` [T, P, K] by linear interpolation in time between the joint's good points.

    Beyond the first and last good point, that point is repeated. A joint without a good point does not change.
    """
    repaired = frames.copy()
    for person, joint in np.argwhere(where.any(axis=0)):
        bad = where[:, person, joint]
        good = np.flatnonzero(present[:, person] & ~bad)
        if len(good):
            for axis in range(frames.shape[3]):
                repaired[bad, person, joint, axis] = np.interp(
                    np.flatnonzero(bad), good, frames[good, person, joint, axis]
                )
    return repaired


def unswap(frames: Floats, present: Bools, swaps: Sequence[tuple[int, int, int]]) -> tuple[Floats, Bools]:
    """Undo swaps (frame, person, person): the two tracks are exchanged from that frame on."""
    frames, present = frames.copy(), present.copy()
    for frame, a, b in swaps:
        frames[frame:, [a, b]] = frames[frame:, [b, a]]
        present[frame:, [a, b]] = present[frame:, [b, a]]
    return frames, present
