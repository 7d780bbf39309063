"""Text files from other systems: with a byte order mark, in UTF-16, with other line ends."""

from __future__ import annotations

import codecs

from glt.data.recording import Rejection

_WIDE = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def plain(content: bytes) -> bytes:
    """The bytes of a text without its byte order mark, with newlines as line ends.

    Raises:
        Rejection: the text is in UTF-16 or UTF-32.
    """
    if content[:3] == codecs.BOM_UTF8:
        content = content[3:]
    for mark, name in _WIDE.items():
        if content.startswith(mark):
            raise Rejection("format", f"text in {name}; save it as plain text (UTF-8)")
    if content[:64].count(b"\0") > len(content[:64]) // 4:
        raise Rejection("format", "text in UTF-16 or not a text file; save it as plain text (UTF-8)")
    if b"\n" not in content and b"\r" in content:
        return content.replace(b"\r", b"\n")
    return content
