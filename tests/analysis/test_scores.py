from __future__ import annotations

import math

import pandas as pd
import pytest
from scipy.stats import binomtest

from glt.analysis import scores
from glt.errors import GltError

ANSWERS = pd.DataFrame(
    {
        "label": ["a", "a", "a", "b", "b", "c"],
        "predicted": ["a", "b", "b", "b", "b", "a"],
        "clean": [True, True, False, True, False, True],
    }
)


@pytest.mark.parametrize(("right", "total"), [(0, 10), (5, 10), (10, 10), (369, 464), (1, 1)])
def test_wilson_is_scipys(right: int, total: int) -> None:
    expected = binomtest(right, total).proportion_ci(0.95, method="wilson")
    assert scores.wilson(right, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_no_clip_has_no_score() -> None:
    empty = scores.score(ANSWERS[:0], clean=True)
    assert math.isnan(empty.share)
    assert all(map(math.isnan, empty.interval))


def test_top1_of_all_and_of_clean_clips() -> None:
    assert scores.top1(ANSWERS) == 3 / 6
    assert scores.top1(ANSWERS, clean=True) == 2 / 4
    assert scores.score(ANSWERS) == scores.Score(3, 6) == scores.Score.of(0.5, 6)


def test_per_class_names_the_commonest_mistake_weakest_first() -> None:
    table = scores.per_class(ANSWERS)
    assert table["label"].tolist() == ["c", "a", "b"]
    assert table["confused"].tolist()[:2] == ["a", "b"]
    assert table["confused"].isna().tolist() == [False, False, True]
    assert table["times"].tolist() == [1, 2, 0]
    assert table["right"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(("fraction", "key"), [(0.05, "05pct"), (0.1, "10pct"), (1, "100pct"), (0.005, "0.5pct")])
def test_fraction_key(fraction: float, key: str) -> None:
    assert scores.fraction_key(fraction) == key


def test_summary_means_over_seeds() -> None:
    tuned = [
        (0.05, 0, {"top1": 0.5, "top1_clean": 0.4, "labelled": 50.0}),
        (0.05, 1, {"top1": 0.7, "top1_clean": 0.5, "labelled": 50.0}),
        (0.10, 0, {"top1": 0.8, "top1_clean": math.nan, "labelled": 100.0}),
    ]
    result = scores.summary({"probe/top1": 0.9, "probe/top1_clean": math.nan}, tuned)
    assert result["probe/top1"] == 0.9
    assert result["finetune/05pct/top1_mean"] == pytest.approx(0.6)
    assert result["finetune/05pct/top1_sd"] == pytest.approx(0.2 / math.sqrt(2))
    assert result["finetune/05pct/top1_clean_mean"] == pytest.approx(0.45)
    assert result["finetune/10pct/top1_mean"] == 0.8
    assert not {"probe/top1_clean", "finetune/10pct/top1_sd", "finetune/10pct/top1_clean_mean"} & result.keys()
    assert all(map(math.isfinite, result.values()))


def test_a_seed_given_twice_is_rejected() -> None:
    with pytest.raises(GltError, match="seeds"):
        scores.summary({}, [(0.05, 0, {"top1": 0.5}), (0.05, 0, {"top1": 0.6})])


def test_an_ensemble_averages_probabilities_of_the_same_clips() -> None:
    one = pd.DataFrame({"name": ["x", "y"], "label": ["a", "b"], "clean": [True, False], "predicted": ["a", "a"]})
    one = one.assign(persons=[1, 2], p_a=[0.9, 0.6], p_b=[0.1, 0.4])
    other = one.assign(p_a=[0.4, 0.1], p_b=[0.6, 0.9]).iloc[::-1]
    together = scores.ensemble([one, other])
    assert together["name"].tolist() == ["x", "y"]
    assert together["predicted"].tolist() == ["a", "b"]
    assert together["clean"].tolist() == [True, False]
    assert together["confidence"].tolist() == pytest.approx([0.65, 0.65])
    with pytest.raises(GltError, match="other clips or classes"):
        scores.ensemble([one, other.iloc[:1]])
