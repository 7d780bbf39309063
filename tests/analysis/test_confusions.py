"""The confusion matrix of a pipeline run's page: bounded, and nothing is lost in it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from kfp import dsl

from glt.analysis import confusions


def test_counts_of_few_classes_by_name() -> None:
    names, counts = confusions.bounded(["b", "b", "a", "z"], ["b", "a", "a", "b"])
    assert (names, counts) == (["a", "b", "z"], [[1, 0, 0], [1, 1, 0], [0, 1, 0]])


def test_of_many_classes_those_with_errors_stay_and_the_counts_add_up() -> None:
    labels = [f"class-{number:03}" for number in range(120) for _ in range(3)]
    predicted = list(labels)
    predicted[:9] = ["class-119"] * 9  # classes 0 to 2 are never right
    names, counts = confusions.bounded(labels, predicted)
    assert len(names) == len(counts) == confusions.MOST
    assert names[:3] == ["class-000", "class-001", "class-002"]
    assert names[-2:] == ["class-119", confusions.OTHERS]
    assert sum(map(sum, counts)) == len(labels)
    assert [counts[row][names.index("class-119")] for row in range(3)] == [3, 3, 3]
    assert counts[-1][-1] == 3 * (120 - len(names) + 1)


@pytest.mark.parametrize("count", [1, confusions.MOST, confusions.MOST + 1, 2000])
def test_whatever_the_names_kfp_takes_them_and_the_metadata_are_small(count: int, tmp_path: Path) -> None:
    odd = ("<script>alert(1)</script>", "a|b", "\x1b[31m\u202e", "same " * 30, "일어서기", "", confusions.OTHERS)
    labels = [f"{odd[number % len(odd)]}{number}" if number else "" for number in range(count)]
    pd.DataFrame({"label": labels, "predicted": labels[::-1]}).to_parquet(tmp_path / "predictions.parquet")
    names, counts = confusions.of_classifier(tmp_path)
    assert len(set(names)) == len(names) == min(count, confusions.MOST)
    assert all(len(name) < 60 and name.isprintable() for name in names)
    metrics = dsl.ClassificationMetrics(name="confusion", uri="x")
    metrics.log_confusion_matrix(names, counts)
    assert len(json.dumps(metrics.metadata).encode()) < 20_000
    assert sum(map(sum, counts)) == count


def test_two_names_that_begin_alike_stay_two() -> None:
    labels = ["a" * 60 + "1", "a" * 60 + "2"]
    assert confusions.bounded(labels, labels)[0] == ["a" * 39 + "… (1)", "a" * 39 + "… (2)"]
