"""What a run leaves in MLflow: a parent run a pipeline run, a child run a step, metrics, figures, the data's digest.

A run is found by what it is, not by an id that is passed along: the parent by the tag ``kfp.run_id`` (from GLT_RUN_ID),
a step's by the tag ``glt.step`` within its parent. So a step that runs again continues its run.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glt import artifact
from glt.errors import GltError
from glt.recipe import Recipe
from glt.reporter import ConsoleReporter

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

PARENT, STEP, PIPELINE = "mlflow.parentRunId", "glt.step", "kfp.run_id"
_BATCH = 1000  # metrics MLflow takes at once
_FLUSH = 2.0  # seconds between two deliveries of metrics
_PAUSE = 30.0  # seconds after a failed delivery before the next try


@dataclass(frozen=True)
class Versions:
    """What a run is made from: DVC md5 of the recordings, hash of the source tree."""

    data: str
    code: str


def home() -> Path:
    """Where this machine keeps what runs leave behind: GLT_HOME, or ``runs`` in the working directory."""
    return Path(os.environ.get("GLT_HOME", "runs")).resolve()


def store_uri() -> str:
    """MLFLOW_TRACKING_URI, or a SQLite file in `home`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}"


def connect() -> MlflowClient:
    """A client of the store, which has answered; metrics that an earlier run could not deliver are delivered.

    Raises:
        GltError: the store does not answer.
    """
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
    import mlflow

    if store_uri().startswith("sqlite:///"):
        Path(store_uri().removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(store_uri())
    client = mlflow.MlflowClient()
    try:
        client.search_experiments(max_results=1)
    except Exception as error:  # sqlalchemy, requests and MLflow each raise their own
        raise GltError(
            f"MLflow at {store_uri()} does not answer ({str(error).splitlines()[0][:200]}); start the server, correct "
            "MLFLOW_TRACKING_URI, or unset it to keep runs on this machine"
        ) from error
    _deliver_spool(client)
    return client


def parent(recipe: Recipe, versions: Versions) -> str:
    """Id of the pipeline run's MLflow run, made if it is not there.

    A run id that Kubeflow's own MLflow plugin injected (MLFLOW_RUN_ID) is honoured.
    """
    return _parent(connect(), recipe, versions)


@contextmanager
def step(recipe: Recipe, versions: Versions, name: str, key: str = "") -> Iterator[StepRun]:
    """A child run for a step; it ends FINISHED, or FAILED with the tag `error` if the block raises.

    Args:
        recipe: says the experiment.
        versions: what the run is made from.
        name: of the step.
        key: tells apart the runs of a step that runs several times in a pipeline run.
    """
    client = connect()
    above = _parent(client, recipe, versions)
    title = f"{name}/{key}" if key else name
    experiment = client.get_run(above).info.experiment_id
    found = client.search_runs([experiment], f"tags.`{PARENT}` = '{above}' and tags.`{STEP}` = '{title}'")
    if found:
        run_id = found[0].info.run_id
        client.update_run(run_id, status="RUNNING")
    else:
        run_id = client.create_run(experiment, tags={PARENT: above, STEP: title}, run_name=title).info.run_id
    run = StepRun(client, run_id, above)
    run.tags(_tags(recipe, versions))
    status = "FAILED"
    try:
        yield run
        status = "FINISHED"
    except BaseException as error:
        run.tags(
            {"error": f"{error}"[:5000] if isinstance(error, GltError) else f"{type(error).__name__}: {error}"[:5000]}
        )
        raise
    finally:
        run.end(status)
        if not _in_pipeline():
            client.set_terminated(above, status)


class StepRun:
    """The MLflow run of a step; a `glt.reporter.Reporter`.

    Once it is open nothing it does stops the step: what cannot be delivered is said, metrics are kept and arrive later.
    """

    def __init__(self, client: MlflowClient, run_id: str, parent_id: str) -> None:
        """Use `step`."""
        self.run_id, self._parent = run_id, parent_id
        self._client, self._console = client, ConsoleReporter()
        self._waiting: list[tuple[str, float, int, int]] = []
        self._next = 0.0

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        """Show it on the console."""
        self._console.progress(task, done, total, note)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Record `values` at `step`; they are delivered a few at a time."""
        now = int(time.time() * 1000)
        self._waiting += [(name, float(value), now, step) for name, value in values.items()]
        if time.monotonic() >= self._next:
            self._deliver()

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        for name, value in values.items():
            self._attempt(f"tag {name}", lambda name=name, value=value: self._client.set_tag(self.run_id, name, value))

    def figure(self, figure: Figure, name: str) -> None:
        """Keep a figure as a PNG."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            figure.savefig(path, dpi=120, bbox_inches="tight")
            self.file(path, "figures")

    def file(self, path: Path, folder: str = "") -> None:
        """Keep a file under `folder`."""
        self._attempt(path.name, lambda: self._client.log_artifact(self.run_id, str(path), folder or None))

    def dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Say which data the step used, here and on the parent run.

        Args:
            name: of the dataset.
            digest: DVC md5.
            source: where it was read from.
            context: training or evaluation.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        data = Dataset(name, digest[:36], "dvc", json.dumps({"uri": source}))
        entry = DatasetInput(data, [InputTag("mlflow.data.context", context)])
        for run_id in (self.run_id, self._parent):
            self._attempt("dataset", lambda run_id=run_id: self._client.log_inputs(run_id, [entry]))

    def end(self, status: str) -> None:
        """Deliver what waits and close the run; if the server is away, leave both to the next `connect`."""
        try:
            self._deliver()
            if not self._waiting:
                self._client.set_terminated(self.run_id, status)
                return
        except Exception as error:
            self._warn("its end", error)
        spooled = {"run_id": self.run_id, "status": status, "metrics": self._waiting}
        artifact.write_json(home() / "spool" / f"{self.run_id}.json", spooled)

    def _deliver(self) -> None:
        try:
            _log(self._client, self.run_id, self._waiting)
        except Exception as error:
            self._next = time.monotonic() + _PAUSE
            self._warn("metrics, which are kept", error)
        else:
            self._waiting = []
            self._next = time.monotonic() + _FLUSH

    def _attempt(self, what: str, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception as error:
            self._warn(what, error)

    def _warn(self, what: str, error: Exception) -> None:
        print(f"glt: warning: MLflow did not take {what} ({str(error).splitlines()[0][:120]})", flush=True)


def on_parent(
    recipe: Recipe, versions: Versions, metrics: Mapping[str, float], tags: Mapping[str, str] | None = None
) -> None:
    """Put final metrics and tags on the parent run, where runs are compared."""
    client = connect()
    run_id, now = _parent(client, recipe, versions), int(time.time() * 1000)
    _log(client, run_id, [(name, value, now, 0) for name, value in metrics.items()])
    for name, value in (tags or {}).items():
        client.set_tag(run_id, name, value)


def fetch_report(parent_id: str, place: Path) -> None:
    """Copy the report of a pipeline run to `place`."""
    import mlflow

    client = connect()
    experiment = client.get_run(parent_id).info.experiment_id
    query = f"tags.`{PARENT}` = '{parent_id}' and tags.`{STEP}` = 'report'"
    run_id = client.search_runs([experiment], query)[0].info.run_id
    (name,) = (file.path for file in client.list_artifacts(run_id, "report"))
    with tempfile.TemporaryDirectory() as folder:
        page = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name, dst_path=folder)
        artifact.write_bytes(place, Path(page).read_bytes())


def close(recipe: Recipe, versions: Versions, status: str, message: str = "") -> None:
    """End the parent run.

    Args:
        recipe: says the experiment.
        versions: what the run is made from.
        status: FINISHED, FAILED or KILLED.
        message: why, if no step's run says it; becomes the tag `error`.
    """
    client = connect()
    run_id = _parent(client, recipe, versions)
    if status != "FINISHED":
        experiment = client.get_run(run_id).info.experiment_id
        failed = client.search_runs([experiment], f"tags.`{PARENT}` = '{run_id}' and attributes.status = 'FAILED'")
        errors = [run.data.tags["error"] for run in failed if "error" in run.data.tags]
        client.set_tag(run_id, "error", (errors[0] if errors else message) or "no reason was given")
    client.set_terminated(run_id, status)


def _parent(client: MlflowClient, recipe: Recipe, versions: Versions) -> str:
    if injected := os.environ.get("MLFLOW_RUN_ID"):
        return injected
    found = client.get_experiment_by_name(recipe.experiment)
    experiment = found.experiment_id if found else _new_experiment(client, recipe.experiment)
    key = os.environ.get("GLT_RUN_ID") or f"{recipe.name}-{versions.data[:12]}-{versions.code}"
    query = f"tags.`{PIPELINE}` = '{key}'"
    runs = client.search_runs([experiment], query, order_by=["attributes.start_time ASC"])
    if not runs:
        tags = {PIPELINE: key, **_tags(recipe, versions)}
        made = client.create_run(experiment, tags=tags, run_name=f"{recipe.name}-{key[:8]}")
        for name, value in _flat(recipe.model_dump(mode="json")).items():
            client.log_param(made.info.run_id, name, value)
        # Two steps that start at once may both get here: the older run is the parent.
        runs = client.search_runs([experiment], query, order_by=["attributes.start_time ASC"])
        if runs[0].info.run_id != made.info.run_id:
            client.delete_run(made.info.run_id)
    return str(runs[0].info.run_id)


def _new_experiment(client: MlflowClient, name: str) -> str:
    local = store_uri().startswith("sqlite:///")
    place = (home() / "mlartifacts" / name).as_uri() if local else None
    try:
        return str(client.create_experiment(name, artifact_location=place))
    except Exception:
        if (found := client.get_experiment_by_name(name)) is None:
            raise
        return str(found.experiment_id)


def _tags(recipe: Recipe, versions: Versions) -> dict[str, str]:
    return {"data.version": versions.data, "code.version": versions.code, "recipe": recipe.name}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _in_pipeline() -> bool:
    return bool(os.environ.get("GLT_RUN_ID") or os.environ.get("MLFLOW_RUN_ID"))


def _log(client: MlflowClient, run_id: str, rows: list[tuple[str, float, int, int]]) -> None:
    from mlflow.entities import Metric

    for start in range(0, len(rows), _BATCH):
        client.log_batch(run_id, metrics=[Metric(*row) for row in rows[start : start + _BATCH]])


def _deliver_spool(client: MlflowClient) -> None:
    for path in sorted((home() / "spool").glob("*.json")):
        try:
            spooled = json.loads(path.read_text(encoding="utf-8"))
            _log(client, spooled["run_id"], [tuple(row) for row in spooled["metrics"]])
            client.set_terminated(spooled["run_id"], spooled["status"])
        except Exception as error:
            print(f"glt: warning: {path} still waits for MLflow ({str(error).splitlines()[0][:120]})", flush=True)
        else:
            path.unlink(missing_ok=True)
