"""Search for clips that overlap in time: one cut out of the other, or both cut out of one recording.

Each clip has up to two anchors, the windows of nine frames in its first and second half in which the person moves most.
If two clips share half of the shorter one, the window of one of its anchors lies in the other clip, too. All windows of
all clips are compared with all anchors. A window is described by `DIMENSIONS` numbers that a translation and a turn
about the vertical do not change.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from glt.data.layouts import Skeleton

DIMENSIONS = 16
ANCHORS = 2  # per clip
_REACH = 4  # frames before and after the middle of a window
_LEAST_MOVEMENT = 0.01  # metres within a window; of people who do not move, all windows are alike
_RADIUS = 0.012  # metres, root mean square difference of two windows up to which they may be the same
_OF_MOVEMENT = 0.3  # the same as a share of the movement in the anchor
_NEIGHBOURS = 4  # anchors that a window is compared with


@dataclass(frozen=True)
class Anchors:
    """The anchors of n clips; A is `ANCHORS`, D is `DIMENSIONS`.

    Attributes:
        windows: float32 [n, A, D], metres.
        frames: int32 [n, A], index of the middle frame in the clip; -1 if there is no such anchor.
        movement: float32 [n, A], metres.
    """

    windows: NDArray[np.float32]
    frames: NDArray[np.int32]
    movement: NDArray[np.float32]

    @staticmethod
    def empty(count: int) -> Anchors:
        """`count` clips without any anchors."""
        return Anchors(
            np.zeros((count, ANCHORS, DIMENSIONS), np.float32),
            np.full((count, ANCHORS), -1, np.int32),
            np.zeros((count, ANCHORS), np.float32),
        )

    def set(self, clip: int, of: Windows, chosen: Sequence[int]) -> None:
        """Set the anchors of a clip: those of its windows that were chosen."""
        slots, windows = slice(len(chosen)), list(chosen)
        self.windows[clip, slots], self.movement[clip, slots] = of.descriptors[windows], of.movement[windows]
        self.frames[clip, slots] = of.frames[windows]

    def assign(self, clips: slice, others: Anchors) -> None:
        """Set the anchors of several clips."""
        for field in fields(self):
            getattr(self, field.name)[clips] = getattr(others, field.name)

    def subset(self, clips: NDArray[np.bool_]) -> Anchors:
        """The anchors of some of the clips."""
        return Anchors(*(getattr(self, field.name)[clips] for field in fields(self)))

    def without(self, first: int) -> Anchors:
        """The same clips, the first of them without anchors."""
        frames = self.frames.copy()
        frames[:first] = -1
        return replace(self, frames=frames)


@dataclass(frozen=True)
class Windows:
    """All windows of one clip.

    Attributes:
        descriptors: float32 [n, D].
        frames: index of the middle frame of each, [n].
        movement: in each, metres [n].
    """

    descriptors: NDArray[np.float32]
    frames: NDArray[np.int64]
    movement: NDArray[np.float32]


def windows(frames: NDArray[np.float32], present: NDArray[np.bool_], skeleton: Skeleton) -> Windows:
    """The windows of a clip [T, P, K, 3] in which a person is seen at both ends and in the middle."""
    count = len(frames) - 2 * _REACH
    if count < 1:
        return Windows(np.zeros((0, DIMENSIONS), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))
    local = frames - frames[:, :, skeleton.centre : skeleton.centre + 1]
    pose = np.concatenate([np.linalg.norm(local, axis=3), local[..., skeleton.up]], axis=2)  # T, P, 2 K
    pose /= np.float32(skeleton.metre)
    first, middle, last = (slice(start, start + count) for start in (0, _REACH, 2 * _REACH))
    seen = present[first] & present[middle] & present[last]
    descriptors = np.concatenate([pose[first], pose[middle], pose[last]], axis=2) @ _projection(pose.shape[2] * 3)
    movement = np.sqrt(((pose[last] - pose[first]) ** 2).mean(axis=2))
    index = np.broadcast_to(np.arange(_REACH, _REACH + count)[:, None], seen.shape)
    return Windows(descriptors[seen], index[seen], movement[seen])


def choose_anchors(of: Windows, length: int) -> list[int]:
    """Indices of the windows that become the anchors of a clip of `length` frames."""
    middle, chosen = length // 2, []
    for start, end in ((0, middle), (middle, length)):
        inside = (of.frames >= start + _REACH) & (of.frames < end - _REACH)
        candidates = np.flatnonzero(inside if inside.any() else np.ones(len(of.frames), bool))
        if len(candidates):
            best = int(candidates[of.movement[candidates].argmax()])
            if of.movement[best] > _LEAST_MOVEMENT and best not in chosen:
                chosen.append(best)
    return chosen


class AnchorSearch:
    """Finds anchors of other clips in the windows of a clip."""

    def __init__(self, anchors: Anchors) -> None:
        """Index the anchors of all clips."""
        from scipy.spatial import cKDTree

        self._clips, self._slots = np.nonzero(anchors.frames >= 0)
        self._anchors = anchors
        self._tree = cKDTree(anchors.windows[self._clips, self._slots]) if len(self._clips) else None

    def find(self, clip: int, of: Windows) -> list[tuple[int, int, float]]:
        """The clips that the windows of a clip may come from.

        Args:
            clip: its index, whose own anchors are left out.
            of: its windows.

        Returns:
            (other clip, shift, distance), the best of each other clip; frame t of the other clip is frame t + shift.
        """
        if self._tree is None or not len(of.frames):
            return []
        distance, nearest = self._tree.query(of.descriptors, k=_NEIGHBOURS, distance_upper_bound=_RADIUS)
        window, rank = np.nonzero(np.isfinite(distance))
        anchor, distance = nearest[window, rank], distance[window, rank]
        other, slot = self._clips[anchor], self._slots[anchor]
        near = (other != clip) & (distance <= _OF_MOVEMENT * self._anchors.movement[other, slot])
        shift = of.frames[window] - self._anchors.frames[other, slot]
        best: dict[int, tuple[int, float]] = {}
        for index in np.flatnonzero(near):
            if distance[index] < best.get(int(other[index]), (0, np.inf))[1]:
                best[int(other[index])] = (int(shift[index]), float(distance[index]))
        return [(found, *values) for found, values in best.items()]


@functools.lru_cache(maxsize=8)
def _projection(size: int) -> NDArray[np.float32]:
    """A fixed random projection [size, D] under which distances are root mean squares over the `size` features."""
    basis, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(size, DIMENSIONS)))
    projection: NDArray[np.float32] = (basis / np.sqrt(DIMENSIONS)).astype(np.float32)
    return projection
