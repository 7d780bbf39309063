"""The base class of all sections of a recipe, shared types, and the messages about wrong values."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails

from glt.text import clean

Seed = Annotated[int, Field(ge=0, lt=2**32)]
NAME = r"^[a-z0-9][a-z0-9-]*$"
PATTERNS = {NAME: "use lower-case letters, digits and hyphens, as in my-recipe"}
SHOWN = 8  # problems in one message


class Section(BaseModel):
    """A part of a recipe: no unknown keys, and it does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _reject_booleans(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse yes, no, true and false for a number or text: Python would take them for 1 and 0."""
        is_switch = cls.model_fields[str(info.field_name)].annotation is bool
        if not is_switch and any(isinstance(one, bool) for one in (value if isinstance(value, list) else [value])):
            raise ValueError("yes, no, true or false where another value is expected")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _one_zero(cls, value: Any) -> Any:
        """Zero without a sign, so that equal recipes have equal text."""
        return 0.0 if isinstance(value, float) and value == 0 else value


def problems(error: ValidationError, model: type[BaseModel], whole: str) -> str:
    """The problems of a recipe or study on one line, each with its field and the values that it may have.

    Args:
        error: from the validation of `model`.
        model: the validated model.
        whole: name of the model in messages, for problems without a field.
    """
    errors = error.errors(include_url=False)
    # A list whose values are all refused also counts as too short: only the values are named.
    inner = {part for one in errors if len(one["loc"]) > 1 for part in [one["loc"][:-1]]}
    errors = [one for one in errors if one["type"] != "too_short" or one["loc"] not in inner]
    listed = "; ".join(_problem(one, model, whole) for one in errors[:SHOWN])
    return listed + (f"; and {len(errors) - SHOWN} more" if len(errors) > SHOWN else "")


def suggestion(name: str, known: Iterable[str]) -> str:
    """The question "did you mean ...?" for a name that is close to known ones, else an empty string."""
    near = difflib.get_close_matches(name, list(known), n=2, cutoff=0.7)
    return f"did you mean {' or '.join(near)}?" if near else ""


def _problem(one: ErrorDetails, model: type[BaseModel], whole: str) -> str:
    path = [str(part) for part in one["loc"]]
    field = clean(".".join(path))[:100] or whole
    if one["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return f"{field}: a section, so `key: value` lines are expected; write some, or remove it"
    context = one.get("ctx", {})
    if one["type"] in ("too_short", "too_long"):
        least, most = context.get("min_length"), context.get("max_length")
        return f"{field}: give {f'at least {least}' if one['type'] == 'too_short' else f'at most {most}'} value(s)"
    if one["type"] == "string_pattern_mismatch":
        return f"{field}: {PATTERNS.get(context['pattern'], one['msg'])}"
    if one["type"] != "extra_forbidden":
        return f"{field}: {one['msg'].removeprefix('Value error, ')}"
    fields = [name.rpartition(".") for name in _names(model)]
    beside = [name for section, _, name in fields if section == ".".join(path[:-1])]
    elsewhere = ["".join(name) for name in fields if name[2] == path[-1]]
    meant = suggestion(path[-1], beside) or (f"did you mean {' or '.join(elsewhere[:4])}?" if elsewhere else "")
    return f"{field}: unknown key, {meant or 'remove it or correct its spelling'}"


def _names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted names of a model's fields and of those of its sections."""
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _names(field.annotation, f"{prefix}{name}.")
