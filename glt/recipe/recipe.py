"""A whole recipe: one YAML file a dataset x protocol x method (``glt/recipes/``).

With `extends` a recipe says only how it differs from another. Every field has a type and a bound; an unknown key, a
wrong type or an impossible combination is an error that names the field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from glt import yaml_text
from glt.errors import GltError
from glt.recipe.data import DataConfig
from glt.recipe.section import NAME, Section, Seed, problems, suggestion
from glt.recipe.sections import (
    FinetuneConfig,
    GateConfig,
    ModelConfig,
    MotionConfig,
    PretrainConfig,
    ProbeConfig,
    RetrainConfig,
)

Fraction = Annotated[float, Field(ge=1e-4, le=1)]
_SUFFIXES = {".yaml", ".yml", ".json"}
_FORMER_NAMES = {"model": {"frames": "max_frames"}}


class Recipe(Section):
    """A whole run: dataset x protocol x method."""

    name: str = Field(pattern=NAME, max_length=64)
    data: DataConfig
    motion: MotionConfig = MotionConfig()
    model: ModelConfig = ModelConfig()
    pretrain: PretrainConfig = PretrainConfig()
    probe: ProbeConfig = ProbeConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    gate: GateConfig = GateConfig()
    retrain: RetrainConfig = RetrainConfig()
    seed: Seed = 0
    fractions: tuple[Fraction, ...] = Field(
        (0.05, 0.10), min_length=1, max_length=20, description="labelled fractions of the fine-tuning"
    )
    seeds: tuple[Seed, ...] = Field((0,), min_length=1, max_length=100, description="draws of the labelled clips")
    arm: str = Field(
        "",
        pattern=r"^[a-z0-9-]*$",
        max_length=64,
        description="of a study (glt/recipe/study.py): its steps are told apart from other arms' by it",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        percents = {round(100.0 * fraction, 6) for fraction in self.fractions}
        if len(percents) != len(self.fractions) or len(set(self.seeds)) != len(self.seeds):
            raise ValueError("fractions and seeds: a value is given twice, remove one of the two")
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


def short_text(recipe: Recipe) -> str:
    """The shortest text that `load` reads as this recipe: the nearest recipe of the project, and the differences.

    Equal recipes of the same code version give equal text, as with `Recipe.to_json`.
    """
    fields = recipe.model_dump(mode="json")
    texts = [recipe.to_json(), _text_over({}, recipe.model_dump(mode="json", exclude_defaults=True))]
    texts += [_text_over({"extends": name}, _difference(_fields_of(name), fields)) for name in names()]
    return next(text for text in sorted(texts, key=lambda text: (len(text), text)) if load(text) == recipe)


def _text_over(start: dict[str, Any], fields: dict[str, Any]) -> str:
    return json.dumps(start | fields, sort_keys=True)


@cache
def _fields_of(name: str) -> dict[str, Any]:
    return load(name).model_dump(mode="json")


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that `_over` has to put over `before` to get `after`, which has the same fields."""
    changed = {name: value for name, value in after.items() if value != before[name]}
    return {
        name: _difference(before[name], value) if isinstance(value, dict) and isinstance(before[name], dict) else value
        for name, value in changed.items()
    }


def names() -> list[str]:
    """The recipes that come with the project."""
    return sorted(p.name.removesuffix(".yaml") for p in _folder().iterdir() if p.name.endswith(".yaml"))


def load(recipe: str, beside: Path | None = None) -> Recipe:
    """A recipe by name (``sample``), by path (``mine.yaml``) or as YAML/JSON text (what a pipeline carries).

    Args:
        recipe: its name, path or text.
        beside: folder in which a relative path is looked up before the working directory.

    Raises:
        GltError: there is no such recipe, or a field is wrong; names the field and what it may be.
    """
    fields, origin = _fields(recipe, beside, ())
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
        raise GltError(f"recipe {origin}: {problems(error, Recipe, 'recipe')}") from error


def _fields(recipe: str, beside: Path | None, above: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """The fields of a recipe, over those of the recipe it extends, and what to call it."""
    text, origin, folder = _text(recipe, beside)
    place = origin if folder is None else str(Path(origin).resolve())
    if place in above:
        raise GltError(f"recipe {origin}: extends itself, by way of {' and '.join(above)}; break the circle")
    fields = yaml_text.load(text, f"recipe {origin}")
    if not isinstance(fields, dict):
        raise GltError(f"recipe {origin}: expected `key: value` lines; start from one of {', '.join(names())}")
    fields = _current(fields)
    parent = fields.pop("extends", None)
    if parent is None:
        return fields, origin
    if not isinstance(parent, str) or "\n" in parent or not parent.strip():
        raise GltError(f"recipe {origin}: extends: give the name or path of one recipe")
    try:
        return _over(_fields(parent, folder, (*above, place))[0], fields), origin
    except GltError as error:
        raise error if "extends" in str(error) else GltError(f"recipe {origin}: extends: {error}") from error


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


def _text(recipe: str, beside: Path | None) -> tuple[str, str, Path | None]:
    """The text of a recipe, its name for messages, and the folder that its paths are relative to."""
    if "\n" in recipe or recipe.lstrip().startswith("{"):
        return recipe, "given as text", None
    if recipe in names():
        return (_folder() / f"{recipe}.yaml").read_text(encoding="utf-8"), recipe, None
    path = _find(recipe, beside)
    if path.suffix.lower() in _SUFFIXES:
        return yaml_text.read(path, f"recipe {path}"), str(path), path.parent
    meant = suggestion(recipe, names())
    raise GltError(
        f"unknown recipe {recipe!r:.80}: take one of {', '.join(names())}, or a path to a .yaml file"
        + (f"; {meant}" if meant else "")
    )


def _find(path: str, beside: Path | None) -> Path:
    """The path of a file: in `beside`, or in the working directory if it exists only there."""
    try:
        here = Path(path).expanduser()
        there = here if beside is None else beside / here
        return here if here.exists() and not there.exists() else there
    except (OSError, ValueError, RuntimeError):  # too long, with a null character, of an unknown user
        return Path(path)
