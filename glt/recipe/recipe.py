"""A whole recipe: one YAML file a dataset x protocol x method (``glt/recipes/``).

With `extends` a recipe says only how it differs from another. Every field has a type and a bound; an unknown key, a
wrong type or an impossible combination is an error that names the field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from glt.errors import GltError
from glt.recipe.data import DataConfig
from glt.recipe.section import Section, Seed
from glt.recipe.sections import (
    FinetuneConfig,
    GateConfig,
    ModelConfig,
    MotionConfig,
    PretrainConfig,
    ProbeConfig,
    RetrainConfig,
)

Fraction = float
_FORMER_NAMES = {"model": {"frames": "max_frames"}}


class Recipe(Section):
    """A whole run: dataset x protocol x method."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    data: DataConfig
    motion: MotionConfig = MotionConfig()
    model: ModelConfig = ModelConfig()
    pretrain: PretrainConfig = PretrainConfig()
    probe: ProbeConfig = ProbeConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    gate: GateConfig = GateConfig()
    retrain: RetrainConfig = RetrainConfig()
    seed: Seed = 0
    fractions: tuple[Fraction, ...] = Field((0.05, 0.10), description="labelled fractions of the fine-tuning")
    seeds: tuple[Seed, ...] = Field((0,), min_length=1, description="draws of the labelled clips")
    arm: str = Field(
        "",
        pattern=r"^[a-z0-9-]*$",
        description="of a study (glt/recipe/study.py): its steps are told apart from other arms' by it",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if any(not 0 < f <= 1 for f in self.fractions):
            raise ValueError("fractions: above 0, at most 1")
        if len(set(self.fractions)) != len(self.fractions) or len(set(self.seeds)) != len(self.seeds):
            raise ValueError("fractions and seeds: each once")
        if max(self.motion.intervals) >= self.model.max_frames:
            raise ValueError("motion.intervals: below model.max_frames, the longest clip")
        return self

    @property
    def trained_arm(self) -> str:
        """In a study, the arm and the seed, as in ``no-mask-seed0``: what its steps are told apart by; else empty."""
        return f"{self.arm}-seed{self.seed}" if self.arm else ""

    @property
    def model_name(self) -> str:
        """Registered model: glt-<dataset>-<protocol>; a fold has a model of its own, as its test split is its own."""
        return f"glt-{self.experiment}"

    @property
    def experiment(self) -> str:
        """MLflow experiment: <dataset>-<split>."""
        return f"{self.data.dataset}-{self.data.protocol_name}"

    def to_json(self) -> str:
        """Canonical text: equal recipes give equal text."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names, as ``pretrain.lr``."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def names() -> list[str]:
    """The recipes that come with the project."""
    return sorted(p.name.removesuffix(".yaml") for p in _folder().iterdir() if p.name.endswith(".yaml"))


def load(recipe: str) -> Recipe:
    """A recipe by name (``sample``), by path (``mine.yaml``) or as YAML/JSON text (what a pipeline carries).

    Raises:
        GltError: there is no such recipe, or a field is wrong; names the field and what it may be.
    """
    fields, origin = _fields(recipe, ())
    return parse(fields, origin)


def with_changes(recipe: Recipe, changes: dict[str, Any], origin: str) -> Recipe:
    """Copy a recipe with some fields replaced, section by section; `origin` is named in errors.

    Raises:
        GltError: a field is wrong.
    """
    return parse(_over(recipe.model_dump(), _current(changes)), origin)


def parse(fields: dict[str, Any], origin: str) -> Recipe:
    """A recipe from its fields; `origin` is named in errors."""
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'recipe'}: "
            + ("unknown key, remove it or correct its spelling" if e["type"] == "extra_forbidden" else e["msg"])
            for e in error.errors()
        )
        raise GltError(f"recipe {origin}: {problems}") from error


def _fields(recipe: str, above: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """The fields of a recipe, over those of the recipe it extends, and what to call it."""
    text, origin = _text(recipe)
    if origin in above:
        raise GltError(f"recipe {origin}: extends itself, by way of {' and '.join(above)}; break the circle")
    try:
        fields = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise GltError(f"recipe {origin}: not YAML: {error}") from error
    if not isinstance(fields, dict):
        raise GltError(f"recipe {origin}: expected `key: value` lines; start from one of {', '.join(names())}")
    fields = _current(fields)
    parent = fields.pop("extends", None)
    if parent is None:
        return fields, origin
    if not isinstance(parent, str):
        raise GltError(f"recipe {origin}: extends: give the name or path of one recipe")
    return _over(_fields(parent, (*above, origin))[0], fields), origin


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Both sets of fields; of those in both, the ones above, section by section."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = _over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def _current(fields: dict[str, Any]) -> dict[str, Any]:
    """The same fields under their present names, so that a former one replaces that of the recipe it extends."""
    result = dict(fields)
    for section, renamed in _FORMER_NAMES.items():
        if isinstance(section_fields := fields.get(section), dict):
            result[section] = {renamed.get(name, name): value for name, value in section_fields.items()}
    return result


def _folder() -> Any:
    return resources.files("glt") / "recipes"


def _text(recipe: str) -> tuple[str, str]:
    if "\n" in recipe or recipe.lstrip().startswith("{"):
        return recipe, "given as text"
    if recipe in names():
        return (_folder() / f"{recipe}.yaml").read_text(encoding="utf-8"), recipe
    path = Path(recipe)
    if path.suffix in {".yaml", ".yml", ".json"}:
        if not path.is_file():
            raise GltError(f"recipe {path}: no such file")
        try:
            return path.read_text(encoding="utf-8"), str(path)
        except UnicodeDecodeError as error:
            raise GltError(f"recipe {path}: not a text file ({error})") from error
    raise GltError(f"unknown recipe {recipe!r}: take one of {', '.join(names())}, or a path to a .yaml file")
