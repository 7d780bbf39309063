"""Similarity of two clips: is one the other one moved, turned, trimmed, resampled or noisy?

`signature` is a short vector to search candidates by, `alignment_distance` the exact comparison of two clips.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glt.data.checks.faults import scale
from glt.data.layouts import Skeleton

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

VERSION = 1  # raise it when signatures or distances change: stored ones are then computed again
NEAR = 0.01  # metres, mean distance of the joints: as much as a Kinect's noise
_CERTAIN = NEAR / 3  # units: no other shift in time is tried once one fits this well
_QUANTILES = (0.1, 0.5, 0.9)
_MAX_SHIFT = 0.15  # share of the shorter clip's frames that may be missing at either end


def signature_size(skeleton: Skeleton) -> int:
    """Length F of a signature."""
    return len(skeleton.joints) * 2 * len(_QUANTILES)


def signature(frames: Floats, present: Bools, skeleton: Skeleton) -> Floats:
    """A vector [F], F = K * 6, in metres that hardly changes when a clip [T, P, K, 3] is moved, turned, or resampled.

    It holds, for each joint, quantiles over time of its distance from the centre joint and of its height above it.
    Signatures of several persons are summed, so their order has no effect.
    """
    unit = scale(frames, present, skeleton)
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


def alignment_distance(
    one: Floats, one_present: Bools, other: Floats, other_present: Bools, skeleton: Skeleton
) -> float:
    """Mean distance in metres between the joints of two clips [T, P, K, 3] after the best alignment.

    Aligned are the time (a shift, or resampling to the shorter clip's length), the order of the persons, one
    translation, and one turn about the vertical. Infinite if the clips cannot be the same recording: they show another
    number of persons, or have lengths that no trimming explains.
    """
    unit = scale(one, one_present, skeleton)
    persons = np.flatnonzero(one_present.any(axis=0))
    other_persons = np.flatnonzero(other_present.any(axis=0))
    if len(persons) != len(other_persons):
        return float("inf")
    orders = [other_persons] if len(other_persons) == 1 else [other_persons, other_persons[::-1]]
    best = float("inf")
    for order in orders:
        a, b = one[:, persons], other[:, order]
        a_present, b_present = one_present[:, persons], other_present[:, order]
        best = min(best, _distance_over_shifts(a, a_present, b, b_present, skeleton.up))
        if len(a) != len(b) and max(len(a), len(b)) > 3:
            short, long = (a, b) if len(a) < len(b) else (b, a)
            short_present, long_present = (a_present, b_present) if len(a) < len(b) else (b_present, a_present)
            resampled, resampled_present = _resample(long, long_present, len(short))
            best = min(best, _aligned_distance(short, short_present, resampled, resampled_present, skeleton.up))
    return best / unit


def _distance_over_shifts(a: Floats, a_present: Bools, b: Floats, b_present: Bools, up: int) -> float:
    """The least `_aligned_distance` over shifts in time that leave most of the shorter clip in both."""
    shorter = min(len(a), len(b))
    slack = int(_MAX_SHIFT * shorter)
    if abs(len(a) - len(b)) > 2 * slack + 2:
        return float("inf")
    best = float("inf")
    for shift in sorted(range(-slack - max(0, len(b) - len(a)), slack + max(0, len(a) - len(b)) + 1), key=abs):
        start, end = max(0, shift), min(len(a), len(b) + shift)
        if best < _CERTAIN:
            break
        if end - start >= max(1, shorter - slack):
            in_a, in_b = slice(start, end), slice(start - shift, end - shift)
            best = min(best, _aligned_distance(a[in_a], a_present[in_a], b[in_b], b_present[in_b], up))
    return best


def _aligned_distance(a: Floats, a_present: Bools, b: Floats, b_present: Bools, up: int) -> float:
    """Mean distance of the joints of two clips of equal length after the best translation and turn about `up`."""
    both = a_present & b_present
    if both.sum() < 0.8 * max(a_present.sum(), b_present.sum()) or not both.any():
        return float("inf")
    p, q = a[both].reshape(-1, 3).astype(np.float64), b[both].reshape(-1, 3).astype(np.float64)
    p, q = p - p.mean(axis=0), q - q.mean(axis=0)
    x, y = (up + 1) % 3, (up + 2) % 3
    angle = np.arctan2((q[:, x] * p[:, y] - q[:, y] * p[:, x]).sum(), (q[:, x] * p[:, x] + q[:, y] * p[:, y]).sum())
    cos, sin = np.cos(angle), np.sin(angle)
    turned = q.copy()
    turned[:, x], turned[:, y] = cos * q[:, x] - sin * q[:, y], sin * q[:, x] + cos * q[:, y]
    return float(np.linalg.norm(p - turned, axis=1).mean())


def _resample(frames: Floats, present: Bools, length: int) -> tuple[Floats, Bools]:
    """A clip [T, P, K, 3] interpolated linearly to `length` frames."""
    at = np.linspace(0, len(frames) - 1, length)
    low = np.minimum(at.astype(int), len(frames) - 2)
    weight = (at - low)[:, None, None, None].astype(np.float32)
    return frames[low] * (1 - weight) + frames[low + 1] * weight, present[np.rint(at).astype(int)]
