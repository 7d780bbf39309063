"""The compiled parser against a plain reader (benchmarks/ntu_text.py) and Python's float."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.ntu_text import read_plain
from glt.data.formats import ntu
from glt.data.formats.ntu import on_missing_list
from glt.data.recording import Recording, Rejection
from tests.data import recorded

NAME = "S001C002P003R001A004.skeleton"
ROOT = Path(__file__).parents[2]

numbers = (
    st.decimals(allow_nan=False, allow_infinity=False, places=None).map(str)
    | st.floats(allow_nan=True, allow_infinity=True).map(repr)
    | st.from_regex(r"[+-]?([0-9]{1,22}\.?[0-9]{0,22}|\.[0-9]{1,30})([eE][+-]?[0-9]{1,3})?", fullmatch=True)
)


def text_of(words: list[str]) -> bytes:
    """A recording of one joint whose coordinates are these words."""
    joints = "\n".join(f"{' '.join(words[at : at + 3])} 1 2 3 4 0 0 0 0 2" for at in range(0, len(words), 3))
    return f"1\n1\n7 0 1 1 1 1 0 0 0 2\n{len(words) // 3}\n{joints}\n".encode()


@settings(max_examples=500)
@given(st.lists(numbers, min_size=3, max_size=3))
@example(["9007199254740993", "0.30000000000000004", "123456789012345678901234567890"])
@example(["5.", ".5", "-0"])
@example(["1e-400", "1e400", "-1e39"])
@example(["0.000000000000000000000001", "16777217", "4.35"])
def test_a_number_is_pythons_float_to_the_last_bit(words: list[str]) -> None:
    try:
        with np.errstate(over="ignore"):
            expected = np.array([np.float32(float(word)) for word in words])
    except ValueError:
        with pytest.raises(Rejection, match="are not coordinates"):
            ntu.read(NAME, text_of(words))
        return
    found = ntu.read(NAME, text_of(words)).frames[0, 0, 0]
    assert found.tobytes() == expected.tobytes() or (np.isnan(expected) == np.isnan(found)).all()
    finite = ~np.isnan(expected)
    assert found[finite].tobytes() == expected[finite].tobytes()


@pytest.mark.parametrize("word", ["1_0", "0x10", "1,5", "--1", "1.2.3", ".", "+", "e5", "1e", "one", "１"])
def test_what_is_no_number_is_rejected(word: str) -> None:
    with pytest.raises(Rejection, match=r"line 5: the first three values are not coordinates|not a text file"):
        ntu.read(NAME, text_of(["1", word, "2"]))


def outcome(content: bytes) -> str:
    try:
        ntu.read(NAME, content)
    except Rejection as rejection:
        return rejection.check
    return "accepted"


@given(st.data())
@settings(max_examples=200)
def test_what_both_readers_take_they_read_alike(data: st.DataObject) -> None:
    """Damage that the plain reader survives and ours takes, too, gives the same recording."""
    lines = recorded.one_person(1, 3).decode().split("\n")
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(lines) - 1))
        change = data.draw(st.sampled_from(["drop", "again", "spaces", "value", "count"]))
        if change == "drop":
            del lines[at]
        elif change == "again":
            lines.insert(at, lines[at])
        elif change == "spaces":
            lines[at] = f"  {lines[at]} \t".replace(" ", "  ")
        else:
            words = lines[at].split() or ["x"]
            words[0] = data.draw(st.sampled_from(["-1", "999999999", "2", "0", "nan", "1e308", ""]))
            lines[at] = " ".join(words)
    content = data.draw(st.sampled_from(["\n", "\r\n"])).join(lines).encode()
    try:
        found = ntu.read(NAME, content)
    except Rejection:
        return
    with np.errstate(over="ignore"):
        frames, present = read_plain(content)
    assert isinstance(found, Recording)
    np.testing.assert_array_equal(found.present, present)
    if found.frames.size:
        np.testing.assert_array_equal(found.frames, frames)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_text_cut_off_anywhere_is_rejected(end: str) -> None:
    frames = recorded.walk(1, 1)
    whole = recorded.skeleton([{"7205": frames[0]}], end).rstrip()
    last = len(whole.splitlines()[-1])
    for length in range(0, len(whole) - last, 7):
        assert outcome(whole[:length]) != "accepted"


@pytest.mark.parametrize(
    "content",
    [
        *[
            b"",
            b"\n",
            b"-1\n",
            b"1\n-1\n",
            b"999999999\n",
            b"9999999999999\n",
            b"1.5\n",
            b"nan\n",
            b"\xff\xfe1\n",
            b"\0",
        ],
        *[
            b"1\n1\n7 0 1 1 1 1 0 0 0 2\n-5\n",
            b"1\n1\n7 0 1 1 1 1 0 0 0 2\n99999999\n",
            gzip.compress(b"1\n0\n", mtime=0),
        ],
        recorded.one_person(1, 2) + recorded.one_person(2, 2),
        recorded.one_person(1, 2).replace(b"\n", b"\n\n"),
    ],
)
def test_what_is_no_recording_is_rejected(content: bytes) -> None:
    assert outcome(content) == "format"


def test_frames_without_anybody_are_kept_as_absence() -> None:
    frames = recorded.walk(1, 3)
    found = ntu.read(NAME, recorded.skeleton([{"1": frames[0]}, {}, {"1": frames[2]}]))
    assert found.present[:, 0].tolist() == [True, False, True]
    assert not found.frames[1].any()


def test_the_parser_works_where_no_folder_can_keep_what_is_compiled(tmp_path: Path) -> None:
    """A read-only image, a home that is no folder: compiled once a process."""
    (tmp_path / "file").write_bytes(b"")
    code = (
        "from numba.core import caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "from glt.data.formats import ntu\n"
        f"print(ntu.read({NAME!r}, {text_of(['1', '2', '3'])!r}).frames.tolist())\n"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "file" / "x")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False, cwd=ROOT
    )
    assert done.stdout.strip() == "[[[[1.0, 2.0, 3.0]]]]", done.stderr


def test_the_official_lists_of_missing_skeletons_are_known() -> None:
    assert on_missing_list("S001C002P005R002A008")  # the first of NTU-60's
    assert not on_missing_list("S001C001P001R001A001")
