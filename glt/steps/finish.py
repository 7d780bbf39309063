"""The end of a pipeline run: close its MLflow run with the status that its own steps show."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from glt import settings
from glt.errors import GltError, first_line
from glt.lifecycle import jobs, kubeflow_runs, run_ends, tracking
from glt.recipe import Recipe, load
from glt.text import clean, printable

if TYPE_CHECKING:
    from mlflow.entities import Run

_LOG = logging.getLogger(__name__)

_COMPLETE = {"COMPLETE", "CACHED", "SUCCEEDED"}  # a step that is open in MLflow then ended while MLflow was away
_CANCELLED = {"CANCELED", "CANCELLED", "CANCELING"}
_LAST_STEPS = ({"compare_arms"}, {"report", "register"})  # of a study, of a training: a run with either is complete


def finish(recipe: str, data_version: str, code_version: str, state: str, message: str = "") -> None:
    """Close the parent run as the pipeline run ended, and delete a job of several nodes that a killed step left.

    Of the states that Kubeflow Pipelines hands to an exit step only FAILED can be believed: its backend recomputes a
    run's state only when a launcher ends, so a good run arrives as COMPLETE, CACHED or RUNNING, and so does one that
    was terminated (backend/src/v2/driver/resolve.go of KFP 2.17; the local runner says SUCCEEDED). For every other
    state the runs of the steps decide: the run finished if its last steps did.

    Args:
        recipe: name, path or text of the recipe.
        data_version: DVC md5 of the recordings.
        code_version: hash of the source tree.
        state: final state by Kubeflow Pipelines.
        message: its error message; the backend gives none.
    """
    jobs.delete_of_run_quietly(settings.run_id())
    try:
        reason = _close(load(recipe), tracking.Versions(data_version, code_version), state, message)
    except Exception as error:  # of MLflow; the reason why the run failed matters more
        said = f": {message}" if message else "; the log of the step that failed says why"
        raise GltError(
            f"the run ended as {state}{said}. Its MLflow run could not be closed ({first_line(error)})"
        ) from error
    if reason:
        _LOG.warning("the run did not finish: %s", printable(reason))


def _close(recipe: Recipe, version: tracking.Versions, state: str, message: str) -> str:
    """Close the parent run; the reason if it did not finish."""
    client = tracking.connect()
    parent = client.get_run(tracking.parent(recipe, version))
    steps = tracking.step_runs(client, parent.info.run_id)
    status, reason = outcome(state, steps, parent.data.tags)
    run_ends.close_run(client, parent.info.run_id, status, clean(message) or reason)
    kubeflow_runs.close_ended_quietly(client, settings.run_id())
    return str(client.get_run(parent.info.run_id).data.tags.get("error", "")) if status != "FINISHED" else ""


def outcome(state: str, steps: Sequence[Run], tags: Mapping[str, str]) -> tuple[str, str]:
    """The status of a pipeline run (FINISHED, FAILED or KILLED), and the reason if it did not finish.

    Args:
        state: final state by Kubeflow Pipelines.
        steps: MLflow runs of its steps.
        tags: of its parent run.
    """
    if state == "FAILED":
        return "FAILED", "Kubeflow Pipelines reports FAILED"
    last_attempts = run_ends.last_attempts(steps)
    if any(run.info.status == "FAILED" for run in last_attempts.values()):
        return "FAILED", "a step failed"
    if _is_complete(last_attempts, tags, ("FINISHED", "RUNNING") if state in _COMPLETE else ("FINISHED",)):
        return "FINISHED", ""
    if state in _CANCELLED:
        return "KILLED", f"Kubeflow Pipelines reports {state}"
    return "FAILED", (
        f"the run ended early (Kubeflow Pipelines reports {state}): it was terminated, or a step failed before it "
        "reached MLflow; the logs of its pods say which"
    )


def _is_complete(steps: Mapping[str, Run], tags: Mapping[str, str], good: Collection[str]) -> bool:
    """True if the last steps have a good status; after a gate that passed, promotion is one of them."""
    finished = {name for name, run in steps.items() if run.info.status in good}
    if tags.get(tracking.RETRAINING, "").startswith(tracking.SKIPPED):
        return "check_for_new_data" in finished
    promotes = "gate" in finished and steps["gate"].data.metrics.get("gate/passed") == 1.0
    return any(last <= finished for last in _LAST_STEPS) and ("promote" in finished or not promotes)
