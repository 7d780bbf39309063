"""Checks and measurements on one GPU, in at most five minutes; writes results/gpu.json as it goes.

    make gpu                                   # on a machine with a GPU; benchmarks/README.md says what it needs
    python -m benchmarks.gpu --device cpu --tiny --out build/gpu.json     # the same code on a CPU, in tiny sizes

In this order: a training step in every format against double precision on the CPU; the rate of the largest matrix
product; steps at the sizes of NTU-60 and NW-UCLA; how fast batches are fed; a training that is killed and resumed; a
checkpoint of the GPU on the CPU; then, as far as the time goes, NW-UCLA at the paper's size, 300 epochs and its probe,
on the motions in build/gpu/motions.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.arithmetic import step_flops
from benchmarks.clips import RECORDINGS
from benchmarks.hardware import ROOT, commit, hardware
from benchmarks.operations import SyntheticMotions, as_on_a_gpu, repeat_first_epoch
from benchmarks.parity import TOLERANCES, differences, loss_and_gradient
from benchmarks.training_step import Problem
from glt import artifact
from glt.errors import GltError, Interrupted, first_line
from glt.motion.disentangle import Motions
from glt.motion.displacement import targets
from glt.recipe import Recipe, load
from glt.reporter import ConsoleReporter, Silent
from glt.training.checkpoint import Checkpoint
from glt.training.distributed import World
from glt.training.pretrain import PretrainingRun, train_encoder
from glt.training.probe import fit_probe

FORMATS = {"float32": ("highest", "float32"), "tf32": ("high", "float32"), "bfloat16": ("high", "bfloat16")}
NTU, NWUCLA = "ntu60-xsub-paper", "nw-ucla-paper"
LEFT_FOR_PROBE = 30.0  # seconds
Values = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """Settings of a measurement.

    Attributes:
        device: that computes.
        tiny: batches of 4 clips and layers of 8 dimensions per token.
        deadline: `time.monotonic` at which the training of NW-UCLA ends.
        motions: folder of NW-UCLA's motions.
    """

    device: torch.device
    tiny: bool
    deadline: float
    motions: Path

    def recipe(self, name: str, **pretrain: Any) -> Recipe:
        """A recipe, with changes of its pretraining."""
        recipe = load(name)
        changes: Values = {"pretrain": recipe.pretrain.model_copy(update=pretrain)}
        if self.tiny:
            changes["model"] = recipe.model.model_copy(update={"head_dim": 1, "depth": 1})
            changes["pretrain"] = changes["pretrain"].model_copy(update={"batch": 4})
        return recipe.model_copy(update=changes)

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def parity(options: Options) -> Values:
    """Differences of loss and gradient from double precision on the CPU, by format; and whether they are in bounds."""
    problem = Problem.of("nwucla", 8 if options.tiny else 48, [9, 5] if options.tiny else [50, 17, 33, 50, 8, 26])
    exact = loss_and_gradient(problem, torch.device("cpu"), torch.float64)
    result: Values = {}
    for kind, (products, precision) in FORMATS.items():
        with matrix_precision(products):
            mine = loss_and_gradient(problem, options.device, torch.float32, precision == "bfloat16")
        off, bound = differences(mine, exact), TOLERANCES[kind]
        result[kind] = {
            "loss": off.loss,
            "gradient": off.gradient,
            "within": off.loss < bound.loss and off.gradient < bound.gradient,
        }
    return result


def matrix_rates(options: Options) -> Values:
    """TFLOP/s of the product [frames, E] x [E, 3 E] at NTU's size, by format."""
    frames, width = (64, 100) if options.tiny else (10_752, 2_400)
    result = {}
    for kind, (products, precision) in FORMATS.items():
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        x, w = (torch.randn(rows, width, device=options.device, dtype=dtype) for rows in (frames, 3 * width))
        with matrix_precision(products):
            seconds = timed(options, lambda x=x, w=w: torch.mm(x, w.T), 2 if options.tiny else 50)  # type: ignore[misc]
        result[kind] = 2 * frames * width * 3 * width / seconds / 1e12
    return result


def steps(options: Options, rates: Values) -> Values:
    """Time of a training step, by recipe and format; its TFLOP/s, and their share of the matrix product's rate."""
    result: Values = {}
    for name, recordings in ((NTU, "ntu"), (NWUCLA, "nwucla")):
        for kind, (products, precision) in FORMATS.items():
            with matrix_precision(products):
                recipe = options.recipe(name, precision=precision)
                result.setdefault(name, {})[kind] = one_size(options, recipe, recordings, rates.get(kind))
    return result


