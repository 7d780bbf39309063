from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glt.data import splits
from glt.errors import GltError
from tests.data.recorded import recipe

NTU60_XSUB = {1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38}
PROTOCOLS = [("ntu", "xsub"), ("ntu", "xview"), ("ntu", "xset"), ("nw-ucla", "cross-view"), ("sbu", "5-fold")]


def index(rows: list[tuple[int, int, int]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["subject", "camera", "setup"], dtype="Int64")
    return frame.assign(name=[f"clip{n}" for n in range(len(frame))])


ROWS = st.tuples(st.integers(1, 21), st.integers(1, 3), st.integers(1, 32))
BOTH = [(1, 1, 1), (3, 2, 2), (2, 3, 3)]  # holds both sides of every protocol


@pytest.mark.parametrize(("format", "protocol"), PROTOCOLS)
@given(rows=st.lists(ROWS, max_size=12), random=st.randoms())
def test_a_side_depends_on_the_clip_alone(format: str, protocol: str, rows: list, random: object) -> None:
    data = recipe(format, protocol).data
    few = dict(zip(BOTH, splits.sides(index(BOTH), data), strict=True))
    many = [*BOTH, *rows]
    random.shuffle(many)
    table = index(many)
    sides, groups = splits.sides(table, data), splits.groups(table, data)
    assert [side for row, side in zip(many, sides, strict=True) if row in few] == [few[r] for r in many if r in few]
    assert not set(groups[sides == "train"]) & set(groups[sides == "test"])


def test_the_longer_list_of_subjects_agrees_with_the_shorter() -> None:
    assert {subject for subject in splits.NTU_TRAIN_SUBJECTS if subject <= 40} == NTU60_XSUB
    assert len(splits.NTU_TRAIN_SUBJECTS) == 53


def test_each_pair_tests_in_one_fold() -> None:
    pairs = index([(pair, 1, 1) for pair in range(1, 22)])
    tests = [pairs["subject"][splits.sides(pairs, recipe("sbu", "5-fold", fold=f).data) == "test"] for f in range(1, 6)]
    assert sorted(pd.concat(tests)) == list(range(1, 22))
    assert tests[0].tolist() == [1, 9, 15, 19]


def test_a_protocol_of_other_data_is_an_error() -> None:
    with pytest.raises(GltError, match=r"data\.protocol: ntu recordings have no cross-view; choose xsub, xview, xset"):
        splits.sides(index(BOTH), recipe("ntu", "cross-view").data)


def test_an_empty_side_is_an_error() -> None:
    with pytest.raises(GltError, match=r"no clip on the test side \(subject numbers: 1, 2\)"):
        splits.sides(index([(1, 1, 1), (2, 2, 2)]), recipe().data)


def test_a_missing_number_is_an_error() -> None:
    table = index(BOTH)
    table.loc[1, "camera"] = pd.NA
    with pytest.raises(GltError, match="clip clip1: no camera, which xview splits by"):
        splits.sides(table, recipe("ntu", "xview").data)


def test_clean_marks_what_stands_on_both_sides() -> None:
    table = pd.DataFrame({"sha256": ["a", "b", "a", "c", "c"]})
    sides = np.array(["train", "train", "test", "test", "test"], object)
    assert splits.clean(table, sides).tolist() == [True, True, False, True, True]
