"""Registered models: versions with evidence, and the aliases `challenger`, `champion` and `previous`."""

from __future__ import annotations

import datetime as dt
import getpass
import json
import os
import re
import warnings
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from glt import artifact, settings
from glt.errors import GltError, first_line
from glt.lifecycle.connection import condition, connect
from glt.lifecycle.gate import Verdict
from glt.lifecycle.locks import EnsureHeld, distributed_lock
from glt.lifecycle.tracking import PARENT, Versions
from glt.recipe import Recipe

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
_MODEL = re.compile(r"(?P<name>[^/@\s]+)(?:/v?(?P<version>\d+)|@(?P<alias>[^/@\s]+))?")
_HISTORY = "history."  # prefix of the tags of a registered model that record events, one tag per event
_FORMER_FIELDS = {"what": "action", "over": "replaced", "because": "reason"}  # of events that earlier versions wrote
LOADER = "glt.serving.pyfunc"
# What the loader needs beside glt itself, which comes with the image and is on no index.
REQUIREMENTS = ("numpy", "pandas", "pyarrow", "pydantic", "pyyaml", "safetensors", "scipy", "torch")


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    name: str
    version: str
    tags: dict[str, str]
    run_id: str

    @property
    def compared_champion(self) -> str:
        """Version of the champion that the gate compared this one with; empty if there was none."""
        return self.tags.get("gate.champion_version", self.tags.get("gate.over", "none")).removeprefix("none")

    def folder(self) -> Path:
        """Download its classifier artifact; every file is verified to be what was registered.

        Raises:
            GltError: it cannot be downloaded, is damaged, or is not what was registered.
        """
        import mlflow

        try:
            model = Path(mlflow.artifacts.download_artifacts(f"models:/{self.name}/{self.version}"))
        except Exception as error:
            raise GltError(
                f"{self.name} v{self.version}: its files cannot be fetched ({first_line(error)}); check "
                "that this machine may read the artifact store, or roll back to a version whose files are there"
            ) from error
        data = model / "data"
        classifier = next((path.parent for path in sorted(data.rglob(artifact.MANIFEST))), data)
        artifact.open_artifact(classifier, "classifier")
        if artifact.digest(classifier) != self.tags["content.digest"]:
            raise GltError(
                f"{self.name} v{self.version}: its files are not those that were registered; do not use it: roll back "
                "to a version whose files are, and find out who wrote to the artifact store"
            )
        return classifier


def champion(name: str) -> Version | None:
    """The version in service, or None."""
    return _aliased(connect(), name, CHAMPION)


def version(name: str, version: str) -> Version | None:
    """The version with this number, or None."""
    return next((_version(known) for known in _versions(connect(), name) if str(known.version) == version), None)


def find(model: str) -> Version:
    """A version as people write it: ``name/3``, ``name@challenger``, or ``name``, which is the champion.

    Raises:
        GltError: there is none.
    """
    match = _MODEL.fullmatch(model)
    if match is None:
        raise GltError(f"model {model!r}: write NAME/VERSION, NAME@ALIAS or NAME (its champion)")
    if match["version"]:
        known = version(match["name"], match["version"])
    else:
        known = _aliased(connect(), match["name"], match["alias"] or CHAMPION)
    if known is None:
        raise GltError(f"model {model}: there is none; registered are {', '.join(_names()) or 'none'}")
    return known


def only_model() -> str:
    """The name of the only registered model.

    Raises:
        GltError: there is none, or there are several.
    """
    known = _names()
    if len(known) != 1:
        raise GltError(f"model: say which; registered are {', '.join(known) or 'none, so train one first'}")
    return known[0]


def _names() -> list[str]:
    return sorted(str(model.name) for model in connect().search_registered_models(max_results=1000))


def versions_trained_on(data_version: str) -> list[Version]:
    """The versions of all models that were trained on a data version, the oldest first."""
    found = _search(connect(), condition("tags.`data.version`", data_version))
    versions = [_version(model) for model in found if model.tags.get("data.version") == data_version]
    return sorted(versions, key=lambda one: (one.name, int(one.version)))


