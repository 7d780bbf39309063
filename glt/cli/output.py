"""Output of the commands on stdout: a table for people, or JSON for programs."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ParamSpec

from glt.text import printable

P = ParamSpec("P")


def run(as_json: bool, step: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
    """Call a step and print what it returns.

    Args:
        as_json: print JSON; whatever the step itself prints goes to stderr.
        step: a function of `glt.steps`.
        args: its arguments.
        kwargs: likewise.
    """
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        result = step(*args, **kwargs)
    if result == {}:  # of a training on several processes, only the first returns metrics
        return
    if as_json:
        print_json(result)
    elif isinstance(result, Mapping):
        print_table(("metric", "value"), ((name, f"{value:.4g}") for name, value in result.items()))
    elif result is not None:
        print(printable(str(result)))


def print_json(value: Any) -> None:
    """Print a JSON value, indented."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows below their columns."""
    from rich.table import Table

    from glt.console import cell, console

    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*map(cell, row))
    console().print(table)
