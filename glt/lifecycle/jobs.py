"""Runs a `glt` command as a Kubeflow TrainJob, streams its logs and always deletes it.

On a cluster the nodes are pods, as the TrainingRuntime `glt` describes them (``infra/k8s/trainer``). Where GLT_JOBS
names the manifest of a runtime, they are containers of this machine instead, through the socket that DOCKER_HOST names.
Every node runs torchrun. This has been tested with containers, not on a cluster.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from glt import settings
from glt.errors import GltError, Interrupted, first_line
from glt.training.interruption import catch_sigterm

if TYPE_CHECKING:
    from kubeflow.trainer import TrainerClient
    from kubeflow.trainer.types.types import TrainJob

_LOG = logging.getLogger(__name__)

RUNTIME = "glt"
RUN_LABEL = "pipeline/runid"
COMMAND = "GLT_COMMAND"
_POLL = 5.0  # seconds between two requests for the job's status
_PATIENCE = 300.0  # seconds that the API may be away while a job runs
_GRACE_PERIOD = 180.0  # seconds for the nodes of a deleted job to end
_TAIL = 15  # lines of a failed job's log in the error


def glt() -> None:
    """Run `glt` on a node, under torchrun. Self-contained, because Trainer copies this function's source there."""
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
    """Run `glt` with the arguments `command` on `nodes` nodes; return when all have succeeded.

    The nodes' logs are printed. The job is deleted however the call ends (success, failure, SIGTERM, Ctrl-C), and so is
    a job of the same name that a killed call left behind: at most one job of a name exists.

    Args:
        name: name of the job; lower-case letters, digits and dashes, at most 40.
        command: arguments of `glt`, with paths as the nodes see them.
        nodes: number of nodes.
        environment: variables of the nodes besides those of the runtime. No secrets: the job's manifest shows them.
        labels: labels of the job, on a cluster.
        image: image of the nodes; the runtime's if not given.

    Raises:
        GltError: Trainer or the runtime is not available, or the job failed; with the last log lines of its nodes.
        Interrupted: SIGTERM arrived.
    """
    from kubeflow.trainer import CustomTrainer

    client = _client()
    trainer = CustomTrainer(
        func=glt, num_nodes=nodes, image=image, env={**environment, COMMAND: json.dumps(list(command))}
    )
    log = _Log(client, name)
    with catch_sigterm() as terminated, _wrap_errors(name):
        _delete_previous(client, name, terminated)
        try:
            if not terminated.is_set():
                client.train(RUNTIME, trainer=trainer, options=_options(name, labels))
            done = _follow(client, name, terminated, log)
        finally:
            log.close()
            _delete(client, name)
    if done is None:
        raise Interrupted(f"TrainJob {name} was interrupted (SIGTERM) and is deleted; run the same again to go on")
    if not done:
        raise GltError(f"TrainJob {name} failed on {nodes} nodes, which said last:\n{log.tail()}")


def delete_of_run(run_id: str) -> list[str]:
    """Delete the jobs of a pipeline run that has ended, and return their names.

    There are some if a step was killed while it waited: Kubeflow's launcher passes no signal on, so it could not.

    Raises:
        GltError: the cluster does not answer, or has no Kubeflow Trainer, or jobs may not be listed.
    """
    from kubeflow.trainer.backends.kubernetes.backend import KubernetesBackend
    from kubeflow.trainer.constants import constants

    with _wrap_errors(f"of run {run_id}"):
        client = _client()
        backend = client.backend
        assert isinstance(backend, KubernetesBackend)
        found = backend.custom_api.list_namespaced_custom_object(
            constants.GROUP,
            constants.VERSION,
            backend.namespace,
            constants.TRAINJOB_PLURAL,
            label_selector=f"{RUN_LABEL}={run_id}",
        )
        names = [str(job["metadata"]["name"]) for job in found["items"]]
        for name in names:
            _delete(client, name)
    return names


def delete_of_run_quietly(run_id: str) -> None:
    """As `delete_of_run`, in a pod of a cluster; a failure is a debug message, as most runs have no jobs."""
    if not run_id or not settings.in_cluster() or _uses_containers():
        return
    try:
        for name in delete_of_run(run_id):
            _LOG.warning("TrainJob %s is deleted: its step was killed and could not do so", name)
    except GltError as error:
        _LOG.debug("jobs of the run are not deleted: %s", error)


def _uses_containers() -> bool:
    """True if nodes are containers on this machine, not pods."""
    return bool(settings.jobs())


def _client() -> TrainerClient:
    """A client for the cluster this runs on, or for containers on this machine.

    Raises:
        GltError: neither is available.
    """
    from kubeflow.common.types import KubernetesBackendConfig
    from kubeflow.trainer import ContainerBackendConfig, TrainerClient
    from kubeflow.trainer.backends.container.types import TrainingRuntimeSource

    try:
        if not _uses_containers():
            return TrainerClient(KubernetesBackendConfig())
        source = TrainingRuntimeSource(sources=[Path(settings.jobs()).resolve().as_uri()])
        return TrainerClient(ContainerBackendConfig(runtime_source=source))
    except Exception as error:  # of kubernetes, docker and the SDK, each its own
        raise GltError(
            f"Kubeflow Trainer cannot be reached ({_reason(error)}); run this on a cluster that has it, take one node, "
            f"or set {settings.JOBS} to infra/k8s/trainer/runtime.yaml for containers of this machine"
        ) from error


