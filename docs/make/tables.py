"""Rewrites the tables of README.md and docs/results.md, between their marks, from results/.

    python -m docs.make.tables

A cell is the mean of the seeds and their sample standard deviation, in per cent, and how many seeds it is of. Of a
protocol of folds a seed's score is the mean over its folds, and counts when all of them are there.
"""

from __future__ import annotations

import json
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.hardware import ROOT
from docs.make import cost

FOLDERS = (ROOT / "results" / "protocols", ROOT / "results" / "ablations")
NTU = ROOT / "results" / "ntu-run.json"
PAGES = ("README.md", "docs/results.md")
FOLDS = 5


class Score(NamedTuple):
    """The score of a table cell, and the runs that it is taken from."""

    recipe: str
    task: str = "linear"
    fraction: float = 1.0
    score: str = "top1"
    arm: str = ""


Cell = Score | str
Rows = list[tuple[str, list[Cell]]]


def nw_ucla() -> Rows:
    """Linear evaluation and its neighbours: all 464, clean 369, and trained without the leaked clips."""

    def row(title: str, recipe: str, task: str, fraction: float = 1.0, paper: str = "") -> tuple[str, list[Cell]]:
        return title, [paper, *(Score(recipe, task, fraction, score) for score in ("top1", "top1_clean"))]

    return [
        row("linear evaluation", "nw-ucla", "linear", paper="90.4"),
        row("- with the paper's probe (mean of F, Adam, not regularised)", "nw-ucla", "linear-paper"),
        row("- three streams (joint, bone, motion)", "nw-ucla-3s", "linear"),
        row("- bone stream alone", "nw-ucla-bone", "linear"),
        row("- motion stream alone", "nw-ucla-motion", "linear"),
        row("- trained on 925, without the leaked 95", "nw-ucla-deduplicated", "linear"),
        row("- the untrained encoder, our probe", "nw-ucla", "floor"),
        row("- logistic regression on statistics by hand", "nw-ucla", "floor-by-hand"),
        row("- logistic regression on raw positions and displacements", "nw-ucla", "floor-raw"),
        row("nearest neighbour", "nw-ucla", "knn"),
        row("supervised from scratch, all labels", "nw-ucla", "supervised"),
        row("semi-supervised, 1 % of the labels", "nw-ucla", "finetune", 0.01),
        row("semi-supervised, 5 %", "nw-ucla", "finetune", 0.05, paper="58.5"),
        row("semi-supervised, 10 %", "nw-ucla", "finetune", 0.10, paper="74.3"),
    ]


def sbu() -> Rows:
    """SBU, five folds."""
    rows = [
        ("linear evaluation", "linear", 1.0),
        ("- the same probe, untrained encoder", "floor", 1.0),
        ("nearest neighbour", "knn", 1.0),
        ("semi-supervised, 5 % of the labels", "finetune", 0.05),
        ("semi-supervised, 10 %", "finetune", 0.10),
    ]
    return [(title, [Score("sbu", task, fraction)]) for title, task, fraction in rows]


def arms(*rows: tuple[str, str, str, str]) -> Callable[[], Rows]:
    """Rows of an ablation on NW-UCLA: title, arm, and the paper's scores on NTU-60 xsub and xview."""
    shown = ("top1", "top1_clean", "val_top1")
    return lambda: [
        (title, [xsub, xview, *(Score("nw-ucla-ablation", score=score, arm=arm) for score in shown)])
        for title, arm, xsub, xview in rows
    ]


def persons() -> Rows:
    """Person-to-person attention: SBU's two-person actions, and the sample set's of one and of two."""
    sample = ("top1_persons_1", "top1_persons_2", "top1")
    paper = {"persons-apart": ["63.0 / 71.6 / 64.9"], "full": ["63.7 / 73.5 / 66.0"]}
    return [
        (
            title,
            [
                *paper[arm],
                Score("sbu-ablation", arm=arm),
                *(Score("sample-ablation", score=score, arm=arm) for score in sample),
            ],
        )
        for title, arm in (("without", "persons-apart"), ("with", "full"))
    ]


def ntu_run() -> Rows:
    """The NTU recipe's record of a few steps; empty if it has not been run."""
    if not NTU.exists():
        return []
    found = json.loads(NTU.read_text(encoding="utf-8"))["recordings"]
    rows: Rows = []
    for name, run in found.items():
        seconds = run["seconds"]
        cells = [f"{run['clips']}, {run['train']} train", f"{run['steps']}"]
        cells += [f"{run['loss']:.2f}", f"{run['loss_of_guessing']:.2f}"]
        cells += [f"{seconds['pretrain']:.0f} s", f"{sum(seconds.values()):.0f} s"]
        rows.append((name, [*cells]))
    return rows


