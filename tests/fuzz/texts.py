"""Texts that people and programs do not expect: any Unicode, and the classics."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st

CLASSICS = (
    *("", " ", ".", "..", "../../x", "/etc/passwd", "a/b", "a\\b", "C:\\x", "~", "-rf", "--help", "a\x00b", "x" * 300),
    *("\x1b[31mred", "a\nb", "a\r\nb", "\t", "\x07", "\x7f", "\x85", "\u2028", "\u202egpj.exe", "\ufeffx", "\u200bx"),
    *("\ud800", "\udcff", "x\udcff\udc80", "é", "e\u0301", "한국", unicodedata.normalize("NFD", "한국"), "Å", "\u212b"),
    *(
        "=1+1",
        "+1",
        "-1",
        "@x",
        "=cmd|' /C calc'!A0",
        "[bold]x[/]",
        "[/]",
        "[link=http://x]y",
        "<script>alert(1)</script>",
    ),
    *("$(touch x)", "`touch x`", "${HOME}", "%s", "%(x)s", "{x}", "{0}", "'", '"', "a,b", "a;b", "a|b", "*", "?", "#"),
    *(
        "null",
        "None",
        "nan",
        "true",
        "0",
        "-0",
        "1e400",
        "9" * 400,
        "٣",
        "١٢",
        "0x10",
        "1_0",
        "😀",
        "👩‍👩‍👧",
        "A" * 5000,
    ),
    *("%FF", "%00", "%2F", "CON", "NUL.txt", ".hidden", "__MACOSX/x", "manifest.json", "!!python/object:os.system"),
)
CHARACTERS = st.characters(codec=None, exclude_categories=())

texts = st.one_of(
    st.sampled_from(CLASSICS),
    st.text(CHARACTERS, max_size=12),
    st.text(st.characters(categories=["Cc", "Cs", "Cf", "Zl", "Zp", "Mn"]), max_size=6),
    st.tuples(st.sampled_from(CLASSICS), st.sampled_from(CLASSICS)).map("".join),
)
# A file's name, without a slash or a NUL, of at most 200 bytes.
file_names = (
    texts.map(lambda text: text.replace("/", "").replace("\0", "").encode("utf-8", "surrogatepass")[:200])
    .filter(lambda name: name not in (b"", b".", b".."))
    .flatmap(lambda name: st.one_of(st.just(name), st.binary(min_size=1, max_size=4).map(lambda raw: name[:100] + raw)))
    .map(lambda name: name.replace(b"/", b"").replace(b"\0", b"") or b"x")
    .filter(lambda name: name not in (b".", b".."))
)

# Values that are not those of a field: for JSON, YAML and pickles.
numbers = st.one_of(
    st.sampled_from([0, 1, -1, 2, 127, 128, 129, 255, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**400, 10**5]),
    st.sampled_from([0.5, -0.0, 1e308, 1e-320, float("inf"), float("-inf")]),
    st.integers(),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=8,
)
