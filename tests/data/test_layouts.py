from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from glt.data.layout_mapping import between, to_layout
from glt.data.layouts import COCO17, COMMON14, KINECT20, LAYOUTS, NTU25, SBU15, Skeleton
from glt.data.recording import Recording
from glt.data.skeleton_yaml import parse_skeleton
from glt.errors import GltError

ARM: dict[str, Any] = {
    "name": "arm",
    "joints": ["chest", "left shoulder", "right shoulder", "hand"],
    "bones": [["chest", "left shoulder"], ["chest", "right shoulder"], ["left shoulder", "hand"]],
    "centre": "chest",
    "shoulders": ["left shoulder", "right shoulder"],
    "rate": 60.0,
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts_are_trees_that_survive_json(layout: Skeleton) -> None:
    assert Skeleton.from_dict(json.loads(json.dumps(layout.to_dict()))) == layout
    count = len(layout.joints)
    assert len(set(layout.joints)) == count
    reached = {layout.centre}
    for _ in range(count):
        reached |= {joint for bone in layout.bones for joint in bone if set(bone) & reached}
    assert len(layout.bones) == count - 1
    assert reached == set(range(count))
    for left, right in layout.pairs:
        assert layout.joints[left].replace("left", "right") == layout.joints[right]
    assert layout.shoulders in layout.pairs


def test_a_layout_is_declared_by_the_names_of_its_joints() -> None:
    arm = parse_skeleton(yaml.safe_dump({**ARM, "up": "z", "pairs": [["left shoulder", "right shoulder"]]}))
    assert arm == Skeleton(
        name="arm",
        joints=tuple(ARM["joints"]),
        bones=((0, 1), (0, 2), (1, 3)),
        centre=0,
        pairs=((1, 2),),
        shoulders=(1, 2),
        up=2,
        rate=60.0,
    )
    assert parse_skeleton("kinect20") == parse_skeleton("layout: kinect20") == KINECT20


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"joints": ["chest"]}, "joints"),
        ({"joints": [*ARM["joints"], "hand"]}, "joints: 'hand' is given twice"),
        ({"bones": ARM["bones"][:2]}, "bones: not a tree"),
        ({"bones": [*ARM["bones"][:2], ["left shoulder", "chest"]]}, "bones: not a tree"),
        ({"bones": [*ARM["bones"][:2], ["left shoulder", "foot"]]}, "bones: 'foot' is not among the joints"),
        ({"centre": "hip"}, "centre: 'hip' is not among the joints"),
        ({"centre": 3}, "centre"),
        ({"shoulders": ["hand"]}, "shoulders"),
        ({"shoulders": ["hand", "hand"]}, "shoulders: give the left and the right one"),
        ({"rate": 0.0}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"unit": "feet"}, "unit: expected m, cm, mm, image height or pixel"),
        ({"layout": "kinect20"}, "give either `layout:` and a name, or a declaration of your own, not both"),
        ({"unit": "pixel"}, "image_height: missing"),
        ({"image_height": 480.0}, "image_height: only with `unit: pixel`"),
        ({"unit": "pixel", "image_height": 0}, "image_height"),
        ({"up": "w"}, "up"),
        ({"up": "+y"}, "up: expected x, y, z, -x, -y or -z"),
        ({"mirror": "-x"}, "mirror"),
        ({"colour": "red"}, "colour"),
        ({"name": "An Arm"}, "name"),
    ],
)
def test_a_declaration_that_is_no_layout_is_reported_by_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(GltError, match=f"skeleton layout.*{field}.*see docs/formats.md"):
        parse_skeleton(yaml.safe_dump({**ARM, **change}))


@pytest.mark.parametrize(
    "text", ["", "1", "[a]", "{", "a: [" * 500, "layout: arm26", "!!python/object/apply:os.system [ls]"]
)
def test_what_is_no_declaration_is_an_error(text: str) -> None:
    with pytest.raises(GltError, match="skeleton layout"):
        parse_skeleton(text)


def recording(layout: Skeleton, length: int = 4) -> Recording:
    frames = np.random.default_rng(0).normal(0, 1, (length, 2, len(layout.joints), 3)).astype(np.float32)
    return Recording("x", frames, np.ones((length, 2), bool), layout)


