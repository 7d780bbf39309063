"""Arms side by side."""

from __future__ import annotations

import pandas as pd
import pytest

from glt.analysis import arms
from glt.analysis.arms import Trained


def trained(arm: str, seed: int, right: list[bool], persons: list[int]) -> Trained:
    predictions = pd.DataFrame(
        {"label": "a", "predicted": ["a" if yes else "b" for yes in right], "clean": True, "persons": persons}
    )
    share = sum(right) / len(right)
    metrics = {"probe/top1": share, "probe/val_top1": share / 2, "probe/untrained_top1": 0.25, "knn/top1": 1.0}
    return Trained(arm, seed, metrics, predictions)


TWO = [
    trained("z", 0, [True, True, False, True], [1, 1, 2, 2]),
    trained("a", 0, [False, True, False, False], [1, 1, 2, 2]),
    trained("z", 1, [True, True, False, False], [1, 1, 2, 2]),
]


def test_a_row_an_arm_in_the_order_given() -> None:
    table = arms.table(TWO).set_index("arm")
    assert list(table.index) == ["z", "a"]
    assert table["seeds"].tolist() == [2, 1]
    assert table.loc["z", "top1_mean"] == pytest.approx(0.625)
    assert table.loc["z", "top1_sd"] == pytest.approx(0.125 * 2**0.5)
    assert pd.isna(table.loc["a", "top1_sd"])
    assert table.loc["a", "val_top1_mean"] == 0.125
    assert "top1_clean_mean" not in table  # of which there is nothing


def test_actions_of_one_and_of_two_persons_apart() -> None:
    table = arms.table(TWO).set_index("arm")
    assert table.loc["z", "top1_1_person_mean"] == 1.0
    assert table.loc["z", "top1_2_persons_mean"] == 0.25
    alone = arms.table([trained("z", 0, [True, False], [1, 1])])
    assert not [name for name in alone if "person" in str(name)]


def test_the_picture_has_a_dot_a_seed_and_the_mean_of_each_arm() -> None:
    (ax,) = arms.picture(TWO).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["z", "a"]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in dots] == [[0.75, 0.5], [0.25]]
    assert {"62.5", "25.0", "before pretraining"} <= {text.get_text() for text in ax.texts}
