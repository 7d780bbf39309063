"""Reasons why a local run repeats a step.

Kubeflow's local cache stores a step's result under its component, its command and its arguments: the code version, the
data version, the whole recipe, and the results of the steps before. The reason for repeating a step is therefore which
of these have changed since it was last completed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kfp.dsl.base_component import BaseComponent

from glt.artifact import read_json, write_json
from glt.errors import GltError

_TITLES = {"code": "the code", "data": "the data", "recordings": "the recordings' path", "arms": "the study's arms"}
_NAMED = 3  # fields of the recipe


class Reuse:
    """A record, in a file, of each step's inputs when it was last completed.

    Attributes:
        is_first: True if no step of this recipe was completed before.
    """

    def __init__(self, file: Path, inputs: Mapping[str, Any], uncached: frozenset[str]) -> None:
        """Read the record.

        Args:
            file: JSON file of the record; an unreadable one counts as missing.
            inputs: of this run: code, data, recordings, recipe (its fields by dotted name), ...
            uncached: names of the steps whose results are never reused.
        """
        self._file, self._inputs, self._uncached = file, dict(inputs), uncached
        self._before: dict[str, Any] = {}
        with contextlib.suppress(GltError):
            self._before = read_json(file, dict)
        self._now = dict(self._before)
        self._redone: set[str] = set()
        self.is_first = not self._before

    def reason(self, step: str) -> str:
        """The reason why a step is run and not reused; empty in a first run."""
        if step in self._uncached:
            return "runs every time"
        earlier = self._redone - {step}
        self._redone.add(step)
        if self.is_first:
            return ""
        before = self._before.get(step)
        if not isinstance(before, dict):
            return "no earlier result"
        if changed := self._changed(before):
            return f"redone, changed: {', '.join(changed)}"
        return "redone, as a step before it was" if earlier else "no earlier result"

    def complete(self, step: str) -> None:
        """Record that a step was completed or reused with the inputs of this run."""
        self._now[step] = self._inputs
        with contextlib.suppress(OSError, GltError):  # a run succeeds without its record
            write_json(self._file, self._now)

    def _changed(self, before: Mapping[str, Any]) -> list[str]:
        changed = [title for name, title in _TITLES.items() if before.get(name) != self._inputs.get(name)]
        one, two = before.get("recipe"), self._inputs.get("recipe")
        if one != two:
            fields = []
            if isinstance(one, dict) and isinstance(two, dict):
                fields = [name for name in {**two, **one} if one.get(name) != two.get(name)]
            more = ", ..." if len(fields) > _NAMED else ""
            changed.append("the recipe" + (f" ({', '.join(fields[:_NAMED])}{more})" if fields else ""))
        return changed


def uncached_steps(graph: BaseComponent) -> frozenset[str]:
    """Names of the steps of a graph whose results are never reused."""
    spec = graph.pipeline_spec  # type: ignore[attr-defined]  # a graph has one
    dags = [spec.root.dag, *(component.dag for component in spec.components.values())]
    tasks = [task for dag in dags for task in dag.tasks.values()]
    names = {task.component_ref.name for task in tasks if not task.caching_options.enable_cache}
    steps = (name for name in names if spec.components[name].executor_label)  # the others are graphs
    return frozenset(name.removeprefix("comp-") for name in steps)
