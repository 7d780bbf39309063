"""Steps of Kubeflow's local runner as forks of a process that has imported torch, MLflow and KFP once.

Each step of a local run is a process that spends four CPU seconds on imports, and the graphs run here have 45 steps. A
fork is a process, too: with its own environment, output and exit code. `test_failure_is_said_and_recorded` starts its
steps as a user does.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

IMPORTED = [
    *("kfp.dsl.executor", "mlflow", "mlflow.store.tracking.sqlalchemy_store", "torch", "matplotlib.pyplot", "sklearn"),
    *("glt.steps.data", "glt.steps.training", "glt.steps.gate", "glt.steps.report", "glt.steps.study"),
]
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(IMPORTED)


def run_forked(full_command: Sequence[str], env_vars: Mapping[str, str] | None = None) -> int:
    """In place of `kfp.local.subprocess_task_handler.run_local_subprocess`: print a step's output, give its exit code.

    Args:
        full_command: `sh -ec SCRIPT SOURCE ARGUMENTS...`, where SCRIPT runs KFP's executor on the component's SOURCE.
        env_vars: added to the environment.
    """
    shell, flags, script, source, *arguments = full_command
    assert (shell, flags) == ("sh", "-ec")
    assert "-m kfp.dsl.executor_main" in script
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "ephemeral_component.py").write_text(source)
        os.mkfifo(Path(folder) / "output")
        process = _FORKS.Process(
            target=_run, args=(folder, arguments, {**os.environ, **(env_vars or {})}, str(Path.cwd()))
        )
        process.start()
        with (Path(folder) / "output").open(encoding="utf-8", errors="replace") as output:
            for line in output:
                print(line, end="")
        process.join()
    assert process.exitcode is not None
    return process.exitcode


def _run(folder: str, arguments: list[str], environment: Mapping[str, str], working_directory: str) -> None:
    output = os.open(Path(folder) / "output", os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, closefd=False) for stream in (1, 2))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(working_directory)
    sys.argv = ["executor_main", "--component_module_path", str(Path(folder) / "ephemeral_component.py"), *arguments]
    runpy.run_module("kfp.dsl.executor_main", run_name="__main__")
