"""Logs the files of a registered model, and creates its version."""

from __future__ import annotations

import warnings
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

LOADER = "glt.serving.pyfunc"
# Packages that the loader needs besides glt, which comes with the image and is on no index.
REQUIREMENTS = ("numpy", "pandas", "pyarrow", "pydantic", "pyyaml", "safetensors", "scipy", "torch")


def log_model(client: MlflowClient, classifier: Path, run_id: str) -> LoggedModel:
    """Log the folder as a pyfunc model that holds data only: our own code loads it, without pickles."""
    import mlflow
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    outputs = Schema([ColSpec(DataType.string, "label"), ColSpec(DataType.double, "confidence")])
    experiment = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment, "classifier", run_id)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*input example was not provided")
        # What `mlflow.pyfunc.log_model` calls; that one needs the step's run to be MLflow's active run, and ends it.
        Model.log(
            artifact_path=None,
            flavor=mlflow.pyfunc,
            model_id=model.model_id,
            run_id=run_id,
            loader_module=LOADER,
            data_path=str(classifier),
            pip_requirements=[f"{name}=={metadata.version(name).partition('+')[0]}" for name in REQUIREMENTS],
            signature=ModelSignature(outputs=outputs),
            metadata={"input": "clips [frames, persons, joints, 3]: a list, or a DataFrame's column `frames`"},
        )
    return model


def create_version(client: MlflowClient, name: str, model: LoggedModel, tags: dict[str, str], description: str) -> str:
    """Create a version together with its tags and description, so that none exists without them; returns its number."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description="Global-local Motion Transformer with its linear classifier")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    created = client.create_model_version(
        name,
        model.artifact_location,
        model.source_run_id,
        tags,
        description=description,
        model_id=model.model_id,
    )
    return str(created.version)
