from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from glt.data.layouts import COMMON14, KINECT20, difference
from glt.data.recording import Rejection
from glt.data.resampling import to_rate
from tests.data.test_checks import walker


@pytest.mark.parametrize(("rate", "length"), [(15.0, 20), (60.0, 79), (30.0, 40), (24.0, 32), (29.97, 39)])
@pytest.mark.fault("recordings of different frame rates", "resampled to data.rate, or an error names rates and field")
def test_a_clip_has_the_rate_that_it_is_given(rate: float, length: int) -> None:
    clip = walker(0)
    found = to_rate(clip, rate)
    assert found.skeleton == replace(clip.skeleton, rate=rate)
    assert found.frames.shape[0] == length
    assert found.present.all()
    times = np.arange(length) * 30 / rate
    expected = np.interp(times, np.arange(40), clip.frames[:, 0, 3, 1])
    np.testing.assert_allclose(found.frames[:, 0, 3, 1], expected, atol=1e-5)


def test_every_second_frame_is_the_same_to_the_last_bit() -> None:
    clip = walker(1)
    np.testing.assert_array_equal(to_rate(clip, 15.0).frames, clip.frames[::2])
    np.testing.assert_array_equal(to_rate(to_rate(clip, 60.0), 30.0).frames, clip.frames)


def test_a_person_is_where_both_frames_show_one() -> None:
    clip = walker(2)
    present = clip.present.copy()
    present[3] = False
    found = to_rate(replace(clip, present=present), 60.0)
    assert np.flatnonzero(~found.present[:, 0]).tolist() == [5, 6, 7]
    assert not found.frames[~found.present].any()


def test_a_clip_that_becomes_endless_is_rejected() -> None:
    clip = walker(3)
    with pytest.raises(Rejection, match=r"at 10000 instead of 0.001 frames a second"):
        to_rate(replace(clip, skeleton=replace(clip.skeleton, rate=0.001)), 10_000.0)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rate": 60.0}, "60 frames a second instead of 30: set data.rate"),
        ({"up": 2}, "up 2 instead of 1: correct skeleton.yaml"),
        ({"unit": "image height"}, "unit image height instead of m"),
    ],
)
def test_a_difference_names_its_field(change: dict[str, object], text: str) -> None:
    assert text in difference(replace(KINECT20, **change), KINECT20)  # type: ignore[arg-type]
    assert "set data.layout" in difference(COMMON14, KINECT20)