def aliases(name: str, version: str) -> list[str]:
    """The aliases of a version."""
    known = connect().get_registered_model(name).aliases
    return sorted(alias for alias, aliased in known.items() if str(aliased) == version)


def comparisons(name: str, data_version: str) -> int:
    """Number of decisions on the validation clips of this data version: one per registered version."""
    return sum(version.tags.get("data.version") == data_version for version in _versions(connect(), name))


def register(classifier: Path, recipe: Recipe, versions: Versions, verdict: Verdict, run_id: str) -> Version:
    """Register the classifier as a version of `recipe.model_name` with the alias `challenger` and the gate's reason.

    The same content is registered once: a second call returns the existing version.

    Args:
        classifier: the artifact folder.
        recipe: what it was trained by.
        versions: what it was made from.
        verdict: the gate's.
        run_id: MLflow run that the model belongs to.
    """
    client, name, digest = connect(), recipe.model_name, artifact.digest(classifier)
    current = _aliased(client, name, CHAMPION)
    known = [version for version in _versions(client, name) if version.tags.get("content.digest") == digest]
    if known:
        version = str(known[0].version)
    else:
        tags = {
            "content.digest": digest,
            "data.version": versions.data,
            "code.version": versions.code,
            "recipe": recipe.name,
            "image": settings.image() or "none",
            "parent.model": f"v{current.version}" if current else "none",
            "parent.run": client.get_run(run_id).data.tags.get(PARENT, run_id),
            "gate.passed": str(verdict.passed),
            "gate.p_value": f"{verdict.p_value:.4g}",
            "gate.baseline": verdict.baseline,
            "gate.clips": str(verdict.clips),
            "gate.comparisons": str(verdict.comparisons),
            "gate.champion_version": verdict.champion_version or "none",
            "gate.answers_uri": verdict.answers_uri or "none",
            **{f"gate.{one.name}": f"{'passed' if one.passed else 'failed'}: {one.message}" for one in verdict.checks},
        }
        version = _create_version(client, name, _log_model(client, classifier, run_id), tags, verdict.reason)
    if current is None or current.version != version:
        client.set_registered_model_alias(name, CHALLENGER, version)
    return _version(client.get_model_version(name, version))


@dataclass(frozen=True)
class Event:
    """A change of the model in service.

    Attributes:
        at: when, UTC, ISO 8601.
        action: promoted or rolled back.
        version: in service from then on.
        replaced: version in service before; empty if there was none.
        reason: why.
        by: the user or pipeline run.
    """

    at: str
    action: str
    version: str
    replaced: str
    reason: str
    by: str

    @staticmethod
    def from_json(text: str) -> Event:
        """The event of a history tag, of this version or an earlier one."""
        return Event(**{_FORMER_FIELDS.get(name, name): value for name, value in json.loads(text).items()})


def promote(name: str, version: str, reason: str, expected_champion: str | None = None) -> None:
    """Make `version` the champion and the champion the previous one, and record when and why.

    Args:
        name: name of the registered model.
        version: version to put in service.
        reason: the reason, for people.
        expected_champion: version of the champion that it was compared with, empty if there was none; not checked if
            None.

    Raises:
        GltError: there is no such version, the champion has changed, or another process promotes.
    """
    client = connect()
    if str(version) not in {str(known.version) for known in _versions(client, name)}:
        raise GltError(f"{name}: no version {version}; `make ui` lists those there are")
    with _aliases_lock(name) as ensure_held:
        current = _aliased(client, name, CHAMPION)
        in_service = current.version if current else ""
        if expected_champion is not None and in_service not in (expected_champion, str(version)):
            baseline = f"champion v{expected_champion}" if expected_champion else "the untrained encoder"
            raise GltError(
                f"{name} v{version}: it was compared with {baseline}, "
                f"but v{in_service or 'none'} is in service now; compare again (start the run once more)"
            )
        _serve(client, name, str(version), current, "promoted", reason, ensure_held)


