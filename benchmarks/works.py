"""What `make bench` measures, a function a work: ours and the textbook baseline on the same clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks import frozen
from benchmarks.arithmetic import Gemm, forward_flops, step_flops
from benchmarks.one_step import run_in_process
from benchmarks.sides import Baseline, Ours, Problem, Side
from benchmarks.timing import Timing, interleaved
from glt.reporter import Reporter

PROBE_CLIPS, PROBE_BATCH, PROBE_EPOCHS = 256, 128, 300
LATENCY_FRAMES = (30, 60, 84, 120, 200, 300)
LATENCY_ROUNDS = {"ours": 20, "baseline": 3}


@dataclass(frozen=True)
class Options:
    """How much to measure: rounds at least, and with how many threads."""

    rounds: int
    threads: tuple[int, ...]


Result = dict[str, Any]
Measure = Callable[[str, Options, Reporter], dict[str, Result]]


def step(name: str, width: int) -> Measure:
    """A training step: augmentation, targets, forward, loss, backward, optimiser."""

    def measure(key: str, options: Options, reporter: Reporter) -> dict[str, Result]:
        problem = Problem.of(name, width)
        ours, baseline = Ours(problem), Baseline(problem)
        lengths = ours.feed()[0].lengths
        tokens = problem.recordings.persons * problem.recordings.joints
        flops = step_flops(problem.model, tokens, lengths, len(problem.bins.intervals), problem.bins.classes)
        runs = {}
        for threads in options.threads:
            torch.set_num_threads(threads)
            gemm = Gemm(sum(lengths), tokens * width)
            works = {"ours": ours.step, "baseline": baseline.step, "gemm": gemm.step}
            times = interleaved(works, options.rounds, reporter, f"{key}, threads {threads}")
            feeds = {"ours": ours.feed, "baseline": baseline.feed}
            fed = interleaved(feeds, options.rounds, reporter, f"{key}, feeder", seconds=1)
            run = compared(times, len(problem.clips))
            run["gemm_gflops"] = gemm.rate / 1e9
            for side in ("ours", "baseline"):
                # Of the arithmetic that the clips need: what the baseline does to padding counts for nothing.
                run[side]["gflops"] = flops / times[side].best / 1e9
                run[side]["gemm_share"] = flops / times[side].best / gemm.rate
                run[side]["feeder_s"] = fed[side].best
            runs[threads] = run
        result = {key: {**worst(runs, "s a step"), "frames": sum(lengths), "flops": flops}}
        if key == "ntu48_step":
            share, run = min((run["ours"]["gemm_share"], run) for run in runs.values())
            result["ntu48_gemm_share"] = {
                "ratio": share,
                "ours": run["ours"]["gflops"],
                "gemm": run["gemm_gflops"],
                "unit": "GFLOP/s",
            }
            del ours
            result["baseline_full_length_gemm_share"] = full_length(baseline, options, reporter)
        return result

    return measure


def full_length(baseline: Baseline, options: Options, reporter: Reporter) -> Result:
    """What the baseline makes of clips that need no padding: it must be no straw man."""
    problem = baseline.problem
    sizes = problem.recordings
    lengths = [sizes.max_frames] * sizes.batch
    baseline.problem = Problem.of("ntu", problem.model.width, lengths, interpolate=0.0)
    baseline.draws.stretch[:] = 0
    tokens = sizes.persons * sizes.joints
    flops = step_flops(problem.model, tokens, lengths, len(problem.bins.intervals), problem.bins.classes)
    gemm = Gemm(sum(lengths), tokens * problem.model.width)
    works = {"gemm": gemm.step, "baseline": baseline.step, "gemm again": gemm.step}
    times = interleaved(works, 1, reporter, "baseline at full length", warm=False)
    rate = flops / times["baseline"].best
    figures = {"ratio": rate / gemm.rate, "baseline": rate / 1e9, "gemm": gemm.rate / 1e9, "unit": "GFLOP/s"}
    return {**figures, "threads": max(options.threads)}


def augment_targets(key: str, options: Options, reporter: Reporter) -> dict[str, Result]:
    """Augmentation and targets of a batch, one thread; the worse of both data sets is the figure."""
    torch.set_num_threads(1)
    runs = {}
    for name in ("ntu", "nwucla"):
        problem = Problem.of(name, 8)
        sides: dict[str, Side] = {"ours": Ours(problem), "baseline": Baseline(problem)}
        works = {side: sides[side].feed for side in sides}
        runs[name] = compared(interleaved(works, options.rounds, reporter, f"{key}, {name}"), len(problem.clips))
    return {key: worst(runs, "s a batch")}


def rss(key: str, options: Options, reporter: Reporter) -> dict[str, Result]:
    """Peak memory of a process that does two training steps, NTU, 48 a token."""
    peaks = {}
    for done, side in enumerate(("ours", "baseline")):
        reporter.progress(key, done, 2, side)
        peaks[side] = run_in_process(side, "ntu", 48, threads=max(options.threads))
    reporter.progress(key, 2, 2)
    ours, baseline = (peaks[side]["peak_gb"] for side in ("ours", "baseline"))
    return {key: {"ratio": ours / baseline, "ours": ours, "baseline": baseline, "unit": "GB"}}


def probe(key: str, options: Options, reporter: Reporter) -> dict[str, Result]:
    """The linear probe on NW-UCLA, 48 a token: features once and 300 epochs on them, against 300 through the encoder.

    One epoch through the encoder is measured and multiplied.
    """
    problem = Problem.of("nwucla", 48)
    clips = problem.recordings.clips(problem.recordings.lengths(PROBE_CLIPS))
    classes = 10
    answers = torch.arange(PROBE_CLIPS) % classes
    ours, baseline = frozen.Ours(problem, classes), frozen.Baseline(problem, classes)
    slices = [slice(n, n + PROBE_BATCH) for n in range(0, PROBE_CLIPS, PROBE_BATCH)]
    padded = [baseline.padded(clips[rows]) for rows in slices]
    runs = {}

    def cached() -> None:
        features, fit = ours.features(clips, PROBE_BATCH), frozen.LinearFit(ours.width, answers)
        for _ in range(PROBE_EPOCHS):
            for rows in slices:
                fit.step(features[rows], rows)

    def epoch() -> None:
        fit = frozen.LinearFit(ours.width, answers)
        for rows, batch in zip(slices, padded, strict=True):
            fit.step(baseline.features(batch), rows)

    for threads in options.threads:
        torch.set_num_threads(threads)
        times = interleaved({"ours": cached, "baseline": epoch}, options.rounds, reporter, f"{key}, threads {threads}")
        whole = Timing(*([PROBE_EPOCHS * x for x in part] for part in (times["baseline"].wall, times["baseline"].cpu)))
        runs[threads] = compared({"ours": times["ours"], "baseline": whole}, PROBE_CLIPS)
    return {key: {**worst(runs, "s a probe"), "note": f"baseline: one epoch x {PROBE_EPOCHS}"}}


def inference(key: str, options: Options, reporter: Reporter) -> dict[str, Result]:
    """One clip classified at a time, one thread, NTU, 48 a token; and the latency by the length of the clip."""
    torch.set_num_threads(1)
    problem = Problem.of("ntu", 48)
    sizes = problem.recordings
    ours, baseline = frozen.Ours(problem, 60), frozen.Baseline(problem, 60)
    padded = [baseline.padded([clip]) for clip in problem.clips]
    works = {
        "ours": lambda: [ours.classify(clip) for clip in problem.clips],
        "baseline": lambda: [baseline.classify(batch) for batch in padded],
    }
    count = len(problem.clips)
    times = interleaved(works, options.rounds, reporter, key)
    each = {side: Timing(*([x / count for x in part] for part in (t.wall, t.cpu))) for side, t in times.items()}
    run = compared(each, 1)
    flops = forward_flops(problem.model, sizes.persons * sizes.joints, [len(tokens) for tokens, _ in problem.clips])
    for side in run.keys() & each.keys():
        run[side]["gflops"] = flops / times[side].best / 1e9
    table = {}
    for length in LATENCY_FRAMES:
        clip = sizes.clips([length])[0]
        batch = baseline.padded([clip])
        one: dict[str, Callable[[], object]] = {
            "ours": partial(ours.classify, clip),
            "baseline": partial(baseline.classify, batch),
        }
        row = {}
        for side, work in one.items():
            task = f"{key}, {length} frames, {side}"
            wall = interleaved({side: work}, LATENCY_ROUNDS[side], reporter, task, seconds=0)[side].wall
            p50, p99 = np.percentile(wall, (50, 99)) * 1e3
            row[side] = {"p50_ms": round(p50, 1), "p99_ms": round(p99, 1), "clips": len(wall)}
        table[length] = row
    return {key: {**worst({1: run}, "s a clip"), "latency": table}}


def compared(times: dict[str, Timing], clips: int) -> Result:
    """Both sides' best rounds, and all of them."""
    sides = {
        side: {
            "best_s": times[side].best,
            "spread": times[side].spread,
            "clips_per_s": clips / times[side].best,
            **times[side].to_dict(),
        }
        for side in ("ours", "baseline")
    }
    cpu = min(times["baseline"].cpu) / min(times["ours"].cpu)
    return {"ratio": times["baseline"].best / times["ours"].best, "cpu_ratio": cpu, **sides}


def worst(runs: dict[Any, Result], unit: str) -> Result:
    """The run with the lowest ratio, as the figure of the work, and all of them."""
    run = min(runs.values(), key=lambda run: run["ratio"])
    figures = {"ratio": run["ratio"], "ours": run["ours"]["best_s"], "baseline": run["baseline"]["best_s"]}
    return {**figures, "unit": unit, "runs": {str(name): run for name, run in runs.items()}}


WORKS: dict[str, Measure] = {
    "augment_targets": augment_targets,
    "ntu8_step": step("ntu", 8),
    "nwucla8_step": step("nwucla", 8),
    "nwucla48_step": step("nwucla", 48),
    "ntu48_step": step("ntu", 48),
    "rss": rss,
    "probe": probe,
    "inference": inference,
}
