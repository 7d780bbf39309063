"""What can be mended in a recording. They give new arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


def interpolated(frames: Floats, present: Bools, where: Bools) -> Floats:
    """The points at `where` [T, P, K] on a straight line in time between the joint's good points.

    At the ends they stay where the nearest good point is. A joint without a good point is left as it is.
    """
    mended = frames.copy()
    for person, joint in np.argwhere(where.any(axis=0)):
        bad = where[:, person, joint]
        good = np.flatnonzero(present[:, person] & ~bad)
        if len(good):
            for axis in range(frames.shape[3]):
                mended[bad, person, joint, axis] = np.interp(
                    np.flatnonzero(bad), good, frames[good, person, joint, axis]
                )
    return mended


def unswapped(frames: Floats, present: Bools, swaps: Sequence[tuple[int, int, int]]) -> tuple[Floats, Bools]:
    """Tracks that changed places put back: (frame, person, person) each, from that frame on."""
    frames, present = frames.copy(), present.copy()
    for frame, a, b in swaps:
        frames[frame:, [a, b]] = frames[frame:, [b, a]]
        present[frame:, [a, b]] = present[frame:, [b, a]]
    return frames, present
