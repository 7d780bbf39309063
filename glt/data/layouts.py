"""Skeleton layouts: which joints a frame holds, in which order. y is up, lengths are metres."""

from __future__ import annotations

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

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Skeleton:
        """The inverse of `to_dict`, also after a trip through JSON (lists for tuples)."""
        return cls(**{field.name: _tuples(values[field.name]) for field in fields(cls)})


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
