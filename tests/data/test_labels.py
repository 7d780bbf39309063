"""labels.csv as spreadsheets write it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glt.data.formats.labels import parse_labels
from glt.data.recording import Rejection

ROWS = "name,label,subject\na,wave,1\nb,nod,2\n"


@pytest.mark.parametrize(
    "content",
    [
        ROWS.encode(),
        ROWS.encode("utf-8-sig"),
        ROWS.encode("utf-16"),
        ROWS.replace("\n", "\r\n").encode(),
        ROWS.replace("\n", "\r").encode(),
        ROWS.replace(",", ";").encode("utf-8-sig"),
        ROWS.replace(",", "\t").encode("utf-16"),
        ("sep=;\r\n" + ROWS.replace(",", ";")).encode(),
        ROWS.replace("a,", "a.npz,").replace("b,", "b.NPZ,").encode(),
        ROWS.replace("a,", "./takes/a.parquet,").replace("b,", "C:\\takes\\b.npz,").encode(),
        ROWS.replace("1", "1.0").replace("name", "Name").encode(),
    ],
)
@pytest.mark.fault(
    "labels.csv saved by a spreadsheet: other separators, encodings, file endings or folders in names", "read"
)
def test_a_spreadsheets_table_is_read(content: bytes) -> None:
    labels = parse_labels(content)
    assert dict(labels.row("takes/a.npz")) == {"label": "wave", "subject": "1"}
    assert dict(labels.row("b.parquet")) == {"label": "nod", "subject": "2"}
    assert dict(labels.row("c.npz")) == {}
    assert labels.warnings == ()


@pytest.mark.fault("file names in another Unicode form (NFD, macOS) than in labels.csv", "they match")
def test_names_match_in_nfc() -> None:
    labels = parse_labels("name,label\n걷기-1,걷기\n".encode())
    assert labels.row(unicodedata.normalize("NFD", "걷기-1.npz"))["label"] == "걷기"
    labels = parse_labels(unicodedata.normalize("NFD", "name,label\n걷기-1,걷기\n").encode())
    assert labels.row("걷기-1.npz")["label"] == "걷기"


@pytest.mark.fault("labels.csv in the Korean code page (cp949)", "read, with a note on the encoding")
def test_korean_windows_is_read_and_said() -> None:
    labels = parse_labels("name,label\n걷기-1,걷기\n".encode("cp949"))
    assert labels.row("걷기-1.npz")["label"] == "걷기"
    assert "cp949" in labels.warnings[0]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("name,label\nx,y\n".encode("utf-32"), "UTF-32"),
        ("name,label\nx,y\n".encode("utf-16-le"), "UTF-16 without a byte order mark"),
        ("name,label\nx,y\n".encode("utf-16-be"), "UTF-16 without a byte order mark"),
        ("name,label\nx,café\n".encode("latin-1"), "not a CSV in UTF-8.*save it as `CSV UTF-8`"),
        ("name,label\nx,行走\n".encode("gb18030"), "not a CSV in UTF-8"),
        ("name,label\nx,歩く\n".encode("shift-jis"), "not a CSV in UTF-8"),
        (b"name,label;subject\nx,1\n", "a comma and a semicolon"),
        (b"name,label\nx/a,1\ny/a,2\n", "lines 2, 3 all name 'a'"),
        (b"name,label\na,1\na.npz,2\n", "line 3: 'a' is given twice"),
        (b"name,label\na," + b"x" * 600 + b"\n", "line 2: label of 600 characters"),
        (b"name,label\n" + b"\n" * (17 << 20), "more than 16 MiB"),
    ],
)
def test_what_cannot_be_told_is_rejected_with_the_remedy(content: bytes, why: str) -> None:
    with pytest.raises(Rejection, match=why):
        parse_labels(content).row("a.npz")


def test_a_folder_tells_two_of_one_name_apart() -> None:
    labels = parse_labels(b"name,label\nx/a,1\ny/a,2\n")
    assert labels.row("data/x/a.npz")["label"] == "1"
    assert labels.row("y/a.npz")["label"] == "2"


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda t: f"name,label\n{t}".encode()))
def test_any_bytes_are_read_or_rejected(content: bytes) -> None:
    try:
        parse_labels(content).row("a/b.npz")
    except Rejection:
        return


def test_the_row_of_the_exact_name_wins() -> None:
    labels = parse_labels(b"name,label\na,1\nx/a,2\n")
    assert [labels.row(name) for name in ("a.npz", "x/a.npz", "y/x/a.npz")] == [
        {"label": "1"},
        {"label": "2"},
        {"label": "2"},
    ]
