"""Warnings of clips: counted once, under the name of their check, wherever they are counted."""

from __future__ import annotations

import pandas as pd
import pytest

from glt.data import clip_warnings


def index(*warnings: str) -> pd.DataFrame:
    return pd.DataFrame({"name": [f"clip{n}" for n in range(len(warnings))], "warnings": warnings})


@pytest.mark.fault("a clip with two warnings from one check", "counted once, under the check's name")
def test_a_clip_counts_once_for_a_check() -> None:
    table = index("speed: 3 points; speed: 1 bodies left out; ends: 2 frames", "speed: 4 points", "")
    counts = clip_warnings.by_check(table)
    assert [(one.check, one.count, one.name, one.text) for one in counts] == [
        ("speed", 2, "clip0", "3 points"),
        ("ends", 1, "clip0", "2 frames"),
    ]
    assert clip_warnings.describe(table) == "2 clips with a warning: 2 speed, 1 ends"
    assert clip_warnings.to_dict(table) == {"clips": 2, "checks": {"speed": 2, "ends": 1}}


@pytest.mark.fault("warnings that differ only in their numbers", "counted as one kind")
@pytest.mark.parametrize(
    ("texts", "check"),
    [
        (["body 1 twice in a frame: the first is kept", "body 72 twice in a frame: the first is kept"], "body"),
        (["12 frames: odd", "13 frames: odd"], "reader"),
        (["speed: 12 points", "speed: 13 points"], "speed"),
        (["labels.csv is in cp949, not in UTF-8: save it"], "labels"),
    ],
)
def test_numbers_make_no_kinds(texts: list[str], check: str) -> None:
    assert [(one.check, one.count) for one in clip_warnings.by_check(index(*texts))] == [(check, len(texts))]


def test_a_separator_in_a_text_does_not_split_it() -> None:
    stored = clip_warnings.join(["absent: left; right: hand without a good point", "ends: 3 frames"])
    assert [check for check, _ in clip_warnings.split(stored)] == ["absent", "ends"]
