"""Parts that the HTML pages share."""

from __future__ import annotations

import math
from pathlib import Path

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
