"""A set is not reported as sound if repairs changed most of its clips, or if many frames show nobody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from glt.data import clip_warnings, completeness
from glt.data.recording import Recording
from tests.data import stores
from tests.data.test_checks import accept_with, rejection_of, walker

INTERPOLATED = "confidence: 80 points below 0.1 in confidence interpolated"


def repaired(count: int, *warnings: str) -> list[Recording]:
    takes = stores.recordings(10)
    return [replace(one, warnings=warnings) if number < count else one for number, one in enumerate(takes)]


@pytest.mark.fault("repairs that changed most clips of a set", "a warning, and the data report is not green")
def test_repairs_of_most_clips_are_a_warning(tmp_path: Path) -> None:
    assert completeness.findings(stores.store(tmp_path / "half", repaired(5, INTERPOLATED))) == []
    clips = repaired(6, INTERPOLATED, "absent: left foot without a good point, placed at the centre joint")
    (finding,) = completeness.findings(stores.store(tmp_path / "most", clips))
    assert (finding.check, finding.severity, len(finding.names)) == ("repairs", "warning", 6)
    assert finding.text.startswith("repairs changed 6 of 10 clips (6 confidence)")
    few = repaired(10, "confidence: 3 points below 0.1 in confidence interpolated")
    assert completeness.findings(stores.store(tmp_path / "few", few)) == []


@pytest.mark.parametrize(
    ("warning", "changed"),
    [
        (INTERPOLATED, True),
        ("finite: 3 points NaN or infinite interpolated", True),
        ("speed: 2 points faster than 20 m/s there and back interpolated", True),
        ("repeated: 5 of 9 frames repeat the one before, dropped", True),
        ("lost: 1 times a body ends and another begins close by, joined to one person", False),
        ("missing: 9 points at the origin, far from the body, interpolated", True),
        ("swapped: 2 changes of places taken back", True),
        ("confidence: 80 points below the least confidence", False),
        ("speed: faster than 20 m/s there and back: head", False),
        ("ends: 3 frames without anybody cut off", False),
        ("repeated: 5 of 9 frames repeat the one before", False),
    ],
)
def test_only_changes_of_positions_are_repairs(warning: str, changed: bool) -> None:
    clip = {"name": ["x"], "length": [9], "persons": [1], "warnings": [f"ends: 1 frame; {warning}"]}
    table = clip_warnings.repairs(pd.DataFrame(clip), joints=20, least=0.01)
    assert table["warnings"].tolist() == [warning if changed else ""]


def with_gap(first: int, last: int, length: int = 40) -> Recording:
    walk = walker(0, length)
    present = walk.present.copy()
    present[first:last] = False
    return replace(walk, frames=walk.frames * present[:, :, None, None], present=present)


@pytest.mark.fault("frames without anybody inside a clip", "counted, and a warning above a share of the clip")
def test_frames_of_nobody_inside_a_clip_are_a_warning_above_a_share() -> None:
    assert accept_with(with_gap(10, 14), persons=1).warnings == ()
    warned = accept_with(with_gap(10, 15), persons=1).warnings
    assert warned == ("gaps: nobody in 5 of 40 frames between the first and the last person",)
    assert accept_with(with_gap(30, 40), persons=1).warnings == ("ends: 10 frames without anybody cut off",)
    assert accept_with(with_gap(10, 15), persons=1, gap_share=0.2).warnings == ()
    with pytest.raises(Exception, match="gaps: nobody in 5 of 40 frames"):
        accept_with(with_gap(10, 15), persons=1, gaps="reject")
    assert rejection_of(with_gap(0, 40)).check == "empty"


@pytest.mark.parametrize(("gap", "severity"), [(3, "note"), (12, "warning")])
def test_frames_of_nobody_are_counted_over_the_set(gap: int, severity: str, tmp_path: Path) -> None:
    clips = [replace(with_gap(10, 10 + gap), name=f"clip-{number}") for number in range(4)]
    clips.append(replace(walker(1, 40), name="whole"))
    (finding,) = completeness.findings(stores.store(tmp_path / "clips", clips))
    assert (finding.check, finding.severity) == ("gaps", severity)
    assert finding.text == f"nobody is shown in {4 * gap} of 200 frames, within 4 clips"
    assert finding.names == tuple(f"clip-{number}" for number in range(4))


def test_a_whole_set_raises_nothing(tmp_path: Path) -> None:
    assert completeness.findings(stores.store(tmp_path / "clips", stores.recordings(3))) == []
    assert np.all(stores.store(tmp_path / "again", stores.recordings(3)).present(0)[:, 0])
