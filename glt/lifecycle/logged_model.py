"""MLflow's record of a model: parameters, tags, scores by data set, and the runs that it is an output of."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glt import artifact
from glt.lifecycle.step_run import now
from glt.lifecycle.tracking import PARENT
from glt.recipe import flat

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

NAME, TYPE = "classifier", "action classifier"
ID = "model.id"  # tag of a version
_SOURCE = re.compile(r"/models/(m-[0-9a-f]{32})/artifacts$")
_PARAMETERS = 100  # that MLflow takes at once


def create(client: MlflowClient, classifier: Path, run_id: str, tags: Mapping[str, str]) -> LoggedModel:
    """Create the record of a model that a run logs, with the classifier's recipe as its parameters.

    The model becomes an output of the run and of the pipeline run above it.

    Args:
        client: of `connection.connect`.
        classifier: the artifact folder.
        run_id: MLflow run that registers the model.
        tags: of the record.
    """
    run = client.get_run(run_id)
    recipe = _config(classifier).get("recipe", {})
    params = [(name, str(value)) for name, value in flat(recipe).items()]
    model = client.create_logged_model(
        run.info.experiment_id, NAME, run_id, dict(tags), dict(params[:_PARAMETERS]), TYPE
    )
    for start in range(_PARAMETERS, len(params), _PARAMETERS):
        client.log_model_params(model.model_id, dict(params[start : start + _PARAMETERS]))
    add_output(client, model.model_id, run_id)
    return model


def add_output(client: MlflowClient, model_id: str, run_id: str) -> None:
    """Make a model an output of a run and of the pipeline run above it."""
    from mlflow.entities import LoggedModelOutput

    runs = [client.get_run(run_id)]
    if parent := runs[0].data.tags.get(PARENT):
        runs.append(client.get_run(parent))
    for run in runs:
        known = run.outputs.model_outputs if run.outputs else []
        if all(output.model_id != model_id for output in known):
            client.log_outputs(run.info.run_id, [LoggedModelOutput(model_id, step=0)])


def add_version(client: MlflowClient, model_id: str, name: str, version: str) -> None:
    """Record on a model which version of a registered model it is.

    MLflow's stores keep no model id with a version: its user interface finds the versions of a model, and of the runs
    it is an output of, by this tag (mlflow/tracking/_model_registry/fluent.py of MLflow 3.17). Its server sets it, too.
    """
    versions = json.dumps([{"name": name, "version": version}])
    client.set_logged_model_tags(model_id, {"mlflow.modelVersions": versions})


def id_in(source: str) -> str:
    """The id of the model in the source of a version; empty if it names none."""
    found = _SOURCE.search(source)
    return found[1] if found else ""


def log_scores(client: MlflowClient, classifier: Path, model: LoggedModel, run_id: str, data_version: str) -> None:
    """Log the classifier's scores on the model and on the run, each with the data set that it was measured on.

    The data sets, the test clips and the training clips that validation predicts, become inputs of the run.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric

    data = _config(classifier).get("recipe", {}).get("data", {})
    base = f"{data.get('dataset', 'recordings')}-{data.get('protocol', 'split')}"
    origin = json.dumps({"uri": f"runs:/{artifact.read_manifest(classifier).info.get('mlflow_run_id', run_id)}"})
    digest, time_now = data_version[:36], now()
    datasets = {split: Dataset(f"{base}-{split}", digest, "dvc", origin) for split in ("test", "validation")}
    client.log_inputs(
        run_id,
        [DatasetInput(dataset, [InputTag("mlflow.data.context", split)]) for split, dataset in datasets.items()],
    )
    scores = artifact.read_json(classifier / "metrics.json", dict)
    client.log_batch(
        run_id,
        metrics=[
            Metric(name, float(value), time_now, 0, model.model_id, datasets[_split(name)].name, digest)
            for name, value in scores.items()
        ],
    )


def _split(metric: str) -> str:
    return "validation" if "val_" in metric.rpartition("/")[2] else "test"


def _config(classifier: Path) -> dict[str, Any]:
    return dict(artifact.read_json(classifier / "config.json", dict))
