"""Text from outside (names of files, members and objects, labels), made safe to store, to print and to write as CSV.

Stored text is NFC and valid UTF-8 without control characters. Anything else is percent-encoded, as in a URL: the byte
FF becomes ``%FF``. `urllib.parse.unquote_to_bytes` gives the bytes back.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

_NOT_IN_FILE_NAMES = re.compile(r"[^\w.-]")
_MARKUP = re.compile(r"[\\`*_{}\[\]<>#|!~&$^@]|:(?=/)|(?<=www)\.", re.IGNORECASE)  # of Markdown, HTML, and addresses
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes a cell that begins so for a formula
# Line and paragraph separators, and the marks that reverse the direction of what follows.
_HIDDEN = {*"\u2028\u2029\u200e\u200f\u061c\ufeff", *map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}


def clean(text: str) -> str:
    """The text for storage: NFC, with surrogates, control and direction characters percent-encoded.

    A byte that Python has decoded as a surrogate (`surrogateescape`) is encoded as that byte. Clean text is unchanged.
    """
    if text.isascii() and text.isprintable():
        return text
    parts: list[str] = []
    escaped = False
    for c in unicodedata.normalize("NFC", text):
        # A combining mark after an escape would be composed with its last digit.
        escaped = _is_hidden(c) or (escaped and unicodedata.combining(c) != 0)
        parts.append(_escape(c) if escaped else c)
    return "".join(parts)


def is_clean(text: str) -> bool:
    """True if `clean` leaves the text as it is."""
    return clean(text) == text


def decode(raw: bytes) -> str:
    """Bytes as clean text: UTF-8, with all other bytes percent-encoded."""
    return clean(raw.decode("utf-8", "surrogateescape"))


def printable(text: str) -> str:
    """The text for a terminal or a log: control characters except newline and tab are escaped."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in "\n\t" or not _is_hidden(c) else _escape(c) for c in text)


def file_name(text: str) -> str:
    """A file name that shows a text: letters, digits, ``_``, ``.`` and ``-``, 70 characters at most.

    A text that had to be changed is told from others by its hash.
    """
    name = _NOT_IN_FILE_NAMES.sub("_", text)[:60]
    return (
        text if name == text and name.strip(".") else f"{name}-{hashlib.sha256(clean(text).encode()).hexdigest()[:8]}"
    )


def csv_cell(text: str) -> str:
    """The text for a CSV: an apostrophe before what a spreadsheet would take for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def markdown_text(text: str, longest: int = 200) -> str:
    """The text on one line of Markdown or in a cell of a table: nothing in it is markup, HTML or a link.

    Characters become references (``&#42;``), which every renderer shows as they are. A result above `longest`
    characters is cut between them, with an ellipsis.
    """
    line = clean(" ".join(text.split()))
    escaped = _MARKUP.sub(lambda found: f"&#{ord(found[0])};", line[: longest + 1])
    if len(escaped) <= longest:
        return escaped
    room, parts = longest - 1, []
    for part in re.findall(r"&#\d+;|.", escaped, re.DOTALL):
        room -= len(part)
        if room < 0:
            break
        parts.append(part)
    return "".join(parts) + "…"


def _is_hidden(character: str) -> bool:
    return character in _HIDDEN or unicodedata.category(character) in ("Cc", "Cs")


def _escape(character: str) -> str:
    code = ord(character)
    raw = bytes([code - 0xDC00]) if 0xDC80 <= code <= 0xDCFF else character.encode("utf-8", "surrogatepass")
    return "".join(f"%{byte:02X}" for byte in raw)
