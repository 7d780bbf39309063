"""A store that is already migrated (copying it takes milliseconds, migrating seconds), classifiers, a real server."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from glt import artifact, recipe
from glt.lifecycle import tracking
from glt.lifecycle.tracking import Versions
from infra.local.stack import Stack
from tests.conftest import STICK, made_once
from tests.data import recorded
from tests.lifecycle import odd_store, projects
from tests.lifecycle.odd_store import OddStore

VERSIONS = Versions(data="0123456789abcdef0123456789abcdef.dir", code="c0dec0dec0de")
CONFIG = {
    "classes": ["jump", "walk"],
    "skeleton": STICK.to_dict(),
    "recipe": recipe.load("sample").model_dump(mode="json"),
}
INJECTED = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "GLT_IMAGE")


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store without runs."""

    def migrate(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            for name in INJECTED:
                patch.delenv(name, raising=False)
            patch.setenv("GLT_HOME", str(folder))
            tracking.connect()

    return made_once(tmp_path_factory, "migrated", migrate) / "mlflow.db"


@pytest.fixture
def home(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """GLT_HOME with a store of its own, inside the pipeline run `pipeline-run-1`."""
    for name in INJECTED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GLT_HOME", str(tmp_path / "runs"))
    monkeypatch.setenv("GLT_RUN_ID", "pipeline-run-1")
    (tmp_path / "runs").mkdir()
    shutil.copyfile(migrated, tmp_path / "runs" / "mlflow.db")
    return tmp_path / "runs"


def make_classifier(place: Path, seed: int) -> Path:
    """A well-formed classifier artifact with random weights."""
    random = torch.Generator().manual_seed(seed)
    table = pd.DataFrame({"name": ["a", "b"], "label": ["jump", "walk"], "predicted": ["jump", "jump"]})
    table = table.assign(clean=True, subject=[1, 2])
    with artifact.create(place, "classifier", {"data_version": VERSIONS.data, "mlflow_run_id": "none"}) as draft:
        save_file({"classifier.weight": torch.randn(2, 3, generator=random)}, draft / "model.safetensors")
        artifact.write_json(draft / "config.json", CONFIG)
        artifact.write_json(draft / "metrics.json", {"probe/top1": 0.5, "probe/val_top1": 0.25})
        table.to_parquet(draft / "predictions.parquet")
        table.to_parquet(draft / "validation.parquet")
    return place


class Server:
    """A real `mlflow server` on a port of its own, that can be killed and started again."""

    def __init__(self, folder: Path, database: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._folder, self._process = folder, None
        self.files = folder / "files"
        shutil.copyfile(database, folder / "server.db")

    def start(self) -> None:
        """Start it and wait until it answers."""
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        options = f"--backend-store-uri sqlite:///{self._folder}/server.db --artifacts-destination {self._folder}/files"
        with (self._folder / "log").open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *options.split(), "--port", str(self.port), "--workers=1"],
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise AssertionError((self._folder / "log").read_text())

    def kill(self) -> None:
        """End it and its workers at once, as a node that fails does."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def running(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), migrated)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(running: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Server]:
    """Call it with a pipeline run's id: the environment of a step that is part of that run and uses the server."""

    def use(run: str) -> Server:
        for name in INJECTED:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("GLT_HOME", str(tmp_path / "pod"))
        monkeypatch.setenv("GLT_RUN_ID", run)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", running.uri)
        return running

    return use


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A real S3 server: the environment of its administrator."""
    stack = Stack(tmp_path_factory.mktemp("stack"))
    stack["object-store"].start()
    yield {"AWS_ENDPOINT_URL": stack.environment()["AWS_ENDPOINT_URL"], **stack.secret("object-store-admin")}
    stack["object-store"].kill()


@pytest.fixture
def bucket(object_store: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client, and an empty bucket `landing` that the environment points to."""
    _at_store(monkeypatch, object_store, tmp_path)
    with _bucket() as client:
        yield client


def _at_store(patch: pytest.MonkeyPatch, object_store: dict[str, str], folder: Path) -> None:
    """The environment of a process that uses the object store, with what is its own in `folder`."""
    own = {"GLT_HOME": str(folder / "home"), "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(folder / "site")}
    for name, value in (object_store | own).items():
        patch.setenv(name, value)


@contextmanager
def _bucket() -> Iterator[Any]:
    client = boto3.Session().client("s3", region_name="us-east-1")
    client.create_bucket(Bucket="landing")
    try:
        yield client
    finally:
        while found := client.list_objects_v2(Bucket="landing").get("Contents", ()):
            client.delete_objects(Bucket="landing", Delete={"Objects": [{"Key": entry["Key"]} for entry in found]})
        client.delete_bucket(Bucket="landing")


@dataclass
class Pushed:
    """A project whose recordings DVC has pushed to the object store: what is copied for a test."""

    repository: Path  # bare
    objects: dict[str, bytes]  # by key


@pytest.fixture(scope="session")
def pushed(object_store: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Pushed:
    """Its main pins one recording. Adding and pushing take DVC seconds, copying milliseconds."""
    folder = tmp_path_factory.mktemp("pushed")
    with pytest.MonkeyPatch.context() as patch:
        _at_store(patch, object_store, folder)
        with _bucket() as client:
            first = {"first/S001C001P009R001A001.skeleton": recorded.one_person(9)}
            project = projects.make(folder / "first", "s3://landing/dvc", first, client.meta.endpoint_url)
            projects.run(folder, "git", "clone", "-q", "--bare", str(project), "origin.git")
            keys = [entry["Key"] for entry in client.list_objects_v2(Bucket="landing")["Contents"]]
            return Pushed(
                folder / "origin.git",
                {key: client.get_object(Bucket="landing", Key=key)["Body"].read() for key in keys},
            )


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a project whose revision v1 pins `projects.RECORDINGS`, pushed to a remote beside it."""
    base = tmp_path_factory.mktemp("template")
    (base / "remote").mkdir()
    projects.make(base / "project", str(base / "remote"), projects.RECORDINGS)
    return base


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the template's project; the remote is shared."""
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("GLT_HOME", str(tmp_path / "home"))
    return Path(shutil.copytree(template / "project", tmp_path / "project"))


@pytest.fixture
def store(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OddStore]:
    """A server that misbehaves as told, and that the project collects from."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    with odd_store.running() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        yield server


@pytest.fixture
def origin(bucket: Any, pushed: Pushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bare repository whose main pins one recording, which DVC's remote, the same server, has."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "t")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "t@t")
    for key, content in pushed.objects.items():
        bucket.put_object(Bucket="landing", Key=key, Body=content)
    shutil.copytree(pushed.repository, tmp_path / "origin.git")
    return str(tmp_path / "origin.git")


@pytest.fixture
def cloned(origin: str, tmp_path: Path) -> Callable[[str], Path]:
    """Another person's working tree."""

    def clone(name: str) -> Path:
        projects.run(tmp_path, "git", "clone", "-q", origin, name)
        return tmp_path / name

    return clone