def _options(name: str, labels: Mapping[str, str] | None) -> list[object]:
    from kubeflow.trainer.options import Labels, Name

    only_on_clusters = [Labels(dict(labels))] if labels and not _uses_containers() else []
    return [Name(name), *only_on_clusters]


def _follow(client: TrainerClient, name: str, terminated: threading.Event, log: _Log) -> bool | None:
    """Wait for the job: whether it succeeded, or None if SIGTERM arrived first."""
    from kubeflow.trainer.constants import constants

    last_response, status = time.monotonic(), ""
    while not terminated.wait(_POLL):
        within_patience = (
            time.monotonic() - last_response < _PATIENCE
        )  # the API may be away for a while, the job runs for days
        try:
            job = _find(client, name)
        except Exception:
            if within_patience:
                continue
            raise
        if job is None:
            if (
                within_patience and _uses_containers()
            ):  # the SDK also says so of containers when an overloaded engine did not answer
                continue
            raise GltError(f"TrainJob {name} was deleted while it ran; run the same again to go on")
        last_response = time.monotonic()
        if job.status != status:
            status = job.status
            print(f"TrainJob {name}, {job.num_nodes} nodes: {status}", flush=True)
        log.follow(job)
        if job.status in (constants.TRAINJOB_COMPLETE, constants.TRAINJOB_FAILED):
            log.finish(job)
            return bool(job.status == constants.TRAINJOB_COMPLETE)
    return None


class _Log:
    """Prints the nodes' logs to standard output as they arrive, each line once."""

    def __init__(self, client: TrainerClient, name: str) -> None:
        self._client, self._name = client, name
        self._shown: dict[str, int] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._last: dict[str, deque[str]] = {}
        self._closed = False

    def follow(self, job: TrainJob) -> None:
        """Stream the log of every running node that is not streamed yet, or whose connection was lost."""
        for node in (step.name for step in job.steps if step.status == "Running"):
            if _uses_containers():  # polled: the SDK's stream of a container ends after a minute of silence
                self._show(node)
            elif node not in self._threads or not self._threads[node].is_alive():
                self._threads[node] = threading.Thread(target=self._show, args=(node, True), daemon=True)
                self._threads[node].start()

    def finish(self, job: TrainJob) -> None:
        """Print the remaining lines."""
        for thread in self._threads.values():
            thread.join(timeout=10)
        self.close()
        for step in sorted(job.steps, key=lambda step: step.name):
            self._show(step.name, whole=True)

    def close(self) -> None:
        """Stop streaming."""
        self._closed = True

    def tail(self) -> str:
        """The last lines of the nodes that logged an error, up to that error; of all nodes if none did."""
        ends = {
            node: max((index for index, line in enumerate(lines, 1) if line.startswith("glt: error:")), default=0)
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
            for index, line in enumerate(_lines(pieces, whole)):
                if stream and self._closed:
                    return
                if index >= self._shown.get(node, 0):
                    self._shown[node] = index + 1
                    last.append(line)
                    print(line if node == "node-0" else f"{node}: {line}", flush=True)
        except Exception as error:  # the pod is gone, or the connection; the job's status says whether it matters
            print(f"{node}: the log ends here ({_reason(error)})", flush=True)


def _lines(pieces: Iterable[str], whole: bool) -> Iterator[str]:
    """A log's lines. Pods send them one by one; containers all at once, with the last one incomplete unless `whole`."""
    if not _uses_containers():
        yield from pieces
        return
    for text in islice(pieces, 1):  # after the first node's log the SDK gives the others', too
        lines = text.split("\n")
        yield from lines if whole and lines[-1] else lines[:-1]


def _delete_previous(client: TrainerClient, name: str, terminated: threading.Event) -> None:
    """Delete an earlier job of this name, if there is one, and wait for its nodes to end."""
    _delete(client, name)
    end = time.monotonic() + _GRACE_PERIOD
    while _exists(client, name) and not terminated.wait(_POLL):
        if time.monotonic() > end:
            raise GltError(f"TrainJob {name}: the nodes of the one before it do not end; delete their pods")


def _delete(client: TrainerClient, name: str) -> None:
    try:
        client.delete_job(name)
    except Exception as error:
        if not _is_not_found(error):
            raise


def _find(client: TrainerClient, name: str) -> TrainJob | None:
    try:
        return client.get_job(name)
    except Exception as error:
        if _is_not_found(error):
            return None
        raise


def _is_not_found(error: Exception) -> bool:
    """For containers the SDK raises a ValueError, for a cluster a RuntimeError around the API server's response."""
    return isinstance(error, ValueError) or getattr(error.__cause__, "status", None) == 404


def _exists(client: TrainerClient, name: str) -> bool:
    """True if the job or one of its nodes exists: pods outlive a deleted job for their grace period."""
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
def _wrap_errors(name: str) -> Iterator[None]:
    """Turn the SDK's exceptions into a GltError."""
    try:
        yield
    except GltError:
        raise
    except Exception as error:  # of kubernetes, docker and the SDK, each its own
        raise GltError(
            f"TrainJob {name}: {error} ({_reason(error)}); it needs Kubeflow Trainer, the runtime {RUNTIME} and a "
            "service account that may make jobs: infra/k8s/trainer"
        ) from error


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    try:
        return str(json.loads(getattr(cause, "body", ""))["message"])  # the API server's own words
    except (TypeError, ValueError, KeyError):
        return first_line(cause)
