"""Console output of all programs, printed as plain text since names and labels come from outside.

No markup, no emoji codes, no colours on a pipe or with NO_COLOR; control characters are escaped.
"""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.tree import Tree

from glt.text import printable


def console(stderr: bool = False) -> Console:
    """A console on stdout or stderr that interprets neither markup nor emoji codes."""
    return Console(file=sys.stderr if stderr else None, markup=False, emoji=False, highlight=False)


def cell(value: Any) -> str:
    """A value as one line of text that is safe to print, for example in a table."""
    return printable(str(value)).replace("\n", " ").replace("\t", " ")


def print_tree(tree: Tree) -> None:
    """Print a tree whose labels are text."""
    _clean_labels(tree)
    console().print(tree)


def _clean_labels(tree: Tree) -> None:
    tree.label = cell(tree.label)
    for branch in tree.children:
        _clean_labels(branch)
