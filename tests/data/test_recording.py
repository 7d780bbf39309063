from __future__ import annotations

import pickle

import pytest

from glt.data.recording import Rejection


@pytest.mark.fault(
    "a reason with several lines (from a library) or control characters (from a file)",
    "the reason is one printable line",
)
def test_a_reason_is_one_printable_line() -> None:
    rejection = Rejection("format", "not a table:\n- \x1b[31mred\r\n\ud800", name="a\nb\ud800")
    assert rejection.reason == "not a table: - %1B[31mred %ED%A0%80"
    assert rejection.name == "a%0Ab%ED%A0%80"
    again = pickle.loads(pickle.dumps(rejection))
    assert (again.reason, again.name, str(again)) == (rejection.reason, rejection.name, str(rejection))
