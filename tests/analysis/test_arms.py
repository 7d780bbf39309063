"""Arms side by side."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from glt.analysis import arms
from glt.analysis.arms import TrainedArm


def run(arm: str, seed: int, top1: float) -> TrainedArm:
    metrics = {"probe/top1": top1, "probe/val_top1": top1 / 2, "probe/untrained_top1": 0.25, "knn/top1": 1.0}
    return TrainedArm(arm, seed, metrics)


TWO = [run("z", 0, 0.75), run("a", 0, 0.25), run("z", 1, 0.5)]


def test_a_row_an_arm_in_the_order_given() -> None:
    table = arms.table(TWO).set_index("arm")
    assert list(table.index) == ["z", "a"]
    assert table["seeds"].tolist() == [2, 1]
    assert table.loc["z", "top1_mean"] == pytest.approx(0.625)
    assert table.loc["z", "top1_sd"] == pytest.approx(0.125 * 2**0.5)
    assert pd.isna(table.loc["a", "top1_sd"])
    assert table.loc["a", "val_top1_mean"] == 0.125
    scores = ("top1", "val_top1", "untrained_top1")
    assert list(table) == ["seeds", *(f"{score}_{end}" for score in scores for end in ("mean", "sd"))]


def test_the_picture_has_a_dot_a_seed_and_the_mean_of_each_arm() -> None:
    (ax,) = arms.picture(TWO).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["z", "a"]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in dots] == [[0.75, 0.5], [0.25]]
    assert {"62.5", "25.0", "before pretraining"} <= {text.get_text() for text in ax.texts}


def test_the_page_has_every_arm_and_score_and_is_alone(tmp_path: Path) -> None:
    arms.write_page(tmp_path / "page", "<study>", TWO, {"MLflow run": "https://mlflow.lab/#/1", "bad": "javascript:x"})
    page = (tmp_path / "page").read_text()
    assert "&lt;study&gt;" in page
    assert "62.5 % <small>± 17.7</small>" in page
    assert page.count('<a href="') == 1
    assert "default-src 'none'" in page
