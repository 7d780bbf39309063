"""The walls of the house: who may import whom, and how long a module may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Each room may use those before it, never those after it.
ROOMS = (
    *(
        "text",
        "settings",
        "errors",
        "yaml_text",
        "logs",
        "console",
        "file_lock",
        "accelerator",
        "recipe",
        "artifact",
        "outputs",
        "reporter",
        "randomness",
        "data",
        "motion",
        "layers",
        "small_attention",
        "fused_attention",
    ),
    *("model", "training", "analysis", "serving", "lifecycle", "steps", "doctor", "cli", "__main__"),
)
SCIENCE = ROOMS[: ROOMS.index("lifecycle")]
PLATFORM = {
    "kfp",
    "kfp_kubernetes",
    "kfp_server_api",
    "mlflow",
    "dvc",
    "boto3",
    "botocore",
    "kubeflow",
    "kubernetes",
    "docker",
}
LINES = 400


def violations(root: Path) -> list[str]:
    """What breaks a wall in the source tree at `root`, a line each."""
    found = []
    for file in sorted(file for top in ("glt", "components", "pipelines") for file in (root / top).rglob("*.py")):
        place = file.relative_to(root)
        text = file.read_text(encoding="utf-8")
        if len(text.splitlines()) > LINES:
            found.append(f"{place}: more than {LINES} lines")
        if file.stem == "utils":
            found.append(f"{place}: a module is named for what it knows")
        found += [f"{place}: {problem}" for name in imports(place, ast.parse(text)) if (problem := wrong(place, name))]
    return found


def imports(place: Path, tree: ast.AST) -> Iterator[str]:
    """Full dotted names of all a module imports, wherever in it the import stands."""
    package = place.with_suffix("").parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            base = [*above, *(node.module or "").split(".")]
            yield from (".".join(filter(None, [*base, alias.name])) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant))


def wrong(place: Path, imported: str) -> str:
    """What is wrong with the module at `place` importing the dotted name `imported`; empty if nothing is."""
    top, *rest = imported.split(".")
    if place.parts[0] != "glt":
        return ""
    room = place.with_suffix("").parts[1]
    if top in ("components", "pipelines") or (top == "kfp"):
        return f"only components and pipelines know the graph, not {room} ({imported})"
    if room in SCIENCE and top in PLATFORM:
        if top == "mlflow" and place.as_posix() == "glt/serving/pyfunc.py":
            return ""
        return f"{room} is science and knows no {top}"
    if top != "glt" or not rest or room == "__init__":
        return ""
    if rest[0] not in ROOMS:
        return f"imports {imported}, which is no room of the house"
    if ROOMS.index(rest[0]) > ROOMS.index(room):
        return f"{room} stands before {rest[0]} and may not import it"
    return ""


def test_no_wall_is_broken() -> None:
    assert violations(ROOT) == []


def test_every_room_is_known_and_stands() -> None:
    rooms = {path.stem for path in (ROOT / "glt").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - {"__init__"} == set(ROOMS)


@pytest.mark.parametrize(
    ("place", "text", "words"),
    [
        ("glt/recipe.py", "from glt.motion import packed", "recipe stands before motion"),
        ("glt/motion/packed.py", "from glt import training", "motion stands before training"),
        ("glt/motion/packed.py", "import glt.training.probe as p", "motion stands before training"),
        ("glt/motion/packed.py", "def f():\n    from ..training import probe\n", "motion stands before training"),
        ("glt/data/formats/ntu.py", "from ... import cli", "data stands before cli"),
        ("glt/model.py", "if TYPE_CHECKING:\n    from glt.steps import training", "model stands before steps"),
        ("glt/training/probe.py", "import mlflow.pyfunc", "training is science and knows no mlflow"),
        ("glt/data/ingest.py", "from dvc.api import open", "data is science and knows no dvc"),
        ("glt/analysis/report.py", "import boto3", "analysis is science and knows no boto3"),
        ("glt/serving/model.py", "import mlflow", "serving is science and knows no mlflow"),
        ("glt/training/probe.py", "importlib.import_module('mlflow')", "training is science and knows no mlflow"),
        ("glt/lifecycle/registry.py", "from kfp import dsl", "only components and pipelines know the graph"),
        ("glt/cli/train.py", "from pipelines import training", "only components and pipelines know the graph"),
        ("glt/steps/data.py", "import glt.extras", "no room of the house"),
        ("glt/motion/utils.py", "", "named for what it knows"),
        ("components/ingest.py", "x = 1\n" * 401, "more than 400 lines"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, place: str, text: str, words: str) -> None:
    file = tmp_path / place
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert [words in line for line in violations(tmp_path)] == [True]


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("glt/training/probe.py", "from glt import artifact\nfrom glt.errors import GltError\nfrom . import batches"),
        ("glt/serving/pyfunc.py", "import mlflow"),
        ("glt/lifecycle/registry.py", "import mlflow\nfrom dvc.repo import Repo\nfrom glt.serving import model"),
        ("components/ingest.py", "from kfp import dsl\nfrom glt.steps import data"),
        ("glt/lifecycle/code_version.py", "import glt"),
        ("glt/cli/train.py", "x = 1\n" * 400),
    ],
)
def test_what_is_allowed_passes(tmp_path: Path, place: str, text: str) -> None:
    file = tmp_path / place
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert violations(tmp_path) == []
