"""Comparison of two clips: is one the other one moved, turned, resampled or noisy, or do they overlap in time?

Two recordings of the same moment differ by the sensor's noise, which averages out over a few frames; two performances
of the same action do not. So the difference is averaged over `SMOOTH` frames before it is measured, and it is compared
with how much the person moves: people who hardly move all look alike.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glt.data.layouts import Skeleton

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

VERSION = 3  # raise it when signatures, windows or distances change: stored ones are then computed again
NEAR = 0.005  # metres, mean distance of the joints averaged over SMOOTH frames
OF_MOVEMENT = 0.15  # the same as a share of the movement; repeated performances begin at 0.25
SMOOTH = 5  # frames
LEAST = 10  # frames that two clips must share
_LEAST_SHARE = 0.5  # of the shorter clip
_QUANTILES = (0.1, 0.5, 0.9)


class Match(NamedTuple):
    """Two clips, laid over each other as well as possible.

    Attributes:
        distance: mean distance of their joints in metres, averaged over `SMOOTH` frames; infinite if they cannot be
            the same recording.
        movement: mean distance of the joints from their mean position over the common frames, metres.
    """

    distance: float
    movement: float

    @property
    def is_near(self) -> bool:
        """True if the two are the same recording."""
        return self.distance <= min(NEAR, OF_MOVEMENT * self.movement)


NO_MATCH = Match(float("inf"), 0.0)


def signature_size(skeleton: Skeleton) -> int:
    """Length F of a signature."""
    return len(skeleton.joints) * 2 * len(_QUANTILES)


def signature(frames: Floats, present: Bools, skeleton: Skeleton) -> Floats:
    """A vector [F], F = K * 6, in metres that hardly changes when a clip [T, P, K, 3] is moved, turned, or resampled.

    It holds quantiles over time of `pose`. Signatures of several persons are summed, so their order has no effect.
    """
    unit = skeleton.metre
    total = np.zeros(signature_size(skeleton))
    for person in np.flatnonzero(present.any(axis=0)):
        points = frames[present[:, person], person]  # t, K, 3
        local = points - points[:, skeleton.centre : skeleton.centre + 1]
        height = points[:, :, skeleton.up] - points[:, skeleton.centre, skeleton.up].mean()
        features = np.stack([np.linalg.norm(local, axis=2), height], axis=1)  # t, 2, K
        ordered = np.sort(features, axis=0)
        quantile_frames = [round(q * (len(ordered) - 1)) for q in _QUANTILES]
        total += ordered[quantile_frames].ravel() / unit
    return total.astype(np.float32)


def compare_whole(one: Floats, one_present: Bools, other: Floats, other_present: Bools, skeleton: Skeleton) -> Match:
    """Compare two clips [T, P, K, 3] from beginning to end; the longer is resampled to the length of the shorter."""
    if len(one) > len(other):
        one, one_present, other, other_present = other, other_present, one, one_present
    if len(other) > len(one):
        if len(one) < 4:
            return NO_MATCH
        other, other_present = _resample(other, other_present, len(one))
    return _best_order(one, one_present, other, other_present, skeleton)


def compare_overlap(
    one: Floats, one_present: Bools, other: Floats, other_present: Bools, shift: int, skeleton: Skeleton
) -> Match:
    """Compare the frames that two clips [T, P, K, 3] share if frame t of the first is frame t + `shift` of the other.

    They must share `LEAST` frames, and half of the shorter clip; else there is no match.
    """
    start, end = max(0, -shift), min(len(one), len(other) - shift)
    if end - start < max(LEAST, _LEAST_SHARE * min(len(one), len(other))):
        return NO_MATCH
    in_one, in_other = slice(start, end), slice(start + shift, end + shift)
    return _best_order(one[in_one], one_present[in_one], other[in_other], other_present[in_other], skeleton)


def _best_order(a: Floats, a_present: Bools, b: Floats, b_present: Bools, skeleton: Skeleton) -> Match:
    """The best match over the orders of the persons of two clips of equal length."""
    persons, others = (np.flatnonzero(present.any(axis=0)) for present in (a_present, b_present))
    if len(persons) != len(others) or not len(persons):
        return NO_MATCH
    unit = skeleton.metre
    orders = [others] if len(others) == 1 else [others, others[::-1]]
    matches = [
        _align(a[:, persons], a_present[:, persons], b[:, order], b_present[:, order], skeleton.up) for order in orders
    ]
    best = min(matches, key=lambda match: match.distance)
    return Match(best.distance / unit, best.movement / unit)


def _align(a: Floats, a_present: Bools, b: Floats, b_present: Bools, up: int) -> Match:
    """Match two clips of equal length after the best translation and turn about the axis `up`."""
    both = a_present & b_present
    if both.sum() < 0.8 * max(a_present.sum(), b_present.sum()) or not both.any():
        return NO_MATCH
    p, q = (frames.astype(np.float64) - frames[both].mean(axis=(0, 1), dtype=np.float64) for frames in (a, b))
    x, y = (up + 1) % 3, (up + 2) % 3
    u, v = p[both], q[both]
    angle = np.arctan2(
        (v[..., x] * u[..., y] - v[..., y] * u[..., x]).sum(), (v[..., x] * u[..., x] + v[..., y] * u[..., y]).sum()
    )
    cos, sin = np.cos(angle), np.sin(angle)
    turned = q.copy()
    turned[..., x], turned[..., y] = cos * q[..., x] - sin * q[..., y], sin * q[..., x] + cos * q[..., y]
    seen = both[:, :, None, None]
    residual = _smooth(np.where(seen, p - turned, 0), seen)
    centred = np.where(seen, p, 0)
    mean = centred.sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    movement = np.linalg.norm(p - mean, axis=-1)[both].mean()
    return Match(float(np.linalg.norm(residual, axis=-1).mean()), float(movement))


def _smooth(values: Doubles, seen: Bools) -> Doubles:
    """Means of `values` [T, P, K, 3] over `SMOOTH` frames, of those that were seen [T, P, 1, 1]; rows [n, K, 3]."""
    width = min(SMOOTH, len(values))
    sums = np.cumsum(np.concatenate([np.zeros_like(values[:1]), values]), axis=0)
    counts = np.cumsum(np.concatenate([np.zeros_like(seen[:1], int), seen]), axis=0)
    counts = counts[width:] - counts[:-width]
    means = (sums[width:] - sums[:-width]) / np.maximum(counts, 1)
    somebody: Doubles = means[counts[:, :, 0, 0] > 0]
    return somebody


def _resample(frames: Floats, present: Bools, length: int) -> tuple[Floats, Bools]:
    """A clip [T, P, K, 3] interpolated linearly to `length` frames."""
    at = np.linspace(0, len(frames) - 1, length)
    low = np.minimum(at.astype(int), len(frames) - 2)
    weight = (at - low)[:, None, None, None].astype(np.float32)
    return frames[low] * (1 - weight) + frames[low + 1] * weight, present[np.rint(at).astype(int)]