def rollback(name: str, reason: str = "") -> Version:
    """Make the previous champion the champion again, and the champion the previous one.

    Raises:
        GltError: there is no previous champion, or another process promotes.
    """
    client = connect()
    with _aliases_lock(name) as ensure_held:
        previous, current = _aliased(client, name, PREVIOUS), _aliased(client, name, CHAMPION)
        if previous is None or current is None or previous.version == current.version:
            raise GltError(f"{name}: no version has the alias `{PREVIOUS}`, so there is nothing to roll back to")
        full_reason = f"rolled back from v{current.version} by hand" + (f": {reason}" if reason else "")
        _serve(client, name, previous.version, current, "rolled back", full_reason, ensure_held)
    return _version(client.get_model_version(name, previous.version))


def history(name: str) -> list[Event]:
    """Every change of the model in service, the oldest first.

    Raises:
        GltError: there is no such model.
    """
    from mlflow.exceptions import MlflowException

    try:
        tags = connect().get_registered_model(name).tags
    except MlflowException as error:
        raise GltError(f"{name}: no such registered model; `make ui` lists those there are") from error
    return [Event.from_json(tags[key]) for key in sorted(tags) if key.startswith(_HISTORY)]


def _aliases_lock(name: str) -> AbstractContextManager[EnsureHeld]:
    """MLflow moves an alias unconditionally, so every change of aliases holds this lock."""
    return distributed_lock(f"registry/{name}", f"changing what is in service of {name}")


def _serve(
    client: MlflowClient,
    name: str,
    version: str,
    old: Version | None,
    action: str,
    reason: str,
    ensure_held: EnsureHeld,
) -> None:
    """Move the aliases. If it is killed, the champion is the old one or the new one, and the same call completes it.

    An event that a killed attempt recorded is not recorded again.
    """
    if old is not None and old.version == version:
        return
    now = dt.datetime.now(dt.UTC)
    event = Event(now.isoformat(timespec="seconds"), action, version, old.version if old else "", reason[:2000], _who())
    for tag, value in {
        "promoted.at": event.at,
        "promoted.reason": reason,
        "promoted.by": event.by,
        "promoted.replaced": event.replaced or "none",
    }.items():
        client.set_model_version_tag(name, version, tag, value)
    ensure_held()
    last = next(reversed(history(name)), None)
    if last is None or (last.action, last.version, last.replaced) != (event.action, event.version, event.replaced):
        client.set_registered_model_tag(name, f"{_HISTORY}{now:%Y%m%dT%H%M%S.%fZ}", json.dumps(asdict(event)))
    if old is not None:
        client.set_registered_model_alias(name, PREVIOUS, old.version)
    ensure_held()
    client.set_registered_model_alias(name, CHAMPION, version)


def _who() -> str:
    if run := settings.run_id():
        return f"pipeline run {run}"
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"user {os.getuid()}"


def _log_model(client: MlflowClient, classifier: Path, run_id: str) -> LoggedModel:
    """Log the folder as a pyfunc model of data only: it is loaded by our own code, no pickle travels."""
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


def _create_version(client: MlflowClient, name: str, model: LoggedModel, tags: dict[str, str], description: str) -> str:
    """All that is known of a version is written with it: none is ever without its evidence."""
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


def _aliased(client: MlflowClient, name: str, alias: str) -> Version | None:
    from mlflow.exceptions import MlflowException

    try:
        version = client.get_registered_model(name).aliases.get(alias)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise  # an error must not pass for "there is no champion"
    return _version(client.get_model_version(name, str(version))) if version else None


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    return [model for model in _search(client, condition("name", name)) if model.name == name]


def _search(client: MlflowClient, which: str) -> list[ModelVersion]:
    found: list[ModelVersion] = []
    token = None
    while token != "":
        page = client.search_model_versions(which, max_results=1000, page_token=token)
        found, token = [*found, *page], page.token or ""
    return found


def _version(model: ModelVersion) -> Version:
    return Version(model.name, str(model.version), dict(model.tags), str(model.run_id))
