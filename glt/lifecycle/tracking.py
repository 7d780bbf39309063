"""The MLflow records of a run: one parent run per pipeline run, one child run per step, metrics, figures, datasets.

A run is found by what it is, not by an id that is passed along: the parent by the tag ``kfp.run_id`` (from GLT_RUN_ID),
a step's by the tag ``glt.step`` within its parent. So a step that runs again continues its run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glt import settings
from glt.errors import GltError, first_line
from glt.lifecycle import costs, experiment_page, liveness, local_store, outbox
from glt.lifecycle.connection import condition, shown
from glt.lifecycle.connection import connect as connect
from glt.lifecycle.step_run import StepRun as StepRun
from glt.lifecycle.step_run import now
from glt.recipe import Recipe, flat
from glt.text import clean
from glt.training.interruption import ended_by_sigterm

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_LOG = logging.getLogger(__name__)

PARENT, STEP, PIPELINE = "mlflow.parentRunId", "glt.step", "kfp.run_id"
RETRAINING = "retraining"  # tag of the parent run: what a retraining decided, and why
SKIPPED = "skipped"  # what that tag begins with where nothing is trained
UI = "/#/experiments?workflowType=machine_learning"  # without, MLflow opens on what it has for language models
_FORMER_NAMES = {"gate": "compare", "check_for_new_data": "look"}  # step names that earlier versions recorded


@dataclass(frozen=True)
class Versions:
    """The versions a run uses: the content hash of the recordings and the hash of the source tree."""

    data: str
    code: str


def parent(recipe: Recipe, versions: Versions) -> str:
    """Id of the pipeline run's MLflow run, created if it does not exist.

    Where Kubeflow's own MLflow plugin injected a run (MLFLOW_RUN_ID, the task's), it is the run above that one.
    """
    return _parent(connect(), recipe, versions)


@contextmanager
def step(recipe: Recipe, versions: Versions, name: str, key: str = "") -> Iterator[StepRun]:
    """A child run for a step; it ends FINISHED, or FAILED with the tag `error` if the block raises.

    Args:
        recipe: says the experiment; and, in a study, the arm, which tells its steps apart and compares by its settings.
        versions: what the run is made from.
        name: of the step.
        key: tells apart the runs of a step that runs several times in a pipeline run.
    """
    client = connect()
    parent_id = _parent(client, recipe, versions)
    if client.get_run(parent_id).info.status != "RUNNING":  # the pipeline run is tried again
        client.update_run(parent_id, status="RUNNING")
    title = "/".join(part for part in (name, recipe.trained_arm, key) if part)
    child = _child(client, parent_id, title)
    run = StepRun(
        client, child.info.run_id, parent_id, recipe.trained_arm, child.info.start_time, dict(child.data.metrics)
    )
    run.tags({STEP: title, **_tags(recipe, versions)})
    if recipe.arm:  # the parent's settings are not those of every arm
        run.params(flat(recipe.model_dump(mode="json")))
    status = "FAILED"
    runs = (run.run_id,) if _in_pipeline() else (run.run_id, parent_id)
    try:
        with liveness.alive(*runs), ended_by_sigterm(title):
            yield run
        status = "FINISHED"
        run.untag("error")  # of an earlier attempt
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            status = "KILLED"
        elif isinstance(error, SystemExit) and not error.code:
            status = "FINISHED"
        if status != "FINISHED":
            run.tags({"error": _reason(error)})
        raise
    finally:
        if run.end(status, also_parent=not _in_pipeline()) and run.is_measured:
            sum_costs(client, parent_id)


def sum_costs(client: MlflowClient, parent_id: str) -> None:
    """Record the cost of a pipeline run, that of its steps; no failure of MLflow stops the caller."""
    try:
        with outbox.without_retries():
            if total := costs.total(step_runs(client, parent_id, also_this=True)):
                _log(client, parent_id, total, costs.tags())
    except Exception as error:  # of MLflow, requests and sqlalchemy; the end of the run sums again
        _LOG.debug("the cost of run %s is not recorded: %s", parent_id, first_line(error))


def _reason(error: BaseException) -> str:
    return clean(f"{error}" if isinstance(error, GltError) else f"{type(error).__name__}: {error}")[:5000]


def log_on_parent(
    recipe: Recipe, versions: Versions, metrics: Mapping[str, float], tags: Mapping[str, str] | None = None
) -> None:
    """Put final metrics and tags on the parent run, where runs are compared."""
    client = connect()
    _log(client, _parent(client, recipe, versions), metrics, tags or {})


def _log(client: MlflowClient, run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
    from mlflow.entities import Metric, RunTag

    time_now = now()
    client.log_batch(
        run_id,
        metrics=[Metric(name, float(value), time_now, 0) for name, value in metrics.items()],
        tags=[RunTag(name, str(value)) for name, value in tags.items()],
    )


def _parent(client: MlflowClient, recipe: Recipe, versions: Versions) -> str:
    key = settings.run_id() or f"{recipe.name}-{versions.data[:12]}-{versions.code}"
    if injected := _injected(client):
        run = _root(client, injected)
        if "recipe" not in run.data.tags:
            _describe(client, run.info.run_id, {PIPELINE: key, **_tags(recipe, versions)}, recipe)
            experiment_page.ensure(client, client.get_experiment(run.info.experiment_id))
        return str(run.info.run_id)
    with _store_lock():
        existing = client.get_experiment_by_name(recipe.experiment)
        if existing is not None and existing.lifecycle_stage != "active":
            raise GltError(
                f"MLflow experiment {recipe.experiment} was deleted; restore it (mlflow experiments restore "
                f"--experiment-id {existing.experiment_id}) or remove it for good (mlflow gc)"
            )
        experiment = existing.experiment_id if existing else _new_experiment(client, recipe.experiment)
        experiment_page.ensure(client, existing or client.get_experiment(experiment))
        if runs := _oldest_first(client, experiment, key):
            return str(runs[0].info.run_id)
        run_id = client.create_run(experiment, tags={PIPELINE: key}, run_name=f"{recipe.name}-{key[:8]}").info.run_id
        # On a server, two pods that start at once may both get here: the older run is the parent.
        first = str(_oldest_first(client, experiment, key)[0].info.run_id)
        if first != run_id:
            client.delete_run(run_id)
            return first
        _describe(client, run_id, _tags(recipe, versions), recipe)
        return str(run_id)


def _child(client: MlflowClient, parent_id: str, title: str) -> Run:
    """The run of a step: the one injected for this task, the one of an earlier attempt, or a new one."""
    injected = _injected(client)
    runs = [injected] if injected and injected.info.run_id != parent_id else []
    for recorded in step_names(title):
        runs = runs or children(client, parent_id, recorded)
    if runs:
        client.update_run(runs[0].info.run_id, status="RUNNING")
        return runs[0]
    experiment = client.get_run(parent_id).info.experiment_id
    return client.create_run(experiment, tags={PARENT: parent_id, STEP: title}, run_name=title)


def step_names(step: str) -> tuple[str, ...]:
    """The names that runs of a step may be recorded under: its name, and what earlier versions called it."""
    former = _FORMER_NAMES.get(step)
    return (step, former) if former else (step,)


def children(client: MlflowClient, parent_id: str, step: str = "") -> list[Run]:
    """The runs below a run: all, or those of a step."""
    experiment = client.get_run(parent_id).info.experiment_id
    return tagged_runs(client, [experiment], {PARENT: parent_id} | ({STEP: step} if step else {}))


def tagged_runs(
    client: MlflowClient, experiments: Sequence[str], tags: Mapping[str, str], more: str = "", order: str = ""
) -> list[Run]:
    """The runs that have all of these tags.

    Args:
        client: of `connect`.
        experiments: their ids.
        tags: values by name.
        more: another condition, in MLflow's syntax.
        order: order of the runs, in MLflow's syntax; the newest first if not given.
    """
    conditions = [condition(f"tags.`{name}`", value) for name, value in tags.items()] + ([more] if more else [])
    by = order.split(", ") if order else ["attributes.start_time DESC"]
    found: list[Run] = []
    token = None
    while experiments and token != "":
        page = client.search_runs(list(experiments), " and ".join(conditions), order_by=by, page_token=token)
        found += [run for run in page if all(run.data.tags.get(name) == value for name, value in tags.items())]
        token = page.token or ""
    return found


def step_runs(client: MlflowClient, parent_id: str, also_this: bool = False) -> list[Run]:
    """The runs of all steps of a pipeline run: below its parent run, or below the run of a loop.

    That of this task is left out unless `also_this` is set.

    Kubeflow's MLflow plugin puts a run of its own between the parent and the tasks of a loop.
    """
    this_task, level = settings.tracking_run_id(), [parent_id]
    steps: list[Run] = []
    while level:
        runs = [run for parent_id in level for run in children(client, parent_id)]
        steps += [run for run in runs if STEP in run.data.tags and (also_this or run.info.run_id != this_task)]
        level = [run.info.run_id for run in runs if STEP not in run.data.tags]
    return steps


def _oldest_first(client: MlflowClient, experiment: str, key: str) -> list[Run]:
    order = "attributes.start_time ASC, attributes.run_id ASC"
    return tagged_runs(client, [experiment], {PIPELINE: key}, order=order)


def _injected(client: MlflowClient) -> Run | None:
    """The run that Kubeflow's MLflow plugin made for this task (or that the user chose)."""
    run_id = settings.tracking_run_id()
    if not run_id:
        return None
    try:
        return client.get_run(run_id)
    except Exception as error:
        raise GltError(
            f"MLFLOW_RUN_ID: {shown(settings.store_uri())} has no run {run_id}; "
            "unset it, or correct MLFLOW_TRACKING_URI"
        ) from error


