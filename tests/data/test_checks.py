from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glt.data.checks import accept
from glt.data.formats import ntu
from glt.data.layouts import COCO17, KINECT20, NTU25, Skeleton
from glt.data.recording import Recording, Rejection
from tests.data import recorded

NAME = "S001C002P003R001A004.skeleton"


def body(length: int, spread: float, seen: slice, number: int) -> tuple[np.ndarray, np.ndarray]:
    frames = np.random.default_rng(number).normal(2, spread, (length, 25, 3)).astype(np.float32)
    present = np.zeros(length, bool)
    present[seen] = True
    return frames * present[:, None, None], present


def recording_of(*bodies: tuple[np.ndarray, np.ndarray]) -> Recording:
    frames, present = (np.stack([b[part] for b in bodies], 1) for part in (0, 1))
    return Recording("x", frames, present, NTU25)


def test_the_most_active_come_first_and_the_rest_is_dropped() -> None:
    still, lively, middling = (body(20, s, slice(None), n) for n, s in enumerate((0.01, 0.5, 0.1)))
    clip = accept(recording_of(still, lively, middling), recorded.recipe(persons=2).data)
    np.testing.assert_array_equal(clip.frames[:, 0], lively[0])
    np.testing.assert_array_equal(clip.frames[:, 1], middling[0])
    assert clip.warnings[0] == "bodies: 3 persons, the 2 most active kept"


def test_a_ghost_loses_to_whoever_stands_still() -> None:
    still, ghost = body(40, 0.01, slice(None), 1), body(40, 2.0, slice(5, 8), 2)
    clip = accept(recording_of(ghost, still), recorded.recipe(persons=2).data)
    np.testing.assert_array_equal(clip.frames[:, 0], still[0])
    assert not clip.present[:, 1].any()
    assert clip.warnings == ("bodies: 1 ghosts dropped (seen in under 10% of the frames)",)


def test_a_body_seen_for_a_while_loses_to_one_seen_throughout() -> None:
    always, passing = body(40, 0.1, slice(None), 1), body(40, 0.3, slice(0, 8), 2)
    clip = accept(recording_of(passing, always), recorded.recipe(persons=1).data)
    np.testing.assert_array_equal(clip.frames[:, 0], always[0])


def test_absence_is_trimmed_at_the_ends_and_kept_within() -> None:
    frames, present = body(10, 0.1, slice(2, 8), 1)
    present[4] = False
    clip = accept(recording_of((frames, present)), recorded.recipe(persons=1).data)
    assert clip.present[:, 0].tolist() == [True, True, False, True, True, True]
    assert not clip.frames[2].any()
    np.testing.assert_array_equal(clip.frames[3, 0], frames[5])
    assert clip.warnings[0] == "ends: 4 frames without anybody cut off"


def test_a_body_in_the_origin_is_absent() -> None:
    frames, present = body(6, 0.1, slice(None), 1)
    frames[2] = 0
    assert not accept(recording_of((frames, present)), recorded.recipe(persons=1).data).present[2, 0]


def test_one_frame_is_a_warning() -> None:
    assert accept(recording_of(body(1, 0.1, slice(None), 1)), recorded.recipe(persons=1).data).warnings == (
        "short: 1 frames, fewer than 2",
    )


@pytest.mark.parametrize(
    ("value", "check"), [(np.nan, "finite"), (-np.inf, "finite"), (1e30, "range"), (2500, "range")]
)
def test_impossible_coordinates_are_rejected(value: float, check: str) -> None:
    frames, present = body(6, 0.1, slice(None), 1)
    frames[3, 7, 1] = value
    with pytest.raises(Rejection) as caught:
        accept(recording_of((frames, present)), recorded.recipe(persons=1).data)
    assert caught.value.check == check


def test_wrong_joint_count_is_rejected() -> None:
    with pytest.raises(Rejection, match="25 joints of 3 coordinates, layout kinect20 has 20 of 3"):
        accept(replace(recording_of(body(6, 0.1, slice(None), 1)), skeleton=KINECT20), recorded.recipe().data)


@pytest.mark.parametrize("length", [0, 3])
def test_nobody_is_rejected(length: int) -> None:
    with pytest.raises(Rejection) as caught:
        accept(ntu.read(NAME, recorded.skeleton([{}] * length)), recorded.recipe(persons=1).data)
    assert caught.value.check == "empty"


