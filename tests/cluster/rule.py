"""A rule of the contract, and the table that the modules of rules fill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.pipelines.compiled import Graph, Task

KFP, ARGO = "kubeflow/pipelines @ 2.17.0", "argoproj/argo-workflows @ v4.0.8"
KUBERNETES = "kubernetes/kubernetes @ v1.36.0"
COMPILER, DRIVER = "backend/src/v2/compiler/argocompiler", "backend/src/v2/driver"
Breaches = Iterator[str]
RULES: list[Rule] = []


@dataclass(frozen=True)
class Rule:
    """A demand of the cluster.

    Attributes:
        id: name in reports, lower-case words with dashes.
        demand: a sentence that holds for every graph, and what happens otherwise.
        source: project, tag and file in which it was read.
        check: yields a line for each breach by a graph.
    """

    id: str
    demand: str
    source: str
    check: Callable[[Graph], Breaches]


def of_graphs(demand: str, source: str) -> Callable[[Callable[[Graph], Breaches]], None]:
    """Add a rule with this check of a graph; its name is the check's."""

    def add(check: Callable[[Graph], Breaches]) -> None:
        RULES.append(Rule(check.__name__.replace("_", "-"), demand, source, check))

    return add


def of_steps(demand: str, source: str) -> Callable[[Callable[[Graph, str, Task], Breaches]], None]:
    """Add a rule with this check of a step: the graph, the step's name, the step."""

    def add(check: Callable[[Graph, str, Task], Breaches]) -> None:
        def whole(graph: Graph) -> Breaches:
            for name, task in graph.tasks.items():
                yield from (f"{name}: {breach}" for breach in check(graph, name, task))

        RULES.append(Rule(check.__name__.replace("_", "-"), demand, source, whole))

    return add
