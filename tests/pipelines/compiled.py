"""A compiled graph, read back: what each task is given, where that comes from, and what its pod gets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from kfp import compiler

from pipelines.graphs import GRAPHS

Document = dict[str, Any]


@dataclass
class Task:
    """One step of a graph.

    Attributes:
        inputs: by name, where each comes from: a parameter of the graph, `task.output`, `list[].field` of a loop's
            item, `task.output[]` for those of all of a loop's rounds, a constant as Python writes it.
        inside: the groups around it, the outermost first.
        after: the tasks and groups of the same group that end before it starts.
        spec: what KFP compiled.
    """

    name: str
    inputs: dict[str, str]
    inside: tuple[str, ...]
    after: set[str]
    spec: Document

    @property
    def cached(self) -> bool:
        return bool(self.spec["cachingOptions"].get("enableCache"))


@dataclass
class Group:
    """A loop, a condition, or all that a graph does before its exit step."""

    name: str
    after: set[str]
    condition: str = ""
    items: str = ""
    at_once: int | None = None


@dataclass
class Graph:
    """A graph that was compiled for an accelerator profile."""

    spec: Document
    platform: Document  # Kubernetes settings by task
    tasks: dict[str, Task] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)

    @property
    def containers(self) -> dict[str, Document]:
        executors = self.spec["deploymentSpec"]["executors"]
        return {name.removeprefix("exec-"): executor["container"] for name, executor in executors.items()}

    @property
    def parameters(self) -> dict[str, str]:
        """The graph's own: type and default value."""
        return signature(self.spec["root"])[0]

    def component(self, name: str) -> tuple[dict[str, str], dict[str, str]]:
        """Types of a component's inputs and outputs."""
        return signature(self.spec["components"][f"comp-{name}"])


@cache
def compiled(graph: str, profile: str) -> Graph:
    """Each graph is compiled once, whatever number of tests reads it; they must not change it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "graph.yaml"
        compiler.Compiler().compile(GRAPHS[graph](profile), str(path))
        spec, *more = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    executors = more[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if more else {}
    found = Graph(spec, {name.removeprefix("exec-"): settings for name, settings in executors.items()})
    _read(found, spec["root"], {name: name for name in found.parameters}, ())
    return found


def signature(component: Document) -> tuple[dict[str, str], dict[str, str]]:
    """Inputs and outputs: a parameter's type and default, an artifact's type, `[]` for a list of them."""

    def side(definitions: Document) -> Iterator[tuple[str, str]]:
        for name, parameter in definitions.get("parameters", {}).items():
            default = f" = {parameter['defaultValue']}" if "defaultValue" in parameter else ""
            yield name, parameter["parameterType"] + default
        for name, artifact in definitions.get("artifacts", {}).items():
            kind = artifact["artifactType"]["schemaTitle"].removeprefix("system.")
            yield name, kind + ("[]" if artifact.get("isArtifactList") else "")

    return dict(side(component.get("inputDefinitions", {}))), dict(side(component.get("outputDefinitions", {})))


def _read(graph: Graph, component: Document, known: Mapping[str, str], inside: tuple[str, ...]) -> None:
    """Add the tasks and groups of a DAG; `known` says where its inputs come from."""
    tasks = component["dag"]["tasks"]
    names = {key: _name(graph, tasks, key) for key in tasks}
    for key, task in tasks.items():
        given = task.get("inputs", {})
        inputs = {
            name: _origin(graph, tasks, source, known)
            for name, source in {**given.get("parameters", {}), **given.get("artifacts", {})}.items()
        }
        after = {names[other] for other in task.get("dependentTasks", ())}
        inner = graph.spec["components"][task["componentRef"]["name"]]
        if "dag" not in inner:
            assert names[key] not in graph.tasks
            graph.tasks[names[key]] = Task(names[key], inputs, inside, after, task)
            continue
        group = Group(names[key], after, task.get("triggerPolicy", {}).get("condition", ""))
        for name, source in inputs.items():  # a condition names its inputs as the DAG's
            group.condition = group.condition.replace(f"inputs.parameter_values['{name}']", source)
        if "parameterIterator" in task:
            loop = task["parameterIterator"]
            group.items = inputs[loop["items"]["inputParameter"]]
            group.at_once = task["iteratorPolicy"]["parallelismLimit"]
            inputs[loop["itemInput"]] = f"{group.items}[]"
        graph.groups[group.name] = group
        _read(graph, inner, inputs, (*inside, group.name))


def _name(graph: Graph, tasks: Document, key: str) -> str:
    """A group's name, or the key of a step, whose name is for people."""
    is_group = "dag" in graph.spec["components"][tasks[key]["componentRef"]["name"]]
    return str(tasks[key]["taskInfo"]["name"]) if is_group else key


def _origin(graph: Graph, tasks: Document, source: Document, known: Mapping[str, str]) -> str:
    """The origin of an input."""
    match source:
        case {"runtimeValue": {"constant": constant}}:
            return repr(constant)
        case {"taskFinalStatus": {"producerTask": task}}:
            return f"status of {_name(graph, tasks, task)}"
        case {"componentInputParameter": name} | {"componentInputArtifact": name}:
            origin = known[name]
            if selector := source.get("parameterExpressionSelector"):
                origin += "." + selector.removeprefix('parseJson(string_value)["').removesuffix('"]')
            return origin
        case {"taskOutputParameter": {"producerTask": task, "outputParameterKey": key}}:
            return f"{_name(graph, tasks, task)}.{key}"
        case {"taskOutputArtifact": {"producerTask": task, "outputArtifactKey": key}}:
            inner = graph.spec["components"][tasks[task]["componentRef"]["name"]]
            if "dag" not in inner:
                return f"{_name(graph, tasks, task)}.{key}"
            (selector,) = inner["dag"]["outputs"]["artifacts"][key]["artifactSelectors"]
            return f"{selector['producerSubtask']}.{selector['outputArtifactKey']}[]"
    raise AssertionError(source)
