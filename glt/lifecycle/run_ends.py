"""Closes the MLflow run of a pipeline run, and the runs of its steps that did not end their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from glt.lifecycle import notes, tracking
from glt.recipe import Recipe

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def close(recipe: Recipe, versions: tracking.Versions, status: str, message: str = "") -> None:
    """End the parent run, and the runs of steps that did not end their own.

    Args:
        recipe: names the experiment.
        versions: what the run is made from.
        status: FINISHED, FAILED or KILLED.
        message: as of `close_run`.
    """
    close_run(tracking.connect(), tracking.parent(recipe, versions), status, message)


def close_run(client: MlflowClient, run_id: str, status: str, message: str = "") -> None:
    """End a parent run, and the runs of its steps that are still open.

    Such a run belongs to a process that was killed, unless the pipeline run finished: then MLflow was away when the
    step ended.

    Args:
        client: of `tracking.connect`.
        run_id: the parent run.
        status: FINISHED, FAILED or KILLED.
        message: the reason, which becomes the tag `error`; of a FAILED run, if no step's run has one. The step that
            failed first in time decides.
    """
    steps = tracking.step_runs(client, run_id)
    failed = [run for run in last_attempts(steps).values() if run.info.status in ("FAILED", "KILLED")]
    # What was killed because another step failed ends after it.
    failed.sort(key=lambda run: (run.info.status != "FAILED", run.info.end_time or 0))
    errors = [run.data.tags["error"] for run in failed if "error" in run.data.tags]
    for run in steps:
        if run.info.status != "RUNNING":
            continue
        if status == "FINISHED":
            client.set_terminated(run.info.run_id, "FINISHED")
            continue
        errors.append(f"{run.data.tags[tracking.STEP]} was killed, evicted or out of memory: it never reported its end")
        client.set_tag(run.info.run_id, "error", errors[-1])
        client.set_terminated(run.info.run_id, "KILLED")
    if status != "FINISHED":
        reasons = [message, *errors] if status == "KILLED" else [*errors, message]
        client.set_tag(run_id, "error", next(filter(None, reasons), "no reason was given"))
    elif "error" in client.get_run(run_id).data.tags:
        client.delete_tag(run_id, "error")
    tracking.sum_costs(client, run_id)
    notes.refresh(client, run_id)
    client.set_terminated(run_id, status)


def last_attempts(steps: Sequence[Run]) -> dict[str, Run]:
    """The last run of each step by its name: Kubeflow's MLflow plugin makes one per attempt."""
    by_start = sorted(steps, key=lambda run: run.info.start_time)
    return {run.data.tags[tracking.STEP]: run for run in by_start}
