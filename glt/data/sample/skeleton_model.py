"""A skeleton model: a pose, given by a few numbers per frame, becomes the 25 joints that a Kinect v2 reports.

It uses only + - * / and square roots, element by element, so it gives the same bits on any processor. Rotations are
rational, ((1 - t^2) / (1 + t^2), 2 t / (1 + t^2)) with t the tangent of half the angle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CHANNELS = 18
PART = {
    "root": slice(0, 3),  # pelvis: to the left, up, forwards; leg lengths from where it rests
    "lean": slice(3, 5),  # top of the trunk: to the left, forwards; trunk lengths
    "twist": slice(5, 6),  # shoulders against hips, to the left; tangent of half the angle
    "left": slice(6, 9),  # hand: outwards, up, forwards of the shoulder; arm lengths
    "right": slice(9, 12),
    "left_foot": slice(12, 15),  # outwards, up, forwards of where it rests; leg lengths
    "right_foot": slice(15, 18),
}
_HANDS, _FEET = (PART["left"], PART["right"]), (PART["left_foot"], PART["right_foot"])
_HANGING = (0.14, -0.93, 0.10)
_ELBOW, _KNEE = (0.6, -0.5, -0.7), (0.15, 0.0, 1.0)  # where they point: outwards, up, forwards


@dataclass(frozen=True)
class Body:
    """Lengths of the body's parts in metres."""

    trunk: float = 0.50
    neck: float = 0.08
    head: float = 0.15
    shoulder: float = 0.17
    upper_arm: float = 0.28
    forearm: float = 0.25
    hand: float = 0.08
    hip: float = 0.09
    thigh: float = 0.42
    shin: float = 0.40
    foot: float = 0.15

    @property
    def leg(self) -> float:
        """Hip to ankle."""
        return self.thigh + self.shin

    @property
    def arm(self) -> float:
        """Shoulder to wrist."""
        return self.upper_arm + self.forearm


def pose(**parts: Sequence[float]) -> Array:
    """A pose [CHANNELS] with the given values for some of the parts in `PART`; the others are at rest."""
    channels = np.zeros(CHANNELS)
    for name, values in ({"left": _HANGING, "right": _HANGING} | parts).items():
        channels[PART[name]] = values
    return channels


def mirror(poses: Array) -> Array:
    """Poses [..., CHANNELS] with left and right exchanged."""
    mirrored = np.concatenate([poses[..., :6], *(poses[..., part] for part in (*_HANDS[::-1], *_FEET[::-1]))], axis=-1)
    mirrored[..., [0, 3, 5]] = -mirrored[..., [0, 3, 5]]
    return mirrored


def joints(poses: Array, body: Body) -> Array:
    """Poses [T, CHANNELS] -> joints [T, 25, 3] in NTU's order; metres, x to the figure's left, y up, z forwards."""
    leg, frames = body.leg, len(poses)
    base = leg * (poses[:, PART["root"]] + np.array([0, 0.97, 0]))
    up = _unit(_stack(poses[:, 3], np.ones(frames), poses[:, 4]))
    cos, sin = rotation(poses[:, 5])
    across = _stack(cos, np.zeros(frames), -sin)  # to the left, along the shoulders
    across = _unit(across - _dot(across, up) * up)
    top = base + body.trunk * up
    upright = _unit(up + np.array([0, 0.6, 0]))
    points = np.empty((frames, 25, 3))
    points[:, 0], points[:, 1], points[:, 20] = base, base + 0.52 * body.trunk * up, top
    points[:, 2] = top + body.neck * upright
    points[:, 3] = points[:, 2] + body.head * upright
    for side, sign in enumerate((1.0, -1.0)):
        outwards = np.array([sign, 1, 1])
        shoulder = top + sign * body.shoulder * across - 0.04 * up
        target = shoulder + body.arm * outwards * poses[:, _HANDS[side]]
        elbow, wrist = _bend(shoulder, target, body.upper_arm, body.forearm, outwards * np.array(_ELBOW))
        along = _unit(wrist - elbow)
        thumb = _unit(_stack(-sign * along[:, 1], sign * along[:, 0], 0.5 + 0 * along[:, 0]))
        hand = wrist + body.hand * along
        points[:, 4 + 4 * side : 8 + 4 * side] = np.stack([shoulder, elbow, wrist, hand], axis=1)
        points[:, 21 + 2 * side], points[:, 22 + 2 * side] = hand + body.hand * along, hand + 0.5 * body.hand * thumb
        hip = base + np.array([sign * body.hip, -0.03, 0])
        target = np.array([sign * 1.25 * body.hip, 0, 0]) + leg * outwards * poses[:, _FEET[side]]
        knee, ankle = _bend(hip, target, body.thigh, body.shin, outwards * np.array(_KNEE))
        toes = ankle + body.foot * np.array([0.25 * sign, -0.4, 0.88])
        points[:, 12 + 4 * side : 16 + 4 * side] = np.stack([hip, knee, ankle, toes], axis=1)
    return points


def rotation(half: Array | float) -> tuple[Array, Array]:
    """Cosine and sine of the angle whose half has the tangent `half`."""
    square = np.asarray(half * half, np.float64)
    return (1 - square) / (1 + square), 2 * half / (1 + square)


def turn(points: Array, half: Array | float) -> Array:
    """Points [..., 3] turned to the left about the vertical through the origin."""
    cos, sin = rotation(half)
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    return _stack(cos * x + sin * z, y, cos * z - sin * x)


def _bend(start: Array, target: Array, first: float, second: float, pole: Array) -> tuple[Array, Array]:
    """Middle joint and end of a two-bone limb that reaches for `target` and bends towards `pole`."""
    reach = target - start
    distance = _length(reach)
    along = reach / np.maximum(distance, 1e-3)
    distance = np.minimum(np.maximum(distance, 0.35 * (first + second)), 0.985 * (first + second))
    foot = (first * first - second * second + distance * distance) / (2 * distance)
    height = np.sqrt(np.maximum(first * first - foot * foot, 0))
    side = _unit(pole - _dot(pole, along) * along)
    return start + foot * along + height * side, start + distance * along


def _stack(x: Array, y: Array, z: Array) -> Array:
    return np.stack([x, y, z], axis=-1)


def _dot(a: Array, b: Array) -> Array:
    """Scalar product over the last axis, which is kept."""
    product = a * b
    total: Array = product[..., 0] + product[..., 1] + product[..., 2]
    return total[..., None]


def _length(a: Array) -> Array:
    return np.sqrt(_dot(a, a))


def _unit(a: Array) -> Array:
    return a / np.maximum(_length(a), 1e-6)
