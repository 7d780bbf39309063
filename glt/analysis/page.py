"""Parts that the HTML pages share."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import jinja2

from glt.outputs import FileKind

# Pages written before they named their generator are known by this policy.
_POLICY = b"""content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">"""
_HEAD = 4096  # bytes; both marks stand well within them
PAGE = FileKind(
    "page", lambda content: b'<meta name="generator" content="glt">' in content[:_HEAD] or _POLICY in content[:_HEAD]
)


def environment() -> jinja2.Environment:
    """Templates of this folder; what is put into them is escaped, what is missing is an error."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["percent"] = percent
    return found


def percent(share: float) -> str:
    """A share, as people read it."""
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"


def safe_links(links: Mapping[str, str]) -> list[tuple[str, str]]:
    """(title, address) for the top of a page; an address that may not be followed, such as a script, is empty."""
    return [(title, address if _is_safe(address) else "") for title, address in links.items()]


def _is_safe(address: str) -> bool:
    return urlsplit(address).scheme in {"", "http", "https", "file"} and not re.match(r"[\x00-\x20]", address)
