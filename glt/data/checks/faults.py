"""Faults of a recording, one function each. They change nothing.

They take frames [T, P, K, 3] and present [T, P], and most return the faulty points as bool [T, P, K]. Points that a
repair has made, `hidden` [T, P, K], are no evidence: they neither fail a check nor excuse other points. Limits are in
metres; for a layout with another unit they are scaled as if the person were `TALL`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glt.data.layouts import Skeleton

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

TALL = 1.7  # metres, assumed height of a person where the layout has another unit


def scale(frames: Floats, present: Bools, skeleton: Skeleton) -> float:
    """Layout units per metre: 1 if the layout is in metres, else the median extent of the persons divided by `TALL`."""
    if skeleton.unit == "m" or not present.any():
        return 1.0
    points = frames[present]
    extent = float(np.median(np.linalg.norm(points.max(axis=1) - points.min(axis=1), axis=-1)))
    return extent / TALL or 1.0


def not_finite(frames: Floats, present: Bools) -> Bools:
    """Points with a NaN or an infinite coordinate."""
    return ~_all(np.isfinite(frames)) & present[:, :, None]


def at_origin(frames: Floats, present: Bools, hidden: Bools, skeleton: Skeleton, longest: float) -> Bools:
    """Points at the origin, exactly, of a body that is farther from it than `longest` metres: tools that find no point
    write zeros. Of positions relative to a joint, the origin is within the body.
    """
    zero = _all(frames == 0) & present[:, :, None] & ~hidden
    if not zero.any():
        return zero
    distance = np.where(zero | hidden, np.inf, np.linalg.norm(frames, axis=-1))
    far = distance.min(axis=2, keepdims=True) > longest * scale(frames, present, skeleton)
    return np.asarray(zero & far)


def out_of_range(frames: Floats, present: Bools, farthest: float) -> Bools:
    """Points with a coordinate beyond `farthest`: the unit is wrong, or the data are damaged."""
    return ~_all(~(np.abs(frames) > farthest)) & present[:, :, None]


def bones(
    frames: Floats, present: Bools, hidden: Bools, skeleton: Skeleton, longest: float, spread: float
) -> tuple[Bools, str]:
    """Ends of implausible bones, and a description of the worst one.

    A bone is implausible if its median length is above `longest` metres, if its length varies by more than `spread`
    times the median (10th to 90th percentile of the frames, so single bad frames do not count), or if all bones of the
    person are shorter than a hundredth of `longest` (another unit). Each person is checked separately, and each bone in
    the frames that show both its ends.
    """
    ends = np.array(skeleton.bones)
    where = np.zeros(frames.shape[:3], bool)
    unit = longest * scale(frames, present, skeleton)
    description = ""
    for person in np.flatnonzero(present.any(axis=0)):
        points, unseen = (part[present[:, person], person] for part in (frames, hidden))
        lengths = np.linalg.norm(points[:, ends[:, 0]] - points[:, ends[:, 1]], axis=-1)  # t, B
        (low, median, high), count = _quantiles(lengths, unseen[:, ends].any(axis=2) if unseen.any() else None)
        known = count > 0
        if not known.any():
            continue
        long = median > unit
        small = known & bool(median[known].max() < unit / 100)
        loose = (high - low > spread * np.maximum(median, unit / 20)) & (count >= 5)
        wrong = long | loose | small
        if wrong.any():
            worst = int(np.flatnonzero(wrong)[np.argmax((high - low + median)[wrong])])
            a, b = (skeleton.joints[joint] for joint in skeleton.bones[worst])
            how = "varies" if loose[worst] and not long[worst] else "is"
            value = f"from {low[worst]:.3g} to {high[worst]:.3g}" if how == "varies" else f"{median[worst]:.3g}"
            description = (
                description or f"{a} to {b} {how} {value} {'m' if skeleton.unit == 'm' else skeleton.unit + 's'}"
            )
            joints = np.unique(ends[wrong])
            where[np.ix_(present[:, person], [person], joints)] = True
    return where & ~hidden, description


def jumps(frames: Floats, present: Bools, hidden: Bools, skeleton: Skeleton, fastest: float, longest: int = 4) -> Bools:
    """Points of joints that jump away and back within `longest` frames, both times faster than `fastest` m/s."""
    where = np.zeros(frames.shape[:3], bool)
    length = len(frames)
    if length < 3:
        return where
    step = fastest / skeleton.rate * scale(frames, present, skeleton)
    fast = (np.linalg.norm(frames[1:] - frames[:-1], axis=-1) > step) & _both(present, hidden)  # T - 1, P, K
    for t, person, joint in np.argwhere(fast):
        for back in range(t + 1, min(t + 1 + longest, length - 1)):
            if not fast[back, person, joint]:
                continue
            if np.linalg.norm(frames[back + 1, person, joint] - frames[t, person, joint]) <= step * (back + 1 - t) / 2:
                where[t + 1 : back + 1, person, joint] = True
            break
    return where & ~hidden


def frozen(frames: Floats, present: Bools, hidden: Bools, skeleton: Skeleton, seconds: float) -> Bools:
    """Points of joints that do not move at all, bit for bit, for `seconds`; joints at 0, 0, 0 do not count."""
    still = _all(frames[1:] == frames[:-1]) & _both(present, hidden) & ~_all(frames[1:] == 0)
    return _runs(still, max(2, round(seconds * skeleton.rate)))


def repeated(frames: Floats, present: Bools, hidden: Bools) -> NDArray[np.bool_]:
    """Frames, bool [T], that repeat the one before bit for bit, in all points that both frames show."""
    again = np.zeros(len(frames), bool)
    both = _both(present, hidden)
    same = (_all(frames[1:] == frames[:-1]) | ~both).all(axis=(1, 2))
    again[1:] = same & both.any(axis=(1, 2)) & (present[1:] == present[:-1]).all(axis=1)
    return again


def swaps(frames: Floats, present: Bools, skeleton: Skeleton, farther: float) -> list[tuple[int, int, int]]:
    """(frame, person, person) for each time that two tracks swap their persons.

    That is where the two centroids together would jump at least `farther` metres more, and at least three times as
    far, if they had not been swapped.
    """
    swapped: list[tuple[int, int, int]] = []
    centroid = frames.mean(axis=2)  # T, P, 3
    limit = farther * scale(frames, present, skeleton)
    for a in range(frames.shape[1]):
        for b in range(a + 1, frames.shape[1]):
            both = present[:, a] & present[:, b]
            times = np.flatnonzero(both[1:] & both[:-1])
            one, other = centroid[:, a], centroid[:, b]
            stay = _distance(one[times + 1], one[times]) + _distance(other[times + 1], other[times])
            change = _distance(other[times + 1], one[times]) + _distance(one[times + 1], other[times])
            swapped += [(int(t) + 1, a, b) for t in times[(stay - change > limit) & (stay > 3 * change)]]
    return sorted(swapped)


def _all(coordinates: Bools) -> Bools:
    """Points [T, P, K] of which all coordinates [T, P, K, n] are true; `numpy.all` on so short an axis is slow."""
    found = coordinates[..., 0]
    for axis in range(1, coordinates.shape[-1]):
        found = found & coordinates[..., axis]
    return found


def _both(present: Bools, hidden: Bools) -> Bools:
    """Steps [T - 1, P, K or 1] between two frames that both show the point."""
    seen = present[:, :, None] & ~hidden if hidden.any() else present[:, :, None]
    return np.asarray(seen[1:] & seen[:-1])


def _quantiles(values: Floats, unknown: Bools | None) -> tuple[list[Floats], NDArray[np.int64]]:
    """The 10th, 50th and 90th percentile of each column [t, B], 0 without a value, and the number of its values [B].

    Args:
        values: the columns, which are changed.
        unknown: values [t, B] that do not count; None if all do, which is faster.
    """
    shares = (0.1, 0.5, 0.9)
    if unknown is None:
        ordered, length = np.sort(values, axis=0), len(values)
        return [ordered[round(share * (length - 1))] for share in shares], np.full(values.shape[1], length)
    values[unknown] = np.inf  # last in order
    ordered, count = np.sort(values, axis=0), (~unknown).sum(axis=0)
    ranks = (np.rint(share * np.maximum(count - 1, 0)).astype(np.int64) for share in shares)
    found = (np.take_along_axis(ordered, rank[None], axis=0)[0] for rank in ranks)
    return [np.where(count > 0, one, 0) for one in found], count


def _distance(one: Floats, other: Floats) -> Floats:
    return np.asarray(np.linalg.norm(one - other, axis=-1))


def _runs(still: Bools, least: int) -> Bools:
    """Steps [T - 1, P, K] without movement -> points [T, P, K] in runs of at least `least` such steps."""
    steps, persons, joints = still.shape
    where = np.zeros((steps + 1, persons, joints), bool)
    if steps < least:
        return where
    if still.sum(axis=0).max(initial=0) < least:
        return where
    total = np.cumsum(np.concatenate([np.zeros((1, persons, joints), np.int64), still]), axis=0)
    starts = total[least:] - total[:-least] == least  # the run of `least` steps that starts here
    for offset in range(least + 1):
        where[offset : offset + len(starts)] |= starts
    return where
