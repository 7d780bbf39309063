from __future__ import annotations

import numpy as np
import pandas as pd

from glt.data.balance import findings


def index(rows: list[tuple[str | None, int, int]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["label", "subject", "camera"])
    return table.assign(setup=pd.NA, replication=pd.NA).astype({"subject": "Int64", "camera": "Int64"})


def splits(train: int, test: int) -> np.ndarray:
    return np.array(["train"] * train + ["test"] * test, object)


EVEN = [(label, subject, camera) for label in "ab" for subject in range(10) for camera in (1, 2)]


def checks_and_severities(
    rows: list[tuple[str | None, int, int]], split: np.ndarray | None, held_out: str | None = None
) -> set[tuple[str, str]]:
    return {(finding.check, finding.severity) for finding in findings(index(rows), split, held_out or None)}


def test_an_even_set_has_nothing_to_say() -> None:
    rows = sorted(EVEN, key=lambda row: row[2])
    assert checks_and_severities(rows, splits(20, 20), "camera") == set()


def test_a_class_of_one_split_is_named() -> None:
    rows = [*[("a", 1, 1)] * 10, *[("b", 1, 1)] * 10, *[("a", 2, 1)] * 5, *[("c", 2, 1)] * 5]
    found = {(f.check, f.severity): f for f in findings(index(rows), splits(20, 10), "subject")}
    assert found["classes", "alarm"].names == ("c",)
    assert found["classes", "warning"].names == ("b",)


def test_subjects_in_both_splits_are_an_alarm_only_where_they_are_held_out() -> None:
    rows = sorted(EVEN, key=lambda row: row[2])
    assert ("overlap", "alarm") in checks_and_severities(rows, splits(20, 20), "subject")
    assert ("overlap", "alarm") not in checks_and_severities(rows, splits(20, 20), "camera")


def test_few_clips_of_a_class_and_uneven_classes_are_warnings() -> None:
    rows = [*[("a", 1, 1)] * 60, *[("b", 1, 1)] * 3, *[("a", 2, 1)] * 3, *[("b", 2, 1)] * 2]
    assert checks_and_severities(rows, splits(63, 5), "subject") == {("classes", "warning"), ("balance", "warning")}


def test_unlabelled_recordings_are_counted() -> None:
    assert checks_and_severities([("a", 1, 1), (None, 1, 1)], None) == {("labels", "note")}
    assert checks_and_severities([(None, 1, 1)] * 2, None) == {("labels", "warning")}
