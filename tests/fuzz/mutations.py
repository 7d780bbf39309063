"""Changes to valid bytes: small plans that hypothesis draws, and makes smaller again."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hypothesis import strategies as st

PIECES = (
    *(b"\x00", b"\xff", b"\xff" * 8, b"\x80", b"\xef\xbb\xbf", b"\r\n", b"\r", b"\n", b" ", b"\t", b",", b"-", b"."),
    *(b"0", b"-1", b"1", b"2", b"3", b"99999", b"4294967296", b"18446744073709551616", b"9" * 400, b"1e308", b"1e400"),
    *(
        b"nan",
        b"inf",
        b"-inf",
        b"NaN",
        b"Infinity",
        b"null",
        b"true",
        b"{}",
        b"[]",
        b'""',
        b"[" * 2000,
        b"0x10",
        b"1_0",
    ),
    *(
        b"\xed\xa0\x80",
        b"\xc3",
        "é".encode(),
        b"\x1b[31m",
        b"PK\x03\x04",
        b"\x93NUMPY",
        b"PAR1",
        b"\x80\x05",
        b"{" * 50,
    ),
)
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")

_position = st.integers(0, 65535)
_piece = st.one_of(st.sampled_from(PIECES), st.binary(max_size=6))
_step = st.one_of(
    st.tuples(st.just("set"), _position, _piece),
    st.tuples(st.just("insert"), _position, _piece),
    st.tuples(st.just("delete"), _position, st.integers(1, 64)),
    st.tuples(st.just("repeat"), _position, st.integers(1, 300)),
    st.tuples(st.just("flip"), _position, st.integers(0, 7)),
    st.tuples(st.just("cut"), _position, st.just(0)),
    st.tuples(st.just("number"), _position, _piece),
    st.tuples(st.just("line"), _position, st.sampled_from([0, 2, 3, 50])),
    st.tuples(st.just("swap"), _position, st.just(0)),
)
plans = st.lists(_step, max_size=5)


def apply(content: bytes, plan: Sequence[tuple[str, int, int | bytes]]) -> bytes:
    """The content after the steps of a plan; positions are 65536ths of its length."""
    for kind, position, what in plan:
        at = position * (len(content) + 1) >> 16
        if isinstance(what, bytes):
            content = _put(content, kind, at, what)
        elif kind == "delete":
            content = content[:at] + content[at + what :]
        elif kind == "repeat":
            content = content[:at] + content[at : at + 16] * what + content[at + 16 :]
        elif kind == "flip" and at < len(content):
            content = content[:at] + bytes([content[at] ^ 1 << what]) + content[at + 1 :]
        elif kind == "cut":
            content = content[:at]
        elif kind == "swap":
            content = content[at:] + content[:at]
        elif kind == "line":
            lines = content.split(b"\n")
            number = position * len(lines) >> 16
            content = b"\n".join([*lines[:number], *[lines[number]] * what, *lines[number + 1 :]])
    return content


def _put(content: bytes, kind: str, at: int, what: bytes) -> bytes:
    if kind == "set":
        return content[:at] + what + content[at + len(what) :]
    if kind == "number" and (number := NUMBER.search(content, at) or NUMBER.search(content)):
        return content[: number.start()] + what + content[number.end() :]
    return content[:at] + what + content[at:]


def mutated(contents: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """One of the contents, changed."""
    return st.builds(apply, st.sampled_from(list(contents)), plans)