_STUDIED = ["paper, NTU-60 xsub", "xview", "all 464", "clean 369", "validation"]
FULL = "full", "76.3", "83.8"
# name of a table -> its header and rows: a title, and a cell or a text for each column.
TABLES: dict[str, tuple[list[str], Callable[[], Rows]]] = {
    "nw-ucla": (["NW-UCLA, cross-view", "paper", "all 464", "clean 369"], nw_ucla),
    "sbu": (["SBU, 5 folds", "all 282"], sbu),
    "table-1": (
        ["Table 1", *_STUDIED],
        arms(
            ("(1) positions as they are; directions over 1 frame", "mixed", "71.1", "73.5"),
            ("(2) local motion alone", "local-only", "74.2", "81.9"),
            ("(3) local motion and global translation", "direction-only", "75.4", "82.8"),
            ("(4) and magnitudes", "interval-1", "75.7", "82.9"),
            ("(5) over 1 and 5 frames", "intervals-1-5", "75.9", "83.3"),
            ("(6) over 1, 5 and 10", *FULL),
            ("(7) over 1, 5, 10 and 15", "intervals-1-5-10-15", "75.7", "83.4"),
        ),
    ),
    "table-2": (
        ["Table 2, positional embedding", *_STUDIED],
        arms(
            ("fixed waves", "sinusoidal", "75.5", "83.3"),
            ("trainable", "trainable", "76.0", "83.6"),
            ("trainable, tight", *FULL),
        ),
    ),
    "table-a": (
        ["Table A, speed", *_STUDIED],
        arms(
            ("all clips sampled to 25 frames (the paper: 150 of 300)", "fixed-25", "75.1", "80.2"),
            ("to 50 (300)", "fixed-50", "73.2", "79.0"),
            ("natural, with the mask", *FULL),
        ),
    ),
    "table-b": (
        ["Table B, joints corrupted", *_STUDIED],
        arms(
            ("none", *FULL),
            ("5 %", "masked-05", "75.7", "82.5"),
            ("10 %", "masked-10", "74.2", "81.2"),
            ("15 %", "masked-15", "73.9", "79.9"),
            ("20 %", "masked-20", "72.4", "79.0"),
        ),
    ),
    "persons": (
        [
            "Table 2, person-to-person attention",
            "paper, NTU-120: one person / two / all",
            *("SBU, two persons", "sample, one", "sample, two", "sample, all"),
        ],
        persons,
    ),
    "ntu-run": (
        ["recordings", "clips", "steps", "loss", "of guessing", "pretraining", "whole graph"],
        ntu_run,
    ),
    "cost": (
        ["recipe", "epochs", "clips", "GFLOP a clip", "PFLOP", "hours, float32 / bfloat16", "days on 2 cores"],
        lambda: [(title, [*cells]) for title, cells in cost.rows()],
    ),
}


def results(folders: Sequence[Path] = FOLDERS) -> list[dict[str, Any]]:
    """All of them, a dict each."""
    files = sorted(file for folder in folders for file in folder.rglob("*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def scores(rows: Sequence[dict[str, Any]], what: Score) -> list[float]:
    """One a seed, in per cent."""
    by_seed = defaultdict(list)
    for row in rows:
        key = row["recipe"], row["task"], row["labelled_fraction"], row.get("arm", "")
        if key == (what.recipe, what.task, what.fraction, what.arm) and row.get(what.score):
            by_seed[row["seed"]].append(100 * row[what.score])
            wanted = FOLDS if "fold" in row else 1
    return [statistics.mean(values) for _, values in sorted(by_seed.items()) if len(values) == wanted]


def cell(rows: Sequence[dict[str, Any]], what: Cell) -> str:
    """``90.1 ± 0.4 (5)``; a text as it is."""
    if isinstance(what, str):
        return what
    found = scores(rows, what)
    if not found:
        return "-"
    spread = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.1f}{spread} ({len(found)})"


def table(name: str, rows: Sequence[dict[str, Any]]) -> str:
    """In Markdown; rows of which nothing is there are left out."""
    header, make = TABLES[name]
    head, lines = [f"| {' | '.join(header)} |", "| --- " * len(header) + "|"], []
    for title, cells in make():
        shown = [cell(rows, what) for what in cells]
        measured = [text for text, what in zip(shown, cells, strict=True) if isinstance(what, Score)]
        if not measured or set(measured) != {"-"}:
            lines.append(f"| {title} | {' | '.join(shown)} |")
    return "\n".join(head + lines) if lines else "Not measured yet."


def written(page: str, rows: Sequence[dict[str, Any]]) -> str:
    """The page with every marked table made anew: ``<!-- table: name -->`` ... ``<!-- end -->``."""
    return re.sub(
        r"(<!-- table: ([\w-]+) -->\n)(?:(?!<!--).)*(<!-- end -->)",
        lambda found: f"{found[1]}{table(found[2], rows)}\n{found[3]}",
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
