"""`skeleton.yaml`: the layout of a folder of recordings, and the axes and unit of its files."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from glt import yaml_text
from glt.data import limits
from glt.data.coordinates import AXES, METRES, Coordinates
from glt.data.layouts import LAYOUTS, Skeleton
from glt.errors import GltError

_IMAGE = "image height"  # the unit that pixels are converted to
_EXPECTED = {
    "up": "expected x, y, z, -x, -y or -z",
    "mirror": "expected x, y or z",
    "unit": "expected m, cm, mm, image height or pixel",
    "name": "expected lower-case letters, digits and hyphens",
}
_PAIRS = ("bones", "pairs")  # lists of two joints each


@dataclass(frozen=True)
class SkeletonFile:
    """The content of a `skeleton.yaml`.

    Attributes:
        skeleton: the layout that the recordings have once they are read.
        coordinates: the conversion of the files' coordinates.
    """

    skeleton: Skeleton
    coordinates: Coordinates


def _joint(name: str) -> str:
    """The stored form of a joint's name."""
    stored, fault = limits.stored_text(name, "a joint's name")
    if fault or not stored:
        raise ValueError(fault or "a joint's name is empty")
    return stored


Joint = Annotated[str, AfterValidator(_joint)]
Rate = Annotated[float, Field(ge=limits.RATES[0], le=limits.RATES[1], allow_inf_nan=False)]


class _Files(BaseModel):
    """The fields that describe the coordinates of files."""

    model_config = ConfigDict(extra="forbid", strict=True)

    up: str | None = Field(None, pattern="^-?[xyz]$")
    mirror: str | None = Field(None, pattern="^[xyz]$")
    unit: str | None = Field(None, pattern="^(m|cm|mm|image height|pixel)$")
    image_height: float | None = Field(None, gt=0, le=limits.IMAGE, allow_inf_nan=False)
    rate: Rate | None = None


_Given = TypeVar("_Given", bound=_Files)


class _Named(_Files):
    """A layout by its name."""

    layout: str


class _Declaration(_Files):
    """A layout as people write it: joints by name."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=limits.TEXT)
    joints: list[Joint] = Field(min_length=3, max_length=limits.JOINTS)
    bones: list[tuple[Joint, Joint]] = Field(max_length=limits.JOINTS)
    centre: Joint
    shoulders: tuple[Joint, Joint]
    pairs: list[tuple[Joint, Joint]] = Field([], max_length=limits.JOINTS)
    rate: Rate


def parse_skeleton(text: str) -> Skeleton:
    """The layout of this name, or the one that a YAML text declares, without a conversion of coordinates.

    Raises:
        GltError: an unknown name, a declaration that is no layout, or one that converts coordinates; names the field.
    """
    file = parse_skeleton_file(text)
    if file.coordinates.factors != (1.0, 1.0, 1.0):
        raise GltError(
            "skeleton layout: `mirror`, a negative `up`, and the units cm, mm and pixel describe files; they belong in "
            "skeleton.yaml, beside the recordings"
        )
    return file.skeleton


@functools.lru_cache(maxsize=64)
def parse_skeleton_file(text: str) -> SkeletonFile:
    """The content of a `skeleton.yaml`, or the layout of this name.

    Raises:
        GltError: an unknown name, or a declaration that is no layout; names the field.
    """
    try:
        values = yaml_text.load(text, "skeleton layout")
    except GltError as error:
        raise GltError(f"{error}; see docs/formats.md") from error
    if isinstance(values, str):
        values = {"layout": values}
    if not isinstance(values, dict):
        raise GltError("skeleton layout: neither a name nor a declaration; see docs/formats.md")
    values = _with_types(values)
    if "layout" in values:
        named = _validated(_Named, values)
        if named.layout not in LAYOUTS:
            raise GltError(
                f"skeleton layout {named.layout!r:.60}: unknown; choose {', '.join(LAYOUTS)}, or declare it in YAML"
            )
        return _file(LAYOUTS[named.layout], named)
    given = _validated(_Declaration, values)
    return _file(_skeleton(given), given)


def _with_types(values: dict[Any, Any]) -> dict[Any, Any]:
    """YAML's lists and whole numbers as the pairs and numbers that the fields have."""
    values = dict(values)
    for field in _PAIRS:
        if isinstance(values.get(field), list):
            values[field] = [tuple(v) if isinstance(v, list) else v for v in values[field]]
    if isinstance(values.get("shoulders"), list):
        values["shoulders"] = tuple(values["shoulders"])
    for field in ("rate", "image_height"):
        if type(values.get(field)) is int:
            values[field] = float(max(min(values[field], 2**63), -(2**63)))
    return values


def _validated(kind: type[_Given], values: Mapping[Any, Any]) -> _Given:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(f"{part:.40}" if isinstance(part, str) else str(part) for part in first["loc"])
        message = _EXPECTED.get(field, first["msg"]) if first["type"] == "string_pattern_mismatch" else first["msg"]
        if kind is _Named and field in _Declaration.model_fields:
            message = "give either `layout:` and a name, or a declaration of your own, not both"
        raise GltError(f"skeleton layout: {field}: {message}; see docs/formats.md") from error


def _file(skeleton: Skeleton, given: _Files) -> SkeletonFile:
    """The layout with the fields that describe its files."""
    if (given.unit == "pixel") != (given.image_height is not None):
        problem = "missing: give the image's height in pixels" if given.unit == "pixel" else "only with `unit: pixel`"
        raise GltError(f"skeleton layout {skeleton.name:.60}: image_height: {problem}; see docs/formats.md")
    unit = _IMAGE if (given.unit or skeleton.unit) not in METRES else "m"
    up = skeleton.up if given.up is None else AXES.index(given.up[-1])
    rate = skeleton.rate if given.rate is None else given.rate
    coordinates = Coordinates(given.up, given.mirror, given.unit, given.image_height)
    return SkeletonFile(replace(skeleton, up=up, unit=unit, rate=rate), coordinates)


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
