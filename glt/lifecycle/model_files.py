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

from glt import artifact
from glt.analysis.model_card import model_card
from glt.data.layouts import Skeleton
from glt.errors import GltError
from glt.lifecycle import links, logged_model
from glt.lifecycle.wheel import write_wheel
from glt.serving import model_folder, signature
from glt.serving.example import example_clips
from glt.serving.model_folder import LOADER, SIGNATURE
from glt.text import markdown_text

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import Model

# Packages that the loader needs besides glt, whose wheel is part of the model.
REQUIREMENTS = ("numpy", "pandas", "pyarrow", "pydantic", "pyyaml", "safetensors", "scipy", "torch")
DIGESTS = "model.digests"  # tag of a version: SHA-256 of each file, by its path, as JSON
SIGNED_BY = "model.signed_by"  # tag of a version: id of the key, for people; verification does not read it
_FORMER_ABOUT = "Global-local Motion Transformer with its linear classifier"  # by earlier versions
_SHA256 = re.compile(r"[0-9a-f]{64}")


class LoggedFiles(NamedTuple):
    """A model whose files are in MLflow's artifact store.

    Attributes:
        model: its record in MLflow.
        tags: what a version of it carries: the model's id, and to verify the files digests and the id of the key that
            signed them.
    """

    model: LoggedModel
    tags: dict[str, str]


def log_model(
    client: MlflowClient,
    classifier: Path,
    name: str,
    run_id: str,
    tags: Mapping[str, str] | None = None,
    card: str = "",
) -> LoggedFiles:
    """Build the files of a model, digest them, sign them if GLT_SIGNING_KEY is set, and upload them.

    Replaces `mlflow.pyfunc.log_model`, which uploads its files before they can be digested, and ends the step's run.

    Args:
        client: of `connection.connect`.
        classifier: the artifact folder.
        name: of the registered model, which is bound to the files.
        run_id: MLflow run that the model belongs to.
        tags: of MLflow's record of the model.
        card: the model card; made of the classifier alone if not given.
    """
    model = logged_model.create(client, classifier, run_id, tags or {})
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            build_folder(folder, classifier, name, model, card)
            digests = model_folder.file_digests(folder, name)
            model_folder.check_names(digests, name)
            key = signature.sign(folder)
            client.log_model_artifacts(model.model_id, str(folder))
        data_version = (tags or {}).get("data.version") or artifact.read_manifest(classifier).info["data_version"]
        logged_model.log_scores(client, classifier, model, run_id, data_version)
    except BaseException:
        client.finalize_logged_model(model.model_id, "FAILED")
        raise
    client.finalize_logged_model(model.model_id, "READY")
    found = {logged_model.ID: model.model_id, DIGESTS: digests_text(digests)}
    return LoggedFiles(model, found | signer(key.short_id if key else ""))


def build_folder(folder: Path, classifier: Path, name: str, model: LoggedModel, card: str = "") -> None:
    """Build a pyfunc model that holds data only at `folder`: our own code loads it, without pickles.

    Args:
        folder: is created.
        classifier: the artifact folder.
        name: of the registered model.
        model: MLflow's record of it.
        card: the model card; made of the classifier alone if not given.
    """
    import mlflow
    from mlflow.models import Model

    record = Model(
        artifact_path=model.artifact_location,
        run_id=model.source_run_id,
        model_uuid=model.model_id,
        model_id=model.model_id,
        metadata={"input": "clips [frames, persons, joints, 3], a list", "registered_model": name},
    )
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*input example was not provided")
        data = shutil.copytree(classifier, Path(temporary) / "classifier")
        wheels = Path(temporary) / model_folder.WHEELS
        mlflow.pyfunc.save_model(
            path=str(folder),
            mlflow_model=record,
            loader_module=LOADER,
            data_path=str(data),
            pip_requirements=[
                *(f"{name}=={metadata.version(name).partition('+')[0]}" for name in REQUIREMENTS),
                write_wheel(wheels),
            ],
        )
        shutil.copytree(wheels, folder / model_folder.WHEELS)
    _add_signature(folder, classifier, record)
    (folder / model_folder.CARD).write_text(card or model_card(classifier, name), encoding="utf-8")
    model_folder.check_mlmodel(folder, name, model.model_id, name)


def _add_signature(folder: Path, classifier: Path, record: Model) -> None:
    """Add the schema of requests and answers, and an input example, to a model's folder and to its MLmodel.

    The request is ``{"inputs": [clip, ...]}``: clips differ in length, so they are nested lists. `save_model` takes
    such a schema from type hints of Python code only, and a model of ours holds no code (mlflow/pyfunc/__init__.py and
    models/model.py of MLflow 3.17).
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    clip = Array(Array(Array(Array(DataType.double))))  # frames, persons, joints, 3
    record.signature = ModelSignature(
        inputs=Schema([ColSpec(clip)]),
        outputs=Schema([ColSpec(DataType.string, "label"), ColSpec(DataType.double, "confidence")]),
    )
    record.signature._is_signature_from_type_hint = True
    with artifact.reading(classifier / "config.json"):
        skeleton = Skeleton.from_dict(artifact.read_json(classifier / "config.json", dict)["skeleton"])
    clips = example_clips(skeleton)
    (folder / model_folder.EXAMPLE).write_text(json.dumps(clips))
    (folder / model_folder.REQUEST).write_text(json.dumps({"inputs": clips}))
    record.saved_input_example_info = {
        "artifact_path": model_folder.EXAMPLE,
        "serving_input_path": model_folder.REQUEST,
        "type": "json_object",
    }
    record.save(str(folder / model_folder.MLMODEL))


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

    about = _about(name, model.experiment_id)
    try:
        client.create_registered_model(name, description=about)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        if client.get_registered_model(name).description in (None, "", _FORMER_ABOUT):
            client.update_registered_model(name, about)
    created = client.create_model_version(
        name,
        model.artifact_location,
        model.source_run_id,
        tags,
        description=description,
        model_id=model.model_id,
    )
    logged_model.add_version(client, model.model_id, name, str(created.version))
    return str(created.version)


def _about(name: str, experiment_id: str) -> str:
    """The description of a registered model."""
    return (
        f"Recognises actions in recordings of people: the models of the experiment "
        f"[{markdown_text(name.removeprefix('glt-'))}]({links.experiment_page(experiment_id)}).\n\n"
        "`champion` is the version in service, `challenger` the one registered last, `previous` the champion before. "
        "The description of each version is its model card; the tags `promoted.*` say why it went into service."
    )
