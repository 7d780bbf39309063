"""Training steps of one implementation in a process of their own: their time, and the memory of the process.

python -m benchmarks.one_step ours --recordings ntu --width 48        # prints JSON
python -m benchmarks.one_step ours --recordings nwucla --width 8 --profile
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import torch

from benchmarks.clips import RECORDINGS
from benchmarks.hardware import ROOT
from benchmarks.training_step import IMPLEMENTATIONS, Problem

TOP = 16  # operations in a profile


class OneStep(TypedDict):
    """Seconds of each step; the process's peak memory (GB) after them, and after its imports alone."""

    seconds: list[float]
    peak_gb: float
    imported_gb: float


def main() -> None:
    """Do some steps; print their seconds, the peak memory (GB) before and after them, or a profile."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("implementation", choices=IMPLEMENTATIONS)
    arguments.add_argument("--recordings", choices=RECORDINGS, default="ntu")
    arguments.add_argument("--width", type=int, default=48, help="dims per token")
    arguments.add_argument("--lengths", type=int, nargs="+", help="of the clips; else drawn as those of the recordings")
    arguments.add_argument("--steps", type=int, default=2)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--profile", action="store_true", help="print where the last step spends its time")
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    before = peak()
    implementation = IMPLEMENTATIONS[given.implementation](Problem.of(given.recordings, given.width, given.lengths))
    seconds = []
    for index in range(given.steps):
        if given.profile and index == given.steps - 1:
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                implementation.step()
            print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=TOP, max_name_column_width=60))
            return
        started = time.perf_counter()
        implementation.step()
        seconds.append(time.perf_counter() - started)
    print(json.dumps({"seconds": seconds, "peak_gb": peak(), "imported_gb": before}))


def peak() -> float:
    """The most memory this process has had, GB.

    Not getrusage's ru_maxrss: of a process that another one started, Linux counts the peak of that other one in.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024 / 1e9


def run_in_process(
    implementation: str,
    recordings: str,
    width: int,
    lengths: Sequence[int] | None = None,
    steps: int = 2,
    threads: int = 1,
) -> OneStep:
    """Run `main` in a new process; returns the values that it prints."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.one_step",
        implementation,
        "--recordings",
        recordings,
        "--width",
        str(width),
    ]
    command += ["--steps", str(steps), "--threads", str(threads)]
    command += ["--lengths", *map(str, lengths)] if lengths else []
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    result: OneStep = json.loads(done.stdout)
    return result


if __name__ == "__main__":
    main()
