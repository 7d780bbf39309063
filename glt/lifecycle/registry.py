"""Registered models: versions with evidence, and the aliases `challenger`, `champion` and `previous`."""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from glt import artifact
from glt.errors import GltError
from glt.lifecycle.gate import Verdict
from glt.lifecycle.tracking import Versions, connect
from glt.recipe import Recipe

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
LOADER = "glt.serving.pyfunc"


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    name: str
    version: str
    tags: dict[str, str]
    run_id: str

    def folder(self) -> Path:
        """Its classifier artifact on this machine, verified.

        Raises:
            GltError: it cannot be had, or is damaged.
        """
        import mlflow

        try:
            model = Path(mlflow.artifacts.download_artifacts(f"models:/{self.name}/{self.version}"))
        except Exception as error:
            raise GltError(
                f"{self.name} v{self.version}: its files cannot be fetched ({str(error).splitlines()[0][:200]}); check "
                "that this machine may read the artifact store, or roll back to a version whose files are there"
            ) from error
        place = model / "data"
        found = place if (place / artifact.MANIFEST).exists() else next(place.glob(f"*/{artifact.MANIFEST}")).parent
        artifact.open_artifact(found, "classifier")
        return found


def champion(name: str) -> Version | None:
    """The version in service, if there is one."""
    return _aliased(connect(), name, CHAMPION)


def aliases(name: str, version: str) -> list[str]:
    """The aliases of a version."""
    held = connect().get_registered_model(name).aliases
    return sorted(alias for alias, number in held.items() if str(number) == version)


def comparisons(name: str, data_version: str) -> int:
    """How many decisions the validation clips of this data version have seen: one a registered version."""
    return sum(version.tags.get("data.version") == data_version for version in _versions(connect(), name))


def register(classifier: Path, recipe: Recipe, versions: Versions, verdict: Verdict, run_id: str) -> Version:
    """A version of `recipe.model_name` that holds the classifier, with the alias `challenger` and the gate's reason.

    The same content is registered once: a second call gives the version that is there.

    Args:
        classifier: the artifact folder.
        recipe: what it was trained by.
        versions: what it was made from.
        verdict: the gate's.
        run_id: MLflow run that the model belongs to.
    """
    client, name, digest = connect(), recipe.model_name, artifact.digest(classifier)
    for known in _versions(client, name):
        if known.tags.get("content.digest") == digest:
            return _version(known)
    model_uri = _log_model(classifier, run_id)
    import mlflow

    above = _aliased(client, name, CHAMPION)
    tags = {
        "content.digest": digest,
        "data.version": versions.data,
        "code.version": versions.code,
        "recipe": recipe.name,
        "image": os.environ.get("GLT_IMAGE", "none"),
        "parent.model": f"v{above.version}" if above else "none",
        "gate.passed": str(verdict.passed),
        "gate.p_value": f"{verdict.p_value:.4g}",
        "gate.against": verdict.against,
        "gate.clips": str(verdict.clips),
        "gate.comparisons": str(verdict.comparisons),
    }
    made = mlflow.register_model(model_uri, name, tags=tags)
    client.update_model_version(name, made.version, verdict.reason)
    client.set_registered_model_alias(name, CHALLENGER, made.version)
    return _version(client.get_model_version(name, made.version))


def promote(name: str, version: str, reason: str) -> None:
    """`version` becomes champion, the champion becomes previous; why and when is written on the version.

    Raises:
        GltError: there is no such version.
    """
    client = connect()
    if str(version) not in {str(known.version) for known in _versions(client, name)}:
        raise GltError(f"{name}: no version {version}; `make ui` lists those there are")
    _serve(client, name, str(version), reason)


def rollback(name: str) -> Version:
    """The previous champion becomes champion again, and the champion previous.

    Raises:
        GltError: there is no previous champion.
    """
    client = connect()
    before = _aliased(client, name, PREVIOUS)
    if before is None:
        raise GltError(f"{name}: no version has the alias `{PREVIOUS}`, so there is nothing to roll back to")
    _serve(client, name, before.version, "rolled back by hand")
    return before


def _serve(client: MlflowClient, name: str, version: str, reason: str) -> None:
    old = _aliased(client, name, CHAMPION)
    if old is not None and old.version == version:
        return
    if old is not None:
        client.set_registered_model_alias(name, PREVIOUS, old.version)
    client.set_registered_model_alias(name, CHAMPION, version)
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    for tag, value in {
        "promoted.at": now,
        "promoted.because": reason,
        "promoted.over": old.version if old else "none",
    }.items():
        client.set_model_version_tag(name, version, tag, value)


def _log_model(classifier: Path, run_id: str) -> str:
    """Log the folder as a pyfunc model of data only: it is loaded by our own code, no pickle travels."""
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    outputs = Schema([ColSpec(DataType.string, "label"), ColSpec(DataType.double, "confidence")])
    with mlflow.start_run(run_id=run_id):
        logged = mlflow.pyfunc.log_model(
            name="classifier",
            loader_module=LOADER,
            data_path=str(classifier),
            pip_requirements=["glt"],
            signature=ModelSignature(outputs=outputs),
        )
    return str(logged.model_uri)


def _aliased(client: MlflowClient, name: str, alias: str) -> Version | None:
    from mlflow.exceptions import MlflowException

    try:
        return _version(client.get_model_version_by_alias(name, alias))
    except MlflowException:  # no such model, or no such alias
        return None


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    return list(client.search_model_versions(f"name = '{name}'", max_results=10_000))


def _version(found: ModelVersion) -> Version:
    return Version(found.name, str(found.version), dict(found.tags), str(found.run_id))
