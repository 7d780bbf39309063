from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from glt.data.checks import accept
from glt.data.formats import ntu
from glt.data.layouts import KINECT20, NTU25
from glt.data.recording import Recording, Rejection
from tests.data import recorded

NAME = "S001C002P003R001A004.skeleton"


def body(length: int, spread: float, seen: slice, number: int) -> tuple[np.ndarray, np.ndarray]:
    frames = np.random.default_rng(number).normal(2, spread, (length, 25, 3)).astype(np.float32)
    present = np.zeros(length, bool)
    present[seen] = True
    return frames * present[:, None, None], present


def together(*bodies: tuple[np.ndarray, np.ndarray]) -> Recording:
    frames, present = (np.stack([b[part] for b in bodies], 1) for part in (0, 1))
    return Recording("x", frames, present, NTU25)


def test_the_most_active_come_first_and_the_rest_is_dropped() -> None:
    still, lively, middling = (body(20, s, slice(None), n) for n, s in enumerate((0.01, 0.5, 0.1)))
    clip = accept(together(still, lively, middling), recorded.recipe(persons=2).data)
    np.testing.assert_array_equal(clip.frames[:, 0], lively[0])
    np.testing.assert_array_equal(clip.frames[:, 1], middling[0])
    assert clip.warnings == ("3 persons: the 2 most active kept",)


def test_a_ghost_loses_to_whoever_stands_still() -> None:
    still, ghost = body(40, 0.01, slice(None), 1), body(40, 2.0, slice(5, 8), 2)
    clip = accept(together(ghost, still), recorded.recipe(persons=2).data)
    np.testing.assert_array_equal(clip.frames[:, 0], still[0])
    assert not clip.present[:, 1].any()
    assert clip.warnings == ("1 ghost bodies dropped (seen in under 10% of the frames)",)


def test_a_body_seen_for_a_while_loses_to_one_seen_throughout() -> None:
    always, passing = body(40, 0.1, slice(None), 1), body(40, 0.3, slice(0, 8), 2)
    clip = accept(together(passing, always), recorded.recipe(persons=1).data)
    np.testing.assert_array_equal(clip.frames[:, 0], always[0])


def test_absence_is_trimmed_at_the_ends_and_kept_within() -> None:
    frames, present = body(10, 0.1, slice(2, 8), 1)
    present[4] = False
    clip = accept(together((frames, present)), recorded.recipe(persons=1).data)
    assert clip.present[:, 0].tolist() == [True, True, False, True, True, True]
    assert not clip.frames[2].any()
    np.testing.assert_array_equal(clip.frames[3, 0], frames[5])
    assert clip.warnings == ("4 frames without anybody cut off at the ends",)


def test_a_body_in_the_origin_is_absent() -> None:
    frames, present = body(6, 0.1, slice(None), 1)
    frames[2] = 0
    assert not accept(together((frames, present)), recorded.recipe(persons=1).data).present[2, 0]


def test_one_frame_is_a_warning() -> None:
    assert accept(together(body(1, 0.1, slice(None), 1)), recorded.recipe(persons=1).data).warnings == (
        "one frame: no motion to learn from",
    )


@pytest.mark.parametrize(
    ("value", "check"), [(np.nan, "finite"), (-np.inf, "finite"), (1e30, "range"), (2500, "range")]
)
def test_impossible_coordinates_are_rejected(value: float, check: str) -> None:
    frames, present = body(6, 0.1, slice(None), 1)
    frames[3, 7, 1] = value
    with pytest.raises(Rejection) as caught:
        accept(together((frames, present)), recorded.recipe(persons=1).data)
    assert caught.value.check == check


def test_wrong_joint_count_is_rejected() -> None:
    with pytest.raises(Rejection, match="25 joints of 3 coordinates, layout kinect20 has 20 of 3"):
        accept(replace(together(body(6, 0.1, slice(None), 1)), skeleton=KINECT20), recorded.recipe().data)


@pytest.mark.parametrize("length", [0, 3])
def test_nobody_is_rejected(length: int) -> None:
    with pytest.raises(Rejection) as caught:
        accept(ntu.read(NAME, recorded.skeleton([{}] * length)), recorded.recipe(persons=1).data)
    assert caught.value.check == "empty"
