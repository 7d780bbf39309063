"""Maps recordings from one skeleton layout to another, so that a model pretrained on one set can be probed on another.

Joints match if they have the same name, or synonyms (`SYNONYMS`). A joint that the source lacks may be the midpoint of
two others (`MIDPOINTS`). A wrist replaces a missing hand and an ankle a missing foot: they move together, a few
centimetres apart.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from glt.data.layouts import Skeleton
from glt.data.recording import Recording
from glt.errors import GltError

VERSION = 1  # raise it when a mapping changes, so that stored clips are built again

# Names to look for in the source, in this order, for a joint of the target; `{side}` is left or right.
SYNONYMS: dict[str, tuple[str, ...]] = {
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
MIDPOINTS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("neck", "shoulder centre", "spine shoulder"), ("left shoulder", "right shoulder")),
    **dict.fromkeys(("hip centre", "spine base"), ("left hip", "right hip")),
}
_SIDES = ("left", "right")


@dataclass(frozen=True)
class JointMapping:
    """The computation of a target layout's joints from those of a source layout.

    Attributes:
        sources: for each target joint the source joints whose midpoint it is: one, or two.
        lost: names of the source joints that are not used.
    """

    sources: tuple[tuple[int, ...], ...]
    lost: tuple[str, ...]

    def __call__(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """[T, P, K, n] of the source -> [T, P, K', n] of the target."""
        return np.stack([points[:, :, list(joints)].mean(axis=2) for joints in self.sources], axis=2)


@functools.cache
def between(source: Skeleton, target: Skeleton) -> JointMapping:
    """The mapping between two layouts.

    Raises:
        GltError: the source has no joint for one of the target.
    """
    index = {joint: position for position, joint in enumerate(source.joints)}
    sources: list[tuple[int, ...]] = []
    missing = []
    for joint in target.joints:
        match = next((index[name] for name in _names(joint) if name in index), None)
        ends = tuple(index[end] for end in MIDPOINTS.get(joint, ()) if end in index)
        if match is not None:
            sources.append((match,))
        elif len(ends) == 2:
            sources.append(ends)
        else:
            missing.append(joint)
    if missing:
        raise GltError(
            f"data.layout {target.name}: the recordings' {source.name} has nothing for {', '.join(missing)}; "
            "choose a layout that both have, such as common14"
        )
    used = {joint for joints in sources for joint in joints}
    return JointMapping(tuple(sources), tuple(name for joint, name in enumerate(source.joints) if joint not in used))


def to_layout(recording: Recording, target: Skeleton) -> Recording:
    """Map a recording to the joints of another layout; its unit, frame rate and up axis stay as they are.

    Raises:
        GltError: see `between`.
    """
    source = recording.skeleton
    target = replace(target, unit=source.unit, rate=source.rate, up=source.up)
    if source.joints == target.joints:
        return replace(recording, skeleton=target)
    mapping = between(source, target)
    confidence = recording.confidence
    return replace(
        recording,
        frames=mapping(recording.frames),
        confidence=None if confidence is None else mapping(confidence[..., None])[..., 0],
        skeleton=target,
        lost=mapping.lost,
    )


def _names(joint: str) -> tuple[str, ...]:
    """Names that a source may have for the joint, the most likely first."""
    for side in _SIDES:
        if joint.startswith(f"{side} "):
            general = joint.replace(side, "{side}", 1)
            return tuple(name.format(side=side) for name in SYNONYMS.get(general, (general,)))
    return SYNONYMS.get(joint, (joint,))
