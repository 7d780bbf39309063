"""The servers as on a cluster (infra/local/stack.py), started once, and what a pipeline's pod has to reach them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml

from glt.motion.disentangle import Motions
from glt.recipe import Recipe
from infra.local.stack import Stack
from tests.pipelines.conftest import few_recordings

ROOT = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder is of the slower kind."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.stack)
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(tmp_path_factory.mktemp("stack"))
    made.up()
    yield made
    made.down()


@pytest.fixture
def stack(servers: Stack, tmp_path: Path) -> Iterator[Stack]:
    """All servers run, and the environment is that of a pod of the pipeline run `tmp_path`; afterwards as before."""
    servers.up()
    own = {"GLT_HOME": str(tmp_path / "pod"), "GLT_RUN_ID": tmp_path.name, "DVC_NO_ANALYTICS": "1"}
    own |= {"DVC_SITE_CACHE_DIR": str(tmp_path / "site"), "OMP_NUM_THREADS": "1"}
    with patch.dict(os.environ):
        for name in [name for name in os.environ if name.startswith(("MLFLOW_", "AWS_", "GLT_"))]:
            del os.environ[name]
        os.environ |= servers.environment() | own
        yield servers


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    return few_recordings(tmp_path)


class Pretraining:
    """`glt pretrain` as a process of its own."""

    def __init__(self, motions: Motions, recipe: Recipe, folder: Path) -> None:
        self.out, self.log = folder / "made" / "encoder", folder / "log"
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
        states = ["--checkpoints", str(folder / "states"), "--save-every", "1"]
        self._command = ["pretrain", str(motions.path), str(folder / "recipe.yaml"), str(self.out), *states]

    def start(self, *before: str) -> subprocess.Popen[bytes]:
        """Start it, or go on; `before` is what runs it."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*before, sys.executable, "-m", "glt", *self._command], stdout=log, stderr=log, cwd=ROOT
            )

    def output(self) -> str:
        return self.log.read_text()
