"""A `glt` command on several nodes: a TrainJob of Kubeflow Trainer, followed to its end and left behind by nobody.

On a cluster the nodes are pods, as the TrainingRuntime `glt` describes them (``infra/k8s/trainer``). Where GLT_JOBS
names the manifest of a runtime, they are containers of this machine instead, through the socket that DOCKER_HOST names.
Every node runs torchrun. On containers this has been run, on a cluster not: none was at hand.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from glt import settings
from glt.errors import GltError, Interrupted

if TYPE_CHECKING:
    from kubeflow.trainer import TrainerClient
    from kubeflow.trainer.types.types import TrainJob

RUNTIME = "glt"
COMMAND = "GLT_COMMAND"
_POLL = 5.0  # seconds between two looks at the job
_PATIENCE = 300.0  # seconds that the API may be away while a job runs
_LEAVING = 180.0  # seconds that the nodes of a deleted job may take to end
_TAIL = 15  # lines of a failed job's log in the error


def glt() -> None:
    """What torchrun runs on a node. Trainer takes the source of this function there, so it stands by itself."""
    import json
    import os
    import runpy
    import sys

    sys.argv[1:] = json.loads(os.environ["GLT_COMMAND"])
    runpy.run_module("glt", run_name="__main__", alter_sys=True)


def run(
    name: str,
    command: Sequence[str],
    nodes: int,
    environment: Mapping[str, str],
    labels: Mapping[str, str] | None = None,
    image: str | None = None,
) -> None:
    """Run `glt` with the arguments `command` on `nodes` nodes, and come back when all have ended well.

    Their logs come out here. However this ends (done, failed, SIGTERM, Ctrl-C), the job is deleted, and so is one of
    the same name that an earlier call, killed at once, has left: of a name there is one job at most.

    Args:
        name: of the job; lower-case letters, digits and dashes, at most 40.
        command: words; their paths are those that the nodes see.
        nodes: how many.
        environment: variables of the nodes besides those of the runtime. No secrets: they stand in the job's manifest.
        labels: of the job, on a cluster.
        image: that the nodes run; the runtime's if not given.

    Raises:
        GltError: there is no Trainer or no runtime, or the job failed; with the last lines of its nodes.
        Interrupted: SIGTERM came.
    """
    from kubeflow.trainer import CustomTrainer

    client = _client()
    trainer = CustomTrainer(
        func=glt, num_nodes=nodes, image=image, env={**environment, COMMAND: json.dumps(list(command))}
    )
    log = _Log(client, name)
    with _told_to_end() as told, _plainly(name):
        _make_room(client, name, told)
        try:
            if not told.is_set():
                client.train(RUNTIME, trainer=trainer, options=_options(name, labels))
            done = _followed(client, name, told, log)
        finally:
            log.close()
            _delete(client, name)
    if done is None:
        raise Interrupted(f"TrainJob {name} was told to end (SIGTERM) and is deleted; run the same again to go on")
    if not done:
        raise GltError(f"TrainJob {name} failed on {nodes} nodes, which said last:\n{log.tail()}")


def _here() -> bool:
    """Whether nodes are containers of this machine."""
    return bool(settings.jobs())


def _client() -> TrainerClient:
    """Of the cluster this runs on, or of the containers of this machine.

    Raises:
        GltError: neither is there.
    """
    from kubeflow.common.types import KubernetesBackendConfig
    from kubeflow.trainer import ContainerBackendConfig, TrainerClient
    from kubeflow.trainer.backends.container.types import TrainingRuntimeSource

    try:
        if not _here():
            return TrainerClient(KubernetesBackendConfig())
        source = TrainingRuntimeSource(sources=[Path(settings.jobs()).resolve().as_uri()])
        return TrainerClient(ContainerBackendConfig(runtime_source=source))
    except Exception as error:  # of kubernetes, docker and the SDK, each its own
        raise GltError(
            f"Kubeflow Trainer cannot be reached ({_why(error)}); run this on a cluster that has it, take one node, "
            f"or set {settings.JOBS} to infra/k8s/trainer/runtime.yaml for containers of this machine"
        ) from error


def _options(name: str, labels: Mapping[str, str] | None) -> list[object]:
    from kubeflow.trainer.options import Labels, Name

    only_on_clusters = [Labels(dict(labels))] if labels and not _here() else []
    return [Name(name), *only_on_clusters]


def _followed(client: TrainerClient, name: str, told: threading.Event, log: _Log) -> bool | None:
    """Whether the job has ended well; None if this process was told to end before."""
    from kubeflow.trainer.constants import constants

    heard, status = time.monotonic(), ""
    while not told.wait(_POLL):
        patient = time.monotonic() - heard < _PATIENCE  # the API may be away for a while, the job runs for days
        try:
            job = _find(client, name)
        except Exception:
            if patient:
                continue
            raise
        if job is None:
            if patient and _here():  # the SDK also says so of containers when an overloaded engine did not answer
                continue
            raise GltError(f"TrainJob {name} was deleted while it ran; run the same again to go on")
        heard = time.monotonic()
        if job.status != status:
            status = job.status
            print(f"TrainJob {name}, {job.num_nodes} nodes: {status}", flush=True)
        log.follow(job)
        if job.status in (constants.TRAINJOB_COMPLETE, constants.TRAINJOB_FAILED):
            log.finish(job)
            return bool(job.status == constants.TRAINJOB_COMPLETE)
    return None


class _Log:
    """The nodes' logs on our standard output, each line once, as they come."""

    def __init__(self, client: TrainerClient, name: str) -> None:
        self._client, self._name = client, name
        self._shown: dict[str, int] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._last: dict[str, deque[str]] = {}
        self._closed = False

    def follow(self, job: TrainJob) -> None:
        """Listen to every node that runs and is not listened to: it has just begun, or the connection was lost."""
        for node in (step.name for step in job.steps if step.status == "Running"):
            if _here():  # asked again and again: the SDK's stream of a container ends after a minute of silence
                self._show(node)
            elif node not in self._threads or not self._threads[node].is_alive():
                self._threads[node] = threading.Thread(target=self._show, args=(node, True), daemon=True)
                self._threads[node].start()

    def finish(self, job: TrainJob) -> None:
        """Show what has not been shown yet."""
        for thread in self._threads.values():
            thread.join(timeout=10)
        self.close()
        for step in sorted(job.steps, key=lambda step: step.name):
            self._show(step.name, whole=True)

    def close(self) -> None:
        """Listen no longer."""
        self._closed = True

    def tail(self) -> str:
        """The last lines: of the nodes that named an error, up to that; of all, if none did."""
        ends = {
            node: max((number for number, line in enumerate(lines, 1) if line.startswith("glt: error:")), default=0)
            for node, lines in sorted(self._last.items())
        }
        if not any(ends.values()):
            ends = {node: len(self._last[node]) for node in ends}
        return "\n".join(
            f"{node}: {line}"
            for node, end in ends.items()
            for line in list(self._last[node])[max(0, end - _TAIL) : end]
        )

    def _show(self, node: str, stream: bool = False, whole: bool = False) -> None:
        last = self._last.setdefault(node, deque(maxlen=20 * _TAIL))
        try:
            pieces = self._client.get_job_logs(self._name, follow=stream, step=node)
            for number, line in enumerate(_lines(pieces, whole)):
                if stream and self._closed:
                    return
                if number >= self._shown.get(node, 0):
                    self._shown[node] = number + 1
                    last.append(line)
                    print(line if node == "node-0" else f"{node}: {line}", flush=True)
        except Exception as error:  # the pod is gone, or the connection; the job's status says whether it matters
            print(f"{node}: the log ends here ({_why(error)})", flush=True)


