"""What may be wrong with a recording, a function each. They look and change nothing.

Points are frames [T, P, K, 3] with present [T, P]; a place is bool [T, P, K]. Limits are in metres; where the layout
has another unit, they hold for a person who would be `TALL`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glt.data.layouts import Skeleton

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

TALL = 1.7  # metres: what a limit in metres means for a layout that has another unit


def scale(frames: Floats, present: Bools, skeleton: Skeleton) -> float:
    """Units of the layout a metre: 1 if it has metres, else the people's median extent by `TALL`."""
    if skeleton.unit == "m" or not present.any():
        return 1.0
    seen = frames[present]
    extent = float(np.median(np.linalg.norm(seen.max(axis=1) - seen.min(axis=1), axis=-1)))
    return extent / TALL or 1.0


def not_finite(frames: Floats, present: Bools) -> Bools:
    """Points with a NaN or an infinite coordinate."""
    return np.asarray(~np.isfinite(frames).all(axis=3) & present[:, :, None])


def far(frames: Floats, present: Bools, farthest: float) -> Bools:
    """Points with a coordinate above `farthest`: the unit is wrong, or the numbers are damaged."""
    return np.asarray((np.abs(frames) > farthest).any(axis=3) & present[:, :, None])


def bones(frames: Floats, present: Bools, skeleton: Skeleton, longest: float, spread: float) -> tuple[Bools, str]:
    """Bones that no person has, and why: a median above `longest` metres, or lengths that vary by `spread` of it.

    The spread is from the 10th to the 90th percentile of the frames, so that single bad frames do not count. A body
    whose longest bone has under a hundredth of `longest` is too small to be one (another unit). Judged by a person.
    """
    ends = np.array(skeleton.bones)
    where = np.zeros(frames.shape[:3], bool)
    unit = longest * scale(frames, present, skeleton)
    said = ""
    for person in np.flatnonzero(present.any(axis=0)):
        seen = frames[present[:, person], person]
        lengths = np.linalg.norm(seen[:, ends[:, 0]] - seen[:, ends[:, 1]], axis=-1)  # t, B
        ordered = np.sort(lengths, axis=0)
        count = len(ordered)
        low, median, high = (ordered[round(share * (count - 1))] for share in (0.1, 0.5, 0.9))
        long = median > unit
        small = np.full(len(ends), bool(median.max() < unit / 100))
        loose = (high - low > spread * np.maximum(median, unit / 20)) if count >= 5 else np.zeros(len(ends), bool)
        wrong = long | loose | small
        if wrong.any():
            worst = int(np.flatnonzero(wrong)[np.argmax((high - low + median)[wrong])])
            a, b = (skeleton.joints[joint] for joint in skeleton.bones[worst])
            how = "varies" if loose[worst] and not long[worst] else "is"
            value = f"from {low[worst]:.3g} to {high[worst]:.3g}" if how == "varies" else f"{median[worst]:.3g}"
            said = said or f"{a} to {b} {how} {value} {'m' if skeleton.unit == 'm' else skeleton.unit + 's'}"
            joints = np.unique(ends[wrong])
            where[np.ix_(present[:, person], [person], joints)] = True
    return where, said


def jumps(frames: Floats, present: Bools, skeleton: Skeleton, fastest: float, longest: int = 4) -> Bools:
    """Points of joints that leave their path and come back within `longest` frames, both faster than `fastest` m/s."""
    where = np.zeros(frames.shape[:3], bool)
    length = len(frames)
    if length < 3:
        return where
    step = fastest / skeleton.rate * scale(frames, present, skeleton)
    both = present[1:] & present[:-1]
    fast = (np.linalg.norm(frames[1:] - frames[:-1], axis=-1) > step) & both[:, :, None]  # T - 1, P, K
    for t, person, joint in np.argwhere(fast):
        for back in range(t + 1, min(t + 1 + longest, length - 1)):
            if not fast[back, person, joint]:
                continue
            if np.linalg.norm(frames[back + 1, person, joint] - frames[t, person, joint]) <= step * (back + 1 - t) / 2:
                where[t + 1 : back + 1, person, joint] = True
            break
    return where


def frozen(frames: Floats, present: Bools, skeleton: Skeleton, seconds: float) -> Bools:
    """Points of joints that do not move by a single bit for `seconds`."""
    still = (frames[1:] == frames[:-1]).all(axis=3) & (present[1:] & present[:-1])[:, :, None]
    return _runs(still, max(2, round(seconds * skeleton.rate)))


def repeated(frames: Floats, present: Bools) -> NDArray[np.bool_]:
    """Frames [T] that are the one before once more, bit for bit."""
    again = np.zeros(len(frames), bool)
    again[1:] = (frames[1:] == frames[:-1]).all(axis=(1, 2, 3)) & (present[1:] == present[:-1]).all(axis=1)
    return again & present.any(axis=1)


def swaps(frames: Floats, present: Bools, skeleton: Skeleton, farther: float) -> list[tuple[int, int, int]]:
    """(frame, person, person): from that frame on two tracks have changed places.

    That is so where staying means that the two together jump at least `farther` metres more than changing does, and at
    least three times as far.
    """
    found: list[tuple[int, int, int]] = []
    middle = frames.mean(axis=2)  # T, P, 3
    limit = farther * scale(frames, present, skeleton)
    for a in range(frames.shape[1]):
        for b in range(a + 1, frames.shape[1]):
            both = present[:, a] & present[:, b]
            times = np.flatnonzero(both[1:] & both[:-1])
            one, other = middle[:, a], middle[:, b]
            stay = _distance(one[times + 1], one[times]) + _distance(other[times + 1], other[times])
            change = _distance(other[times + 1], one[times]) + _distance(one[times + 1], other[times])
            found += [(int(t) + 1, a, b) for t in times[(stay - change > limit) & (stay > 3 * change)]]
    return sorted(found)


def _distance(one: Floats, other: Floats) -> Floats:
    return np.asarray(np.linalg.norm(one - other, axis=-1))


def _runs(still: Bools, least: int) -> Bools:
    """Steps [T - 1, P, K] without movement -> points [T, P, K] in runs of at least `least` of them."""
    steps, persons, joints = still.shape
    where = np.zeros((steps + 1, persons, joints), bool)
    if steps < least:
        return where
    total = np.cumsum(np.concatenate([np.zeros((1, persons, joints), np.int64), still]), axis=0)
    starts = total[least:] - total[:-least] == least  # the run of `least` steps that starts here
    for offset in range(least + 1):
        where[offset : offset + len(starts)] |= starts
    return where
