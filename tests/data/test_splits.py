"""Sides, groups and validation folds of every protocol."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from glt.data import protocols, splits
from glt.errors import GltError
from glt.recipe import DataConfig
from glt.recipe import load as load_recipe
from glt.training.probe import validation_folds
from tests.data.recorded import recipe

NTU60_XSUB = {1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38}
# Format, protocol, its fields, and the column that it holds out.
PROTOCOLS: list[tuple[str, str, dict[str, Any], str]] = [
    ("ntu", "xsub", {}, "subject"),
    ("ntu", "xview", {}, "camera"),
    ("ntu", "xset", {}, "setup"),
    ("pyskl", "xsub", {}, "subject"),
    ("nw-ucla", "cross-view", {}, "camera"),
    ("sbu", "5-fold", {}, "subject"),
    ("nw-ucla", "leave-one-subject-out", {"held": 1}, "subject"),
    ("table", "random-subjects", {"test_share": 0.3}, "subject"),
    ("ntu", "column", {"column": "replication", "test_values": [2, 5]}, "replication"),
    ("pyskl", "given", {"given": "xsub"}, "subject"),
    ("pyskl", "given", {"given": "xview"}, "camera"),
]
DRAWN = [1, 4, 7, 8, 10, 13]  # of subjects 1 to 20, share 0.3, seed 0
NUMBERS = ["subject", "camera", "setup", "replication"]
Row = tuple[int, int, int, int, str | None]


def table(rows: list[Row]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=[*NUMBERS, "splits"]).astype(dict.fromkeys(NUMBERS, "Int64"))
    return frame.assign(name=[f"clip{n}" for n in range(len(frame))], sha256=[f"{n:064x}" for n in range(len(frame))])


def pairs(count: int = 21, **columns: object) -> pd.DataFrame:
    return table([(subject, 1, 1, 1, None) for subject in range(1, count + 1)]).assign(**columns)


GIVEN = [None, "xview_train", "xsub_train", "xsub_val;xview_train", "xsub_test;xview_val", "xsub_train;xview_val"]
ROWS = st.tuples(st.integers(1, 21), st.integers(1, 3), st.integers(1, 32), st.integers(1, 5), st.sampled_from(GIVEN))
# Has training and test clips of every protocol.
BOTH: list[Row] = [(1, 1, 1, 1, "xsub_val;xview_train"), (3, 2, 2, 2, "xsub_train;xview_val"), (2, 3, 3, 3, None)]


@pytest.mark.parametrize(("format", "protocol", "fields", "column"), PROTOCOLS)
@given(rows=st.lists(ROWS, max_size=12), random=st.randoms())
def test_a_split_depends_on_the_clip_alone(
    format: str, protocol: str, fields: dict[str, Any], column: str, rows: list[Row], random: Any
) -> None:
    data = recipe(format, protocol, **fields).data
    few = dict(zip(BOTH, splits.assign(table(BOTH), data), strict=True))
    many = [*BOTH, *rows]
    random.shuffle(many)
    index = table(many)
    assigned, groups = splits.assign(index, data), splits.groups(index, data)
    assert [split for row, split in zip(many, assigned, strict=True) if row in few] == [
        few[r] for r in many if r in few
    ]
    assert set(assigned) <= {"train", "test"} | ({"unused"} if protocol == "given" else set())
    assert groups.tolist() == index[column].tolist()
    if protocol != "given":
        assert not set(groups[assigned == "train"]) & set(groups[assigned == "test"])


def test_the_longer_list_of_subjects_agrees_with_the_shorter() -> None:
    assert {subject for subject in protocols.NTU_TRAIN_SUBJECTS if subject <= 40} == NTU60_XSUB
    assert len(protocols.NTU_TRAIN_SUBJECTS) == 53


def test_each_pair_tests_in_one_fold() -> None:
    index = pairs()
    tests = [
        index["subject"][splits.assign(index, recipe("sbu", "5-fold", fold=f).data) == "test"] for f in range(1, 6)
    ]
    assert sorted(pd.concat(tests)) == list(range(1, 22))
    assert tests[0].tolist() == [1, 9, 15, 19]


def test_each_subject_tests_once_when_each_is_left_out() -> None:
    index = pd.concat([pairs(7)] * 2, ignore_index=True)
    assigned = [splits.assign(index, recipe("table", "leave-one-subject-out", held=s).data) for s in range(1, 8)]
    tests = [split == "test" for split in assigned]
    assert [set(index["subject"][test]) for test in tests] == [{s} for s in range(1, 8)]
    assert np.sum(tests, axis=0).tolist() == [1] * 14


@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
@pytest.mark.parametrize("seed", [0, 7])
def test_the_share_of_random_subjects_comes_near_what_was_asked(share: float, seed: int) -> None:
    index = pairs(4000)
    assigned = splits.assign(index, recipe("table", "random-subjects", test_share=share, split_seed=seed).data)
    assert (assigned == "test").mean() == pytest.approx(share, abs=5 * (share * (1 - share) / 4000) ** 0.5)


def test_a_larger_share_keeps_the_subjects_of_a_smaller_and_another_seed_draws_others() -> None:
    index = pairs(200)
    shares = [splits.assign(index, recipe("ntu", "random-subjects", test_share=s).data) == "test" for s in (0.2, 0.4)]
    assert not (shares[0] & ~shares[1]).any()
    other = splits.assign(index, recipe("ntu", "random-subjects", test_share=0.4, split_seed=1).data) == "test"
    assert 60 < (other != shares[1]).sum() < 140  # 0.48 of them, were the draws independent


def test_random_subjects_are_the_same_in_every_process() -> None:
    """The draw is written down: another would move subjects of runs that are done."""
    index = pairs(20)
    data = recipe("table", "random-subjects", test_share=0.3).data
    code = (
        "import pandas as pd; from glt.data.splits import assign; from tests.data.recorded import recipe\n"
        "index = pd.DataFrame({'subject': range(1, 21), 'name': 'clip'})\n"
        "print(*assign(index, recipe('table', 'random-subjects', test_share=0.3).data))"
    )
    root = Path(__file__).parents[2]
    environment = {"PYTHONHASHSEED": "77", "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    assigned = splits.assign(index, data)
    assert run.stdout.split() == assigned.tolist(), run.stderr
    assert index["subject"][assigned == "test"].tolist() == DRAWN


@pytest.mark.parametrize(
    ("given_split", "names", "split"),
    [
        ("xsub", "xsub_train;xview_val", "train"),
        ("xview", "xsub_train;xview_val", "test"),
        ("xsub", "xsub_test", "test"),
        ("xsub", "xset_train", "unused"),
        ("xsub", "train", "unused"),
        ("xsub", None, "unused"),
        ("xsub", "", "unused"),
        ("", "train", "train"),
        ("", "val", "test"),
        ("", "test", "test"),
        ("", "xsub_train", "unused"),
        ("1", "train1;test2", "train"),
        ("2", "train1;test2", "test"),
    ],
)
def test_a_given_split_is_followed(given_split: str, names: str | None, split: str) -> None:
    prefix = f"{given_split}_" if given_split else ""
    index = pairs(3, splits=[f"{prefix}train", f"{prefix}val", names])
    data = recipe("pyskl", "given", given=given_split).data
    assert splits.assign(index, data).tolist() == ["train", "test", split]


@given(st.lists(st.sampled_from([1, 2, 3]), min_size=2, max_size=9))
def test_column_tests_the_numbers_that_it_names(values: list[int]) -> None:
    assume(2 in values and set(values) != {2})
    index = pairs(len(values), camera=values)
    data = recipe("table", "column", column="camera", test_values=[2, 9]).data
    assert (splits.assign(index, data) == "test").tolist() == [value == 2 for value in values]


@pytest.mark.parametrize(
    ("format", "protocol", "choices"),
    [
        ("ntu", "cross-view", "xsub, xview, xset, leave-one-subject-out, random-subjects, column, given"),
        ("ntu", "5-fold", "xsub"),
        ("nw-ucla", "xsub", "cross-view, leave-one-subject-out"),
        ("sbu", "xview", "5-fold, leave-one-subject-out"),
        ("table", "5-fold", "xsub, xview, xset, cross-view, leave-one-subject-out"),
    ],
)
def test_a_protocol_of_other_data_is_an_error(format: str, protocol: str, choices: str) -> None:
    with pytest.raises(GltError, match=rf"data\.protocol: {format} recordings have no {protocol}; choose {choices}"):
        splits.assign(table(BOTH), recipe(format, protocol).data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (recipe().data, r"xsub: no clip in the test split \(subject numbers: 1, 2\)"),
        (recipe(protocol="leave-one-subject-out", held=9).data, r"leave-one-subject-out-9: no clip in the test split"),
        (
            recipe(protocol="column", column="setup", test_values=[1]).data,
            r"column-setup-1: no clip in the train split",
        ),
        (recipe("pyskl", "given", given="xset").data, r"given 'xset': no clip in the train split .*: xsub_train\)"),
    ],
)
def test_an_empty_split_is_an_error(data: DataConfig, words: str) -> None:
    with pytest.raises(GltError, match=words):
        splits.assign(pairs(2, splits="xsub_train"), data)


def test_clips_without_given_splits_are_an_error() -> None:
    data = recipe("pyskl", "given").data
    for index in (pairs(2).drop(columns="splits"), pairs(2, splits=None), pairs(2, splits=pd.NA)):
        with pytest.raises(GltError, match=r"no clip in the train split \(names of splits: none\)"):
            splits.assign(index, data)


def test_a_clip_given_in_both_splits_is_an_error() -> None:
    index = pairs(3, splits=["xsub_train", "xsub_val", "xsub_test;xsub_train"])
    with pytest.raises(
        GltError, match=r"clip clip2: in both the training and the test split of xsub \(xsub_test, xsub_train\)"
    ):
        splits.assign(index, recipe("pyskl", "given", given="xsub").data)


@pytest.mark.parametrize(("format", "protocol", "fields", "column"), [p for p in PROTOCOLS if p[1] != "given"])
def test_a_missing_number_is_an_error(format: str, protocol: str, fields: dict[str, Any], column: str) -> None:
    index = table(BOTH)
    index.loc[1, column] = pd.NA
    with pytest.raises(GltError, match=f"clip clip1: no {column}, which {protocol} splits by"):
        splits.assign(index, recipe(format, protocol, **fields).data)


@pytest.mark.parametrize(("format", "protocol", "fields", "column"), PROTOCOLS)
def test_validation_asks_what_the_test_split_asks(
    format: str, protocol: str, fields: dict[str, Any], column: str
) -> None:
    """Of clips of every number: whole subjects, cameras, ... are left out, and each is left out once."""
    rows = [(n % 20 + 1, n // 20 % 3 + 1, n // 60 % 4 + 1, n // 120 % 6 + 1, GIVEN[n % 6]) for n in range(720)]
    index = table(rows)
    data = recipe(format, protocol, **fields).data
    index = index.assign(**splits.split(index, data))
    train = np.flatnonzero(index["split"] == "train")
    folds = validation_folds(SimpleNamespace(index=index, path=Path("m")), train)  # type: ignore[arg-type]
    there = index[column].to_numpy()[train]
    assert len(folds) == min(5, len(set(there)))
    assert len(folds) > 1
    for fitted, held in folds:
        assert not set(there[fitted]) & set(there[held])
    assert sorted(np.concatenate([held for _, held in folds])) == list(range(len(train)))


def test_a_view_is_validated_by_a_classifier_of_the_other() -> None:
    index = pairs(30, camera=[1, 2, 3] * 10)
    index = index.assign(**splits.split(index, recipe("nw-ucla", "cross-view").data))
    train = np.flatnonzero(index["split"] == "train")
    folds = validation_folds(SimpleNamespace(index=index, path=Path("m")), train)  # type: ignore[arg-type]
    cameras = index["camera"].to_numpy()[train]
    assert sorted((set(cameras[fitted]), set(cameras[held])) for fitted, held in folds) == [({1}, {2}), ({2}, {1})]


def test_a_given_split_is_validated_by_subject_or_else_by_content() -> None:
    names = ["train", "val", "train", "train", None]
    data = recipe("pyskl", "given").data
    index = pairs(5, splits=names)
    index.loc[4, "subject"] = pd.NA  # not used
    assert splits.groups(index, data).tolist() == [1, 2, 3, 4, -1]
    index.loc[2, "subject"] = pd.NA  # used
    contents = [f"{n:08x}{'0' * 56}" for n in (0, 7, 14, 0, 3)]
    assert splits.groups(index.assign(sha256=contents), data).tolist() == [0, 2, 4, 0, 3]
    assert splits.groups(index.assign(sha256=contents).drop(columns="subject"), data).tolist() == [0, 2, 4, 0, 3]


def test_a_test_clip_whose_content_trains_is_not_clean() -> None:
    index = pd.DataFrame({"sha256": ["a", "b", "a", "c", "c"]})
    assigned = np.array(["train", "train", "test", "test", "test"], object)
    assert splits.clean_mask(index, assigned).tolist() == [True, True, False, True, True]


def test_deduplication_gives_training_clips_up_and_no_test_clip() -> None:
    index = pairs(6, subject=[1, 1, 3, 1, 3, 1], sha256=list("abacdd"))
    data = recipe(deduplicate=True).data
    found = splits.split(index, data)
    assert found["split"].tolist() == ["unused", "train", "test", "train", "test", "unused"]
    assert found["clean"].all()
    kept = splits.split(index, recipe().data)
    assert kept["split"].tolist() == ["train", "train", "test", "train", "test", "train"]
    assert kept["clean"].tolist() == [True, True, False, True, False, True]
    with pytest.raises(GltError, match=r"data\.deduplicate: every training clip is a duplicate"):
        splits.split(index.iloc[[0, 2, 4, 5]], data)


def test_duplicates_that_differ_count_as_copies() -> None:
    index = pairs(4, subject=[1, 3, 1, 3], sha256=list("abcd")).assign(original=list("aacd"))
    assert splits.split(index, recipe().data)["clean"].tolist() == [True, False, True, True]
    found = splits.split(index, recipe(deduplicate=True).data)
    assert found["split"].tolist() == ["unused", "test", "train", "test"]
    assert found["clean"].all()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"protocol": "leave-one-subject-out"}, "held: protocol leave-one-subject-out needs it"),
        ({"protocol": "column", "test_values": [1]}, "column: protocol column needs it"),
        ({"protocol": "column", "column": "camera"}, "test_values: protocol column needs it"),
        ({"protocol": "column", "column": "camera", "test_values": [1, 1]}, "test_values: a value is given twice"),
        ({"protocol": "column", "column": "label", "test_values": [1]}, r"data\.column: .*'subject'"),
        ({"protocol": "random-subjects", "test_share": 1.0}, r"data\.test_share: .*less than 1"),
        ({"protocol": "given", "given": "x;y"}, r"data\.given: .*pattern"),
        ({"fold": 2}, "fold: a field of protocol 5-fold, not of xsub"),
        ({"held": 0}, "held: a field of protocol leave-one-subject-out, not of xsub"),
        ({"test_share": 0.4}, "test_share: a field of protocol random-subjects"),
        ({"split_seed": 1}, "split_seed: a field of protocol random-subjects"),
        ({"protocol": "given", "column": "camera"}, "column: a field of protocol column, not of given"),
        ({"given": "xsub"}, "given: a field of protocol given, not of xsub"),
    ],
)
def test_a_recipe_has_the_fields_of_its_protocol_and_no_others(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(GltError, match=words):
        recipe(**fields)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "xsub"),
        ({"format": "sbu", "protocol": "5-fold", "fold": 3}, "5-fold-3"),
        ({"protocol": "leave-one-subject-out", "held": 0}, "leave-one-subject-out-0"),
        ({"protocol": "random-subjects"}, "random-subjects-20pct-0"),
        ({"protocol": "random-subjects", "test_share": 0.125, "split_seed": 4}, "random-subjects-12p5pct-4"),
        ({"protocol": "column", "column": "setup", "test_values": [9, 2]}, "column-setup-2-9"),
        ({"protocol": "given"}, "given"),
        ({"protocol": "given", "given": "xset"}, "given-xset"),
    ],
)
def test_each_test_split_has_a_name(fields: dict[str, Any], name: str) -> None:
    one = recipe(**fields)
    assert (one.data.protocol_name, one.experiment, one.model_name) == (name, f"test-{name}", f"glt-test-{name}")
    assert load_recipe(one.to_json()) == one