def _root(client: MlflowClient, run: Run) -> Run:
    while parent_id := run.data.tags.get(PARENT):
        run = client.get_run(parent_id)
    return run


def _describe(client: MlflowClient, run_id: str, tags: Mapping[str, str], recipe: Recipe) -> None:
    from mlflow.entities import Param, RunTag

    params = flat(recipe.model_dump(mode="json"))
    client.log_batch(
        run_id,
        params=[Param(name, str(value)) for name, value in params.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )


def _new_experiment(client: MlflowClient, name: str) -> str:
    location = (settings.home() / local_store.ARTIFACTS / name).as_uri() if settings.is_local() else None
    try:
        return str(client.create_experiment(name, artifact_location=location, tags=experiment_page.KIND))
    except Exception:
        if (existing := client.get_experiment_by_name(name)) is None:
            raise
        return str(existing.experiment_id)


def _store_lock() -> AbstractContextManager[None]:
    """Lock the SQLite file against other processes that create a run in it; no lock for a server."""
    file = settings.store_file()
    return nullcontext() if file is None else local_store.locked(file)


def _tags(recipe: Recipe, versions: Versions) -> dict[str, str]:
    return {"data.version": versions.data, "code.version": versions.code, "recipe": recipe.name}


def _in_pipeline() -> bool:
    return bool(settings.run_id() or settings.tracking_run_id())