def walker(seed: int, length: int = 40, persons: int = 1, layout: Skeleton = NTU25) -> Recording:
    """People of plausible bones who sway and walk, bit by bit."""
    random = np.random.default_rng(seed)
    rest = np.zeros((len(layout.joints), 3))
    order = [layout.centre]
    while len(order) < len(rest):
        for a, b in layout.bones:
            for known, new in ((a, b), (b, a)):
                if known in order and new not in order:
                    way = random.normal(0, 1, 3)
                    rest[new] = rest[known] + 0.25 * way / np.linalg.norm(way)
                    order.append(new)
    people = []
    for person in range(persons):
        turn = np.cumsum(random.normal(0, 0.02, length))
        cos, sin = np.cos(turn), np.sin(turn)
        body = np.stack(
            [
                cos[:, None] * rest[:, 0] + sin[:, None] * rest[:, 2],
                np.tile(rest[:, 1], (length, 1)),
                cos[:, None] * rest[:, 2] - sin[:, None] * rest[:, 0],
            ],
            -1,
        )
        start = np.array([1.5 * person, 1, 3])
        people.append(start + body + np.cumsum(random.normal(0, 0.01, (length, 1, 3)), axis=0))
    frames = np.stack(people, axis=1).astype(np.float32)
    return Recording("x", frames, np.ones(frames.shape[:2], bool), layout)


def accept_with(recording: Recording, persons: int = 2, **checks: Any) -> Recording:
    return accept(recording, recorded.recipe(persons=persons, checks=checks).data)


def rejection_of(recording: Recording, persons: int = 2, **checks: Any) -> Rejection:
    with pytest.raises(Rejection) as caught:
        accept_with(recording, persons, **checks)
    return caught.value


seeds, places = st.integers(0, 2**32 - 1), st.integers(5, 30)


@given(seeds, st.integers(1, 2))
def test_people_who_walk_raise_nothing(seed: int, persons: int) -> None:
    given = walker(seed, persons=persons)
    clip = accept_with(given)
    assert clip.warnings == ()
    order = [0, 1] if (clip.frames[:, 0] == given.frames[:, 0]).all() else [1, 0]
    np.testing.assert_array_equal(clip.frames[:, order[:persons]], given.frames)


@given(seeds, places, st.integers(0, 24), st.integers(1, 3))
def test_a_joint_that_jumps_away_and_back_is_found_and_repaired(seed: int, at: int, joint: int, length: int) -> None:
    true = walker(seed)
    broken = replace(true, frames=true.frames.copy())
    broken.frames[at : at + length, 0, joint] += [0, 2.5, 0]
    rejection = rejection_of(broken, speed="reject")
    expected = np.zeros((40, 1, 25), bool)
    expected[at : at + length, 0, joint] = True
    assert rejection.where is not None
    np.testing.assert_array_equal(rejection.where, expected)
    assert any(text.startswith("speed: ") for text in accept_with(broken, speed="warn").warnings)
    repaired = accept_with(broken, speed="repair")
    assert np.abs(repaired.frames[:, 0] - true.frames[:, 0]).max() < 0.2
    assert repaired.warnings == (f"speed: {length} points faster than 20 m/s there and back interpolated",)


