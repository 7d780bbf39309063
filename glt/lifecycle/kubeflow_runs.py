"""Closes in MLflow the runs of pipelines that ended on the Kubeflow Pipelines server without running their exit step.

Nobody promises that a terminated run runs its exit step. So the exit step of the next run, and `glt doctor`, ask the
server about every parent run that is still open. Runs of this machine are those of `glt.lifecycle.liveness`.
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glt.errors import GltError, first_line
from glt.lifecycle import jobs, kubeflow, run_ends, tracking

if TYPE_CHECKING:
    from kfp_server_api import ApiClient, V2beta1Run
    from mlflow import MlflowClient
    from mlflow.entities import Run

_LOG = logging.getLogger(__name__)

PATIENCE = 5.0  # seconds for an answer of the server: a run waits for it
SILENCE = 24 * 3600.0  # seconds; longer than any step takes that records nothing meanwhile
DELETED = "the run is unknown to Kubeflow Pipelines, so it was deleted, and nothing has happened in it for a day"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # a run of the server; ours have no hyphens
# backend/src/apiserver/model/run.go of KFP 2.17.0; the other states are of runs that live, or unknown.
_ENDED = {"SUCCEEDED": "FINISHED", "SKIPPED": "FINISHED", "FAILED": "FAILED", "CANCELED": "KILLED"}


@dataclass(frozen=True)
class Closed:
    """A run that was closed, with its new status (FINISHED, FAILED or KILLED) and the reason."""

    run: Run
    status: str
    reason: str


def open_runs(client: MlflowClient) -> list[Run]:
    """The open parent runs of pipeline runs on a server, the oldest first."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments(max_results=1000)]
    only = f"attributes.status = 'RUNNING' and tags.`{tracking.PIPELINE}` LIKE '%-%-%-%-%'"
    runs = tracking.tagged_runs(client, experiments, {}, only, "attributes.start_time ASC")
    return [
        run
        for run in runs
        if _UUID.fullmatch(run.data.tags[tracking.PIPELINE]) and tracking.PARENT not in run.data.tags
    ]


def close_ended(client: MlflowClient, this_run: str = "") -> list[Closed]:
    """Close the open runs that have ended on the server; those that live, or of which it says nothing, stay open.

    A run that the server does not know was deleted there, or is of another server: it is closed once nothing has
    happened in it for a day. A step that trains records its load all the time, and no other step may take so long.

    Args:
        client: of `tracking.connect`.
        this_run: id of the pipeline run that asks; it stays open.

    Raises:
        GltError: the server cannot be asked; runs closed until then stay closed.
    """
    runs = [run for run in open_runs(client) if run.data.tags[tracking.PIPELINE] != this_run]
    if not runs:
        return []
    server = kubeflow.connect(PATIENCE)
    kubeflow.describe(server)
    closed = []
    for run in runs:
        status, reason = _outcome(server, run.data.tags[tracking.PIPELINE])
        if status and (reason != DELETED or _silent(client, run)):
            jobs.delete_of_run_quietly(run.data.tags[tracking.PIPELINE])
            run_ends.close_run(client, run.info.run_id, status, reason)
            closed.append(Closed(run, status, reason))
            _LOG.info("run %s (%s) is closed as %s: %s", run.info.run_name, run.info.run_id, status, reason)
    return closed


def close_ended_quietly(client: MlflowClient, this_run: str) -> None:
    """As `close_ended`, but a failure is a debug message: it is no reason for the run that asks to fail."""
    if not kubeflow.address():
        return
    try:
        close_ended(client, this_run)
    except GltError as error:
        _LOG.debug("open runs of MLflow stay open: %s", error)
    except Exception as error:  # MLflow, requests and sqlalchemy each raise their own
        _LOG.debug("open runs of MLflow stay open: %s", first_line(error))


def _outcome(server: ApiClient, run_id: str) -> tuple[str, str]:
    """The status of a run that has ended on the server, and the reason; an empty status if it may live."""
    from kfp_server_api import ApiException, RunServiceApi

    with kubeflow.server_errors(server.configuration.host):
        try:
            run = RunServiceApi(server).run_service_get_run(run_id)
        except ApiException as error:
            if kubeflow.is_missing(error):
                return "KILLED", DELETED
            if error.status == 403 or (error.status or 0) >= 500:  # another user's run, or one that is damaged
                return "", ""
            raise
    status = _ENDED.get(str(run.state), "")
    if run.run_id != run_id or not status:
        return "", ""
    if status != "FINISHED" and _was_cancelled(run):
        return "KILLED", "the run was terminated in Kubeflow Pipelines"
    return status, f"Kubeflow Pipelines reports {run.state}, and its exit step never ran"


def _silent(client: MlflowClient, run: Run) -> bool:
    """True if for SILENCE no step of a run has begun, ended or recorded a metric."""
    last = 0
    for one in (run, *tracking.step_runs(client, run.info.run_id)):
        recorded = [int(metric.timestamp) for metric in one.data.to_proto().metrics]
        last = max(last, one.info.start_time, one.info.end_time or 0, *recorded)
    return time.time() - last / 1000 > SILENCE


def _was_cancelled(run: V2beta1Run) -> bool:
    """True if a run was terminated: it then ends as FAILED, and only its history tells (resource_manager.go)."""
    states = [entry.state for entry in run.state_history or ()]
    since = len(states) - states[::-1].index("RUNNING") if "RUNNING" in states else 0  # a retry runs again
    return run.state == "CANCELED" or "CANCELING" in states[since:]