def one_size(options: Options, recipe: Recipe, recordings: str, rate: float | None) -> Values:
    """Time, rate and memory of a step, for one recipe and format."""
    motions: Any = SyntheticMotions(recordings, recipe.pretrain.batch)
    if options.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    run = PretrainingRun(motions, recipe, World(options.device), Checkpoint(None), None)
    batches = repeat_first_epoch(run, 10_000)
    sizes = RECORDINGS[recordings]
    flops = step_flops(
        recipe.model,
        sizes.persons * sizes.joints,
        [min(length, recipe.model.max_frames) for length in motions.index["length"]],
        len(motions.bins.intervals),
        motions.bins.classes,
    )
    many = 2 if options.tiny else 30
    seconds = timed(options, lambda: run.step(batches, ending=False), many, warm=2 if options.tiny else 6)
    host = timed(options, lambda: run.step(batches, ending=False), 2 if options.tiny else 8, wait=False)
    result = {"step_ms": 1e3 * seconds, "host_ms": 1e3 * host, "tflops": flops / seconds / 1e12}
    if rate:
        result["share_of_matrix_rate"] = result["tflops"] / rate
    if options.device.type == "cuda":
        result["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return result


def feeding(options: Options) -> Values:
    """Batches per second that the feed gives: read ahead, augmented and labelled on the device, without a training."""
    recipe = options.recipe(NTU)
    motions: Any = SyntheticMotions("ntu", recipe.pretrain.batch)
    run = PretrainingRun(motions, recipe, World(options.device), Checkpoint(None), None)
    repeat_first_epoch(run, 10_000)
    numbers = iter(range(10_000))

    def feed() -> None:
        share = run.feed.share(0, next(numbers))
        whole, _ = share.loaded.augmented(motions, recipe.pretrain.augment, recipe.model, options.device)
        targets(whole, motions.bins)

    return {"batches_per_s": 1 / timed(options, feed, 2 if options.tiny else 30, warm=2)}


def kill_and_resume(options: Options) -> Values:
    """The loss of a training that was killed and resumed, beside that of one that was not."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.gpu", "--victim", folder, "--device", options.device.type]
        child = subprocess.Popen([*command, *(["--tiny"] if options.tiny else [])], cwd=ROOT)
        try:
            limit = time.monotonic() + 120
            while not any(int(path.name.removeprefix("step-")) >= 5 for path in Path(folder).glob("step-*")):
                if child.poll() is not None or time.monotonic() > limit:
                    raise GltError("the training that was to be killed ended, or saved no state in 120 s")
                time.sleep(0.05)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        saved = max(path.name for path in Path(folder).glob("step-*"))
        resumed = victim(options, Path(folder))
    whole = victim(options, None)
    off = [abs(a["pretrain/loss"] / b["pretrain/loss"] - 1) for a, b in zip(resumed, whole, strict=True)]
    return {"killed_after": saved, "epochs": len(whole), "difference_of_loss": max(off)}


def victim(options: Options, folder: Path | None) -> list[dict[str, float]]:
    """A short training that saves its state after every step; the metrics of its epochs."""
    motions: Any = SyntheticMotions("nwucla", 24)
    recipe = options.recipe(NWUCLA, epochs=12, batch=8, precision="float32")
    return train_encoder(motions, recipe, options.device, Silent(), Checkpoint(folder, every=0))[1]


def checkpoint_on_cpu(options: Options) -> Values:
    """The loss of the next step after a checkpoint of the device, on the device and on the CPU."""
    motions: Any = SyntheticMotions("nwucla", 8)
    recipe = options.recipe(NWUCLA, epochs=2, batch=8, precision="float32")
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"dropout": 0.0, "drop_path": 0.0})})
    found = {}
    with tempfile.TemporaryDirectory() as folder, matrix_precision("highest"):
        checkpoint = Checkpoint(Path(folder), every=0)
        run = PretrainingRun(motions, recipe, World(options.device), checkpoint, None)
        for _ in (batches := repeat_first_epoch(run, 2)):
            run.step(batches, ending=False)
        if not checkpoint.has_state:
            raise GltError("no state was saved")
        for device in (options.device, torch.device("cpu")):
            run = PretrainingRun(motions, recipe, World(device), Checkpoint(Path(folder), every=1e9), None)
            found[device.type] = float(run.step(repeat_first_epoch(run, 3), ending=False))
    return {"loss": found, "difference": abs(found[options.device.type] / found["cpu"] - 1)}


def nw_ucla(options: Options) -> Values:
    """NW-UCLA at the paper's size, as far as the time goes, and its linear probe on the test view."""
    if not options.motions.exists():
        return {"skipped": f"no motions in {options.motions}; run `make gpu-files RECORDINGS=...`"}
    motions, recipe = Motions(options.motions), options.recipe(NWUCLA, precision="auto")
    if options.tiny:
        recipe = recipe.model_copy(update={"pretrain": recipe.pretrain.model_copy(update={"epochs": 2, "batch": 128})})
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder), every=1e9)
        try:
            encoder, history = train_encoder(motions, recipe, options.device, _Until(options.deadline), checkpoint)
        except Interrupted:
            run = PretrainingRun(motions, recipe, World(options.device), checkpoint, None)
            encoder, history = run.model.encoder, run.progress.history
    result = {"epochs": len(history), "of": recipe.pretrain.epochs, "seconds": time.monotonic() - started}
    result |= {key: history[-1][key] for key in ("pretrain/loss", "speed/clips_per_s")}
    probe = fit_probe(encoder, motions, recipe, options.device, ConsoleReporter())
    return result | {key: value for key, value in probe.metrics.items() if "top1" in key}


