"""Each server image, started as its manifest in infra/k8s/base starts it: command, environment, user, rights, probe."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import mlflow
import pytest
import requests
from mlflow.exceptions import MlflowException

from infra.local.servers import Container, StackError
from infra.local.stack import Stack
from tests.containers import stand_ins
from tests.containers.conftest import Images
from tests.containers.engine import Engine
from tests.stack import encryption


@pytest.fixture(scope="module")
def real_or_stand_in(
    engine: Engine, images: Images, base: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The image to run for each one that a server's or a job's manifest names."""
    stack = Stack(tmp_path_factory.mktemp("manifests"))
    database, store, server = (stack.image(name) for name in stack.servers)
    chosen, rclone = {server: images.mlflow}, stack.image("backup")
    made = {
        database: lambda name: stand_ins.postgres(engine, name, tmp_path_factory.mktemp("postgres")),
        store: lambda name: stand_ins.program(engine, name, base, "weed"),
        rclone: lambda name: stand_ins.program(engine, name, base, "rclone"),
    }
    for image, make in made.items():
        chosen[image] = image
        if not engine.has(image):
            chosen[image] = f"localhost/glt-stand-in-{image.split(':')[0].split('/')[-1]}"
            make(chosen[image])
            warnings.warn(f"{image} cannot be pulled; {chosen[image]} was tested in its place", stacklevel=1)
    return chosen


@pytest.fixture(scope="module")
def servers(
    engine: Engine, real_or_stand_in: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """The stack of `make stack` with a container in place of every process."""
    with patch.dict(os.environ, {**engine.environment, "ENGINE": engine.program}):
        made = Stack(tmp_path_factory.mktemp("stack"), real_or_stand_in)
        try:
            made.up()
            yield made
        finally:
            made.down()
    assert engine("ps", "--all", "--quiet", "--filter=name=glt-stack") == ""


@pytest.fixture
def stack(servers: Stack, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """All servers run, and MLflow's client knows how to log in."""
    servers.up()
    for name, value in servers.environment().items():
        if name.startswith("MLFLOW_"):
            monkeypatch.setenv(name, value)
    return servers


def test_mlflow_server_takes_a_run_with_an_artifact(stack: Stack, tmp_path: Path) -> None:
    address = stack.environment()["MLFLOW_TRACKING_URI"]
    assert requests.get(f"{address}/api/2.0/mlflow/experiments/get?experiment_id=0", timeout=30).status_code == 401
    client = mlflow.MlflowClient(tracking_uri=address)
    run = client.create_run(client.create_experiment("containers")).info
    client.log_metric(run.run_id, "probe/top1", 0.5)
    (tmp_path / "page.html").write_text("a page")
    client.log_artifact(run.run_id, str(tmp_path / "page.html"))
    assert client.get_run(run.run_id).data.metrics == {"probe/top1": 0.5}
    assert Path(client.download_artifacts(run.run_id, "page.html", str(tmp_path))).read_text() == "a page"
    assert run.artifact_uri.startswith("mlflow-artifacts:")  # through the server; clients need no key of the store
    with pytest.raises(MlflowException, match="artifact_location: this server chooses"):
        client.create_experiment("elsewhere", artifact_location="/tmp/elsewhere")


@pytest.mark.fault("a server's container is lost or hangs", "it comes back with what it stored")
def test_containers_that_are_lost_or_hang_come_back_with_what_they_stored(stack: Stack) -> None:
    client = mlflow.MlflowClient(tracking_uri=stack.environment()["MLFLOW_TRACKING_URI"])
    kept = client.create_experiment("kept")
    for name, server in stack.servers.items():
        assert isinstance(server, Container), name
        server.kill()
        assert server.process is None, name
        with pytest.raises(StackError, match=f"{name} does not run"):
            server.pause()
    stack.up()
    assert client.get_experiment(kept).name == "kept"

    server = stack["mlflow"]
    server.pause()
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"http://127.0.0.1:{server.port}/health", timeout=2)
    server.resume()
    assert requests.get(f"http://127.0.0.1:{server.port}/health", timeout=30).status_code == 200

    for name in ("mlflow", "database"):
        stack[name].stop()
    stack.up()
    assert client.get_experiment(kept).name == "kept"


def test_a_container_whose_engine_s_process_was_lost_is_replaced(stack: Stack, engine: Engine) -> None:
    server = stack["database"]
    client = server.process
    assert client is not None
    client.kill()
    client.wait(10)
    running = ("ps", "--quiet", "--filter=name=glt-stack-database")
    before = engine(*running)
    assert before  # it runs on, and has the port
    server.start()
    assert engine(*running) not in ("", before)
    assert mlflow.MlflowClient(tracking_uri=stack.environment()["MLFLOW_TRACKING_URI"]).search_experiments()


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_backup_and_restore_run_in_their_images(stack: Stack, tmp_path: Path, encrypted: bool) -> None:
    if encrypted:
        stack.change_secret("backup-encryption", **encryption.secret("the key"))
    before, after = f"before-{encrypted}", f"after-{encrypted}"
    client = mlflow.MlflowClient(tracking_uri=stack.environment()["MLFLOW_TRACKING_URI"])
    run = client.create_run(client.create_experiment(before)).info
    client.log_text(run.run_id, "a page", "page.html")
    stack.job("backup")
    folder, file = ("encrypted/mlflow", "page.html.bin") if encrypted else ("mlflow", "page.html")
    (saved,) = (stack.folder / "backups" / folder).rglob(f"{run.run_id}/artifacts/{file}")
    assert (saved.read_bytes() == b"a page") is not encrypted
    client.create_experiment(after)

    stack["mlflow"].stop()
    assert "restoring database-" in stack.job("restore")
    stack.up()
    assert client.get_experiment_by_name(before) is not None
    assert client.get_experiment_by_name(after) is None
    assert Path(client.download_artifacts(run.run_id, "page.html", str(tmp_path))).read_text() == "a page"
