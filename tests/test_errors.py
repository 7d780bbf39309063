"""The first line of an error: never empty, one line, and without credentials."""

from __future__ import annotations

import pytest

from glt.errors import first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("bad value\nand details"), "bad value"),
        (KeyError("column"), "'column'"),
        (RuntimeError(), "RuntimeError"),
        (RuntimeError("\n \n"), "RuntimeError"),
        (OSError("\n  no space left  \n"), "no space left"),
        (OSError("https://me:secret@host/x and http://token@other"), "https://***@host/x and http://***@other"),
        (OSError("x" * 1000), "x" * 300),
    ],
)
def test_first_line(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_the_git_token_is_masked_also_where_it_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLT_GIT_TOKEN", "s3cret/token")
    assert first_line(OSError("s3cret/token or s3cret%2Ftoken is wrong")) == "*** or *** is wrong"
