"""Steps as containers, through KFP's own dispatcher, on an engine that answers as podman does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import docker
import kfp.local
import pytest
from docker.errors import NotFound
from kfp import dsl
from kfp.local import docker_task_handler
from kfp.local.status import Status

from components import IMAGE
from glt.lifecycle.code_version import current_code_version
from pipelines.containers import ContainerTask, docker_runner


class Container:
    """A container that has ended; with `auto_remove` the engine has removed it by then."""

    def __init__(self, status: int, **settings: Any) -> None:
        self.status, self.settings = status, settings
        self.removed = bool(settings.get("auto_remove"))

    def logs(self, stream: bool) -> Iterator[bytes]:
        yield "what the step prints: °".encode()[:-1]  # a stream may be cut inside a character
        yield "°\n".encode()[1:]

    def wait(self) -> dict[str, int]:
        if self.removed:
            raise NotFound("no such container")
        return {"StatusCode": self.status}

    def remove(self, force: bool) -> None:
        self.removed = True


class Engine:
    """The client of an engine that has our image; its containers end with `status`."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.containers, self.images = self, self
        self.started: list[Container] = []
        self.tags, self.attrs = [IMAGE], {"Config": {"Env": [f"GLT_CODE_VERSION={current_code_version()}"]}}

    def run(self, image: str, command: list[str], **settings: Any) -> Container:
        self.started.append(Container(self.status, image=image, command=command, **settings))
        return self.started[-1]

    def get(self, image: str) -> Self:
        return self

    def list(self, **_: Any) -> list[Any]:
        return []

    def info(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def step() -> None:
    """Nothing: the engine above runs no code."""


@pytest.fixture
def engine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine(request.param)
    monkeypatch.setattr(docker, "from_env", lambda: engine)
    monkeypatch.setenv("GLT_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return engine


def run_step(tmp_path: Path) -> None:
    with docker_runner(str(tmp_path), "a-run") as runner:
        kfp.local.init(runner, pipeline_root=str(tmp_path / "home" / "pipelines"))
        step()


@pytest.mark.parametrize("engine", [0], indirect=True)
def test_a_step_runs_as_a_container_without_rights(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLT_RUN_ID", "a-run")
    monkeypatch.setenv("SECRET_OF_THIS_SHELL", "x")
    run_step(tmp_path)
    (container,) = engine.started
    settings, home = container.settings, str(tmp_path / "home")
    assert container.removed
    assert settings["image"] == IMAGE
    assert settings["cap_drop"] == ["ALL"]
    assert settings["read_only"]
    assert settings["labels"] == {"glt.run": "a-run"}
    assert settings["environment"]["GLT_RUN_ID"] == "a-run"
    assert "SECRET_OF_THIS_SHELL" not in settings["environment"]
    mounts = [(mount["Source"], mount["ReadOnly"]) for mount in settings["mounts"]]
    assert mounts == [(home, False), (str(tmp_path), True)]
    assert f"{home}/pipelines" in settings["volumes"]
    printed = capsys.readouterr().out
    assert "what the step prints: " in printed
    assert "°" in printed


@pytest.mark.parametrize("engine", [1, 137], indirect=True)
def test_a_container_that_fails_fails_its_step(engine: Engine, tmp_path: Path) -> None:
    original = docker_task_handler.DockerTaskHandler
    with pytest.raises(RuntimeError, match="FAILURE"):
        run_step(tmp_path)
    assert engine.started[0].removed
    assert docker_task_handler.DockerTaskHandler is original


@pytest.mark.parametrize("engine", [1], indirect=True)
def test_the_handler_of_kfp_still_takes_a_failed_container_for_a_success(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason for `ContainerTask`: when this test fails, KFP's own handler will do and ours can go."""
    runner = kfp.local.DockerRunner()
    arguments = {"image": IMAGE, "full_command": ["false"], "pipeline_root": str(tmp_path), "runner": runner}
    monkeypatch.setattr(Container, "logs", lambda *_, **__: iter(()))  # nor does it read a character in two pieces
    engine.list = lambda: [engine]  # the images that KFP looks through
    engine.attrs = {"RepoDigests": []}
    assert docker_task_handler.DockerTaskHandler(**arguments).run() is Status.SUCCESS
    assert ContainerTask(**arguments).run() is Status.FAILURE
