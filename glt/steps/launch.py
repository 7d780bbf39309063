"""The step `pretrain` as a pod runs it: in this process with at most one GPU, else one torchrun process per GPU.

On several nodes the pod creates a TrainJob and waits for it. GPUs have not been tried: none was at hand.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from glt import artifact
from glt.errors import GltError, Interrupted
from glt.lifecycle import jobs
from glt.motion.disentangle import Motions
from glt.recipe import load
from glt.settings import HOME, RUN_ID, TRACKING_RUN_ID, TRACKING_URI, image, job_labels, run_id
from glt.steps import training
from glt.steps.provenance import versions_of
from glt.training.checkpoint import Checkpoint
from glt.training.interruption import catch_sigterm

# What the nodes must know as this process does; secrets come to them from where this process has them.
SHARED = (HOME, RUN_ID, TRACKING_URI, TRACKING_RUN_ID)


def launch_pretraining(
    motions: Path, recipe: str, out: Path, accelerator: str, data_version: str, code_version: str, nodes: int = 1
) -> dict[str, float]:
    """Run `glt.steps.training.pretrain` on all GPUs of this machine, or on several machines.

    Of several nodes each must see GLT_HOME/checkpoints as this process does.

    Raises:
        GltError: as `pretrain` there; or `nodes` is below 1, the job failed, or another process uses these checkpoints.
    """
    artifact.check_replaceable(out, "encoder")
    if nodes < 1:
        raise GltError(f"nodes {nodes}: give how many machines train together, 1 or more")
    gpus = 0 if accelerator == "cpu" else torch.cuda.device_count()
    options = ["--accelerator", accelerator, "--data-version", data_version, "--code-version", code_version]
    if nodes > 1:
        _on_nodes(nodes, motions, recipe, out, options, data_version, code_version)
    elif gpus > 1:
        _torchrun(gpus, ["pretrain", str(motions), recipe, str(out), *options])
    else:
        return training.pretrain(
            motions, recipe, out, accelerator, data_version=data_version, code_version=code_version
        )
    last = artifact.read_json(out / "history.json", list)[-1]
    return {name: value for name, value in last.items() if name != "epoch"}


def _on_nodes(
    nodes: int, motions: Path, recipe: str, out: Path, options: list[str], data_version: str, code_version: str
) -> None:
    """Run a TrainJob that reads and writes beside the checkpoints, which all nodes see, and copy its encoder to `out`.

    The job has the name of the checkpoints, which follows from recipe, data and code, so two jobs never share them. Its
    inputs and outputs stay until the encoder is at `out`, so a retried step continues where it was.
    """
    settings, data = load(recipe), Motions(motions)
    state = training.pretraining_state(data, settings, versions_of(data.info, data_version, code_version)).folder
    assert state is not None
    shared = state.with_name(f"{state.name}-job")
    with Checkpoint(shared).lock():
        if not (shared / "motions").exists():
            artifact.copy(motions, shared / "motions", "motions")
        artifact.write_bytes(shared / "recipe.json", settings.to_json().encode())
        if not (shared / "encoder").exists():
            run = run_id()
            command = ["pretrain", *(str(shared / name) for name in ("motions", "recipe.json", "encoder"))]
            jobs.run(
                f"glt-{state.name}",
                [*command, "--checkpoints", str(state), *options],
                nodes,
                environment={name: os.environ[name] for name in SHARED if name in os.environ},
                labels=json.loads(job_labels() or "{}") | ({jobs.RUN_LABEL: run} if run else {}),
                image=image() or None,
            )
        artifact.copy(shared / "encoder", out, "encoder")
        for folder in ("motions", "encoder"):
            shutil.rmtree(shared / folder)
        (shared / "recipe.json").unlink()


def _torchrun(processes: int, command: list[str]) -> None:
    """Run `glt` with these arguments in many processes of this machine; SIGTERM is passed on to them."""
    threads = max(1, torch.get_num_threads() // processes)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    group = subprocess.Popen([*torchrun, "-m", "glt", *command], env=environment)
    with catch_sigterm(group.terminate) as terminated:
        try:
            code = group.wait()
        finally:
            if group.poll() is None:
                group.terminate()
    if terminated.is_set() and code:
        raise Interrupted(f"{command[0]} was interrupted (SIGTERM); run the same again to go on")
    if code:
        raise GltError(f"{command[0]} failed in {processes} processes; the lines above say why")
