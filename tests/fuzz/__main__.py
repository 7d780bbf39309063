"""Fuzzing from the command line.

python -m tests.fuzz [--minutes 2] [--seed N] [--only TARGET] [--replay build/fuzz/failures/FILE]
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.fuzz import campaign, coverage
from tests.fuzz.campaign import Result
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Run all targets or one, print what was found, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", action="append", default=[], choices=sorted(TARGETS))
    parser.add_argument("--replay", type=Path)
    given = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    if given.replay:
        name = given.replay.name.rpartition("-")[0].replace("_", " ")
        outcome = campaign.replay(TARGETS[name], given.replay)
        console.print(escape(f"{name}: {outcome.fault or 'all invariants hold'}; {outcome.detail!a}"))
        return int(bool(outcome.fault))
    seed = random.SystemRandom().randrange(2**31) if given.seed is None else given.seed
    chosen = [TARGETS[name] for name in given.only] or list(TARGETS.values())
    console.print(f"seed {seed}; the same cases again: make fuzz MINUTES={given.minutes:g} SEED={seed}")
    guided = coverage.available()
    if not guided:
        console.print(escape("atheris is not installed (.venv/bin/pip install -e '.[fuzz]'): hypothesis alone"))
    total = sum(target.weight for target in chosen)
    results = []
    for target in chosen:
        seconds = 60 * given.minutes * target.weight / total
        steered = seconds / 3 if guided and target.name in coverage.TARGETS else 0.0
        result = campaign.run(target, seconds - steered, seed)
        if steered:
            coverage.run(target.name, steered, seed, result)
        results.append(result)
        _report(console, result)
    console.print(_table(results))
    return int(any(result.found for result in results))


def _report(console: Console, result: Result) -> None:
    for found in result.found.values():
        path = found.save(result.target.replace(" ", "_"))
        console.print(escape(f"\n{result.target}: {found.fault}: {found.detail!a}"))
        console.print(escape(f"  case: {shown if len(shown := repr(found.case)) < 400 else shown[:200] + ' ...'}"))
        console.print(escape(f"  again: python -m tests.fuzz --replay {path}"))


def _table(results: list[Result]) -> Table:
    table = Table("target", *("cases", "cases/s", "faults", "slowest s", "most MiB", "edges"), title="fuzzing")
    for result in results:
        rate = result.cases / max(result.seconds, 1e-9)
        edges = "" if result.coverage is None else str(result.coverage)
        numbers = (
            f"{result.cases}",
            f"{rate:.0f}",
            f"{len(result.found)}",
            f"{result.slowest:.2f}",
            f"{result.mib:.0f}",
        )
        table.add_row(result.target, *numbers, edges)
    return table


if __name__ == "__main__":
    sys.exit(main())
