"""Checks look at what was recorded, not at what a repair has made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from glt.analysis.figures import drawn_bones
from glt.data.layouts import COCO17, KINECT20
from glt.data.recording import Recording, Rejection
from tests.data.test_checks import accept_with, rejection_of, walker

FOOT, HAND, HEAD = 15, 7, 3


def unsure(seed: int = 0, length: int = 90, layout: object = KINECT20) -> tuple[Recording, np.ndarray]:
    true = walker(seed, length, layout=layout)  # type: ignore[arg-type]
    return true, np.ones(true.frames.shape[:3], np.float32)


@pytest.mark.fault(
    "a joint that the pose estimator never detected", "marked absent, placed at the centre joint and not drawn"
)
def test_a_joint_without_one_good_point_is_absent() -> None:
    true, confidence = unsure()
    frames = true.frames.copy()
    frames[:, 0, FOOT] = 7
    confidence[:, 0, FOOT], confidence[10:, 0, HAND] = 0, 0
    clip = accept_with(replace(true, frames=frames, confidence=confidence), persons=1)
    assert clip.warnings == (
        "confidence: 80 points below 0.1 in confidence interpolated",
        "absent: left foot without a good point, placed at the centre joint",
    )
    np.testing.assert_array_equal(clip.frames[:, 0, FOOT], clip.frames[:, 0, KINECT20.centre])
    np.testing.assert_array_equal(clip.frames[10:, 0, HAND], np.tile(true.frames[9, 0, HAND], (80, 1)))
    drawn = drawn_bones(clip.frames[:, 0].astype(float), KINECT20)
    assert {tuple(bone) for bone in drawn.tolist()} == {*KINECT20.bones} - {(14, 15)}


def test_an_absent_centre_is_between_its_neighbours() -> None:
    true, confidence = unsure(layout=COCO17)
    confidence[:, 0, COCO17.centre] = 0
    clip = accept_with(replace(true, confidence=confidence), persons=1)
    near = [1, 2, 5, 6]
    np.testing.assert_allclose(clip.frames[:, 0, 0], true.frames[:, 0, near].mean(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(clip.frames[:, 0, 1:], true.frames[:, 0, 1:])


def test_a_body_of_unsure_points_only_is_left_out() -> None:
    true = walker(1, 40, persons=2)
    confidence = np.ones(true.frames.shape[:3], np.float32)
    confidence[:, 1] = 0.01
    clip = accept_with(replace(true, confidence=confidence), persons=2)
    assert clip.present.tolist() == [[True, False]] * 40
    assert not clip.frames[:, 1].any()
    confidence[:] = 0.01
    assert rejection_of(replace(true, confidence=confidence)).check == "confidence"


def test_a_joint_that_only_a_joined_track_shows_is_interpolated() -> None:
    true = walker(2, 60, persons=2)
    frames, present = true.frames.copy(), true.present.copy()
    frames[:, 1] = frames[:, 0]  # the sensor gives the person another id halfway
    present[30:, 0], present[:30, 1] = False, False
    confidence = np.ones(frames.shape[:3], np.float32)
    confidence[:30, 0, HEAD] = 0
    frames *= present[:, :, None, None]
    clip = accept_with(replace(true, frames=frames, present=present, confidence=confidence), persons=1)
    assert not any(warning.startswith("absent") for warning in clip.warnings)
    np.testing.assert_array_equal(clip.frames[:30, 0, HEAD], np.tile(frames[30, 1, HEAD], (30, 1)))


@pytest.mark.parametrize("policy", ["warn", "reject"])
@pytest.mark.fault("repaired points that look frozen, repeated or too fast", "the checks ignore repaired points")
def test_no_check_speaks_about_points_that_a_repair_made(policy: str) -> None:
    true, confidence = unsure(3)
    frames = true.frames.copy()
    frames[20:, 0] += np.random.default_rng(0).normal(0, 3, frames[20:, 0].shape)
    confidence[20:] = 0  # everybody unseen to the end: the last pose stays
    clip = accept_with(
        replace(true, frames=frames.astype(np.float32), confidence=confidence),
        persons=1,
        **dict.fromkeys(("bone_length", "speed", "frozen", "repeated"), policy),
    )
    assert clip.warnings == ("confidence: 1400 points below 0.1 in confidence interpolated",)


def test_recorded_points_beside_made_ones_are_still_checked() -> None:
    true, confidence = unsure(4)
    frames = true.frames.copy()
    frames[20:70, 0, HEAD] = frames[20, 0, HEAD]
    confidence[:, 0, FOOT] = 0
    with pytest.raises(Rejection, match=r"frozen: no movement.*head"):
        accept_with(replace(true, frames=frames, confidence=confidence), persons=1, frozen="reject")
    frames[:, 0, HEAD] += [0, 3, 0]
    with pytest.raises(Rejection, match="bone-length: shoulder centre to head"):
        accept_with(replace(true, frames=frames, confidence=confidence), persons=1, bone_length="reject")
