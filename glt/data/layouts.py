"""Skeleton layouts: which joints a frame holds, in which order. y is up, lengths are metres.

A planar layout (a pose estimator's, from images) has three coordinates as well, and z is 0: x to the right, y up, in
heights of the image. `glt.data.skeleton_yaml` reads a user's own layout.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Skeleton:
    """A layout of K joints.

    Attributes:
        name: of the layout.
        joints: K joint names; left and right are the person's own.
        bones: (joint, joint) pairs, K - 1 of them, a tree.
        centre: the joint whose path is the global translation.
        pairs: (left, right) joints that mirror each other.
        shoulders: (left, right).
        up: axis that points up.
        unit: of the coordinates.
        rate: nominal frames a second.
        dimensions: coordinates a joint.
    """

    name: str
    joints: tuple[str, ...]
    bones: tuple[tuple[int, int], ...]
    centre: int
    pairs: tuple[tuple[int, int], ...]
    shoulders: tuple[int, int]
    up: int = 1
    unit: str = "m"
    rate: float = 30.0
    dimensions: int = 3

    @functools.cached_property
    def parents(self) -> tuple[int, ...]:
        """The parent of each joint, towards the centre joint; the centre joint is its own parent."""
        parents = {self.centre: self.centre}
        left = list(self.bones)
        while left:
            known = [bone for bone in left if (bone[0] in parents) != (bone[1] in parents)]
            if not known:
                raise ValueError(f"layout {self.name}: its bones are no tree")
            for a, b in known:
                parents |= {b: a} if a in parents else {a: b}
            left = [bone for bone in left if bone not in known]
        return tuple(parents[joint] for joint in range(len(self.joints)))

    @property
    def metre(self) -> float:
        """A metre in the layout's unit; in image heights, as if a person took up half of the image."""
        return 1.0 if self.unit == "m" else 0.3

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Skeleton:
        """The inverse of `to_dict`, also after a trip through JSON (lists for tuples)."""
        return cls(**{field.name: _tuples(values[field.name]) for field in fields(cls)})


def difference(one: Skeleton, other: Skeleton) -> str:
    """The difference of two layouts whose recordings cannot be in one set, and the field to change."""
    if one.joints != other.joints or one.bones != other.bones or one.name != other.name:
        return f"layout {one.name} instead of {other.name}: set data.layout to one that both can be mapped to"
    if one.rate != other.rate:
        return f"{one.rate:g} frames a second instead of {other.rate:g}: set data.rate to resample all recordings"
    field = next(
        (field.name for field in fields(Skeleton) if getattr(one, field.name) != getattr(other, field.name)), ""
    )
    values = getattr(one, field, ""), getattr(other, field, "")
    what = f"{field} {values[0]!s:.60} instead of {values[1]!s:.60}"
    return f"layout {one.name}: {what}: correct skeleton.yaml, or keep them apart"


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


NTU25 = Skeleton(
    name="ntu25",
    joints=(
        *("spine base", "spine middle", "neck", "head"),
        *("left shoulder", "left elbow", "left wrist", "left hand"),
        *("right shoulder", "right elbow", "right wrist", "right hand"),
        *("left hip", "left knee", "left ankle", "left foot"),
        *("right hip", "right knee", "right ankle", "right foot"),
        *("spine shoulder", "left hand tip", "left thumb", "right hand tip", "right thumb"),
    ),
    bones=(
        *((0, 1), (1, 20), (20, 2), (2, 3)),
        *((20, 4), (4, 5), (5, 6), (6, 7), (7, 21), (6, 22)),
        *((20, 8), (8, 9), (9, 10), (10, 11), (11, 23), (10, 24)),
        *((0, 12), (12, 13), (13, 14), (14, 15)),
        *((0, 16), (16, 17), (17, 18), (18, 19)),
    ),
    centre=20,
    pairs=(*((left, left + 4) for left in (4, 5, 6, 7, 12, 13, 14, 15)), (21, 23), (22, 24)),
    shoulders=(4, 8),
)

KINECT20 = Skeleton(
    name="kinect20",
    joints=(
        *("hip centre", "spine", "shoulder centre", "head"),
        *("left shoulder", "left elbow", "left wrist", "left hand"),
        *("right shoulder", "right elbow", "right wrist", "right hand"),
        *("left hip", "left knee", "left ankle", "left foot"),
        *("right hip", "right knee", "right ankle", "right foot"),
    ),
    bones=(
        *((0, 1), (1, 2), (2, 3)),
        *((2, 4), (4, 5), (5, 6), (6, 7)),
        *((2, 8), (8, 9), (9, 10), (10, 11)),
        *((0, 12), (12, 13), (13, 14), (14, 15)),
        *((0, 16), (16, 17), (17, 18), (18, 19)),
    ),
    centre=2,
    pairs=tuple((left, left + 4) for left in (4, 5, 6, 7, 12, 13, 14, 15)),
    shoulders=(4, 8),
)

SBU15 = Skeleton(
    name="sbu15",
    joints=(
        *("head", "neck", "torso"),
        *("left shoulder", "left elbow", "left hand"),
        *("right shoulder", "right elbow", "right hand"),
        *("left hip", "left knee", "left foot"),
        *("right hip", "right knee", "right foot"),
    ),
    bones=(
        *((0, 1), (1, 2)),
        *((1, 3), (3, 4), (4, 5)),
        *((1, 6), (6, 7), (7, 8)),
        *((2, 9), (9, 10), (10, 11)),
        *((2, 12), (12, 13), (13, 14)),
    ),
    centre=2,
    pairs=((3, 6), (4, 7), (5, 8), (9, 12), (10, 13), (11, 14)),
    shoulders=(3, 6),
    rate=15.0,
)

# No joint lies between the shoulders, so the centre, whose path is the global translation, is the nose: of all joints
# the one nearest to the body's axis from any side. The tree hangs from it.
COCO17 = Skeleton(
    name="coco17",
    joints=(
        *("nose", "left eye", "right eye", "left ear", "right ear"),
        *("left shoulder", "right shoulder", "left elbow", "right elbow", "left wrist", "right wrist"),
        *("left hip", "right hip", "left knee", "right knee", "left ankle", "right ankle"),
    ),
    bones=(
        *((0, 1), (1, 3), (0, 2), (2, 4), (0, 5), (0, 6)),
        *((5, 7), (7, 9), (6, 8), (8, 10)),
        *((5, 11), (11, 13), (13, 15), (6, 12), (12, 14), (14, 16)),
    ),
    centre=0,
    pairs=tuple((left, left + 1) for left in range(1, 17, 2)),
    shoulders=(5, 6),
    unit="image height",
)

# What NTU25, KINECT20 and SBU15 have in common; with a nose for a head, COCO17 has it, too.
COMMON14 = Skeleton(
    name="common14",
    joints=(
        *("neck", "head"),
        *("left shoulder", "left elbow", "left hand", "right shoulder", "right elbow", "right hand"),
        *("left hip", "left knee", "left foot", "right hip", "right knee", "right foot"),
    ),
    bones=(
        *((0, 1), (0, 2), (2, 3), (3, 4), (0, 5), (5, 6), (6, 7)),
        *((0, 8), (8, 9), (9, 10), (0, 11), (11, 12), (12, 13)),
    ),
    centre=0,
    pairs=((2, 5), (3, 6), (4, 7), (8, 11), (9, 12), (10, 13)),
    shoulders=(2, 5),
)

LAYOUTS = {layout.name: layout for layout in (NTU25, KINECT20, SBU15, COCO17, COMMON14)}
