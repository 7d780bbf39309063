"""Text from outside is stored and shown so that nothing downstream can stumble over it."""

from __future__ import annotations

import json
import re
import unicodedata
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glt import text

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@given(ANY_TEXT)
def test_clean_text_is_nfc_utf8_without_control_characters(value: str) -> None:
    clean = text.clean(value)
    assert unicodedata.is_normalized("NFC", clean)
    assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in clean)
    assert json.loads(json.dumps(clean, ensure_ascii=False).encode("utf-8")) == clean
    assert text.clean(clean) == clean
    assert text.is_clean(clean)


@given(st.binary())
def test_escapes_give_the_bytes_back(raw: bytes) -> None:
    if b"%" in raw:  # text that looks like an escape stays as it is
        return
    normal = unicodedata.normalize("NFC", raw.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    assert unquote_to_bytes(text.decode(raw)) == normal


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"walk\xff", "walk%FF"),
        ("\u1112\u1161\u11ab".encode(), "한"),  # as macOS writes it
        (b"a\x1b[31mb", "a%1B[31mb"),
        (b"a\x7fb\xc2\x9bc", "a%7Fb%C2%9Bc"),
        ("a\u202egnp".encode(), "a%E2%80%AEgnp"),
        (b"100%", "100%"),
        (b"\xed\xbb\xae\xcc\x89", "%ED%BB%AE%CC%89"),  # a mark that NFC would compose with the E
        (b"\x1b\xd6\x9a\xcc\x87", "%1B%D6%9A%CC%87"),
    ],
)
def test_examples(raw: bytes, shown: str) -> None:
    assert text.decode(raw) == shown


def test_a_lone_surrogate_is_escaped() -> None:
    assert text.clean("a\ud800") == "a%ED%A0%80"


@given(ANY_TEXT)
def test_printable_text_keeps_its_lines(value: str) -> None:
    shown = text.printable(value)
    assert shown.count("\n") == value.count("\n")
    assert "\x1b" not in shown
    shown.encode("utf-8")


@pytest.mark.parametrize("value", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_cell_is_no_formula(value: str) -> None:
    assert text.csv_cell(value) == f"'{value}"


def test_other_cells_stay() -> None:
    assert text.csv_cell("walking") == "walking"


@pytest.mark.fault("a clip whose name is no file name, as a path or 150 Hangul", "its figures are stored all the same")
def test_a_file_name_shows_the_text() -> None:
    texts = ["S001C001-x.y_1", "a/../b", "\u1112\u1161\u11ab" * 150, "..", "", "a b", "a\x00b", "a\udcffb", "\n"]
    names = [text.file_name(one) for one in texts]
    assert names[0] == texts[0]
    assert names[1].startswith("a_.._b-")
    assert len(set(names)) == len(texts)
    for name in names[1:]:
        assert 9 <= len(name) <= 70
        assert "/" not in name
        assert len(name.encode()) < 240


@given(ANY_TEXT)
def test_markdown_text_is_one_line_without_markup(value: str) -> None:
    found = text.markdown_text(value)
    assert not set(found) & set("\n\r`*_{}[]<>|!~$^@\\")
    assert "://" not in found


def test_markdown_is_cut_after_escaping_and_between_references() -> None:
    for longest in range(1, 40):
        found = text.markdown_text("a#b" * 30, longest)
        assert len(found) <= longest
        assert found.endswith("…")
        assert re.fullmatch(r"(a|b|&#35;)*…", found)
    assert text.markdown_text("##", 10) == "&#35;&#35;"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("drop_trash", "drop&#95;trash"),
        ("a: b (c), 5 % & more", "a: b (c), 5 % &#38; more"),
        ("http://x www.x", "http&#58;//x www&#46;x"),
        ("two\n lines", "two lines"),
        ("a" * 30, "a" * 19 + "…"),
    ],
)
def test_markdown_shows_what_was_written(raw: str, shown: str) -> None:
    assert text.markdown_text(raw, 20 if len(raw) > 20 else 200) == shown