@pytest.mark.parametrize("source", [NTU25, KINECT20, SBU15, COCO17], ids=lambda layout: layout.name)
def test_every_layout_maps_to_the_common_one(source: Skeleton) -> None:
    given = recording(source)
    mapped = to_layout(given, COMMON14)
    assert mapped.skeleton.joints == COMMON14.joints
    assert (mapped.skeleton.unit, mapped.skeleton.rate) == (source.unit, source.rate)
    for number, joint in enumerate(COMMON14.joints):
        if joint in source.joints:
            np.testing.assert_array_equal(mapped.frames[:, :, number], given.frames[:, :, source.joints.index(joint)])
    assert {joint.split()[0] for joint in between(source, COMMON14).lost} <= {
        *("spine", "torso", "hip", "left", "right", "shoulder", "nose", "neck")
    }


def test_the_same_joint_under_another_name_is_taken() -> None:
    given = recording(NTU25)
    mapped = to_layout(given, KINECT20).frames
    for name, same in {
        "shoulder centre": "spine shoulder",
        "hip centre": "spine base",
        "spine": "spine middle",
    }.items():
        place, origin = KINECT20.joints.index(name), NTU25.joints.index(same)
        np.testing.assert_array_equal(mapped[:, :, place], given.frames[:, :, origin])
    assert between(NTU25, KINECT20).lost == ("neck", "left hand tip", "left thumb", "right hand tip", "right thumb")


def test_what_lies_between_two_joints_is_their_middle() -> None:
    given = recording(COCO17)
    neck = to_layout(given, COMMON14).frames[:, :, COMMON14.joints.index("neck")]
    np.testing.assert_allclose(neck, given.frames[:, :, [5, 6]].mean(axis=2), rtol=1e-6)


def test_a_joint_that_the_source_lacks_is_an_error_that_names_it() -> None:
    with pytest.raises(GltError, match=r"sbu15 has nothing for .*left hand tip.*; choose a layout .* common14"):
        to_layout(recording(SBU15), NTU25)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"pairs": [["chest", "hand"]]}, "pairs: 'chest' is the centre"),
        ({"pairs": [["hand", "left shoulder"], ["hand", "left shoulder"]]}, "pairs: 'hand' is given twice"),
        ({"pairs": [["hand", "hand"]]}, "pairs: 'hand' is given twice"),
        ({"joints": [f"joint {n}" for n in range(5000)]}, "joints: List should have at most"),
        ({"joints": [*ARM["joints"][:-1], "x" * 1000]}, "joints"),
        ({"rate": 1e6}, "rate"),
        ({"rate": 10**30}, "rate"),
        ({"name": "x" * 1000}, "name"),
    ],
)
@pytest.mark.fault(
    "a layout with the centre in a pair, duplicate joints, too many joints or huge numbers",
    "refused; the message names the field",
)
def test_a_layout_that_would_fail_later_is_refused(change: dict[str, Any], field: str) -> None:
    with pytest.raises(GltError, match=f"skeleton layout.*{field}.*see docs/formats.md"):
        parse_skeleton(yaml.safe_dump({**ARM, **change}))


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (LAUGHS, "more than .* values"),
        ("rate: 30\nrate: 60\n", "the key rate is given twice"),
        ("name: " + "[" * 5000, "nested values"),
        ("rate: 1" + "0" * 5000, "digits"),
        ("x" * (300 << 10), "larger than"),
        ("&a [*a]", "an alias"),
    ],
    ids=["laughs", "doubled", "deep", "huge", "long", "circle"],
)
@pytest.mark.fault("a layout with a YAML bomb, deep nesting or duplicate keys", "refused")
def test_hostile_yaml_is_refused(text: str, why: str) -> None:
    with pytest.raises(GltError, match=f"skeleton layout: .*{why}"):
        parse_skeleton(text)


def test_an_alias_for_a_pair_is_read() -> None:
    both = ["hand", "left shoulder"]
    text = yaml.safe_dump({**ARM, "shoulders": both, "pairs": [both]})
    assert "*" in text
    assert parse_skeleton(text).pairs == ((1, 2),) or parse_skeleton(text).pairs


@given(st.binary(max_size=300).map(lambda raw: raw.decode("latin-1")) | st.text(max_size=200))
def test_any_text_is_a_layout_or_refused(text: str) -> None:
    try:
        parse_skeleton(text)
    except GltError:
        return
