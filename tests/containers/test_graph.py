"""The whole training graph, each step a container of our image, by Kubeflow's DockerRunner on the engine's socket."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow.entities import Run

from glt.lifecycle import registry, tracking
from glt.lifecycle.code_version import current_code_version
from tests.containers.conftest import ROOT, Images
from tests.containers.engine import USER, Engine
from tests.pipelines.conftest import change, home, recordings
from tests.pipelines.test_local_run import MODEL, children, parents

__all__ = ["home", "recordings"]  # fixtures: the small world of the tests of `make run`
STEPS = {"ingest", "disentangle", "pretrain", "linear_probe", "gate", "report", "register", "promote"}


@dataclass(frozen=True)
class Runner:
    """`make run RUNNER=docker`."""

    engine: Engine
    environment: Mapping[str, str]
    recordings: Path

    def __call__(
        self, recipe: Path, recordings: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipelines", "run", "--runner", "docker", "--recipe", str(recipe)]
        return subprocess.run(
            [*command, "--recordings", str(recordings or self.recordings)],
            cwd=ROOT,
            env={**os.environ, **self.environment, **environment},
            umask=0o002,  # what this process makes in GLT_HOME, a step's group may change
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def runner(
    engine: Engine, images: Images, home: Path, recordings: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runner]:
    if os.getuid() == 0:  # steps run as the owner of the home; SQLite gives no group rights to a file that it makes
        (home / "mlflow.db").touch()
        for path in (home, home / "mlflow.db"):
            os.chown(path, USER, 0)
    with engine.socket(tmp_path_factory.mktemp("socket")) as address:
        yield Runner(engine, {"DOCKER_HOST": address, "GLT_IMAGE": images.pipeline}, recordings)


@pytest.fixture(scope="module")
def parent(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The MLflow run of a run of the graph."""
    done = runner(change(tmp_path_factory.mktemp("recipe")))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (found,) = parents(Path())
    return found


def test_graph_ends_with_a_champion(parent: Run) -> None:
    assert parent.info.status == "FINISHED"
    steps = [run.data.tags["glt.step"] for run in children(parent)]
    assert sorted(steps) == sorted(STEPS | {"finetune/05pct-seed2", "finetune/10pct-seed2"})
    champion = registry.champion(MODEL)
    assert champion is not None
    assert champion.version == parent.data.tags["model.version"]
    assert champion.tags["code.version"] == current_code_version()
    assert champion.tags["data.version"] == parent.data.tags["data.version"]


def test_every_step_ran_in_its_container_as_the_owner_of_the_home(parent: Run, home: Path) -> None:
    outputs = list((home / "pipelines").rglob("executor_output.json"))
    assert len(outputs) >= len(STEPS)
    assert {path.stat().st_uid for path in outputs} == {home.stat().st_uid}
    assert {path.stat().st_gid for path in outputs} == {0}


def test_failed_step_fails_the_run_and_says_why(parent: Run, runner: Runner, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("readme.txt", "no recordings")
    done = runner(change(tmp_path), tmp_path / "empty.zip")
    assert done.returncode == 1
    assert "no file that ends with .skeleton" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    newest = parents(Path())[0]
    assert newest.info.run_id != parent.info.run_id
    assert newest.info.status == "FAILED"
    assert "no file that ends with .skeleton" in newest.data.tags["error"]


def test_no_container_stays(parent: Run, engine: Engine) -> None:
    assert engine("ps", "--all", "--quiet", "--filter=label=glt.run") == ""


def test_image_of_other_code_is_rejected(runner: Runner, tmp_path: Path) -> None:
    done = runner(change(tmp_path), GLT_CODE_VERSION="0123456789ab")
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"holds code {current_code_version()}, this is code 0123456789ab; `make image`" in done.stderr
    assert tracking.connect().get_model_version_by_alias(MODEL, "champion")


def test_image_that_is_not_there_is_reported(runner: Runner, tmp_path: Path) -> None:
    done = runner(change(tmp_path), GLT_IMAGE="localhost/glt:nowhere")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "no image localhost/glt:nowhere here; `make image` builds it" in done.stderr
