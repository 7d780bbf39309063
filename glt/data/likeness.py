"""How alike two clips are: whether one is the other moved, turned, trimmed, resampled or noisy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glt.data.checks.faults import scale
from glt.data.layouts import Skeleton

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

VERSION = 1  # raise it when signatures or distances change: what was remembered of them is then made anew
NEAR = 0.01  # metres, mean distance of the joints: Kinect noise alone is as much
_SURELY = NEAR / 3  # units: a shift that fits so well is the right one
_QUANTILES = (0.1, 0.5, 0.9)
_SHIFT = 0.15  # of the shorter clip's frames, that may be missing at an end


def width(skeleton: Skeleton) -> int:
    """Numbers of a signature."""
    return len(skeleton.joints) * 2 * len(_QUANTILES)


def signature(frames: Floats, present: Bools, skeleton: Skeleton) -> Floats:
    """A vector [K * 6] in metres of a clip [T, P, K, 3]: what stays when it is moved, turned, trimmed or resampled.

    Of several persons the sum, so that their order plays no part.
    """
    unit = scale(frames, present, skeleton)
    whole = np.zeros(width(skeleton))
    for person in np.flatnonzero(present.any(axis=0)):
        seen = frames[present[:, person], person]
        local = seen - seen[:, skeleton.centre : skeleton.centre + 1]
        height = seen[:, :, skeleton.up] - seen[:, skeleton.centre, skeleton.up].mean()
        told = np.stack([np.linalg.norm(local, axis=2), height], axis=1)  # t, 2, K
        ordered = np.sort(told, axis=0)
        places = [round(q * (len(ordered) - 1)) for q in _QUANTILES]
        whole += ordered[places].ravel() / unit
    return whole.astype(np.float32)


def apart(one: Floats, seen: Bools, other: Floats, seen_too: Bools, skeleton: Skeleton) -> float:
    """Mean distance in metres of the joints of two clips [T, P, K, 3] that are laid upon one another.

    Infinite where they cannot be the same: another number of persons, or lengths that no trimming explains.
    """
    unit = scale(one, seen, skeleton)
    people, others = np.flatnonzero(seen.any(axis=0)), np.flatnonzero(seen_too.any(axis=0))
    if len(people) != len(others):
        return float("inf")
    orders = [others] if len(others) == 1 else [others, others[::-1]]
    best = float("inf")
    for order in orders:
        a, b = one[:, people], other[:, order]
        both, too = seen[:, people], seen_too[:, order]
        best = min(best, _best_shift(a, both, b, too, skeleton.up))
        if len(a) != len(b) and max(len(a), len(b)) > 3:
            short, long = (a, b) if len(a) < len(b) else (b, a)
            short_seen, long_seen = (both, too) if len(a) < len(b) else (too, both)
            stretched, still_seen = _resampled(long, long_seen, len(short))
            best = min(best, _laid(short, short_seen, stretched, still_seen, skeleton.up))
    return best / unit


def _best_shift(a: Floats, seen: Bools, b: Floats, seen_too: Bools, up: int) -> float:
    """Over shifts in time that leave most of the shorter clip in both."""
    shorter = min(len(a), len(b))
    slack = int(_SHIFT * shorter)
    if abs(len(a) - len(b)) > 2 * slack + 2:
        return float("inf")
    best = float("inf")
    for shift in sorted(range(-slack - max(0, len(b) - len(a)), slack + max(0, len(a) - len(b)) + 1), key=abs):
        start, end = max(0, shift), min(len(a), len(b) + shift)
        if best < _SURELY:
            break
        if end - start >= max(1, shorter - slack):
            here, there = slice(start, end), slice(start - shift, end - shift)
            best = min(best, _laid(a[here], seen[here], b[there], seen_too[there], up))
    return best


def _laid(a: Floats, seen: Bools, b: Floats, seen_too: Bools, up: int) -> float:
    """Mean distance after the translation and the turn about the vertical that fit best."""
    both = seen & seen_too
    if both.sum() < 0.8 * max(seen.sum(), seen_too.sum()) or not both.any():
        return float("inf")
    p, q = a[both].reshape(-1, 3).astype(np.float64), b[both].reshape(-1, 3).astype(np.float64)
    p, q = p - p.mean(axis=0), q - q.mean(axis=0)
    x, y = (up + 1) % 3, (up + 2) % 3
    turn = np.arctan2((q[:, x] * p[:, y] - q[:, y] * p[:, x]).sum(), (q[:, x] * p[:, x] + q[:, y] * p[:, y]).sum())
    cos, sin = np.cos(turn), np.sin(turn)
    turned = q.copy()
    turned[:, x], turned[:, y] = cos * q[:, x] - sin * q[:, y], sin * q[:, x] + cos * q[:, y]
    return float(np.linalg.norm(p - turned, axis=1).mean())


def _resampled(frames: Floats, seen: Bools, length: int) -> tuple[Floats, Bools]:
    """The clip at another number of frames, on straight lines."""
    at = np.linspace(0, len(frames) - 1, length)
    low = np.minimum(at.astype(int), len(frames) - 2)
    share = (at - low)[:, None, None, None].astype(np.float32)
    return frames[low] * (1 - share) + frames[low + 1] * share, seen[np.rint(at).astype(int)]
