"""Skeleton layouts: which joints a frame holds, in which order. y is up, lengths are metres.

A planar layout (a pose estimator's, from images) has three coordinates as well, and z is 0: x to the right, y up, in
heights of the image. `parse_skeleton` reads a user's own layout from YAML.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from glt import yaml_text
from glt.data import limits
from glt.errors import GltError


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


def _joint(name: str) -> str:
    """The stored form of a joint's name."""
    stored, fault = limits.stored_text(name, "a joint's name")
    if fault or not stored:
        raise ValueError(fault or "a joint's name is empty")
    return stored


Joint = Annotated[str, AfterValidator(_joint)]


class _Declaration(BaseModel):
    """A layout as people write it: joints by name."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=limits.TEXT)
    joints: list[Joint] = Field(min_length=3, max_length=limits.JOINTS)
    bones: list[tuple[Joint, Joint]] = Field(max_length=limits.JOINTS)
    centre: Joint
    shoulders: tuple[Joint, Joint]
    pairs: list[tuple[Joint, Joint]] = Field([], max_length=limits.JOINTS)
    up: str = Field("y", pattern="^[xyz]$")
    unit: str = Field("m", pattern="^(m|image height)$")
    rate: float = Field(ge=limits.RATES[0], le=limits.RATES[1], allow_inf_nan=False)


@functools.lru_cache(maxsize=64)
def parse_skeleton(text: str) -> Skeleton:
    """The layout of this name, or the one that a YAML text declares.

    Raises:
        GltError: an unknown name, or a declaration that is no layout; names the field.
    """
    try:
        values = yaml_text.load(text, "skeleton layout")
    except GltError as error:
        raise GltError(f"{error}; see docs/formats.md") from error
    if isinstance(values, Mapping) and set(values) == {"layout"}:
        values = values["layout"]
    if isinstance(values, str):
        if values not in LAYOUTS:
            raise GltError(
                f"skeleton layout {values!r:.60}: unknown; choose {', '.join(LAYOUTS)}, or declare it in YAML"
            )
        return LAYOUTS[values]
    if not isinstance(values, dict):
        raise GltError("skeleton layout: neither a name nor a declaration; see docs/formats.md")
    for field in ("bones", "pairs", "shoulders"):  # YAML has lists where we want pairs
        if isinstance(values.get(field), list):
            values[field] = [tuple(v) if isinstance(v, list) else v for v in values[field]]
    if isinstance(values.get("shoulders"), list):
        values["shoulders"] = tuple(values["shoulders"])
    if type(values.get("rate")) is int:
        values["rate"] = float(min(values["rate"], 2**63))
    try:
        given = _Declaration.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(f"{part:.40}" if isinstance(part, str) else str(part) for part in first["loc"])
        raise GltError(f"skeleton layout: {field}: {first['msg']}; see docs/formats.md") from error
    return _skeleton(given)


def _skeleton(given: _Declaration) -> Skeleton:
    def fail(field: str, why: str) -> GltError:
        return GltError(f"skeleton layout {given.name:.60}: {field}: {why}; see docs/formats.md")

    index = {joint: position for position, joint in enumerate(given.joints)}
    if len(index) < len(given.joints):
        doubled = next(joint for position, joint in enumerate(given.joints) if index[joint] != position)
        raise fail("joints", f"{doubled!r:.40} is given twice")
    paired = [joint for pair in given.pairs for joint in pair]
    for field, names in (
        ("bones", [joint for bone in given.bones for joint in bone]),
        ("pairs", paired),
        ("shoulders", list(given.shoulders)),
        ("centre", [given.centre]),
    ):
        for joint in names:
            if joint not in index:
                raise fail(field, f"{joint!r:.40} is not among the joints")
    if given.centre in paired:
        raise fail("pairs", f"{given.centre!r:.40} is the centre, which mirrors itself; remove the pair")
    if len(set(paired)) < len(paired):
        doubled = next(joint for joint in paired if paired.count(joint) > 1)
        raise fail("pairs", f"{doubled!r:.40} is given twice")
    bones = tuple((index[a], index[b]) for a, b in given.bones)
    if not _is_tree(bones, len(index)):
        raise fail(
            "bones", f"not a tree: {len(index)} joints are joined by {len(index) - 1} bones without a cycle or a gap"
        )
    left, right = given.shoulders
    if left == right:
        raise fail("shoulders", "give the left and the right one")
    return Skeleton(
        name=given.name,
        joints=tuple(given.joints),
        bones=bones,
        centre=index[given.centre],
        pairs=tuple((index[a], index[b]) for a, b in given.pairs),
        shoulders=(index[left], index[right]),
        up="xyz".index(given.up),
        unit=given.unit,
        rate=given.rate,
    )


def _is_tree(bones: Sequence[tuple[int, int]], joints: int) -> bool:
    """True if the bones join all joints without a cycle."""
    group = list(range(joints))
    for a, b in bones:
        if group[a] == group[b]:
            return False
        group = [group[a] if one == group[b] else one for one in group]
    return len(bones) == joints - 1
