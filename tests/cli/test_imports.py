"""Modules that each entry imports: a ceiling on its start-up time that no noisy machine can blur."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    *("torch", "sklearn", "scipy", "numba", "matplotlib", "pandas", "numpy", "pyarrow", "pandera"),
    *("mlflow", "kfp", "dvc", "boto3", "botocore", "kubernetes", "docker"),
}
PRINT = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"


def imported_modules(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has imported after `code`."""
    done = subprocess.run([sys.executable, "-c", f"{code}\n{PRINT}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return HEAVY & set(done.stdout.splitlines()[-1].split())


def command(*arguments: str) -> str:
    """Python that runs `glt` with these arguments and goes on."""
    return f"""
import contextlib, sys
sys.argv = ["glt", *{arguments!r}]
from glt.cli import main
with contextlib.suppress(SystemExit):
    main()
"""


@pytest.mark.parametrize("arguments", [("--help",), ("history", "--help"), ("pretrain", "--help"), ("--version",)])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert imported_modules(command(*arguments)) == set()


def test_recipes_are_listed_without_science() -> None:
    assert imported_modules(command("recipes")) == set()


SCIENCE = {"numpy", "pandas", "pyarrow", "scipy"}


@pytest.mark.parametrize(
    ("step", "packages"),
    [
        ("check_for_new_data: retraining", SCIENCE),
        ("collect: collect", SCIENCE),
        ("ingest, disentangle: data", SCIENCE),
        ("pretrain: launch", SCIENCE | {"torch"}),
        ("linear_probe, finetune: training", SCIENCE | {"torch"}),
        ("gate: gate", SCIENCE | {"torch"}),
        ("report: report", SCIENCE | {"torch", "matplotlib"}),
        ("register, promote: release", SCIENCE - {"scipy"}),  # the model card has scores by group
        ("finish: finish", set()),
    ],
)
def test_a_component_imports_what_its_step_needs(step: str, packages: set[str]) -> None:
    module = step.rpartition(" ")[2]
    assert imported_modules(f"from glt.logs import run_entry\nfrom glt.steps import {module}") <= packages


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["submit", "--help"]])
def test_help_on_the_graphs_does_not_wait_for_kfp(arguments: list[str]) -> None:
    code = f"""
import contextlib, sys
sys.argv = ["pipelines", *{arguments!r}]
from pipelines.__main__ import main
with contextlib.suppress(SystemExit):
    main()
"""
    assert imported_modules(code) == set()
