"""Speed of training, probe and inference against a textbook baseline and the machine's own limit.

    make bench
    python -m benchmarks.speed --only ntu8_step rss --rounds 5 --threads 1

Ours and benchmarks/baseline.py take turns in one process; the best round counts, and the spread is shown. A ratio is
the baseline's time divided by ours (memory: ours divided by the baseline's); of several runs (1 and 2 threads, both
data sets) the worst is the figure. Lengths are NW-UCLA's own and NTU's as assumed in benchmarks/clips.py. FLOPs are
counted by formula on real frames only (benchmarks/arithmetic.py); GEMM is this machine's own rate, measured between the
steps on the shapes of the step. "48 dims per token": the paper's sizes; "8 dims per token": heads of width 1. Writes
build/bench.json.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.hardware import ROOT, commit, hardware
from benchmarks.measurements import MEASUREMENTS, Options, Result
from glt import artifact
from glt.reporter import ConsoleReporter

# Floor and aim; of memory at most, of all others at least.
TARGETS = {
    "augment_targets": (4.0, 20.0),
    "ntu8_step": (3.0, 10.0),
    "nwucla8_step": (3.0, 10.0),
    "nwucla48_step": (1.5, 2.2),
    "ntu48_step": (4.5, 6.0),
    "ntu48_gemm_share": (0.75, 0.90),
    "baseline_full_length_gemm_share": (0.50, 0.50),
    "rss": (0.55, 0.40),
    "probe": (100.0, 1000.0),
    "inference": (2.0, 4.0),
}


def main() -> None:
    """Run the measurements, write the file after each of them and print the tables."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument(
        "--only",
        choices=MEASUREMENTS,
        nargs="+",
        default=list(MEASUREMENTS),
        metavar="KEY",
        help=", ".join(MEASUREMENTS),
    )
    arguments.add_argument("--rounds", type=int, default=2, help="at least; short functions run for 5 s")
    arguments.add_argument("--threads", type=int, nargs="+", default=sorted({1, min(2, os.cpu_count() or 1)}))
    given = arguments.parse_args()
    options = Options(given.rounds, tuple(given.threads))
    path = ROOT / "build" / "bench.json"
    path.parent.mkdir(exist_ok=True)
    results: dict[str, Any] = {"commit": commit(), "hardware": hardware(max(given.threads)), "rounds": given.rounds}
    reporter, started = ConsoleReporter(), time.perf_counter()
    for key in given.only:
        for name, result in MEASUREMENTS[key](key, options, reporter).items():
            results[name] = result | compare_with_targets(name, result["ratio"])
        results["seconds"] = round(time.perf_counter() - started, 1)
        artifact.write_json(path, results)
    console = Console(width=None if Console().is_terminal else 160)
    console.print(figures_table(results))
    console.print(runs_table(results))
    if "inference" in results:
        console.print(latency_table(results["inference"]["latency"]))
    console.print(f"{path.relative_to(ROOT)}, {results['seconds']:.0f} s, commit {results['commit']}")


def compare_with_targets(name: str, ratio: float) -> dict[str, object]:
    """Return the floor and aim of a figure, and for each whether the ratio meets it."""
    floor, aim = TARGETS[name]
    sign = -1 if aim < floor else 1
    return {
        "floor": floor,
        "aim": aim,
        "floor_met": sign * ratio >= sign * floor,
        "aim_met": sign * ratio >= sign * aim,
    }


def figures_table(results: dict[str, Any]) -> Table:
    """One row per figure: its worst run and its targets."""
    table = Table(
        "measurement", "ours", "baseline", "GEMM", "unit", "ratio", "floor", "aim", "floor met", title="Figures"
    )
    for name in [name for name in TARGETS if name in results]:
        row = results[name]
        raw = [f"{row[key]:.4g}" if key in row else "" for key in ("ours", "baseline", "gemm")]
        met = "aim too" if row["aim_met"] else "yes" if row["floor_met"] else "[red]NO[/]"
        table.add_row(name, *raw, row["unit"], *(f"{row[key]:.3g}" for key in ("ratio", "floor", "aim")), met)
    return table


def runs_table(results: dict[str, Any]) -> Table:
    """One row per run and implementation."""
    columns = (
        "measurement",
        "threads / data",
        "ratio",
        "CPU ratio",
        "implementation",
        "best s",
        "spread",
        "CPU s",
        "clips/s",
        "GFLOP/s",
    )
    table = Table(*columns, "of GEMM", "feeder s", title="Runs")
    for name in [name for name in TARGETS if "runs" in results.get(name, {})]:
        for label, run in results[name]["runs"].items():
            head = (name, label, f"{run['ratio']:.2f}", f"{run['cpu_ratio']:.2f}")
            for implementation in ("ours", "baseline"):
                table.add_row(
                    *(head if implementation == "ours" else ("",) * 4), implementation, *cells(run[implementation])
                )
    return table


def cells(run: Result) -> list[str]:
    """Best round, spread, CPU time, clips/s, GFLOP/s, share of GEMM and feeder of one implementation."""
    formats = {"clips_per_s": ".3g", "gflops": ".3g", "gemm_share": ".0%", "feeder_s": ".4f"}
    extra = [f"{run[key]:{form}}" if key in run else "" for key, form in formats.items()]
    return [f"{run['best_s']:.4g}", f"{run['spread']:.0%}", f"{min(run['cpu_s']):.4g}", *extra]


def latency_table(rows: dict[Any, Any]) -> Table:
    """One row per clip length."""
    table = Table(title="One clip, one thread, 48 dims per token: latency in ms (of so many clips)")
    for column in ("frames", "ours p50", "p99", "baseline p50", "p99"):
        table.add_column(column, justify="right")
    for frames, row in rows.items():
        ours, theirs = row["ours"], row["baseline"]
        table.add_row(
            str(frames),
            *(f"{ours['p50_ms']:.0f}", f"{ours['p99_ms']:.0f} ({ours['clips']})"),
            *(f"{theirs['p50_ms']:.0f}", f"{theirs['p99_ms']:.0f} ({theirs['clips']})"),
        )
    return table


if __name__ == "__main__":
    main()
