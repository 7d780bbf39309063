"""The files of a registered model: built on this machine, digested, signed, then uploaded; and its version."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from glt.errors import GltError
from glt.serving import model_folder, signature
from glt.serving.model_folder import LOADER, SIGNATURE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

# Packages that the loader needs besides glt, which comes with the image and is on no index.
REQUIREMENTS = ("numpy", "pandas", "pyarrow", "pydantic", "pyyaml", "safetensors", "scipy", "torch")
DIGESTS = "model.digests"  # tag of a version: SHA-256 of each file, by its path, as JSON
SIGNED_BY = "model.signed_by"  # tag of a version: id of the key, for people; verification does not read it
_SHA256 = re.compile(r"[0-9a-f]{64}")


class LoggedFiles(NamedTuple):
    """A model whose files are in MLflow's artifact store.

    Attributes:
        model: its record in MLflow.
        tags: what a version of it carries to verify them: digests, and the id of the key that signed them.
    """

    model: LoggedModel
    tags: dict[str, str]


def log_model(client: MlflowClient, classifier: Path, name: str, run_id: str) -> LoggedFiles:
    """Build the files of a model, digest them, sign them if GLT_SIGNING_KEY is set, and upload them.

    Replaces `mlflow.pyfunc.log_model`, which uploads its files before they can be digested, and ends the step's run.

    Args:
        client: of `connection.connect`.
        classifier: the artifact folder.
        name: of the registered model, which is bound to the files.
        run_id: MLflow run that the model belongs to.
    """
    from mlflow.entities import LoggedModelOutput

    experiment = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment, "classifier", run_id)
    try:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            build_folder(folder, classifier, name, model)
            digests = model_folder.file_digests(folder, name)
            model_folder.check_names(digests, name)
            key = signature.sign(folder)
            client.log_model_artifacts(model.model_id, str(folder))
    except BaseException:
        client.finalize_logged_model(model.model_id, "FAILED")
        raise
    client.finalize_logged_model(model.model_id, "READY")
    return LoggedFiles(model, {DIGESTS: digests_text(digests), **signer(key.short_id if key else "")})


def build_folder(folder: Path, classifier: Path, name: str, model: LoggedModel) -> None:
    """Build a pyfunc model that holds data only at `folder`: our own code loads it, without pickles."""
    import mlflow
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    about = {"input": "clips [frames, persons, joints, 3]: a list, or a DataFrame's column `frames`"}
    record = Model(
        artifact_path=model.artifact_location,
        run_id=model.source_run_id,
        model_uuid=model.model_id,
        model_id=model.model_id,
        metadata={**about, "registered_model": name},
    )
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*input example was not provided")
        data = shutil.copytree(classifier, Path(temporary) / "classifier")
        mlflow.pyfunc.save_model(
            path=str(folder),
            mlflow_model=record,
            loader_module=LOADER,
            data_path=str(data),
            pip_requirements=[f"{name}=={metadata.version(name).partition('+')[0]}" for name in REQUIREMENTS],
            signature=ModelSignature(
                outputs=Schema([ColSpec(DataType.string, "label"), ColSpec(DataType.double, "confidence")])
            ),
        )
    model_folder.check_mlmodel(folder, name, model.model_id, name)


def upload_signature(client: MlflowClient, model_id: str, folder: Path) -> None:
    """Put the signature in a model's folder beside its files in MLflow's artifact store."""
    with tempfile.TemporaryDirectory() as temporary:
        shutil.copyfile(folder / SIGNATURE, Path(temporary) / SIGNATURE)
        client.log_model_artifacts(model_id, temporary)


def signer(key_id: str) -> dict[str, str]:
    """The tag that names a version's key; none without one."""
    return {SIGNED_BY: key_id} if key_id else {}


def digests_text(digests: Mapping[str, str]) -> str:
    """The value of the tag `DIGESTS`."""
    return json.dumps(digests, sort_keys=True, separators=(",", ":"))


def read_digests(text: str, model: str) -> dict[str, str]:
    """The digests in the tag `DIGESTS`.

    Raises:
        GltError: it holds none.
    """
    try:
        digests = json.loads(text)
        if not digests or not all(_SHA256.fullmatch(digest) for digest in digests.values()):
            raise ValueError
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise GltError(f"{model}: its tag {DIGESTS} holds no digests; {model_folder.DO_NOT_USE}") from error
    return {str(name): str(digest) for name, digest in digests.items()}


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
