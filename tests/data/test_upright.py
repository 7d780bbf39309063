from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glt.data import upright
from glt.data.layouts import COCO17, NTU25, Skeleton
from glt.data.recording import Recording
from tests.data import stores

STANDING = {
    **{"head": 1.7, "nose": 1.65, "eye": 1.7, "ear": 1.7, "neck": 1.5, "shoulder": 1.4, "elbow": 1.2, "wrist": 1.0},
    **{"hand": 0.9, "thumb": 0.9, "spine": 1.2, "hip": 0.9, "knee": 0.5, "ankle": 0.1, "foot": 0.05},
}


def clip(number: int, layout: Skeleton = NTU25, lying: bool = False, drawn_up: int = 1) -> Recording:
    heights = np.array([next(h for part, h in STANDING.items() if part in joint) for joint in layout.joints])
    random = np.random.default_rng(number)
    points = random.normal(0, 0.1, (20, 1, len(heights), 3)).astype(np.float32)
    points[..., 0 if lying else drawn_up] += heights
    return Recording(f"clip-{number}", points, np.ones((20, 1), bool), layout)


@pytest.mark.parametrize("layout", [NTU25, COCO17], ids=lambda layout: layout.name)
def test_people_who_stand_raise_nothing_even_if_a_third_lies_down(layout: Skeleton, tmp_path: Path) -> None:
    store = stores.store(tmp_path / "clips", [clip(n, layout, lying=n % 3 == 0) for n in range(9)])
    assert upright.findings(store) == []


@pytest.mark.parametrize(("drawn_up", "sign"), [(2, 1), (0, 1), (1, -1)])
@pytest.mark.fault("a layout whose `up` is not the recordings' vertical axis", "an alarm")
def test_people_who_lie_or_stand_on_their_heads_are_an_alarm(drawn_up: int, sign: int, tmp_path: Path) -> None:
    clips = [clip(n, drawn_up=drawn_up) for n in range(5)]
    store = stores.store(tmp_path / "clips", [replace(one, frames=sign * one.frames) for one in clips])
    (finding,) = upright.findings(store)
    assert finding.severity == "alarm"
    assert finding.text.startswith("heads are not above feet in 5 of 5 clips, but towards ")
    assert "check `up: y` of layout ntu25" in finding.text


def test_a_layout_without_feet_is_not_judged(tmp_path: Path) -> None:
    hand = Skeleton("hand", ("wrist", "thumb", "tip"), ((0, 1), (1, 2)), 0, (), (1, 2))
    store = stores.store(
        tmp_path / "clips", [Recording("x", np.ones((3, 1, 3, 3), np.float32), np.ones((3, 1), bool), hand)]
    )
    assert upright.findings(store) == []
