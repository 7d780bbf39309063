"""Registered models: versions with evidence, and the aliases `challenger`, `champion` and `previous`."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from glt import artifact, settings
from glt.analysis.model_card import LONGEST as _LONGEST
from glt.analysis.model_card import model_card
from glt.errors import GltError
from glt.lifecycle import logged_model, notes, promotions
from glt.lifecycle.connection import condition, connect, wrap_mlflow_errors
from glt.lifecycle.gate import Verdict
from glt.lifecycle.model_files import DIGESTS, SIGNED_BY, create_version, log_model
from glt.lifecycle.model_version import PREFIX, NotFetched, search_versions
from glt.lifecycle.model_version import Version as Version
from glt.lifecycle.promotions import CHAMPION, PREVIOUS, InService
from glt.lifecycle.promotions import Event as Event
from glt.lifecycle.tracking import PARENT, Versions
from glt.recipe import Recipe
from glt.serving.keys import signing_key
from glt.text import clean, markdown_text
from glt.training.classifier_files import FILES

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

_LOG = logging.getLogger(__name__)

CHALLENGER = "challenger"
_MODEL = re.compile(r"(?P<name>.+?)(?:/v?(?P<version>\d{1,9})|@(?P<alias>[^/@\s]+))?")


@wrap_mlflow_errors
def champion(name: str) -> Version | None:
    """The version in service, or None. An unfinished promotion is completed."""
    client = connect()
    state = _settle(client, name)
    if state.deleted:
        _LOG.warning(
            "%s: its champion v%s was deleted, so none is in service; `glt rollback` or `glt promote` changes that",
            name,
            state.deleted,
        )
    return _by_number(client, name).get(state.champion)


@wrap_mlflow_errors
def version(name: str, version: str) -> Version | None:
    """The version with this number, or None."""
    return _by_number(connect(), name).get(version.lstrip("0"))


@wrap_mlflow_errors
def find(model: str) -> Version:
    """A version as people write it: ``name/3``, ``name@challenger``, or ``name``, which is the champion.

    Raises:
        GltError: there is none.
    """
    client = connect()
    name, number, alias = _parse(client, model)
    known = version(name, number) if number else _aliased(client, name, alias or CHAMPION)
    if known is not None:
        return known
    if _model(client, name) is None:
        raise GltError(f"model {_shown(model)}: no such model; {_choice(_names())}")
    missing = f"version {number}" if number else f"version with the alias {_shown(alias)}" if alias else "champion"
    versions = ", ".join(sorted(_by_number(client, name), key=int)) or "none"
    raise GltError(f"model {_shown(model)}: it has no {missing}; its versions are {versions}")


def _parse(client: MlflowClient, model: str) -> tuple[str, str, str]:
    """Name, version and alias in ``name/3``, ``name@challenger`` or ``name``; empty if not given."""
    if _model(client, model) is not None:  # a name may look like NAME/VERSION
        return model, "", ""
    match = _MODEL.fullmatch(model)
    if match is None:
        raise GltError(f"model {_shown(model)!r}: write NAME/VERSION, NAME@ALIAS or NAME (its champion)")
    return match["name"], match["version"] or "", match["alias"] or ""


@wrap_mlflow_errors
def only_model() -> str:
    """The name of the only registered model; models of other programs are ignored.

    Raises:
        GltError: there is none, or there are several.
    """
    known = _names()
    known = [name for name in known if name.startswith(PREFIX)] or known
    if len(known) == 1:
        return known[0]
    raise GltError(f"model: {'name one; ' * bool(known)}{_choice(known)}")


def _choice(known: list[str]) -> str:
    return f"registered are {', '.join(known)}" if known else "none is registered yet; train one first: make run"


def _names() -> list[str]:
    client, token = connect(), None
    names: list[str] = []
    while token != "":
        page = client.search_registered_models(max_results=1000, page_token=token)
        names, token = [*names, *(clean(str(model.name)) for model in page)], page.token or ""
    return sorted(names)


@wrap_mlflow_errors
def versions_trained_on(data_version: str) -> list[Version]:
    """The versions of all models that were trained on a data version, the oldest first."""
    found = search_versions(connect(), condition("tags.`data.version`", data_version))
    versions = [_version(model) for model in found if model.tags.get("data.version") == data_version]
    return sorted(versions, key=lambda one: (one.name, int(one.version)))


@wrap_mlflow_errors
def aliases(name: str, version: str) -> list[str]:
    """The aliases of a version."""
    client = connect()
    model = _model(client, name)
    if model is None:
        return []
    state = promotions.in_service(model, _by_number(client, name))
    known = {alias: str(aliased) for alias, aliased in model.aliases.items()}
    known |= {CHAMPION: state.champion, PREVIOUS: state.previous}
    return sorted(alias for alias, aliased in known.items() if aliased == version)


@wrap_mlflow_errors
def comparisons(name: str, data_version: str) -> int:
    """Number of decisions on the validation clips of this data version: one per registered version."""
    return sum(version.tags.get("data.version") == data_version for version in _versions(connect(), name))


@wrap_mlflow_errors
def register(classifier: Path, recipe: Recipe, versions: Versions, verdict: Verdict, run_id: str) -> Version:
    """Register the classifier as a version of `recipe.model_name` with the alias `challenger` and the gate's reason.

    The same content is registered once: a second call returns the existing version, unless GLT_SIGNING_KEY is set and
    another key, or none, signed it.

    Args:
        classifier: the artifact folder.
        recipe: what it was trained by.
        versions: what it was made from.
        verdict: the gate's.
        run_id: MLflow run that the model belongs to.

    Raises:
        GltError: the folder is no classifier, or the signing key cannot be used.
    """
    artifact.open_artifact(classifier, "classifier", only=FILES)
    client, name, digest, key = connect(), recipe.model_name, artifact.digest(classifier), signing_key()
    current = champion(name)
    same = [version.tags | {"number": version.version} for version in _versions(client, name)]
    same = [tags for tags in same if tags.get("content.digest") == digest and DIGESTS in tags]
    known = [str(tags["number"]) for tags in same if key is None or tags.get(SIGNED_BY) == key.short_id]
    evidence = {name: clean(value)[:_LONGEST] for name, value in _evidence(verdict).items()}
    facts = {"Data version": versions.data, "Code version": versions.code, "Recipe": recipe.name}
    if known:
        version = known[0]
        if model_id := logged_model.id_in(client.get_model_version(name, version).source or ""):
            logged_model.add_output(client, model_id, run_id)
        if not verdict.already and (current is None or current.version != version):
            for tag, value in evidence.items():
                client.set_model_version_tag(name, version, tag, value)
            before = client.get_model_version(name, version).description or ""
            client.update_model_version(name, version, _description(classifier, name, verdict, facts, before))
    else:
        tags = {
            "content.digest": digest,
            "data.version": versions.data,
            "code.version": versions.code,
            "recipe": recipe.name,
            "image": settings.image() or "none",
            "parent.model": f"v{current.version}" if current else "none",
            "parent.run": client.get_run(run_id).data.tags.get(PARENT, run_id),
        }
        tags = {name: clean(value)[:_LONGEST] for name, value in tags.items()} | evidence
        description = _description(classifier, name, verdict, facts)
        card = model_card(classifier, name, verdict.to_dict(), facts)
        logged = log_model(client, classifier, name, run_id, tags | {notes.NOTE: description}, card)
        version = create_version(client, name, logged.model, tags | logged.tags, description)
    if current is None or current.version != version:
        client.set_registered_model_alias(name, CHALLENGER, version)
    return _version(client.get_model_version(name, version))


def _description(classifier: Path, name: str, verdict: Verdict, facts: Mapping[str, str], before: str = "") -> str:
    """The description of a version: the gate's reason, the links of the description `before`, and the model card."""
    reason = markdown_text(verdict.reason, _LONGEST // 5)
    room = max(0, _LONGEST - len(reason) - notes.LONGEST_LINKS - 4)
    return notes.version_note(
        reason, notes.links_of(before), model_card(classifier, name, verdict.to_dict(), facts, room)
    )


def _evidence(verdict: Verdict) -> dict[str, str]:
    """The tags of a version that hold the gate's verdict on it."""
    return {
        "gate.passed": str(verdict.passed),
        "gate.p_value": f"{verdict.p_value:.4g}",
        "gate.test": f"{verdict.test} ({verdict.subjects})" if verdict.subjects else verdict.test,
        "gate.baseline": verdict.baseline,
        "gate.clips": str(verdict.clips),
        "gate.comparisons": str(verdict.comparisons),
        "gate.champion_version": verdict.champion_version or "none",
        "gate.answers_uri": verdict.answers_uri or "none",
        **{f"gate.{one.name}": f"{'passed' if one.passed else 'failed'}: {one.message}" for one in verdict.checks},
    }


@wrap_mlflow_errors
def promote(name: str, version: str, reason: str, expected_champion: str | None = None) -> None:
    """Make `version` the champion and the champion the previous one, and record when and why.

    Args:
        name: name of the registered model.
        version: version to put in service.
        reason: the reason, for people.
        expected_champion: version of the champion that it was compared with, empty if there was none; not checked if
            None.

    Raises:
        GltError: there is no such version, its files are not what was registered, the champion has changed, or
            another process promotes.
    """
    client = connect()
    versions = _by_number(client, name)
    if str(version) not in versions:
        raise GltError(f"{_shown(name)}: no version {version}; `make ui` lists the versions")
    versions[str(version)].verify()
    with promotions.aliases_lock(name) as ensure_held:
        state = _state(client, name)
        if expected_champion is not None and state.champion not in (expected_champion, str(version)):
            baseline = f"champion v{expected_champion}" if expected_champion else "the untrained encoder"
            raise GltError(
                f"{name} v{version}: it was compared with {baseline}, "
                f"but v{state.champion or 'none'} is in service now; compare again (start the run once more)"
            )
        if state.champion != str(version):
            promotions.put_in_service(
                client, name, str(version), "promoted", reason, _tags_by_number(versions), ensure_held
            )
    _settle(client, name)


@wrap_mlflow_errors
def rollback(name: str, reason: str = "") -> Version:
    """Make the previous champion the champion again, and the champion the previous one.

    A previous champion whose files are not what was registered is skipped in favour of the one before it.

    Raises:
        GltError: there is no previous champion that can be verified, or another process promotes.
    """
    client = connect()
    _known_model(client, name)
    with promotions.aliases_lock(name) as ensure_held:
        model, versions, state = _model(client, name), _by_number(client, name), _state(client, name)
        earlier = [event.version for event in reversed(promotions.read_history(model.tags))] if model else []
        candidates = [version for version in dict.fromkeys([state.previous, *earlier]) if version in versions]
        skipped: list[str] = []
        previous = next((number for number in candidates if _may_return_to(versions[number], state, skipped)), "")
        if not previous:
            reason = f": {skipped[0].partition('; ')[0]}" if skipped else f"; no version has the alias `{PREVIOUS}`"
            raise GltError(f"{name}: there is nothing to roll back to{reason}; register a new version (glt register)")
        full_reason = f"rolled back from v{state.champion or state.deleted} by hand" + (f": {reason}" if reason else "")
        tags = _tags_by_number(versions)
        promotions.put_in_service(client, name, previous, "rolled back", full_reason, tags, ensure_held)
    _settle(client, name)
    return _version(client.get_model_version(name, previous))


def _may_return_to(version: Version, state: InService, skipped: list[str]) -> bool:
    """True if the version is not in service and its files are what was registered; else `skipped` gets the reason."""
    if version.version == state.champion:
        return False
    try:
        version.verify()
    except NotFetched:
        raise
    except GltError as error:
        _LOG.warning("v%s is skipped: %s", version.version, error)
        skipped.append(str(error))
        return False
    return True


@wrap_mlflow_errors
def history(name: str) -> list[Event]:
    """Every change of the model in service, the oldest first; a record that cannot be read has the action unreadable.

    Raises:
        GltError: there is no such model.
    """
    client = connect()
    model = _known_model(client, name)
    _settle(client, name)
    return promotions.read_history(model.tags)


def _aliased(client: MlflowClient, name: str, alias: str) -> Version | None:
    """The version with an alias; None if there is none, or if it was deleted."""
    if alias == CHAMPION:
        return champion(name)
    model = _model(client, name)
    if model is None:
        return None
    number = str(model.aliases.get(alias, ""))
    return _by_number(client, name).get(_settle(client, name).previous if alias == PREVIOUS else number)


def _model(client: MlflowClient, name: str) -> RegisteredModel | None:
    """The registered model of this name; None if there is none, or if MLflow takes no such name."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name) if name == clean(name) else None
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise  # an error must not pass for "there is no champion"


def _known_model(client: MlflowClient, name: str) -> RegisteredModel:
    if (model := _model(client, name)) is None:
        raise GltError(f"{_shown(name)}: no such registered model; `make ui` lists the models")
    return model


def _shown(name: str) -> str:
    return clean(name)[:200]


def _state(client: MlflowClient, name: str) -> InService:
    model = _model(client, name)
    return InService("", "") if model is None else promotions.in_service(model, _by_number(client, name))


def _settle(client: MlflowClient, name: str) -> InService:
    if _model(client, name) is None:
        return InService("", "")
    return promotions.settle(client, name, _tags_by_number(_by_number(client, name)))


def _tags_by_number(versions: Mapping[str, Version]) -> dict[str, dict[str, str]]:
    return {number: version.tags for number, version in versions.items()}


def _by_number(client: MlflowClient, name: str) -> dict[str, Version]:
    return {str(model.version): _version(model) for model in _versions(client, name)}


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    if name != clean(name):
        return []
    return [model for model in search_versions(client, condition("name", name)) if model.name == name]


def _version(model: ModelVersion) -> Version:
    # SQLite stores a value of any type, and none.
    tags = {
        str(key): value if isinstance(value, str) else repr(value)
        for key, value in model.tags.items()
        if value is not None
    }
    return Version(model.name, str(model.version), tags, str(model.run_id or ""), str(model.source or ""))
