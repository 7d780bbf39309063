"""Registered models for tests, each with a name of its own."""

from __future__ import annotations

from pathlib import Path

from glt.lifecycle import registry, tracking
from glt.lifecycle.registry import Version
from glt.recipe import Recipe, load
from tests.lifecycle.conftest import VERSIONS, make_classifier
from tests.lifecycle.test_registry import VERDICT


def recipe_of(name: str) -> Recipe:
    """A recipe whose models have the name `name`."""
    sample = load("sample")
    return sample.model_copy(update={"data": sample.data.model_copy(update={"dataset": name})})


def register(classifier: Path, name: str) -> Version:
    recipe = recipe_of(name)
    with tracking.step(recipe, VERSIONS, "register") as run:
        return registry.register(classifier, recipe, VERSIONS, VERDICT, run.run_id)


def promoted(folder: Path, name: str, versions: int = 1) -> str:
    """A model of so many versions, of which the first is the champion; its name."""
    made = [register(make_classifier(folder / str(seed), seed), name) for seed in range(versions)]
    registry.promote(made[0].name, made[0].version, "first")
    return made[0].name
