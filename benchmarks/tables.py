"""The tables of README.md and docs/results.md that come from results/protocols: written anew between their marks.

    python -m benchmarks.tables

A cell is the mean of the seeds and their sample standard deviation, in per cent, and how many seeds it is of. Of a
protocol of folds a seed's score is the mean over its folds, and counts when all of them are there.
"""

from __future__ import annotations

import json
import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.hardware import ROOT

FOLDER = ROOT / "results" / "protocols"
PAGES = ("README.md", "docs/results.md")
FOLDS = 5
# name of the table -> its rows: title, and then for each column (recipe, task, fraction, score) or a text.
_NW = {"all": "top1", "clean": "top1_clean"}
Cell = tuple[str, str, float, str] | str


def nw_ucla() -> list[tuple[str, list[Cell]]]:
    """Linear evaluation and its neighbours: all 464, clean 369, and trained without the leaked clips."""

    def row(title: str, recipe: str, task: str, fraction: float = 1.0, paper: str = "") -> tuple[str, list[Cell]]:
        return title, [paper, *((recipe, task, fraction, score) for score in _NW.values())]

    return [
        row("linear evaluation", "nw-ucla", "linear", paper="90.4"),
        row("- three streams (joint, bone, motion)", "nw-ucla-3s", "linear"),
        row("- bone stream alone", "nw-ucla-bone", "linear"),
        row("- motion stream alone", "nw-ucla-motion", "linear"),
        row("- trained on 925, without the leaked 95", "nw-ucla-deduplicated", "linear"),
        row("- the same probe, untrained encoder", "nw-ucla", "floor"),
        row("- logistic regression on statistics by hand", "nw-ucla", "floor-by-hand"),
        row("- logistic regression on raw positions and displacements", "nw-ucla", "floor-raw"),
        row("nearest neighbour", "nw-ucla", "knn"),
        row("supervised from scratch, all labels", "nw-ucla", "supervised"),
        row("semi-supervised, 1 % of the labels", "nw-ucla", "finetune", 0.01),
        row("semi-supervised, 5 %", "nw-ucla", "finetune", 0.05, paper="58.5"),
        row("semi-supervised, 10 %", "nw-ucla", "finetune", 0.10, paper="74.3"),
    ]


def sbu() -> list[tuple[str, list[Cell]]]:
    """SBU, five folds."""
    rows = [("linear evaluation", "linear", 1.0), ("- the same probe, untrained encoder", "floor", 1.0)]
    rows += [("nearest neighbour", "knn", 1.0), ("semi-supervised, 5 % of the labels", "finetune", 0.05)]
    return [(title, [("sbu", task, fraction, "top1")]) for title, task, fraction in rows]


TABLES = {
    "nw-ucla": (["NW-UCLA, cross-view", "paper", "all 464", "clean 369"], nw_ucla),
    "sbu": (["SBU, 5 folds", "all 282"], sbu),
}


def results(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """All of them, a dict each."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.rglob("*.json"))]


def scores(rows: Sequence[dict[str, Any]], recipe: str, task: str, fraction: float, score: str) -> list[float]:
    """One a seed, in per cent."""
    by_seed = defaultdict(list)
    for row in rows:
        if (row["recipe"], row["task"], row["labelled_fraction"]) == (recipe, task, fraction) and row.get(score):
            by_seed[row["seed"]].append(100 * row[score])
            wanted = FOLDS if "fold" in row else 1
    return [statistics.mean(values) for _, values in sorted(by_seed.items()) if len(values) == wanted]


def cell(rows: Sequence[dict[str, Any]], what: Cell) -> str:
    """``90.1 ± 0.4 (5)``; a text as it is."""
    if isinstance(what, str):
        return what
    found = scores(rows, *what)
    if not found:
        return "-"
    spread = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.1f}{spread} ({len(found)})"


def table(name: str, rows: Sequence[dict[str, Any]]) -> str:
    """In Markdown; rows of which nothing is there are left out."""
    header, make = TABLES[name]
    lines = [f"| {' | '.join(header)} |", "| --- " * len(header) + "|"]
    for title, cells in make():
        shown = [cell(rows, what) for what in cells]
        if any(text != "-" for text, what in zip(shown, cells, strict=True) if not isinstance(what, str)):
            lines.append(f"| {title} | {' | '.join(shown)} |")
    return "\n".join(lines)


def written(page: str, rows: Sequence[dict[str, Any]]) -> str:
    """The page with every marked table made anew: ``<!-- table: name -->`` ... ``<!-- end -->``."""
    return re.sub(
        r"(<!-- table: ([\w-]+) -->\n).*?(\n<!-- end -->)",
        lambda found: found[1] + table(found[2], rows) + found[3],
        page,
        flags=re.DOTALL,
    )


def main() -> None:
    """Write the pages."""
    rows = results()
    for name in PAGES:
        page = ROOT / name
        page.write_text(written(page.read_text(encoding="utf-8"), rows), encoding="utf-8")


if __name__ == "__main__":
    main()
