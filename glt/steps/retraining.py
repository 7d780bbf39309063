"""Whether and how to retrain: the beginning of a scheduled run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from glt.data.clips import ClipStore
from glt.errors import GltError
from glt.lifecycle import gate, registry, tracking, versions
from glt.model import GLTransformer
from glt.recipe import Recipe, changed, load
from glt.steps import data
from glt.steps.provenance import versions_of
from glt.training.classifier import load_classifier
from glt.training.encoder import copy_weights

RETRAINING = "retraining"  # tag of the parent run: what was decided, and why


class News(NamedTuple):
    """What a retraining works with.

    Attributes:
        recordings: where they are, by an address that does not move.
        data_version: their content hash.
        recipe: as text; it names the model that pretraining starts from.
        new: whether there is anything to train on that the champion has not seen.
    """

    recordings: str
    data_version: str
    recipe: str
    new: bool


def look(recordings: str, recipe: str, code_version: str = "") -> News:
    """Has the data version changed since the champion's? If not, the run says so and ends.

    Args:
        recordings: a path, ``s3://bucket/prefix`` or ``dvc+<git repository>@<branch>``.
        recipe: name, path or text of the recipe.
        code_version: hash of the source tree; computed if not given.

    Raises:
        GltError: the recordings cannot be found, or the champion's files cannot be had.
    """
    settings, place = load(recipe), versions.fixed(versions.located(recordings))
    version = tracking.Versions(versions.data_version(place), code_version or versions.code_version())
    with tracking.step(settings, version, "look") as run:
        champion = registry.champion(settings.model_name)
        trained = champion.tags.get("data.version", "") if champion else ""
        new = trained != version.data
        if not new and champion is not None:
            said = f"skipped: champion v{champion.version} was trained on data {version.data}"
        elif champion is None:
            said = "from scratch: there is no champion yet"
        else:
            settings, how = _start(settings, champion)
            said = f"{how}: data {version.data} after {trained or 'unknown'} of champion v{champion.version}"
        run.tags({RETRAINING: said})
        run.dataset(settings.data.dataset, version.data, place, "training")
        tracking.on_parent(settings, version, {"retraining/new_data": float(new)}, {RETRAINING: said})
    print(f"glt: retraining {settings.model_name}: {said}")
    return News(place, version.data, settings.to_json(), new)


def admit(clips: Path, recipe: str, data_version: str = "", code_version: str = "") -> None:
    """Stop before hours of training if the recordings raise an alarm (`retrain.on_alarm`).

    Raises:
        GltError: they do, and the recipe does not tolerate it.
    """
    settings, store = load(recipe), ClipStore(clips, verify=False)
    version = versions_of(store.info, data_version, code_version)
    with tracking.step(settings, version, "admit") as run:
        check = gate.in_order(data.found_in(settings, version.data), settings.gate)
        run.tags({"data.check": check.said})
        if not check.passed and settings.retrain.on_alarm == "stop":
            raise GltError(
                f"recordings {version.data}: {check.said}. Nothing was trained; mend the recordings (ingest's page "
                "shows them), or set retrain.on_alarm: train, or add the check to gate.tolerated"
            )


def _start(recipe: Recipe, champion: registry.Version) -> tuple[Recipe, str]:
    """The recipe with what pretraining starts from, and that in words."""
    if recipe.retrain.start == "scratch":
        return recipe, "from scratch"
    encoder = load_classifier(champion.folder())[0].encoder
    try:
        copy_weights(encoder, GLTransformer(recipe.model, encoder.persons, encoder.joints, encoder.worlds))
    except GltError as error:
        return recipe, f"from scratch, because {error}"
    name = f"{champion.name}/{champion.version}"
    epochs = recipe.retrain.epochs or recipe.pretrain.epochs
    return changed(recipe, {"pretrain": {"start": name, "epochs": epochs}}, recipe.name), f"from the encoder of {name}"
