"""A study: one recipe trained several times, each arm with a few fields changed, each with several seeds.

A study is one YAML file (``glt/studies/``); it says which arms stand beside each other in which of the paper's tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from glt import recipe, yaml_text
from glt.errors import GltError
from glt.recipe import Recipe
from glt.recipe.section import NAME, Section, Seed, problems, suggestion

Changes = dict[str, Any]
ArmName = Annotated[str, Field(pattern=NAME, max_length=48)]


class Study(Section):
    """A recipe, its arms and the seeds of each arm."""

    name: str = Field(pattern=NAME, max_length=64)
    recipe: str = Field(description="what every arm starts from: a recipe's name, or a path")
    changes: Changes = Field({}, description="fields of that recipe that every arm changes")
    seeds: tuple[Seed, ...] = Field((0, 1, 2), min_length=1, max_length=100)
    arms: dict[ArmName, Changes] = Field(
        min_length=1, max_length=100, description="fields of the recipe that an arm changes, by its name"
    )
    tables: dict[str, tuple[str, ...]] = Field({}, description="arms by the table of the paper that they repeat")
    _folder: Path | None = PrivateAttr(None)  # of the study's file; a recipe may lie beside it

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        for title, arms in self.tables.items():
            if unknown := set(arms) - set(self.arms):
                raise ValueError(f"tables.{title}: no such arm: {', '.join(sorted(unknown))}")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds: a value is given twice, remove one of the two")
        return self

    @property
    def base(self) -> Recipe:
        """The recipe that every arm changes."""
        origin = f"{self.recipe}, changes of study {self.name}"
        return recipe.with_changes(recipe.load(self.recipe, self._folder), self.changes, origin)

    def first_seeds(self, count: int) -> tuple[int, ...]:
        """The first seeds, or all if `count` is 0.

        Raises:
            GltError: there are fewer.
        """
        if count > len(self.seeds):
            raise GltError(f"study {self.name}: {count} seeds, but it has {len(self.seeds)}; add some to its file")
        return self.seeds[: count or None]

    def recipes(self, seeds: tuple[int, ...] = (), arms: tuple[str, ...] = ()) -> list[Recipe]:
        """The recipe of every arm and seed, or of some.

        Raises:
            GltError: there is no such arm, or one is given twice; an arm changes a field to what it cannot be, or the
                recordings or their split: arms that are tested on different clips cannot be compared.
        """
        if unknown := set(arms) - set(self.arms):
            shown = ", ".join(f"{name:.48}" or "without a name" for name in sorted(unknown))
            raise GltError(f"study {self.name}: no arm {shown}; it has {', '.join(self.arms)}")
        if len(set(arms)) != len(arms) or len(set(seeds)) != len(seeds):
            raise GltError(f"study {self.name}: an arm or a seed is given twice, remove one of the two")
        base, recipes = self.base, []
        for seed in seeds or self.seeds:
            for arm in arms or self.arms:
                origin = f"{self.recipe}, arm {arm} of study {self.name}"
                recipes.append(recipe.with_changes(base, {**self.arms[arm], "arm": arm, "seed": seed}, origin))
                if recipes[-1].data != base.data:
                    raise GltError(f"recipe {origin}: changes `data`; give each data set and split a study of its own")
        return recipes


def items(recipes: Sequence[Recipe]) -> list[dict[str, str]]:
    """The recipes of arms as the parameter `arms` of the graph, each as its difference from a recipe that has a name.

    A graph's parameters must stay below 120 kB together (`pipelines.parameters`), and 45 whole recipes are 140 kB.
    """
    return [{"recipe": recipe.short_text(arm)} for arm in recipes]


def names() -> list[str]:
    """The studies that come with the project."""
    return sorted(p.name.removesuffix(".yaml") for p in _folder().iterdir() if p.name.endswith(".yaml"))


def load(study: str) -> Study:
    """A study by name or by path.

    Raises:
        GltError: there is no such study, or a field is wrong.
    """
    if study in names():
        return _parse((_folder() / f"{study}.yaml").read_text(encoding="utf-8"), study)
    path = Path(study)
    if path.suffix.lower() not in {".yaml", ".yml"}:
        meant = suggestion(study, names())
        raise GltError(
            f"unknown study {study!r:.80}: take one of {', '.join(names())}, or a path to a .yaml file"
            + (f"; {meant}" if meant else "")
        )
    found = _parse(yaml_text.read(path, f"study {study}"), study)
    found._folder = path.parent
    return found


def _parse(text: str, origin: str) -> Study:
    fields = yaml_text.load(text, f"study {origin}")
    if not isinstance(fields, dict):
        raise GltError(f"study {origin}: expected `key: value` lines; start from one of {', '.join(names())}")
    try:
        return Study.model_validate(fields)
    except ValidationError as error:
        raise GltError(f"study {origin}: {problems(error, Study, 'study')}") from error


def _folder() -> Any:
    return resources.files("glt") / "studies"
