"""The first steps of a scheduled run: decide whether to retrain, and from what."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

from glt.data.clips import ClipStore
from glt.errors import GltError
from glt.lifecycle import gate, registry, sources, tracking
from glt.lifecycle.code_version import current_code_version
from glt.recipe import Recipe, load, with_changes
from glt.steps import findings
from glt.steps.provenance import versions_of

_LOG = logging.getLogger(__name__)


class RetrainingPlan(NamedTuple):
    """The inputs of a retraining.

    Attributes:
        recordings: their address, with a branch resolved to its commit.
        data_version: their content hash.
        recipe: its text; `pretrain.start` names the model that pretraining starts from.
        has_new_data: the champion was not trained on this data version.
    """

    recordings: str
    data_version: str
    recipe: str
    has_new_data: bool


def check_for_new_data(recordings: str, recipe: str, code_version: str = "") -> RetrainingPlan:
    """Compare the data version with the champion's, and record in MLflow whether and how the run retrains.

    Args:
        recordings: a path, ``s3://bucket/prefix`` or ``dvc+<git repository>@<branch>``.
        recipe: name, path or text of the recipe.
        code_version: hash of the source tree; computed if not given.

    Raises:
        GltError: the recordings are not found, or the champion cannot be downloaded.
    """
    settings, source = load(recipe), sources.resolve(recordings)
    version = tracking.Versions(source.version, code_version or current_code_version())
    with tracking.step(settings, version, "check_for_new_data") as run:
        champion = registry.champion(settings.model_name)
        trained = champion.tags.get("data.version", "") if champion else ""
        has_new_data = trained != version.data
        if not has_new_data and champion is not None:
            decision = f"{tracking.SKIPPED}: champion v{champion.version} was trained on data {version.data}"
        elif champion is None:
            decision = "from scratch: there is no champion yet"
        else:
            settings, how = _start(settings, champion)
            decision = f"{how}: data {version.data} after {trained or 'unknown'} of champion v{champion.version}"
        run.tags({tracking.RETRAINING: decision})
        run.dataset(settings.data.dataset, version.data, source.address, "training")
        tracking.log_on_parent(
            settings, version, {"retraining/new_data": float(has_new_data)}, {tracking.RETRAINING: decision}
        )
    kind = "retraining" if champion else "first training of"
    _LOG.info("%s %s: %s", kind, settings.model_name, decision)
    return RetrainingPlan(source.address, version.data, settings.to_json(), has_new_data)


def admit(clips: Path, recipe: str, data_version: str = "", code_version: str = "") -> None:
    """Fail before hours of training if the recordings raise an alarm (`retrain.on_alarm`).

    Raises:
        GltError: they raise an alarm that the recipe does not tolerate.
    """
    settings, store = load(recipe), ClipStore(clips, verify=False)
    version = versions_of(store.info, data_version, code_version)
    with tracking.step(settings, version, "admit") as run:
        check = gate.check_data(findings.load_findings(settings, version.data), settings.gate)
        run.tags({"data.check": check.message})
        if not check.passed and settings.retrain.on_alarm == "stop":
            raise GltError(
                f"recordings {version.data}: {check.message}. Nothing was trained; mend the recordings (ingest's page "
                "shows them), or set retrain.on_alarm: train, or add the check to gate.tolerated"
            )


def _start(recipe: Recipe, champion: registry.Version) -> tuple[Recipe, str]:
    """The recipe with `pretrain.start` filled in, and a description of that start."""
    if recipe.retrain.start == "scratch":
        return recipe, "from scratch"
    from glt.model import GLTransformer
    from glt.training.classifier import load_classifier
    from glt.training.encoder import copy_weights

    encoder = load_classifier(champion.folder())[0].encoder
    try:
        copy_weights(encoder, GLTransformer(recipe.model, encoder.persons, encoder.joints, encoder.global_tokens))
    except GltError as error:
        return recipe, f"from scratch, because {error}"
    name = f"{champion.name}/{champion.version}"
    epochs = recipe.retrain.epochs or recipe.pretrain.epochs
    changes = {"pretrain": {"start": name, "epochs": epochs}}
    return with_changes(recipe, changes, recipe.name), f"from the encoder of {name}"
