"""The actions of the sample recordings, and how a subject performs one.

Actions come in pairs that pass through the same poses in opposite order, from a random phase and with either hand, so
no single frame distinguishes the two; only the motion does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from glt.data.sample.skeleton_model import CHANNELS, Array, Body, joints, mirror, pose
from glt.data.sample.stable_random import StableRandom


@dataclass(frozen=True)
class Action:
    """A cycle of n key poses.

    Attributes:
        name: for people.
        shares: relative time from each pose to the next.
        actor: the key poses [n, CHANNELS].
        partner: the key poses of a second person, or None.
    """

    name: str
    shares: tuple[float, ...]
    actor: Array
    partner: Array | None = None

    def backwards(self, name: str) -> Action:
        """The same poses in the opposite order."""
        shares = (*self.shares[-2::-1], self.shares[-1])
        return Action(name, shares, self.actor[::-1], None if self.partner is None else self.partner[::-1])


def _both(hand: Sequence[float], **parts: Sequence[float]) -> Array:
    return pose(left=hand, right=hand, **parts)


_LOW, _CHEST, _HIGH = (0.1, -0.9, 0.3), (-0.05, -0.4, 0.45), (0.05, 0.65, 0.5)
_AHEAD, _RIBS = (0.0, -0.1, 0.9), (0.3, -0.4, 0.15)
_CROUCH = {"root": (0, -0.38, -0.06), "lean": (0, 0.8)}
_STEP = {"root": (0, -0.06, 0.26), "right_foot": (0, 0, 0.55)}
_AWAY = {"root": (0, -0.02, -0.3), "lean": (0, -0.15), "left_foot": (0, 0, -0.45), "right_foot": (0, 0, -0.15)}

_CIRCLE = np.stack(
    [
        pose(right=(0.1, 0.85, 0.15)),
        pose(right=(0.12, 0.0, 0.9), twist=(0.12,)),
        pose(right=(0.15, -0.85, 0.1)),
        pose(right=(0.45, 0.05, -0.55), twist=(-0.2,)),
    ]
)
_LIFT = np.stack([_both(_LOW), _both(_LOW, **_CROUCH), _both(_CHEST, **_CROUCH), _both(_CHEST)])
_SHELF = np.stack([_both(_LOW), _both(_HIGH), _both(_HIGH, **_STEP), _both(_LOW, **_STEP)])
_ROW = np.stack(
    [_both(hand, lean=(0, lean)) for hand, lean in ((_AHEAD, 0.5), (_AHEAD, -0.15), (_RIBS, -0.15), (_RIBS, 0.5))]
)
_PUSH = np.stack([_both(_RIBS), _both(_AHEAD, lean=(0, 0.15)), _both(_AHEAD, lean=(0, 0.15)), _both(_RIBS)])
_PUSHED = np.stack([pose(), pose(), pose(**_AWAY), pose(**_AWAY)])

_PAIRS = (
    (Action("throw", (0.3, 0.3, 1.6, 1.8), _CIRCLE), "swing back"),
    (Action("pick up", (0.4, 0.4, 2.4, 0.8), _LIFT), "put down"),
    (Action("hang up", (2.2, 0.8, 0.4, 0.6), _SHELF), "take down"),
    (Action("row", (0.4, 0.5, 1.0, 2.1), _ROW), "paddle"),
    (Action("push each other", (0.35, 0.45, 1.2, 2.0), _PUSH, _PUSHED), "pull each other"),
)

STAND = Action("stand", (1, 1, 1), np.stack([pose()] * 3))
FIRST = 121  # numbers follow those of NTU RGB+D 120, so that nobody takes them for its classes
ACTIONS: dict[int, Action] = dict(
    enumerate((action for forwards, name in _PAIRS for action in (forwards, forwards.backwards(name))), FIRST)
)

_FIDGET = pose(root=(0.02, 0.008, 0.02), lean=(0.03, 0.03), twist=(0.05,), left=(0.07,) * 3, right=(0.07,) * 3)


@dataclass(frozen=True)
class Subject:
    """A performer: body proportions, posture (an offset of every pose), reach, tempo and preferred hand."""

    body: Body
    posture: Array
    reach: float
    tempo: float
    right_handed: float

    @staticmethod
    def of(serial: int) -> Subject:
        """The subject with this number."""
        random = StableRandom(1, serial)
        size = random.uniform_number(0.88, 1.12)
        lengths = [getattr(Body(), field.name) * size * random.uniform_number(0.93, 1.07) for field in fields(Body)]
        posture = _FIDGET * random.normal(CHANNELS)
        return Subject(
            Body(*lengths),
            posture,
            random.uniform_number(0.8, 1.1),
            random.uniform_number(0.8, 1.25),
            random.uniform_number(0.3, 0.9),
        )


def perform(action: Action, actors: Sequence[Subject], frames: int, random: StableRandom) -> list[Array]:
    """Perform one take of an action.

    Args:
        action: the action.
        actors: one subject, or two who stand face to face.
        frames: T.
        random: draws speed, phase, pauses, amplitude, hand and fidgeting.

    Returns:
        The joints of each actor, [T, 25, 3] in metres, y up; the origin is midway between the actors.
    """
    lead = actors[0]
    times, order = _schedule(action, frames * random.uniform_number(0.5, 0.9) / lead.tempo, frames, random)
    mirrored = not random.coin(lead.right_handed)
    gap = random.uniform_number(0.85, 1.15)
    bodies = []
    parts = [action.actor] if action.partner is None else [action.actor, action.partner]
    for role, (actor, keys) in enumerate(zip(actors, parts, strict=True)):
        amplitude = actor.reach * random.uniform(0.8, 1.15, CHANNELS)
        rest = pose()
        knots = rest + amplitude * (keys[order] - rest) + actor.posture
        knots = knots + 0.5 * _FIDGET * random.normal(*knots.shape)
        poses = _curve(times, knots, _frames(frames)) + _drift(frames, random)
        body = joints(mirror(poses) if mirrored else poses, actor.body)
        if len(actors) == 2:
            body[..., 2] -= gap / 2
        if role == 1:
            body[..., [0, 2]] = -body[..., [0, 2]]
        bodies.append(body)
    return bodies


def _schedule(action: Action, period: float, frames: int, random: StableRandom) -> tuple[Array, NDArray[np.int64]]:
    """The key poses from before the first frame to after the last: times [n] in frames, indices of key poses [n]."""
    shares = action.shares
    scale = period / sum(shares)
    key, time = 0, -period * random.uniform_number(1.5, 2.5)
    times, order = [time], [key]
    while times[-1] < 0 or times[-2] < frames:
        time += scale * shares[key] * random.uniform_number(0.75, 1.25)
        if random.coin(0.06):
            times.append(time)
            order.append(order[-1])
            time += scale * random.uniform_number(0.2, 1.0)
        key = (key + 1) % len(shares)
        times.append(time)
        order.append(key)
    return np.array(times), np.array(order)


def _drift(frames: int, random: StableRandom) -> Array:
    """Slow aimless movement as an offset of poses, [T, CHANNELS]."""
    knots = frames // 12 + 4
    times = 12 * _frames(knots) - random.uniform_number(12, 24)
    return _curve(times, _FIDGET * random.normal(knots, CHANNELS), _frames(frames))


def _frames(count: int) -> Array:
    return np.arange(count).astype(np.float64)


def _curve(times: Array, knots: Array, at: Array) -> Array:
    """Cubic Hermite spline through knots [n, C] at `times` [n], evaluated [T, C]; tangents by central differences."""
    slope = np.zeros_like(knots)
    slope[1:-1] = (knots[2:] - knots[:-2]) / (times[2:] - times[:-2])[:, None]
    left = np.searchsorted(times, at, side="right") - 1
    span = (times[left + 1] - times[left])[:, None]
    u = (at - times[left])[:, None] / span
    v = 1 - u
    return (
        v * v * (1 + 2 * u) * knots[left]
        + u * u * (3 - 2 * u) * knots[left + 1]
        + span * u * v * (v * slope[left] - u * slope[left + 1])
    )
