"""Reasons why a step of a local run is done again."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from pipelines.console import StepDisplay
from pipelines.reuse import Reuse, uncached_steps
from pipelines.training import training_pipeline

INPUTS: dict[str, Any] = {"code": "c1", "data": "d1", "recordings": "/r", "recipe": {"seed": 0, "pretrain.lr": 0.1}}
UNCACHED = frozenset({"gate"})


def shown(file: Path, lines: list[str], **changed: Any) -> list[str]:
    screen = io.StringIO()
    display = StepDisplay(screen, io.StringIO(), Reuse(file, INPUTS | changed, UNCACHED))
    display.write("".join(f"INFO - {line}\n" for line in lines))
    return [line.split(maxsplit=1)[1] for line in screen.getvalue().splitlines() if " done in " not in line]


def done(*steps: str) -> list[str]:
    return [line for s in steps for line in (f"Executing task '{s}'", f"Task '{s}' finished with status SUCCESS")]


@pytest.mark.fault("a second run after a change", "it prints which steps are repeated, and why")
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"code": "c2"}, "redone, changed: the code"),
        ({"data": "d2"}, "redone, changed: the data"),
        ({"recordings": "/s"}, "redone, changed: the recordings' path"),
        ({"recipe": {"seed": 1, "pretrain.lr": 0.1}}, "redone, changed: the recipe (seed)"),
        ({"recipe": {"seed": 0, "pretrain.lr": 0.1, "new": 1}}, "redone, changed: the recipe (new)"),
        ({"code": "c2", "data": "d2"}, "redone, changed: the code, the data"),
        ({}, "no earlier result"),
    ],
)
def test_a_redone_step_has_its_reason(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    file = tmp_path / "inputs.json"
    assert shown(file, done("ingest", "finetune", "gate")) == ["runs every time"]
    again = shown(file, [*done("finetune", "finetune", "probe", "gate"), "Task ingest cache hit (key=1)"], **changed)
    assert again == [words, words, "no earlier result", "runs every time", "nothing changed, reused"]


def test_what_follows_a_step_whose_result_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "inputs.json"
    shown(file, done("ingest", "probe"))
    assert shown(file, done("ingest", "probe")) == ["no earlier result", "redone, as a step before it was"]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"ingest": 1}', "\x00"])
def test_a_record_that_is_none_is_no_failure(tmp_path: Path, content: str) -> None:
    file = tmp_path / "inputs.json"
    file.write_text(content)
    shown(file, done("ingest"))
    assert shown(file, done("ingest"), code="c2") == ["redone, changed: the code"]


def test_steps_that_always_run_are_those_of_the_graph() -> None:
    assert uncached_steps(training_pipeline("local")) == {"gate", "report", "register", "promote", "finish"}
