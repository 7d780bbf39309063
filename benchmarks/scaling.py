"""Time and memory of a training step by clip length and by batch size; draws docs/speed.png.

    python -m benchmarks.scaling

NTU's people (two of 25 joints, T_max 300), 8 dims per token; every point is a process of its own, and ours and the
textbook baseline take turns. Also writes results/scaling.json. About three minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.hardware import ROOT, commit, hardware
from benchmarks.one_step import run_in_process
from glt import artifact
from glt.reporter import ConsoleReporter

WIDTH = 8
BATCH, LENGTH = 4, 84  # fixed while the other varies
LENGTHS = (20, 40, 75, 150, 300)
BATCHES = (1, 2, 4, 8)
COLOURS = {"ours": "#1f6feb", "baseline": "#d1632f"}
NAMES = {"ours": "glt", "baseline": "padded, textbook"}


def main() -> None:
    """Measure, write, draw."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    arguments.add_argument("--steps", type=int, default=3, help="the best of all but the first counts")
    given = arguments.parse_args()
    series = {"frames": [(n, [n] * BATCH) for n in LENGTHS], "clips": [(n, [LENGTH] * n) for n in BATCHES]}
    reporter, done, total = ConsoleReporter(), 0, 2 * sum(map(len, series.values()))
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in series}
    for name, points in series.items():
        for value, lengths in points:
            row: dict[str, Any] = {name: value}
            for implementation in COLOURS:
                reporter.progress("scaling", done, total, f"{implementation}, {value} {name}")
                result = run_in_process(implementation, "ntu", WIDTH, lengths, given.steps, given.threads)
                row[implementation] = {
                    "step_s": round(min(result["seconds"][1:]), 4),
                    "peak_gb": round(result["peak_gb"], 3),
                }
                done += 1
            rows[name].append(row)
    reporter.progress("scaling", done, total)
    measured = {
        **rows,
        "fixed": {"clips": BATCH, "frames": LENGTH, "width": WIDTH},
        "imported_gb": round(result["imported_gb"], 3),
        "commit": commit(),
        "hardware": hardware(given.threads),
    }
    artifact.write_json(ROOT / "results" / "scaling.json", measured)
    draw(measured)


def draw(result: dict[str, Any]) -> None:
    """Two columns: by clip length, by clips a batch; two rows: time, memory."""
    plt.rcParams.update({"font.size": 12, "axes.titlesize": 13})
    figure, axes = plt.subplots(2, 2, figsize=(10.5, 7.5), sharex="col", sharey="row", layout="constrained")
    fixed, machine = result["fixed"], result["hardware"]
    labels = {
        "frames": ("length of the clips, frames", f"{fixed['clips']} clips a batch"),
        "clips": ("clips a batch", f"clips of {fixed['frames']} frames"),
    }
    for column, (name, (label, title)) in enumerate(labels.items()):
        values = [row[name] for row in result[name]]
        for line, (key, unit) in enumerate((("step_s", "time of a training step, s"), ("peak_gb", "peak memory, GB"))):
            axis = axes[line, column]
            for implementation, colour in COLOURS.items():
                measured = [row[implementation][key] for row in result[name]]
                axis.plot(values, measured, "o-", color=colour, label=NAMES[implementation], linewidth=2)
            axis.set(xscale="log", yscale="log")
            axis.set_xticks(values, [str(value) for value in values])
            axis.minorticks_off()
            axis.grid(alpha=0.3)
            if column == 0:
                axis.set_ylabel(unit)
        axes[0, column].set_title(title)
        axes[1, column].set_xlabel(label)
        axes[1, column].axhline(result["imported_gb"], color="grey", linestyle=":", label="Python and torch alone")
    for line, ticks in enumerate(((0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10), (0.2, 0.5, 1, 2, 5))):
        low, high = axes[line, 0].get_ylim()
        shown = [tick for tick in ticks if low <= tick <= high]
        for axis in axes[line]:
            axis.set_yticks(shown, [f"{tick:g}" for tick in shown])
            axis.minorticks_off()
    figure.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(
        f"A training step: NTU's sizes, {fixed['width']} dims per token; {machine['processor']}, "
        f"threads: {machine['threads']}",
        fontsize=14,
    )
    figure.savefig(ROOT / "docs" / "speed.png", dpi=110)


if __name__ == "__main__":
    main()
