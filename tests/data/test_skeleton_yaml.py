"""`skeleton.yaml` describes the coordinates of files; recordings are right-handed, with an axis up, in metres."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from glt.data.coordinates import Coordinates
from glt.data.layouts import COCO17, KINECT20
from glt.data.skeleton_yaml import parse_skeleton, parse_skeleton_file
from glt.errors import GltError

POINTS = np.random.default_rng(0).normal(0, 1, (6, 2, 20, 3)).astype(np.float32)


def read(text: str, points: np.ndarray = POINTS) -> np.ndarray:
    return parse_skeleton_file(text).coordinates(points)


def test_a_known_layout_may_have_another_rate() -> None:
    given = parse_skeleton_file("layout: kinect20\nrate: 15")
    assert given.skeleton == replace(KINECT20, rate=15.0)
    assert read("layout: kinect20\nrate: 15") is POINTS


@pytest.mark.parametrize(
    ("fields", "factors"),
    [
        ("up: y", (1, 1, 1)),
        ("up: -y", (1, -1, -1)),
        ("up: -z", (-1, 1, -1)),
        ("up: -x", (-1, -1, 1)),
        ("mirror: x", (-1, 1, 1)),
        ("up: y\nmirror: z", (1, 1, -1)),
        ("up: -y\nmirror: x", (-1, -1, -1)),
        ("unit: mm", (0.001, 0.001, 0.001)),
        ("unit: cm\nup: z\nmirror: y", (0.01, -0.01, 0.01)),
        ("unit: pixel\nimage_height: 480\nup: -y", (1 / 480, -1 / 480, -1 / 480)),
    ],
)
def test_coordinates_are_converted(fields: str, factors: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(read(f"layout: kinect20\n{fields}"), POINTS * np.float32(factors), rtol=1e-6)


@pytest.mark.parametrize("up", ["x", "y", "z", "-x", "-y", "-z"])
def test_another_vertical_keeps_the_handedness(up: str) -> None:
    given = parse_skeleton_file(f"layout: kinect20\nup: {up}")
    assert np.prod(given.coordinates.factors) == 1
    assert given.skeleton.up == "xyz".index(up[-1])
    vertical = np.zeros((1, 3), np.float32)
    vertical[0, given.skeleton.up] = -1 if up.startswith("-") else 1
    assert given.coordinates(vertical)[0, given.skeleton.up] == 1


def test_a_file_in_another_unit_becomes_metres_and_pixels_become_image_heights() -> None:
    assert parse_skeleton_file("layout: kinect20\nunit: mm").skeleton == KINECT20
    assert parse_skeleton_file("layout: coco17\nunit: pixel\nimage_height: 720").skeleton == COCO17
    assert parse_skeleton_file("layout: coco17\nunit: m").skeleton == replace(COCO17, unit="m")


def test_conversion_keeps_what_is_not_finite_and_makes_no_negative_zero() -> None:
    points = np.array([[np.nan, np.inf, 0.0]], np.float32)
    converted = read("layout: kinect20\nmirror: z", points)
    np.testing.assert_array_equal(converted, points)
    assert not np.signbit(converted[0, 2])


@pytest.mark.parametrize("fields", ["mirror: x", "up: -y", "unit: mm", "unit: pixel\nimage_height: 480"])
def test_a_layout_to_map_to_converts_nothing(fields: str) -> None:
    with pytest.raises(GltError, match=r"they belong in skeleton\.yaml"):
        parse_skeleton(f"layout: kinect20\n{fields}")
    assert parse_skeleton("layout: kinect20\nup: z").up == 2


def test_the_identity_changes_no_bit() -> None:
    assert Coordinates()(POINTS) is POINTS
