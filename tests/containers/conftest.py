"""The engine and the images, which are built as a person builds them: by `make image`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.containers import stand_ins
from tests.containers.engine import Engine, build_arguments, find

ROOT = Path(__file__).parents[2]
DEFAULT_BASE = "python:3.11-slim"
DEBIAN = "localhost/glt-base:bookworm"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.containers)
            item.add_marker(pytest.mark.timeout(1800))


@dataclass(frozen=True)
class Images:
    """The names by which the engine knows them."""

    pipeline: str
    mlflow: str


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    found = find(tmp_path_factory.mktemp("engine"))
    if found is None:
        pytest.skip("no podman and no docker answers on this machine: nothing of the images was tested")
    return found


@pytest.fixture(scope="session")
def base(engine: Engine) -> str:
    """BASE, or the default, or a Debian with Python where no registry is reached."""
    if given := os.environ.get("BASE"):
        return given
    if engine.has(DEFAULT_BASE):
        return DEFAULT_BASE
    if engine("images", "--quiet", DEBIAN):
        return DEBIAN
    if shutil.which("mmdebstrap") is None:
        pytest.skip(f"{DEFAULT_BASE} cannot be pulled, and there is no mmdebstrap to make a base; or give BASE=")
    stand_ins.debian(engine, DEBIAN, "python3", "python3-venv", "ca-certificates")
    return DEBIAN


@pytest.fixture(scope="session")
def images(engine: Engine, base: str, tmp_path_factory: pytest.TempPathFactory) -> Images:
    named = Images("localhost/glt:test", "localhost/glt-mlflow:test")
    given = os.environ.get("BUILD_ARGS")
    if given is None:
        given = build_arguments(tmp_path_factory.mktemp("build")) if engine.podman else ""
    variables = {
        "ENGINE": engine.program,
        "BASE": base,
        "IMAGE": named.pipeline,
        "MLFLOW_IMAGE": named.mlflow,
        "BUILD_ARGS": given,
        "BIN": str(Path(sys.executable).parent),
    }
    # The environment is there: it runs this test.
    command = ["make", "--old-file=setup", "image", *(f"{name}={value}" for name, value in variables.items())]
    done = subprocess.run(command, cwd=ROOT, env=engine.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return named