class _Until(ConsoleReporter):
    """Shows progress, and asks the training to end when its time is over."""

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._deadline = deadline

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        super().progress(task, done, total, note)
        if time.monotonic() > self._deadline and done < total:
            os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def matrix_precision(name: str) -> Iterator[None]:
    """`torch.set_float32_matmul_precision` within the block: highest, or high (TF32 on a GPU)."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def timed(options: Options, call: Callable[[], object], times: int, warm: int = 2, wait: bool = True) -> float:
    """Mean seconds of a call, after some that do not count; `wait` for the device at the end, too."""
    for _ in range(warm):
        call()
    options.synchronize()
    started = time.perf_counter()
    for _ in range(times):
        call()
    if wait:
        options.synchronize()
    seconds = (time.perf_counter() - started) / times
    options.synchronize()
    return seconds


def machine(options: Options) -> Values:
    """Description of the machine and the commit."""
    result: Values = {"commit": commit(), "seed": 0, "hardware": hardware(torch.get_num_threads())}
    if options.device.type == "cuda":
        properties = torch.cuda.get_device_properties(0)
        result["gpu"] = {
            "name": properties.name,
            "memory_gb": properties.total_memory / 1e9,
            "cuda": torch.version.cuda,
        }
    return result


def measure(options: Options, out: Path) -> Values:
    """Run all, and write the file after each; one that fails leaves its reason in the place of its values."""
    values = machine(options)
    stages: dict[str, Callable[[], Values]] = {
        "parity": lambda: parity(options),
        "matrix_tflops": lambda: matrix_rates(options),
        "steps": lambda: steps(options, values["matrix_tflops"]),
        "feeding": lambda: feeding(options),
        "kill_and_resume": lambda: kill_and_resume(options),
        "checkpoint_on_cpu": lambda: checkpoint_on_cpu(options),
        "nw_ucla": lambda: nw_ucla(options),
    }
    for name, stage in stages.items():
        started = time.monotonic()
        try:
            values[name] = stage()
        except Exception as error:  # of whatever kind: the stages after it still run
            values[name] = {"error": first_line(error)}
        values.setdefault("seconds", {})[name] = round(time.monotonic() - started, 1)
        artifact.write_json(out, values)
        print(f"{name}: {values[name]}", flush=True)
    return values


def main() -> None:
    """Measure; exit status 1 if a stage failed or a format is out of bounds."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    arguments.add_argument("--tiny", action="store_true", help="sizes for a CPU")
    arguments.add_argument("--seconds", type=float, default=290.0, help="after which no training goes on")
    arguments.add_argument("--out", type=Path, default=ROOT / "results" / "gpu.json")
    arguments.add_argument("--motions", type=Path, default=ROOT / "build" / "gpu" / "motions")
    arguments.add_argument("--victim", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch sees no GPU; take --device cpu --tiny --out build/gpu.json to try the script")
    deadline = time.monotonic() + given.seconds - LEFT_FOR_PROBE
    options = Options(torch.device(given.device), given.tiny, deadline, given.motions.resolve())
    with as_on_a_gpu():
        if given.victim:
            victim(options, given.victim)
            return
        given.out.parent.mkdir(parents=True, exist_ok=True)
        values = measure(options, given.out)
    bad = [name for name, value in values.items() if isinstance(value, dict) and "error" in value]
    bad += [kind for kind, row in values["parity"].items() if isinstance(row, dict) and not row["within"]]
    sys.exit(f"{given.out}: failed or out of bounds: {', '.join(bad)}; the file has the reasons" if bad else 0)


if __name__ == "__main__":
    main()
