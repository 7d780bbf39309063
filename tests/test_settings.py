"""One place lists every environment variable that glt reads, and reads it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from glt import settings

SOURCES = sorted(path for path in Path(settings.__file__).parent.rglob("*.py") if path.name != "settings.py")
# torchrun's variables, and the one that a function which Kubeflow Trainer copies to its nodes reads there.
READ_ELSEWHERE = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "GLT_COMMAND"}


def listed() -> set[str]:
    rows = [line for line in (settings.__doc__ or "").splitlines() if line.startswith("| ")]
    return {name for row in rows for name in re.findall(r"[A-Z][A-Z_]{3,}", row.split("|")[1])}


def read(tree: ast.AST) -> set[str]:
    """Variables that a module asks the environment for by name."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(
                value=ast.Attribute(attr="environ"), slice=ast.Constant(value=str(name)), ctx=ast.Load()
            ):
                found.add(name)
            case ast.Call(
                func=ast.Attribute(value=ast.Attribute(attr="environ"), attr="get"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                found.add(name)
    return found - {"PATH"}


def test_no_other_module_reads_a_variable_of_ours() -> None:
    assert set().union(*(read(ast.parse(path.read_text())) for path in SOURCES)) == READ_ELSEWHERE


def test_a_planted_reader_is_found() -> None:
    text = "import os\nos.environ['GLT_A']\nos.environ.get('GLT_B', '1')\nos.environ['GLT_C'] = 'x'\n"
    assert read(ast.parse(text)) == {"GLT_A", "GLT_B"}


def test_every_variable_that_the_sources_name_is_listed() -> None:
    named = {name for path in SOURCES for name in re.findall(r"\bGLT_[A-Z_]+\b", path.read_text())}
    constants = {value for name, value in vars(settings).items() if name.isupper() and re.fullmatch("[A-Z_]+", value)}
    assert named | constants | READ_ELSEWHERE <= listed()


def test_values_and_what_stands_for_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in listed():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    assert settings.home() == tmp_path / "runs"
    assert settings.store_uri() == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert settings.is_local()
    assert (settings.git_user(), settings.region()) == ("git", "us-east-1")
    assert settings.run_id() == settings.image() == settings.locks() == settings.git_token() == ""
    monkeypatch.setenv("GLT_HOME", "elsewhere")
    assert settings.home() == tmp_path / "elsewhere"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    assert (settings.store_uri(), settings.is_local()) == ("https://mlflow.example", False)
