"""Runs steps in the image that a cluster uses, under this machine's Docker or podman."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import kfp.local
from docker import DockerClient
from docker.errors import DockerException, ImageNotFound
from docker.types import Mount
from kfp.local import docker_task_handler
from kfp.local.status import Status

from components import IMAGE
from glt import settings
from glt.errors import GltError, first_line
from glt.lifecycle.code_version import current_code_version

_CODE = settings.CODE_VERSION
_PREFIXES = ("GLT_", "MLFLOW_", "AWS_", "OMP_")  # of the variables that steps read
_LABEL = "glt.run"  # of a run's containers


@contextmanager
def docker_runner(recordings: str, run_id: str) -> Iterator[kfp.local.DockerRunner]:
    """Kubeflow's runner that starts each step in our image; a step still running at the end is killed.

    A step has no privileges and may write to GLT_HOME and /tmp only. It reads the recordings, if they are on this
    machine, and uses this machine's network. It runs as the owner of GLT_HOME.

    Args:
        recordings: their path or address.
        run_id: id of the pipeline run.

    Raises:
        GltError: no engine responds, or the image is missing or was built from other code.
    """
    client = _engine()
    try:
        _check_image(client)
        home = settings.home()
        (home / "pipelines").mkdir(parents=True, exist_ok=True)
        mounts = [Mount(str(home), str(home), type="bind")]
        if Path(recordings).exists() and not Path(recordings).is_relative_to(home):
            mounts.append(Mount(recordings, recordings, type="bind", read_only=True))
        with container_tasks():
            yield kfp.local.DockerRunner(
                environment=_environment(),
                mounts=mounts,
                network_mode="host",
                user=f"{home.stat().st_uid}:0",
                read_only=True,
                tmpfs={"/tmp": "mode=1777"},
                cap_drop=["ALL"],
                security_opt=["no-new-privileges", "label=disable"],  # SELinux would hide the mounts
                labels={_LABEL: run_id},
            )
    finally:
        for container in client.containers.list(filters={"label": f"{_LABEL}={run_id}"}):
            container.kill()
        client.close()


class ContainerTask(docker_task_handler.DockerTaskHandler):
    """Runs a step as a container and takes its exit status from the engine.

    In place of the handler of KFP 2.17, whose containers the engine removes as they end (`auto_remove`): it takes one
    that is gone before its exit status was read for a success. Under podman that is every failed step.
    """

    def run(self) -> Status:
        """Start the container, print its output and wait for its end."""
        client = _engine()
        try:
            container = client.containers.run(
                self.image,
                self.full_command,
                detach=True,
                volumes=self.get_volumes_to_mount(client),
                environment=self.env_vars,
                **self.runner.container_run_args,
            )
            try:
                for text in codecs.iterdecode(container.logs(stream=True), "utf-8", "replace"):
                    print(text, end="")
                status = container.wait()["StatusCode"]
            finally:
                container.remove(force=True)
        finally:
            client.close()
        return Status.SUCCESS if status == 0 else Status.FAILURE


@contextmanager
def container_tasks() -> Iterator[None]:
    """Let `kfp.local` run containers by `ContainerTask`.

    It has no setting for that: for each step its dispatcher takes the class which stands in `docker_task_handler`
    under this name (`run_single_task_implementation` in kfp/local/task_dispatcher.py).
    """
    original = docker_task_handler.DockerTaskHandler
    docker_task_handler.DockerTaskHandler = ContainerTask  # type: ignore[misc]  # a class is replaced
    try:
        yield
    finally:
        docker_task_handler.DockerTaskHandler = original  # type: ignore[misc]


def _environment() -> dict[str, str]:
    """A step's variables: those of this process, but for the code version, which is the image's own."""
    ours = {name: value for name, value in os.environ.items() if name.startswith(_PREFIXES) and name != _CODE}
    return ours | {settings.TRACKING_URI: settings.store_uri()}


def _engine() -> DockerClient:
    try:
        return docker.from_env()
    except DockerException as error:
        raise GltError(
            f"no container engine answers ({first_line(error)}); start Docker, or podman's socket, and let "
            "DOCKER_HOST name that one"
        ) from error


def _check_image(client: DockerClient) -> None:
    """Check that the image exists under the graph's name for it and holds the code of this checkout."""
    try:
        image = client.images.get(IMAGE)
    except ImageNotFound as error:
        raise GltError(f"no image {IMAGE} here; `make image` builds it") from error
    if IMAGE not in image.tags:
        raise GltError(f"GLT_IMAGE={IMAGE}: the engine knows that image as {', '.join(image.tags)}; say it so")
    built = dict(pair.split("=", 1) for pair in image.attrs["Config"]["Env"] or ()).get(_CODE, "unknown")
    here = current_code_version()
    if built != here:
        raise GltError(f"image {IMAGE} holds code {built}, this is code {here}; `make image` builds it anew")
