"""Mistakes in a layout that all clips share are alarms that name the field of skeleton.yaml to correct."""

from __future__ import annotations

import itertools
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glt import artifact
from glt.data import layout_checks
from glt.data.clips import ClipStore
from glt.data.coordinates import Coordinates
from glt.data.findings import Finding
from glt.data.layout_mapping import to_layout
from glt.data.layouts import COMMON14, KINECT20, NTU25, Skeleton
from glt.data.recording import Recording
from glt.data.sample.recordings import record, takes
from tests.data import stores

Change = Callable[[np.ndarray], np.ndarray]
LAYOUTS = (NTU25, KINECT20, COMMON14)


def people(layout: Skeleton, count: int = 12) -> list[Recording]:
    """Clips of the sample's people: every take shows another action or another person."""
    found = []
    for take in takes()[:: len(takes()) // count][:count]:
        capture = record(take)
        frames = (capture.joints * capture.tracked[:, :, None, None]).astype(np.float32)
        one = Recording(take.name, frames, capture.tracked, NTU25)
        found.append(to_layout(one, layout))
    return found


PEOPLE = {layout.name: people(layout) for layout in LAYOUTS}


def findings(
    folder: Path, change: Change = lambda frames: frames, layout: Skeleton = NTU25, **fields: object
) -> list[Finding]:
    clips = []
    for clip in PEOPLE[layout.name]:
        frames = change(clip.frames) * clip.present[:, :, None, None]
        clips.append(
            replace(clip, frames=frames.astype(np.float32), skeleton=replace(clip.skeleton, **fields))  # type: ignore[arg-type]
        )
    return layout_checks.findings(stores.store(folder / "clips", clips))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_right_axes_raise_nothing(layout: Skeleton, tmp_path: Path) -> None:
    assert findings(tmp_path, layout=layout) == []


def test_other_axes_that_the_layout_declares_raise_nothing(tmp_path: Path) -> None:
    assert findings(tmp_path, lambda frames: frames[..., [2, 0, 1]], up=2) == []


FAULTS: dict[str, tuple[Change, str, str]] = {
    "z is up": (lambda f: f[..., [2, 0, 1]], "upright", "`up: z`"),
    "x is up": (lambda f: f[..., [1, 2, 0]], "upright", "`up: x`"),
    "y points down": (lambda f: f * [1, -1, -1], "upright", "`up: -y`"),
    "z points down": (lambda f: f[..., [2, 0, 1]] * [-1, 1, -1], "upright", "`up: -z`"),
    "left-handed": (lambda f: f * [-1, 1, 1], "mirror", "`mirror: x`"),
    "left-handed in depth": (lambda f: f * [1, 1, -1], "mirror", "`mirror: x`"),
    "centimetres": (lambda f: 100 * f, "unit", "`unit: cm`"),
    "millimetres": (lambda f: 1000 * f, "unit", "`unit: mm`"),
    "pixels": (lambda f: 20 * f + 40, "unit", "`unit: pixel`"),
    "kilometres": (lambda f: f / 1000, "unit", "scale the recordings"),
    "reverse order": (lambda f: f[:, :, ::-1], "joints", "another order than `joints`"),
    "two joints exchanged": (lambda f: swapped(f, 5, 9), "joints", "were exchanged"),
}


def swapped(frames: np.ndarray, one: int, other: int) -> np.ndarray:
    order = np.arange(frames.shape[2])
    order[[one, other]] = other, one
    return frames[:, :, order]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.fault("axes, unit or joint order that are not the layout's", "an alarm that names the field to correct")
def test_a_mistake_of_the_whole_set_is_one_alarm(fault: str, layout: Skeleton, tmp_path: Path) -> None:
    change, check, remedy = FAULTS[fault]
    (finding,) = findings(tmp_path, change, layout)
    assert (finding.severity, finding.check) == ("alarm", check)
    assert remedy in finding.text
    assert finding.names


def test_two_mistakes_are_two_alarms(tmp_path: Path) -> None:
    checks = [finding.check for finding in findings(tmp_path, lambda frames: 1000 * frames * [1, -1, 1])]
    assert checks == ["upright", "mirror", "unit"]


def test_a_left_arm_named_right_is_an_alarm(tmp_path: Path) -> None:
    order = np.arange(25)
    for left, right in NTU25.pairs:
        if not any(part in NTU25.joints[left] for part in ("hip", "knee", "ankle", "foot")):
            order[[left, right]] = right, left
    (finding,) = findings(tmp_path, lambda frames: frames[:, :, order])
    assert finding.check == "joints"
    assert finding.text.startswith("on the side of the right shoulder in nearly all clips: left hip, left knee,")


def test_people_who_lie_down_in_a_third_of_the_clips_raise_nothing(tmp_path: Path) -> None:
    number = itertools.count()
    assert findings(tmp_path, lambda f: f[..., [1, 0, 2]] * [1, 1, -1] if next(number) % 3 == 0 else f) == []


def test_joints_that_no_clip_shows_are_not_judged(tmp_path: Path) -> None:
    def without_feet(frames: np.ndarray) -> np.ndarray:
        frames = frames.copy()
        frames[:, :, [14, 15, 18, 19]] = frames[:, :, [NTU25.centre]]  # as ingest places absent joints
        return frames

    assert findings(tmp_path, without_feet) == []


def test_bent_limbs_are_judged_in_several_classes_only(tmp_path: Path) -> None:
    def mirrored(classes: int) -> list[Finding]:
        clips = [
            replace(clip, frames=clip.frames * np.float32([-1, 1, 1]), label=f"{number % classes}")
            for number, clip in enumerate(PEOPLE["common14"])
        ]
        return layout_checks.findings(stores.store(tmp_path / f"{classes}", clips))

    (finding,) = mirrored(3)
    assert (finding.check, finding.severity) == ("mirror", "alarm")
    assert finding.text.startswith("knees and elbows point backwards in 12 of 12 clips")
    assert mirrored(2) == []


def test_one_foot_is_enough(tmp_path: Path) -> None:
    def without_a_foot(frames: np.ndarray) -> np.ndarray:
        frames = frames.copy()
        frames[:, :, 15] = frames[:, :, NTU25.centre]
        return frames

    assert findings(tmp_path, without_a_foot) == []
    (finding,) = findings(tmp_path / "mirrored", lambda frames: without_a_foot(frames) * [-1, 1, 1])
    assert finding.text.startswith("toes point backwards in 12 of 12 clips")


def test_a_set_of_two_clips_or_of_a_hand_is_not_judged(tmp_path: Path) -> None:
    upside_down = [replace(clip, frames=clip.frames * np.float32([1, -1, -1])) for clip in PEOPLE["ntu25"][:2]]
    assert layout_checks.findings(stores.store(tmp_path / "two", upside_down)) == []
    hand = Skeleton("hand", ("wrist", "thumb", "tip"), ((0, 1), (1, 2)), 0, (), (1, 2))
    points = np.array([[0, 0, 0], [0, -0.1, 0], [0, -0.2, 0]], np.float32)
    clips = [Recording(f"{n}", points[None, None] + 0 * n, np.ones((1, 1), bool), hand) for n in range(5)]
    (finding,) = layout_checks.findings(stores.store(tmp_path / "hands", clips))
    assert (finding.check, finding.severity) == ("names", "note")


def test_a_plane_is_not_judged_for_handedness(tmp_path: Path) -> None:
    assert findings(tmp_path, lambda frames: frames * [-1, 1, 0]) == []


SIGNED = [
    [signs[0] * np.eye(3)[order[0]], signs[1] * np.eye(3)[order[1]], signs[2] * np.eye(3)[order[2]]]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
WRITTEN = {"m": 1, "cm": 100, "mm": 1000}


@settings(max_examples=40, deadline=None)
@given(
    axes=st.sampled_from(SIGNED),
    unit=st.sampled_from(list(WRITTEN)),
    up=st.sampled_from([None, "x", "y", "z", "-x", "-y", "-z"]),
    mirror=st.sampled_from([None, "x", "y", "z"]),
    said=st.sampled_from([None, *WRITTEN]),
)
@pytest.mark.fault("a wrong field of skeleton.yaml", "the alarm names the value that corrects it, whatever is declared")
def test_the_remedies_lead_to_right_coordinates(
    axes: list[np.ndarray], unit: str, up: str | None, mirror: str | None, said: str | None
) -> None:
    """Files with any axes and unit, any wrong declaration: alarm by alarm, followed to the letter."""
    files = [WRITTEN[unit] * (clip.frames @ np.array(axes).T) for clip in PEOPLE["kinect20"]]
    declared = Coordinates(up, mirror, said)
    for _ in range(4):
        alarms = [finding for finding in declared_as(declared, files) if finding.severity == "alarm"]
        if not alarms:
            break
        for alarm in alarms:
            field, value = re.findall(r"(?:set|remove) `(\w+)(?:: (-?\w+))?`", alarm.text)[0]
            declared = replace(declared, **{field: value or None})
    assert not alarms
    truth = np.linalg.det(np.array(axes)) * np.prod(np.sign(declared.factors))
    assert truth > 0
    assert declared.scale * WRITTEN[unit] == pytest.approx(1)


def declared_as(coordinates: Coordinates, files: list[np.ndarray]) -> list[Finding]:
    skeleton = replace(KINECT20, up="xyz".index((coordinates.up or "y")[-1]))
    clips = [
        replace(clip, frames=coordinates(frames.astype(np.float32)) * clip.present[:, :, None, None], skeleton=skeleton)
        for clip, frames in zip(PEOPLE["kinect20"], files, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        store = stores.store(Path(folder) / "clips", clips)
        store.coordinates, store.info["format"] = [coordinates], "table"
        return layout_checks.findings(store)


def of_some(share: float, change: Change) -> Change:
    """The change, made to a share of the clips."""
    number = itertools.count()
    return lambda frames: change(frames) if next(number) % 10 < 10 * share else frames


@pytest.mark.parametrize(
    ("share", "change", "check"),
    [
        (0.4, lambda f: f * [-1, 1, 1], "mirror"),
        (0.6, lambda f: f * [1, -1, -1], "upright"),
        (0.3, lambda f: f * [1, -1, -1], "upright"),
        (0.3, lambda f: 1000 * f, "unit"),
        (0.3, lambda f: f * [1, 1, 0], "plane"),
    ],
)
@pytest.mark.fault("a mistake of a part of the recordings", "a warning that names the clips")
def test_a_mistake_of_a_part_is_a_warning(share: float, change: Change, check: str, tmp_path: Path) -> None:
    (finding,) = findings(tmp_path, of_some(share, change))
    assert (finding.check, finding.severity) == (check, "warning")
    assert finding.names


def test_clips_without_feet_do_not_count(tmp_path: Path) -> None:
    def without_legs(frames: np.ndarray) -> np.ndarray:
        frames = frames.copy()
        frames[:, :, 12:20] = frames[:, :, [NTU25.centre]]
        return frames

    upside_down = of_some(0.4, without_legs)
    (finding,) = findings(tmp_path, lambda frames: upside_down(frames) * [1, -1, -1])
    assert (finding.check, finding.severity) == ("upright", "alarm")
    assert "in 6 of 6 clips" in finding.text


def test_joints_that_are_never_shown_together_are_not_exchanged(tmp_path: Path) -> None:
    number = itertools.count()

    def from_the_side(frames: np.ndarray) -> np.ndarray:
        frames = frames.copy()
        side = range(4, 8) if next(number) % 2 else range(8, 12)
        frames[:, :, side] = frames[:, :, [NTU25.centre]]
        return frames

    assert findings(tmp_path, from_the_side) == []


@pytest.mark.parametrize("joints", [(13, 14, 15), (14, 15), (5, 6, 7, 21, 22)])
def test_a_limb_with_exchanged_sides_is_an_alarm(joints: tuple[int, ...], tmp_path: Path) -> None:
    order = np.arange(25)
    for left, right in NTU25.pairs:
        if left in joints:
            order[[left, right]] = right, left
    (finding,) = findings(tmp_path, lambda frames: frames[:, :, order])
    assert (finding.check, finding.severity) == ("joints", "alarm")


def test_positions_in_a_plane_under_a_metre_are_a_warning(tmp_path: Path) -> None:
    (finding,) = findings(tmp_path, lambda frames: frames * [0.5, 0.5, 0])
    assert (finding.check, finding.severity) == ("plane", "warning")


def test_only_tables_are_told_to_change_skeleton_yaml(tmp_path: Path) -> None:
    (finding,) = findings(tmp_path, lambda frames: frames * [-1, 1, 1])
    assert "give the recordings as tables with `mirror: x`" in finding.text
    manifest = tmp_path / "clips" / artifact.MANIFEST
    store = ClipStore(tmp_path / "clips")
    store.info["format"] = "table"
    assert manifest.exists()
    (finding,) = layout_checks.findings(store)
    assert "(set `mirror: x` in skeleton.yaml)" in finding.text


@pytest.mark.parametrize("seed", range(5))
def test_savings_are_those_of_exchanging_the_joints(seed: int) -> None:
    random = np.random.default_rng(seed)
    points = random.normal(size=(20, 3))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    adjacent = np.zeros((20, 20))
    for one, other in KINECT20.bones:
        adjacent[one, other] = adjacent[other, one] = 1
    total = sum(distances[bone] for bone in KINECT20.bones)
    expected = np.zeros((20, 20))
    for one in range(20):
        for other in range(20):
            order = np.arange(20)
            order[[one, other]] = other, one
            expected[one, other] = 1 - sum(distances[order[a], order[b]] for a, b in KINECT20.bones) / total
    np.testing.assert_allclose(layout_checks.savings(distances, adjacent), expected, atol=1e-12)
