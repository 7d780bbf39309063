"""The stubs in typings/ describe what is installed: KFP ships no types, so mypy takes ours at their word."""

from __future__ import annotations

import ast
import importlib
import inspect
import pathlib
from pathlib import Path
from types import ModuleType

import pytest

STUBS = Path(__file__).parent.parent / "typings"


def module_name(stub: Path) -> str:
    return ".".join(part for part in stub.relative_to(STUBS).with_suffix("").parts if part != "__init__")


@pytest.mark.parametrize("stub", sorted(STUBS.rglob("*.pyi")), ids=module_name)
def test_a_stub_matches_the_installed_package(stub: Path) -> None:
    module = importlib.import_module(module_name(stub))
    assert mismatches(ast.parse(stub.read_text(encoding="utf-8")), module) == []


def mismatches(stub: ast.Module | ast.ClassDef, real: ModuleType | type) -> list[str]:
    """Names and parameters that the stub declares and the real module or class lacks."""
    wrong = []
    for node in stub.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        if not hasattr(real, node.name):
            wrong.append(f"{real.__name__} has no {node.name}")
        elif isinstance(node, ast.ClassDef):
            wrong += mismatches(node, getattr(real, node.name))
        elif not any(isinstance(decorator, ast.Name) for decorator in node.decorator_list):  # not a property
            declared = [*node.args.args, *node.args.kwonlyargs]
            parameters = inspect.signature(getattr(real, node.name)).parameters
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
                wrong += [f"{real.__name__}.{node.name} has no {a.arg}" for a in declared if a.arg not in parameters]
    return wrong


def test_a_name_or_parameter_that_does_not_exist_is_reported() -> None:
    stub = "class Path:\n    def open(self, mode: str, colour: str) -> None: ...\n    def fly(self) -> None: ..."
    assert mismatches(ast.parse(stub), pathlib) == ["Path.open has no colour", "Path has no fly"]
