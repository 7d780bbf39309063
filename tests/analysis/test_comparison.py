"""The page on two models: true counts, what differs and nothing else, and nothing that runs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from glt.analysis.comparison import Model, write_comparison

LABELS = ["jump"] * 4 + ["walk"] * 4 + ["<b>sit</b>"] * 2


def predictions(*wrong: int, drop: int = 0) -> pd.DataFrame:
    answers = ["walk" if number in wrong and label != "walk" else label for number, label in enumerate(LABELS)]
    answers = [
        "jump" if number in wrong and label == "walk" else a
        for number, (label, a) in enumerate(zip(LABELS, answers, strict=True))
    ]
    table = pd.DataFrame({"name": [f"clip{n}" for n in range(10)], "label": LABELS, "predicted": answers})
    return table.iloc[drop:]


FIRST = Model(
    name="glt-lab-xsub/3 @champion",
    scores={"probe/top1": 0.8, "knn/top1": 0.5, "finetune/05pct/top1_mean": 0.4},
    predictions=predictions(0, 1),
    recipe={"name": "lab", "pretrain": {"epochs": 40, "lr": 0.002}},
    provenance={"data": "a.dir", "code": "c0de"},
    files={"week-1.zip": "1", "week-2.zip": "2", ".week-1.json": "x"},
)
SECOND = Model(
    name="glt-lab-xsub/4",
    scores={"probe/top1": 0.9, "probe/top1_clean": 0.85},
    predictions=predictions(1, 5, drop=1),
    recipe={"name": "lab", "pretrain": {"epochs": 80, "lr": 0.002}},
    provenance={"data": "b.dir", "code": "c0de"},
    files={"week-1.zip": "1", "week-3/a.skeleton": "3", "week-3/b.skeleton": "4", "week-2.zip": "5"},
)


def text(page: Path) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", re.sub(r"<svg.*?</svg>", "", page.read_text(), flags=re.S)))


@pytest.mark.fault(
    "a comparison of models that were tested on different clips", "the page says so and shows no difference"
)
@pytest.mark.parametrize("drop", [0, 1])
def test_scores_are_subtracted_only_of_the_same_clips(tmp_path: Path, drop: int) -> None:
    second = replace(SECOND, predictions=FIRST.predictions.iloc[drop:])
    write_comparison(tmp_path / "page.html", FIRST, second)
    said = text(tmp_path / "page.html")
    assert ("linear probe 80.0 % 90.0 % +10.0" in said) == (drop == 0)
    assert ("The two were tested on different clips" in said) == (drop == 1)


NTU = {"name": "ntu25", "joints": ["a", "b"]}
DATA = {"dataset": "lab", "protocol": "xsub"}
SAME = replace(
    FIRST,
    recipe={"data": DATA},
    classes=("jump", "walk"),
    skeleton=NTU,
    fractions=("5 %",),
    scores={"probe/top1": 0.8, "probe/val_top1": 0.7, "finetune/05pct/top1_mean": 0.4},
)
ALL, NONE = ("+0.0", "+0.0", "+0.0"), ("–", "–", "–")


@pytest.mark.fault(
    "a comparison of models that differ in more than their weights",
    "the page lists the differences first, and subtracts only comparable scores",
)
@pytest.mark.parametrize(
    ("changed", "words", "changes"),
    [
        ({}, "", ALL),
        ({"provenance": {"data": "b.dir"}}, "The data versions differ: a.dir and b.dir.", ("+0.0", "–", "+0.0")),
        ({"provenance": {"data": "unknown"}}, "It is not known whether both", ("+0.0", "–", "+0.0")),
        ({"recipe": {"data": DATA | {"protocol": "xview"}}}, "The protocols differ: lab xsub and lab xview.", NONE),
        ({"recipe": {"data": DATA | {"fold": 2}}}, "The protocols differ: lab xsub and lab xsub (fold 2).", NONE),
        ({"recipe": {}}, "The protocols differ: lab xsub and unknown.", NONE),
        ({"skeleton": {"name": "c", "joints": []}}, "The layouts differ: ntu25 of 2 joints and c of 0 joints.", NONE),
        ({"skeleton": {}}, "The layouts differ: ntu25 of 2 joints and unknown.", NONE),
        ({"classes": ("jump",)}, "The classes differ: 1 only in the first (walk).", NONE),
        ({"fractions": ("10 %",)}, "The labelled fractions differ: 5 % and 10 %.", ALL),
        (
            {"scores": SAME.scores | {"finetune/05pct/labelled_mean": 3.0}},
            "measured on different clips, or with different numbers of labels",
            ("+0.0", "+0.0", "–"),
        ),
        ({"predictions": FIRST.predictions.iloc[1:]}, "The two were tested on different clips", NONE),
    ],
)
def test_what_differs_is_not_called_equal(
    tmp_path: Path, changed: dict[str, Any], words: str, changes: tuple[str, str, str]
) -> None:
    write_comparison(tmp_path / "page.html", SAME, replace(SAME, **changed))
    said = text(tmp_path / "page.html")
    top, _, scores = said.partition(" Scores ")
    assert words in (scores if "measured on" in words else top)
    assert ("compared" in top) == (bool(words) and "measured on" not in words)
    for row, change in zip(
        ("linear probe 80.0 % 80.0 %", "linear probe, validation 70.0 % 70.0 %", "labels 40.0 % 40.0 %"),
        changes,
        strict=True,
    ):
        assert f"{row} {change}" in scores


def test_unknowns_are_not_the_same(tmp_path: Path) -> None:
    bare = replace(SAME, recipe={}, provenance={"data": "unknown", "code": "unknown", "run": "deleted"}, files=None)
    write_comparison(tmp_path / "page.html", bare, bare)
    said = text(tmp_path / "page.html")
    assert "The same for both" not in said
    assert "Both were trained on the same data version" not in said
    assert "by the same settings" not in said


def test_it_says_what_differs(tmp_path: Path) -> None:
    write_comparison(tmp_path / "page.html", FIRST, SECOND)
    said, page = text(tmp_path / "page.html"), (tmp_path / "page.html").read_text()
    for row in (
        *(
            "linear probe 80.0 % 90.0 % –",
            "The two were tested on different clips",
            "nearest neighbour 50.0 % – –",
            "fine-tuned on 5 % of the labels 40.0 % – –",
        ),
        *("9 test clips were answered by both; 1 only by the first, 0 only by the second", "data a.dir b.dir"),
        *(
            "The same for both: code.",
            "pretrain.epochs 40 80",
            "1 only in the second: week-3",
            "1 with another content: week-2.zip",
        ),
    ):
        assert row in said
    assert "pretrain.lr" not in said
    assert "only in the first" not in said.split("Recordings")[1]
    # clip 1: both wrong; clip 5: wrong in the second; clip 0 was answered by the first alone
    assert "1 clips only glt-lab-xsub/3 @champion gets right, 0 only glt-lab-xsub/4." in page
    assert "<b>sit</b>" not in page
    assert "<script" not in page


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (replace(SECOND, files=None), "What the data versions hold is not known here"),
        (replace(SECOND, provenance=FIRST.provenance), "Both were trained on the same data version"),
        (replace(SECOND, recipe=FIRST.recipe), "Both were trained by the same settings"),
        (replace(SECOND, predictions=SECOND.predictions.assign(name="another")), "no test clip in common"),
    ],
)
def test_what_cannot_be_compared_is_reported(tmp_path: Path, second: Model, words: str) -> None:
    write_comparison(tmp_path / "page.html", FIRST, second)
    assert words in text(tmp_path / "page.html")
