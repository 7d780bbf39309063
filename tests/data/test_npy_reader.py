from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glt.data.npy_reader import NpyRowReader
from glt.errors import GltError


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_rows_are_those_of_the_array(tmp_path_factory: pytest.TempPathFactory, length: int, a: int, b: int) -> None:
    path = tmp_path_factory.mktemp("rows") / "x.npy"
    array = np.random.default_rng(length).normal(size=(length, 2, 3)).astype(np.float32)
    np.save(path, array)
    start, stop = sorted((min(a, length), min(b, length)))
    rows = NpyRowReader(path)
    assert (len(rows), rows.shape) == (length, (length, 2, 3))
    np.testing.assert_array_equal(rows.read(start, stop), array[start:stop])


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x09\x00", b"not an array"])
def test_what_is_no_array_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(GltError, match=r"x\.npy: not a readable array"):
        NpyRowReader(tmp_path / "x.npy")


@pytest.mark.parametrize("array", [np.zeros((3, 2)), np.asfortranarray(np.zeros((3, 2), np.float32))])
def test_another_kind_of_array_is_an_error(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(GltError, match="not rows of float32"):
        NpyRowReader(tmp_path / "x.npy")


def test_a_file_that_ends_early_is_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((100, 5), np.float32))
    rows = NpyRowReader(tmp_path / "x.npy")
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-40])
    with pytest.raises(GltError, match="ends before row 100"):
        rows.read(90, 100)
