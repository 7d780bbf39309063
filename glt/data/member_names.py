"""Decodes names in archives that do not state their encoding."""

from __future__ import annotations

from glt.text import clean, decode


def decode_name(raw: bytes, fallback: str | None = None) -> str:
    """Decode a name of unknown encoding: UTF-8, or Korean Windows (cp949), or the fallback.

    Args:
        raw: the name as it is stored.
        fallback: codec of a name that is neither; without one its bytes are percent-encoded (`glt.text`).

    Returns:
        Clean text.
    """
    try:
        return clean(raw.decode("utf-8"))
    except UnicodeDecodeError:
        pass
    if (korean := _korean(raw)) is not None:
        return clean(korean)
    return decode(raw) if fallback is None else clean(raw.decode(fallback))


def _korean(raw: bytes) -> str | None:
    """The name if it is Korean in cp949, else None.

    Almost any bytes are valid in cp949, but accented letters of other encodings give rare syllables outside KS X 1001.
    """
    try:
        text = raw.decode("cp949")
    except UnicodeDecodeError:
        return None
    foreign = [character for character in text if not character.isascii()]
    common = sum("\uac00" <= c <= "\ud7a3" and _in_ks_x_1001(c) for c in foreign)
    return text if 2 * common >= len(foreign) else None


def _in_ks_x_1001(character: str) -> bool:
    try:
        character.encode("euc_kr")
    except UnicodeEncodeError:
        return False
    return True
