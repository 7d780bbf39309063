"""The step `pretrain` as a pod runs it: on one GPU or none in this process, on several by torchrun, a process each.

The second way has been run on CPUs only: no GPU was at hand.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

import torch

from glt.errors import GltError, Interrupted
from glt.steps import training


def pretrain(
    motions: Path, recipe: str, out: Path, accelerator: str, data_version: str, code_version: str
) -> dict[str, float]:
    """`glt.steps.training.pretrain` on all GPUs that this machine shows; arguments and errors as there."""
    gpus = 0 if accelerator == "cpu" else torch.cuda.device_count()
    if gpus < 2:
        return training.pretrain(
            motions, recipe, out, accelerator, data_version=data_version, code_version=code_version
        )
    options = ["--accelerator", accelerator, "--data-version", data_version, "--code-version", code_version]
    _torchrun(gpus, ["pretrain", str(motions), recipe, str(out), *options])
    last = json.loads((out / "history.json").read_text(encoding="utf-8"))[-1]
    return {name: value for name, value in last.items() if name != "epoch"}


def _torchrun(processes: int, command: list[str]) -> None:
    """Run `glt` with these arguments in many processes of this machine; SIGTERM is passed on to them."""
    threads = max(1, torch.get_num_threads() // processes)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    group = subprocess.Popen([*torchrun, "-m", "glt", *command], env=environment)
    told = False

    def pass_on(number: int, frame: FrameType | None) -> None:
        nonlocal told
        told = True
        group.send_signal(number)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        code = group.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
        if group.poll() is None:
            group.terminate()
    if told and code:
        raise Interrupted(f"{command[0]} was told to end (SIGTERM); run the same again to go on")
    if code:
        raise GltError(f"{command[0]} failed in {processes} processes; the lines above say why")
