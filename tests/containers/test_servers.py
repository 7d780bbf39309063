"""Each server image, started as its manifest in infra/k8s/base starts it: command, environment, user, rights, probe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
import requests

from infra.stack import Document, ObjectStore, Server, Stack
from tests.containers.conftest import Images
from tests.containers.engine import Engine


class Pods(Stack):
    """The stack of `make stack`, with containers in place of processes for the workloads that are named."""

    def __init__(self, folder: Path, engine: Engine, images: dict[str, str]) -> None:
        super().__init__(folder)
        self.engine, self.images = engine, images

    def command(self, workload: str, container: Document) -> tuple[list[str], dict[str, str]]:
        """The engine's command that runs the container, for a workload in `images`."""
        if workload not in self.images:
            return super().command(workload, container)
        words, environment = super().command(workload, container)
        pod, secure = self.pod(workload)["securityContext"], container["securityContext"]
        memory = container["resources"]["limits"]["memory"].removesuffix("i").lower()  # 2Gi: 2g
        options = [
            *("--rm", "--network=host", f"--user={pod['runAsUser']}:{pod['runAsGroup']}", f"--memory={memory}"),
            *(["--read-only"] if secure["readOnlyRootFilesystem"] else []),
            *(["--read-only-tmpfs=false"] if self.engine.podman else []),
            *([] if secure["allowPrivilegeEscalation"] else ["--security-opt=no-new-privileges"]),
            *(f"--cap-drop={name}" for name in secure["capabilities"]["drop"]),
            # Their values are in the environment: a list of processes shows none.
            *(f"--env={name}" for name in self._names(container)),
            f"--env=PGPORT={self.ports['database']}",  # the manifest leaves PostgreSQL's own default
            *self._volumes(workload, container),
        ]
        command = [self.engine.program, "run", *options, self.images[workload], *words]
        return command, {**self.engine.environment, **environment}

    def _names(self, container: Document) -> Iterator[str]:
        """The variables that a container is given."""
        for source in container.get("envFrom", ()):
            secret, config = source.get("secretRef"), source.get("configMapRef")
            yield from self.secret(secret["name"]) if secret else self._config_map(config["name"])
        yield from (entry["name"] for entry in container.get("env", ()))

    def _mounted(self, workload: str, container: Document) -> dict[str, str]:
        """In a container a path is what the manifest says."""
        mounted = super()._mounted(workload, container)
        return {} if workload in self.images else mounted

    def _volumes(self, workload: str, container: Document) -> Iterator[str]:
        mounted = super()._mounted(workload, container)
        for mount in container.get("volumeMounts", ()):
            place = Path(mounted[mount["mountPath"]])
            place.chmod(0o777)
            for file in place.iterdir():
                if mount.get("readOnly"):
                    file.chmod(0o644)  # as a cluster mounts Secrets and ConfigMaps
            yield f"--volume={place}:{mount['mountPath']}:{'ro' if mount.get('readOnly') else 'rw'}"


@pytest.fixture
def pods(engine: Engine, images: Images, tmp_path: Path) -> Iterator[Pods]:
    made = Pods(tmp_path / "stack", engine, {"mlflow": images.mlflow})
    yield made
    made.down()


def test_mlflow_server_takes_a_run_with_an_artifact(
    pods: Pods, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pods.up()
    for name, value in pods.environment().items():
        if name.startswith("MLFLOW_"):
            monkeypatch.setenv(name, value)
    address = pods.environment()["MLFLOW_TRACKING_URI"]
    assert requests.get(f"{address}/api/2.0/mlflow/experiments/get?experiment_id=0", timeout=30).status_code == 401
    client = mlflow.MlflowClient(tracking_uri=address)
    run = client.create_run(client.create_experiment("containers")).info
    client.log_metric(run.run_id, "probe/top1", 0.5)
    (tmp_path / "page.html").write_text("a page")
    client.log_artifact(run.run_id, str(tmp_path / "page.html"))
    assert client.get_run(run.run_id).data.metrics == {"probe/top1": 0.5}
    assert Path(client.download_artifacts(run.run_id, "page.html", str(tmp_path))).read_text() == "a page"
    assert run.artifact_uri.startswith("mlflow-artifacts:")  # through the server; clients need no key of the store


@pytest.mark.parametrize("workload", ["database", "object-store"])
def test_store_answers(pods: Pods, workload: str) -> None:
    (container,) = pods.pod(workload)["containers"]
    image: str = container["image"]
    if not pods.engine.has(image):
        pytest.skip(f"{image} is not here and cannot be pulled")
    pods.images[workload] = image
    # PostgreSQL's image makes its database itself; only the process of `make stack` needs help.
    server = pods[workload] if isinstance(pods[workload], ObjectStore) else Server(pods, workload)
    try:
        server.start()
    finally:
        server.stop()
