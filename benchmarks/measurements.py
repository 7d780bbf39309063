"""Measurements of `make bench`, one function each: our implementation and the textbook baseline on the same clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks import frozen_encoder
from benchmarks.arithmetic import Gemm, forward_flops, step_flops
from benchmarks.one_step import run_in_process
from benchmarks.timing import Timing, time_in_turn
from benchmarks.training_step import Baseline, Ours, Problem, TrainingStep
from glt.reporter import Reporter

PROBE_CLIPS, PROBE_BATCH, PROBE_EPOCHS = 256, 128, 300
LATENCY_FRAMES = (30, 60, 84, 120, 200, 300)
LATENCY_ROUNDS = {"ours": 20, "baseline": 3}


@dataclass(frozen=True)
class Options:
    """Extent of a measurement: minimum number of rounds, and threads."""

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
            functions = {"ours": ours.step, "baseline": baseline.step, "gemm": gemm.step}
            times = time_in_turn(functions, options.rounds, reporter, f"{key}, threads {threads}")
            feeds = {"ours": ours.feed, "baseline": baseline.feed}
            fed = time_in_turn(feeds, options.rounds, reporter, f"{key}, feeder", seconds=1)
            run = summarise(times, len(problem.clips))
            run["gemm_gflops"] = gemm.rate / 1e9
            for implementation in ("ours", "baseline"):
                # Of the arithmetic that the clips need: what the baseline does to padding counts for nothing.
                run[implementation]["gflops"] = flops / times[implementation].best / 1e9
                run[implementation]["gemm_share"] = flops / times[implementation].best / gemm.rate
                run[implementation]["feeder_s"] = fed[implementation].best
            runs[threads] = run
        result = {key: {**worst_run(runs, "s a step"), "frames": sum(lengths), "flops": flops}}
        if key == "ntu48_step":
            share, run = min((run["ours"]["gemm_share"], run) for run in runs.values())
            result["ntu48_gemm_share"] = {
                "ratio": share,
                "ours": run["ours"]["gflops"],
                "gemm": run["gemm_gflops"],
                "unit": "GFLOP/s",
            }
            del ours
            result["baseline_full_length_gemm_share"] = measure_full_length(baseline, options, reporter)
        return result

    return measure


def measure_full_length(baseline: Baseline, options: Options, reporter: Reporter) -> Result:
    """The baseline on clips that need no padding: it must be no straw man."""
    problem = baseline.problem
    sizes = problem.recordings
    lengths = [sizes.max_frames] * sizes.batch
    baseline.problem = Problem.of("ntu", problem.model.width, lengths, interpolate=0.0)
    baseline.draws.stretch[:] = 0
    tokens = sizes.persons * sizes.joints
    flops = step_flops(problem.model, tokens, lengths, len(problem.bins.intervals), problem.bins.classes)
    gemm = Gemm(sum(lengths), tokens * problem.model.width)
    functions = {"gemm": gemm.step, "baseline": baseline.step, "gemm again": gemm.step}
    times = time_in_turn(functions, 1, reporter, "baseline at full length", warm=False)
    rate = flops / times["baseline"].best
    figures = {"ratio": rate / gemm.rate, "baseline": rate / 1e9, "gemm": gemm.rate / 1e9, "unit": "GFLOP/s"}
    return {**figures, "threads": max(options.threads)}


def augment_targets(key: str, options: Options, reporter: Reporter) -> dict[str, Result]:
    """Augmentation and targets of a batch, one thread; the worse of both data sets is the figure."""
    torch.set_num_threads(1)
    runs = {}
    for name in ("ntu", "nwucla"):
        problem = Problem.of(name, 8)
        implementations: dict[str, TrainingStep] = {"ours": Ours(problem), "baseline": Baseline(problem)}
        functions = {label: one.feed for label, one in implementations.items()}
        runs[name] = summarise(time_in_turn(functions, options.rounds, reporter, f"{key}, {name}"), len(problem.clips))
    return {key: worst_run(runs, "s a batch")}


def rss(key: str, options: Options, reporter: Reporter) -> dict[str, Result]:
    """Peak memory of a process that does two training steps, NTU, 48 dims per token."""
    peaks = {}
    for done, implementation in enumerate(("ours", "baseline")):
        reporter.progress(key, done, 2, implementation)
        peaks[implementation] = run_in_process(implementation, "ntu", 48, threads=max(options.threads))
    reporter.progress(key, 2, 2)
    ours, baseline = (peaks[implementation]["peak_gb"] for implementation in ("ours", "baseline"))
    return {key: {"ratio": ours / baseline, "ours": ours, "baseline": baseline, "unit": "GB"}}


def probe(key: str, options: Options, reporter: Reporter) -> dict[str, Result]:
    """Linear probe, NW-UCLA, 48 dims per token: features once and 300 epochs on them, against 300 through the encoder.

    One epoch through the encoder is measured and multiplied.
    """
    problem = Problem.of("nwucla", 48)
    clips = problem.recordings.clips(problem.recordings.lengths(PROBE_CLIPS))
    classes = 10
    answers = torch.arange(PROBE_CLIPS) % classes
    ours, baseline = frozen_encoder.Ours(problem, classes), frozen_encoder.Baseline(problem, classes)
    slices = [slice(n, n + PROBE_BATCH) for n in range(0, PROBE_CLIPS, PROBE_BATCH)]
    padded = [baseline.padded(clips[rows]) for rows in slices]
    runs = {}

    def cached() -> None:
        features, fit = ours.features(clips, PROBE_BATCH), frozen_encoder.LinearFit(ours.width, answers)
        for _ in range(PROBE_EPOCHS):
            for rows in slices:
                fit.step(features[rows], rows)

    def epoch() -> None:
        fit = frozen_encoder.LinearFit(ours.width, answers)
        for rows, batch in zip(slices, padded, strict=True):
            fit.step(baseline.features(batch), rows)

    for threads in options.threads:
        torch.set_num_threads(threads)
        times = time_in_turn({"ours": cached, "baseline": epoch}, options.rounds, reporter, f"{key}, threads {threads}")
        whole = Timing(*([PROBE_EPOCHS * x for x in part] for part in (times["baseline"].wall, times["baseline"].cpu)))
        runs[threads] = summarise({"ours": times["ours"], "baseline": whole}, PROBE_CLIPS)
    return {key: {**worst_run(runs, "s a probe"), "note": f"baseline: one epoch x {PROBE_EPOCHS}"}}


def inference(key: str, options: Options, reporter: Reporter) -> dict[str, Result]:
    """One clip classified at a time, one thread, NTU, 48 dims per token; and the latency by the length of the clip."""
    torch.set_num_threads(1)
    problem = Problem.of("ntu", 48)
    sizes = problem.recordings
    ours, baseline = frozen_encoder.Ours(problem, 60), frozen_encoder.Baseline(problem, 60)
    padded = [baseline.padded([clip]) for clip in problem.clips]
    functions = {
        "ours": lambda: [ours.classify(clip) for clip in problem.clips],
        "baseline": lambda: [baseline.classify(batch) for batch in padded],
    }
    count = len(problem.clips)
    times = time_in_turn(functions, options.rounds, reporter, key)
    each = {name: Timing(*([x / count for x in part] for part in (t.wall, t.cpu))) for name, t in times.items()}
    run = summarise(each, 1)
    flops = forward_flops(problem.model, sizes.persons * sizes.joints, [len(tokens) for tokens, _ in problem.clips])
    for implementation in run.keys() & each.keys():
        run[implementation]["gflops"] = flops / times[implementation].best / 1e9
    table = {}
    for length in LATENCY_FRAMES:
        clip = sizes.clips([length])[0]
        batch = baseline.padded([clip])
        one: dict[str, Callable[[], object]] = {
            "ours": partial(ours.classify, clip),
            "baseline": partial(baseline.classify, batch),
        }
        row = {}
        for implementation, function in one.items():
            task = f"{key}, {length} frames, {implementation}"
            rounds = LATENCY_ROUNDS[implementation]
            wall = time_in_turn({"it": function}, rounds, reporter, task, seconds=0)["it"].wall
            p50, p99 = np.percentile(wall, (50, 99)) * 1e3
            row[implementation] = {"p50_ms": round(p50, 1), "p99_ms": round(p99, 1), "clips": len(wall)}
        table[length] = row
    return {key: {**worst_run({1: run}, "s a clip"), "latency": table}}


def summarise(times: dict[str, Timing], clips: int) -> Result:
    """Summarise both implementations: the ratio of their best rounds, and all rounds."""
    implementations = {
        implementation: {
            "best_s": times[implementation].best,
            "spread": times[implementation].spread,
            "clips_per_s": clips / times[implementation].best,
            **times[implementation].to_dict(),
        }
        for implementation in ("ours", "baseline")
    }
    cpu = min(times["baseline"].cpu) / min(times["ours"].cpu)
    return {"ratio": times["baseline"].best / times["ours"].best, "cpu_ratio": cpu, **implementations}


def worst_run(runs: dict[Any, Result], unit: str) -> Result:
    """Return the figures of the run with the lowest ratio, and all runs."""
    run = min(runs.values(), key=lambda run: run["ratio"])
    figures = {"ratio": run["ratio"], "ours": run["ours"]["best_s"], "baseline": run["baseline"]["best_s"]}
    return {**figures, "unit": unit, "runs": {str(name): run for name, run in runs.items()}}


MEASUREMENTS: dict[str, Measure] = {
    "augment_targets": augment_targets,
    "ntu8_step": step("ntu", 8),
    "nwucla8_step": step("nwucla", 8),
    "nwucla48_step": step("nwucla", 48),
    "ntu48_step": step("ntu", 48),
    "rss": rss,
    "probe": probe,
    "inference": inference,
}