@given(seeds, places, st.integers(0, 24), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_a_joint_that_is_not_finite_is_found_and_repaired(seed: int, at: int, joint: int, value: float) -> None:
    true = walker(seed)
    broken = replace(true, frames=true.frames.copy())
    broken.frames[at, 0, joint, 1] = value
    assert np.argwhere(rejection_of(broken).where).tolist() == [[at, 0, joint]]
    repaired = accept_with(broken, finite="repair")
    assert np.abs(repaired.frames[:, 0] - true.frames[:, 0]).max() < 0.1
    broken.frames[:, 0, joint] = value  # never tracked
    for policy in ("reject", "repair"):
        absent = accept_with(broken, finite=policy)
        assert absent.warnings == (f"absent: {NTU25.joints[joint]} without a good point, placed at the centre joint",)
        assert np.isfinite(absent.frames).all()


@given(seeds, places)
def test_persons_who_change_places_are_put_back_bit_for_bit(seed: int, at: int) -> None:
    true = walker(seed, persons=2)
    frames = true.frames.copy()
    frames[at:] = frames[at:, ::-1]
    repaired = accept_with(replace(true, frames=frames), swapped="repair")
    order = [0, 1] if (repaired.frames[:, 0] == true.frames[:, 0]).all() else [1, 0]
    np.testing.assert_array_equal(repaired.frames, true.frames[:, order])
    rejection = rejection_of(replace(true, frames=frames), swapped="reject")
    assert rejection.check == "swapped"
    assert rejection.where is not None
    assert np.flatnonzero(rejection.where.any(axis=(1, 2))).tolist() == [at]
    assert "swapped: two persons change places 1 times" in accept_with(replace(true, frames=frames)).warnings


@given(seeds, places, st.integers(1, 8))
def test_a_person_lost_and_found_under_another_id_is_one(seed: int, at: int, gap: int) -> None:
    true = walker(seed)
    frames, present = np.zeros((40, 2, 25, 3), np.float32), np.zeros((40, 2), bool)
    frames[:at, 0], present[:at, 0] = true.frames[:at, 0], True
    frames[at + gap :, 1], present[at + gap :, 1] = true.frames[at + gap :, 0], True
    clip = accept_with(replace(true, frames=frames, present=present), gaps="ignore")
    assert clip.present[:, 0].tolist() == [True] * at + [False] * gap + [True] * (40 - at - gap)
    assert not clip.present[:, 1].any()
    np.testing.assert_array_equal(clip.frames[at + gap :, 0], true.frames[at + gap :, 0])
    assert clip.warnings == ("lost: 1 times a body ends and another begins close by, joined to one person",)
    split_clip = accept_with(replace(true, frames=frames, present=present), lost="warn")
    assert split_clip.present.any(axis=0).all()


def test_one_who_leaves_and_another_who_comes_elsewhere_are_two() -> None:
    true = walker(3, persons=2)
    present = true.present.copy()
    present[20:, 0] = present[:22, 1] = False
    assert accept_with(replace(true, present=present)).present.any(axis=0).all()


@given(seeds, st.lists(places, min_size=5, max_size=9, unique=True))
def test_repeated_frames_are_found_and_dropped(seed: int, at: list[int]) -> None:
    true = walker(seed)
    again = np.repeat(np.arange(40), [2 if t in at else 1 for t in range(40)])
    broken = replace(true, frames=true.frames[again], present=true.present[again])
    dropped = accept_with(broken, repeated="repair")
    np.testing.assert_array_equal(dropped.frames[:, 0], true.frames[:, 0])
    rejection = rejection_of(broken, repeated="reject")
    assert rejection.where is not None
    assert rejection.where.any(axis=(1, 2)).sum() == len(at)


@given(seeds, st.integers(0, 24))
def test_a_joint_that_is_frozen_is_found(seed: int, joint: int) -> None:
    broken = walker(seed, 80)
    broken.frames[20:60, 0, joint] = broken.frames[20, 0, joint]
    rejection = rejection_of(broken, frozen="reject", bone_length="ignore", speed="ignore")
    assert rejection.check == "frozen"
    assert rejection.where is not None
    assert np.flatnonzero(rejection.where[:, 0, joint]).tolist() == list(range(20, 60))
    assert rejection.where.sum() == 40
    assert NTU25.joints[joint] in rejection.reason


@pytest.mark.parametrize(("factor", "said"), [(1000, "range"), (8, "bone-length"), (0.001, "bone-length")])
def test_a_wrong_unit_is_found(factor: float, said: str) -> None:
    given = walker(5)
    broken = replace(given, frames=(given.frames * factor).astype(np.float32))
    assert rejection_of(broken, bone_length="reject").check == said


def test_a_bone_that_stretches_is_named() -> None:
    broken = walker(5)
    hand = NTU25.joints.index("left hand")
    broken.frames[::3, 0, hand] += 0.6
    rejection = rejection_of(broken, bone_length="reject", speed="ignore")
    assert rejection.check == "bone-length"
    assert "left hand" in rejection.reason
    assert rejection.where is not None
    assert rejection.where[:, 0, hand].all()


@given(seeds, places, st.integers(0, 16))
def test_points_that_an_estimator_does_not_believe_in_are_interpolated(seed: int, at: int, joint: int) -> None:
    true = walker(seed, layout=COCO17)
    frames, confidence = true.frames.copy(), np.ones((40, 1, 17), np.float32)
    frames[at, 0, joint], confidence[at, 0, joint] = 50, 0.01
    clip = accept_with(replace(true, frames=frames, confidence=confidence))
    assert np.abs(clip.frames[:, 0] - true.frames[:, 0]).max() < 0.1
    assert clip.warnings == ("confidence: 1 points below 0.1 in confidence interpolated",)


def test_limits_hold_for_a_person_of_any_unit() -> None:
    true = walker(7, layout=COCO17)
    for size in (0.001, 1.0, 300.0):
        broken = replace(true, frames=(true.frames * size).astype(np.float32))
        assert accept_with(broken, farthest=1e6).warnings == ()
        broken.frames[10, 0, 4] += 3 * size
        assert rejection_of(broken, farthest=1e6, speed="reject").check == "speed"


def test_the_files_own_order_may_decide_who_is_kept() -> None:
    given = walker(1, persons=3)
    clip = accept(given, recorded.recipe(persons=2, bodies="first").data)
    np.testing.assert_array_equal(clip.frames, given.frames[:, :2])


@given(st.integers(1, 4), st.integers(1, 3))
def test_very_short_recordings_pass_every_check(length: int, persons: int) -> None:
    policies = {"speed": "repair", "repeated": "repair", "swapped": "repair", "finite": "repair"}
    clip = accept_with(walker(0, length, persons), **policies)
    assert len(clip.frames) == length


@pytest.mark.filterwarnings("error", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_huge_values_are_rejected_without_a_word_of_numpy() -> None:
    broken = walker(0)
    broken.frames[3] = 3e38
    assert rejection_of(broken).check == "range"
