"""Types of the graphs' parameters, and the limit of their size.

A graph's function is annotated with the types of the values (`str`, `int`, `Records`), and KFP calls it, to compile it,
with a channel for each of them.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from kfp.dsl.pipeline_channel import PipelineChannel
from pydantic import ConfigDict, Field, ValidationError

from glt import recipe
from glt.errors import GltError
from glt.lifecycle import s3
from glt.lifecycle.sources import address
from glt.recipe import Section, Seed
from glt.recipe.section import problems

if TYPE_CHECKING:
    Records: TypeAlias = list[dict[str, Any]]
else:
    Records = (
        list  # of `list[dict[str, X]]` KFP expects that every value of a record is an X: no records of mixed types
    )

Text: TypeAlias = str | PipelineChannel
Count: TypeAlias = int | PipelineChannel
Items: TypeAlias = Records | PipelineChannel

# Argo hands all parameters of a graph to KFP's driver as one argument of its command line (backend/src/v2/compiler/
# argocompiler/dag.go of Kubeflow Pipelines 2.17.0), and Linux takes 131,072 bytes in one argument.
LIMIT = 120_000  # bytes
# What a loop makes is collected for a later step, which gets all of it as one argument, too (driver.go): of every
# artifact name, address and where its store is (metadata/client.go).
ARTIFACT = 900  # bytes
COLLECTED = {"arms": 2, "trials": 1}  # artifacts of each item: encoder and classifier of an arm; classifier of a trial
_REMEDIES = {
    "arms": "take arms or seeds out of the study's file, or start build/ablation.yaml by hand with what "
    "`python -m pipelines arms STUDY --arms=... --seeds=...` prints",
    "recipe": "name a recipe of the image in place of its text",
    "trials": "give fewer labelled fractions or seeds",
}


class Trial(Section):
    """A finetuning: the labelled share of the training clips, and the seed that draws it."""

    fraction: float = Field(gt=0, le=1)
    seed: Seed


class ScheduledValues(Section):
    """Values of the parameters of the graphs that run by schedule, each as its step takes it."""

    model_config = ConfigDict(strict=True)

    recordings: str = ""
    landing: str = ""
    into: str = ""
    recipe: str = Field("", min_length=1)
    code_version: str = Field("", min_length=1)
    trials: list[Trial] = Field([])
    accelerator: Literal["cpu", "gpu", "auto"] = "auto"
    nodes: int = Field(1, ge=1)


def scheduled(values: Mapping[str, object]) -> dict[str, Any]:
    """The values of a schedule's parameters, checked; a recipe that is not one of the image's becomes its text.

    Raises:
        GltError: a value is not of its parameter's type, an address is none that a cluster can read, or a recipe is
            wrong.
    """
    try:
        checked = ScheduledValues.model_validate(values)
    except ValidationError as error:
        raise GltError(problems(error, ScheduledValues, "parameters")) from error
    for name in ("recordings", "into"):
        if name in values:
            address.check_remote(getattr(checked, name))
    if "into" in values:
        address.repository_and_revision(checked.into)
    if "landing" in values:
        address.refuse_account(checked.landing)
        s3.parts(checked.landing)
    if "recipe" not in values or checked.recipe in recipe.names():
        return dict(values)
    return {**values, "recipe": recipe.load(checked.recipe).to_json()}


def size(parameters: object) -> int:
    """Bytes of a parameter, or of all by name, as JSON in UTF-8."""
    return len(json.dumps(parameters, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def check_size(graph: str, parameters: Mapping[str, object]) -> None:
    """Refuse parameters that are too large for a run to start, and lists too long for the step after their loop.

    Raises:
        GltError: they are; it names the largest of them. Or a list has too many items.
    """
    total = size(parameters)
    if total > LIMIT:
        largest = max(parameters, key=lambda name: size(parameters[name]))
        raise GltError(
            f"parameters of the graph {graph}: {total:,} bytes, but Kubeflow Pipelines takes at most {LIMIT:,}; the "
            f"largest is {largest} with {size(parameters[largest]):,} bytes: {_REMEDIES.get(largest, 'shorten it')}"
        )
    for name, artifacts in COLLECTED.items():
        items, most = parameters.get(name, ()), LIMIT // (artifacts * ARTIFACT)
        if isinstance(items, list) and len(items) > most:
            raise GltError(
                f"parameters of the graph {graph}: {len(items)} {name}, but Kubeflow Pipelines hands the results of at "
                f"most {most} to the next step: {_REMEDIES[name]}"
            )
