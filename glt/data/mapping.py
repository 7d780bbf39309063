"""From one skeleton layout to another, so that a model pretrained on one set can be probed on the next.

Joints are the same if they have the same name or one of the names that `SAME` puts together; what a source lacks, and
the middle of two of its joints stands for, is in `MIDDLE`. A wrist stands for a hand and an ankle for a foot where
there is nothing nearer: the parts move as one, some centimetres apart.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from glt.data.layouts import Skeleton
from glt.data.recording import Recording
from glt.errors import GltError

VERSION = 1  # raise it when a mapping changes, so that stored clips are made anew

# What to look for in the source, in this order, for a joint of the target; `{side}` is left or right.
SAME: dict[str, tuple[str, ...]] = {
    "neck": ("neck", "shoulder centre", "spine shoulder"),
    "shoulder centre": ("shoulder centre", "spine shoulder", "neck"),
    "spine shoulder": ("spine shoulder", "shoulder centre", "neck"),
    "head": ("head", "nose"),
    "spine": ("spine", "spine middle", "torso"),
    "spine middle": ("spine middle", "spine", "torso"),
    "torso": ("torso", "spine middle", "spine"),
    "hip centre": ("hip centre", "spine base"),
    "spine base": ("spine base", "hip centre"),
    "{side} hand": ("{side} hand", "{side} wrist"),
    "{side} foot": ("{side} foot", "{side} ankle"),
}
MIDDLE: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("neck", "shoulder centre", "spine shoulder"), ("left shoulder", "right shoulder")),
    **dict.fromkeys(("hip centre", "spine base"), ("left hip", "right hip")),
}
_SIDES = ("left", "right")


@dataclass(frozen=True)
class Mapping:
    """How a target layout's joints come from a source's.

    Attributes:
        taken: for each joint of the target the joints of the source whose middle it is: one, or two.
        lost: names of the source's joints that play no part.
    """

    taken: tuple[tuple[int, ...], ...]
    lost: tuple[str, ...]

    def __call__(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """[T, P, K, n] of the source -> [T, P, K', n] of the target."""
        return np.stack([points[:, :, list(joints)].mean(axis=2) for joints in self.taken], axis=2)


@functools.cache
def between(source: Skeleton, target: Skeleton) -> Mapping:
    """The mapping between two layouts.

    Raises:
        GltError: a joint of the target that the source has nothing for.
    """
    number = {joint: place for place, joint in enumerate(source.joints)}
    taken: list[tuple[int, ...]] = []
    missing = []
    for joint in target.joints:
        found = next((number[name] for name in _names(joint) if name in number), None)
        ends = tuple(number[end] for end in MIDDLE.get(joint, ()) if end in number)
        if found is not None:
            taken.append((found,))
        elif len(ends) == 2:
            taken.append(ends)
        else:
            missing.append(joint)
    if missing:
        raise GltError(
            f"data.layout {target.name}: the recordings' {source.name} has nothing for {', '.join(missing)}; "
            "choose a layout that both have, such as common14"
        )
    used = {joint for joints in taken for joint in joints}
    return Mapping(tuple(taken), tuple(joint for place, joint in enumerate(source.joints) if place not in used))


def to_layout(recording: Recording, target: Skeleton) -> Recording:
    """The recording with the joints of another layout. Its unit, frame rate and the axis that is up stay its own.

    Raises:
        GltError: as `between`.
    """
    own = recording.skeleton
    target = replace(target, unit=own.unit, rate=own.rate, up=own.up)
    if own.joints == target.joints:
        return replace(recording, skeleton=target)
    mapping = between(own, target)
    confidence = recording.confidence
    return replace(
        recording,
        frames=mapping(recording.frames),
        confidence=None if confidence is None else mapping(confidence[..., None])[..., 0],
        skeleton=target,
        lost=mapping.lost,
    )


def _names(joint: str) -> tuple[str, ...]:
    """Names under which a source may have the joint, the likeliest first."""
    for side in _SIDES:
        if joint.startswith(f"{side} "):
            general = joint.replace(side, "{side}", 1)
            return tuple(name.format(side=side) for name in SAME.get(general, (general,)))
    return SAME.get(joint, (joint,))