def _lines(pieces: Iterable[str], whole: bool) -> Iterator[str]:
    """A log's lines. Pods give them one by one; containers all at once, the last of them `whole` or not yet."""
    if not _here():
        yield from pieces
        return
    for text in islice(pieces, 1):  # after the first node's log the SDK gives the others', too
        lines = text.split("\n")
        yield from lines if whole and lines[-1] else lines[:-1]


def _make_room(client: TrainerClient, name: str, told: threading.Event) -> None:
    """Delete the job of this name, if there is one, and wait for its nodes to end."""
    _delete(client, name)
    end = time.monotonic() + _LEAVING
    while _stands(client, name) and not told.wait(_POLL):
        if time.monotonic() > end:
            raise GltError(f"TrainJob {name}: the nodes of the one before it do not end; delete their pods")


def _delete(client: TrainerClient, name: str) -> None:
    try:
        client.delete_job(name)
    except Exception as error:
        if not _says_there_is_none(error):
            raise


def _find(client: TrainerClient, name: str) -> TrainJob | None:
    try:
        return client.get_job(name)
    except Exception as error:
        if _says_there_is_none(error):
            return None
        raise


def _says_there_is_none(error: Exception) -> bool:
    """Of containers the SDK raises a ValueError, of a cluster a RuntimeError around the API server's answer."""
    return isinstance(error, ValueError) or getattr(error.__cause__, "status", None) == 404


def _stands(client: TrainerClient, name: str) -> bool:
    """Whether the job or one of its nodes is there: on a cluster pods outlive a deleted job for their grace period."""
    from kubeflow.trainer.backends.kubernetes.backend import KubernetesBackend
    from kubeflow.trainer.constants import constants

    if _find(client, name) is not None:
        return True
    backend = client.backend
    if not isinstance(backend, KubernetesBackend):
        return False
    selector = constants.POD_LABEL_SELECTOR.format(trainjob_name=name)
    return bool(backend.core_api.list_namespaced_pod(backend.namespace, label_selector=selector).items)


@contextmanager
def _plainly(name: str) -> Iterator[None]:
    """What the SDK raises, as a GltError."""
    try:
        yield
    except GltError:
        raise
    except Exception as error:  # of kubernetes, docker and the SDK, each its own
        raise GltError(
            f"TrainJob {name}: {error} ({_why(error)}); it needs Kubeflow Trainer, the runtime {RUNTIME} and a service "
            "account that may make jobs: infra/k8s/trainer"
        ) from error


def _why(error: Exception) -> str:
    cause = error.__cause__ or error
    try:
        return str(json.loads(getattr(cause, "body", ""))["message"])  # the API server's own words
    except (TypeError, ValueError, KeyError):
        return next(iter(str(cause).splitlines()), type(cause).__name__)


@contextmanager
def _told_to_end() -> Iterator[threading.Event]:
    """An event that SIGTERM sets."""
    told = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda number, frame: told.set())
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)
