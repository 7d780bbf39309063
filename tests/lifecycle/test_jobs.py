"""What is asked of a cluster that has Kubeflow Trainer. A stub answers as its API server, and reads every job with the
SDK's own models; containers, and nodes that train, are in tests/containers.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from kubeflow_trainer_api import models

from glt import settings
from glt.errors import GltError, Interrupted
from glt.lifecycle import jobs, kubeflow_runs, tracking
from glt.steps.finish import finish

RUNTIME = Path(__file__).parents[2] / "infra" / "k8s" / "trainer" / "runtime.yaml"
TRAINER = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/lab"
PODS = "/api/v1/namespaces/lab/pods"
BORN = "2026-01-01T00:00:00Z"
COMMAND = ["pretrain", "/tmp/glt/m $HOME", "r.json", "`e`", "--checkpoints", "/tmp/glt/c"]


class Cluster:
    """One TrainJob at most, whose nodes run at once, say `logs`, and end with `ends` when these have been read."""

    def __init__(self) -> None:
        self.logs: dict[str, list[str]] = {"node-0": ["epoch 1", "epoch 2"], "node-1": []}
        self.ends: str | None = "Complete"
        self.allows, self.away = True, 0
        self.made: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.job: dict[str, Any] | None = None
        self.grace = 0  # how many more times the pods of a deleted job are there
        self.read: set[str] = set()
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def answer(self, value: Any, status: int = 200) -> None:
                content = value.encode() if isinstance(value, str) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain" if isinstance(value, str) else "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def no(self, status: int, message: str) -> None:
                self.answer({"kind": "Status", "status": "Failure", "code": status, "message": message}, status)

            def do_GET(self) -> None:
                path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
                if path == f"{TRAINER}/trainjobs" and not cluster.allows:
                    self.no(403, "trainjobs is forbidden")
                elif path == f"{TRAINER}/trainjobs":
                    ((key, value),) = (one.split("=") for one in query["labelSelector"])
                    labels = (cluster.job or {"metadata": {}})["metadata"].get("labels", {})
                    self.answer({"items": [cluster.job] if labels.get(key) == value else []})
                elif path.startswith(f"{TRAINER}/trainjobs/"):
                    if cluster.away:
                        cluster.away -= 1
                        self.no(503, "the server is away")
                    elif cluster.job is None or cluster.job["metadata"]["name"] != path.rpartition("/")[2]:
                        self.no(404, "no such job")
                    else:
                        self.answer(cluster.seen())
                elif path == f"{TRAINER}/trainingruntimes/glt":
                    self.answer(yaml.safe_load(RUNTIME.read_text(encoding="utf-8")))
                elif path == PODS:
                    self.answer({"kind": "PodList", "apiVersion": "v1", "items": cluster.pods()})
                elif path.startswith(PODS):
                    node = path.split("/")[-2].removeprefix("pod-")
                    cluster.read.add(node)
                    self.answer("".join(f"{line}\n" for line in cluster.logs[node]))
                else:
                    self.answer({"data": {"kubeflow_trainer_version": "2.3.0"}})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not cluster.allows:
                    self.no(403, "trainjobs is forbidden")
                    return
                assert models.TrainerV1alpha1TrainJob.from_dict(body).to_dict() == body
                assert cluster.job is None
                cluster.made.append(body)
                cluster.begin(body)
                self.answer(body, 201)

            def do_DELETE(self) -> None:
                if cluster.job is None:
                    self.no(404, "no such job")
                    return
                cluster.deleted.append(self.path.rpartition("/")[2])
                cluster.job = None
                self.answer({})

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def begin(self, body: dict[str, Any]) -> None:
        made = {"namespace": "lab", "creationTimestamp": BORN}
        self.job, self.read = {**body, "metadata": {**body["metadata"], **made}}, set()

    def seen(self) -> dict[str, Any]:
        assert self.job is not None
        if self.ends is None or self.read != self.logs.keys():
            return self.job
        condition = {"type": self.ends, "status": "True", "reason": "r", "message": "m", "lastTransitionTime": BORN}
        return {**self.job, "status": {"conditions": [condition]}}

    def pods(self) -> list[dict[str, Any]]:
        if self.job is None:
            if not self.grace:
                return []
            self.grace -= 1
        spec = {"containers": [{"name": "node", "image": "glt"}]}
        return [
            {
                "metadata": {
                    "name": f"pod-{node}",
                    "creationTimestamp": BORN,
                    "labels": {
                        "jobset.sigs.k8s.io/replicatedjob-name": "node",
                        "batch.kubernetes.io/job-completion-index": node[-1],
                    },
                },
                "spec": spec,
                "status": {"phase": "Running"},
            }
            for node in self.logs
        ]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    made = Cluster()
    server = {"server": f"http://127.0.0.1:{made.server.server_port}"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": server}],
        "users": [{"name": "me", "user": {"token": "secret"}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me", "namespace": "lab"}}],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config), encoding="utf-8")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
    monkeypatch.delenv(settings.JOBS, raising=False)
    monkeypatch.setattr(jobs, "_POLL", 0.05)
    yield made
    made.server.shutdown()


def run(nodes: int = 2) -> None:
    jobs.run("glt-pretrain-1", COMMAND, nodes, {"GLT_RUN_ID": "r1"}, labels={"pipeline/runid": "r1"}, image="lab/glt:1")


def when_read(cluster: Cluster, then: Callable[[], None]) -> threading.Thread:
    """Do something when the job runs and is listened to."""

    def wait() -> None:
        while "node-0" not in cluster.read:
            time.sleep(0.01)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_the_job_that_is_made(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.logs["node-2"] = []
    run(nodes=3)
    (made,) = cluster.made
    assert made["metadata"] == {"name": "glt-pretrain-1", "labels": {"pipeline/runid": "r1"}}
    assert made["spec"]["runtimeRef"] == {"name": "glt", "kind": "TrainingRuntime"}
    trainer = made["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["image"]) == (3, "lab/glt:1")
    environment = {one["name"]: one["value"] for one in trainer["env"]}
    assert environment.pop("GLT_RUN_ID") == "r1"
    assert json.loads(environment.pop("GLT_COMMAND")) == COMMAND
    assert not environment
    assert "resourcesPerNode" not in trainer  # they are the runtime's
    out = capfd.readouterr().out.splitlines()
    job = "TrainJob glt-pretrain-1, 3 nodes:"
    assert [line for line in out if line.startswith(job)] == [f"{job} Running", f"{job} Complete"]
    assert [line for line in out if not line.startswith(job)] == ["epoch 1", "epoch 2"]
    assert cluster.deleted == ["glt-pretrain-1"]


def test_the_script_of_a_node_runs_glt_with_the_words_as_they_are(cluster: Cluster, tmp_path: Path) -> None:
    """Trainer's bash writes the script and starts torchrun; here one that shows what it would run."""
    run()
    (tmp_path / "torchrun").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "torchrun").chmod(0o755)
    (tmp_path / "glt").mkdir()
    (tmp_path / "glt" / "__main__.py").write_text("import os, sys\nprint(os.getpid(), sys.argv[1:])\n")
    trainer = cluster.made[0]["spec"]["trainer"]
    environment = {one["name"]: one["value"] for one in trainer["env"]}
    node = subprocess.Popen(
        trainer["command"],
        cwd=tmp_path,
        env=environment | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    out, _ = node.communicate()
    assert out == f"{node.pid} {COMMAND}\n"  # bash has made way for torchrun: a pod's SIGTERM reaches it


def test_a_failed_job_says_why(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.ends = "Failed"
    cluster.logs = {"node-0": ["epoch 1"], "node-1": ["start", "glt: error: no GPU", "torchrun's box", "=" * 10]}
    with pytest.raises(GltError) as raised:
        run()
    assert str(raised.value).splitlines() == [
        "TrainJob glt-pretrain-1 failed on 2 nodes, which said last:",
        "node-1: start",
        "node-1: glt: error: no GPU",
    ]
    assert "node-1: torchrun's box" in capfd.readouterr().out
    assert cluster.deleted == ["glt-pretrain-1"]


def test_a_failed_job_that_names_no_error_shows_the_last_lines_of_all(cluster: Cluster) -> None:
    cluster.ends = "Failed"
    cluster.logs = {"node-0": [f"epoch {number}" for number in range(100)], "node-1": ["Killed"]}
    with pytest.raises(GltError) as raised:
        run()
    lines = str(raised.value).splitlines()
    assert (lines[1], lines[-2], lines[-1]) == ("node-0: epoch 85", "node-0: epoch 99", "node-1: Killed")


def test_an_interrupted_call_deletes_the_job(cluster: Cluster) -> None:
    cluster.ends = None

    before = signal.getsignal(signal.SIGTERM)
    thread = when_read(cluster, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted, match=r"glt-pretrain-1 was interrupted \(SIGTERM\) and is deleted"):
        run()
    thread.join()
    assert cluster.deleted == ["glt-pretrain-1"]
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_job_of_an_attempt_that_was_killed_is_replaced_when_its_pods_are_gone(cluster: Cluster) -> None:
    cluster.begin({"metadata": {"name": "glt-pretrain-1"}, "spec": {"runtimeRef": {"name": "glt"}}})
    cluster.grace = 3
    run()
    assert cluster.grace == 0
    assert cluster.deleted == ["glt-pretrain-1"] * 2
    assert len(cluster.made) == 1


def test_pods_that_do_not_end_are_named(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_GRACE_PERIOD", 0.2)
    cluster.grace = 10**6
    with pytest.raises(GltError, match="the nodes of the one before it do not end; delete their pods"):
        run()
    assert not cluster.made


def test_an_api_that_is_away_for_a_while_ends_nothing(cluster: Cluster) -> None:
    cluster.ends = None

    def leave() -> None:
        cluster.away, cluster.ends = 5, "Complete"

    thread = when_read(cluster, leave)
    run()
    thread.join()
    assert cluster.away == 0


def test_an_api_that_stays_away_is_an_error(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_PATIENCE", 0.2)
    cluster.ends = None

    def leave() -> None:
        cluster.away = 10**6

    thread = when_read(cluster, leave)
    with pytest.raises(GltError, match=r"TrainJob glt-pretrain-1: .*the server is away"):
        run()
    thread.join()


def test_a_job_that_somebody_deletes_is_an_error(cluster: Cluster) -> None:
    cluster.ends = None

    def delete() -> None:
        cluster.job = None

    thread = when_read(cluster, delete)
    with pytest.raises(GltError, match="was deleted while it ran; run the same again to go on"):
        run()
    thread.join()


def test_no_right_to_make_jobs_is_reported(cluster: Cluster) -> None:
    cluster.allows = False
    with pytest.raises(GltError, match=r"\(trainjobs is forbidden\); it needs Kubeflow Trainer, the runtime glt and a"):
        run()


def test_no_cluster_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    monkeypatch.delenv(settings.JOBS, raising=False)
    with pytest.raises(GltError, match=r"Kubeflow Trainer cannot be reached .* take one node, or set GLT_JOBS to"):
        run()


@pytest.fixture
def left(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A cluster with the job of a run whose step was killed; this process is a pod of that run."""
    monkeypatch.setenv(settings.CLUSTER, "10.0.0.1")
    monkeypatch.setenv(settings.RUN_ID, "r1")
    cluster.begin({"metadata": {"name": "glt-pretrain-1", "labels": {"pipeline/runid": "r1"}}})
    return cluster


@pytest.mark.fault(
    "a run that trains on several nodes is terminated, or its step killed", "its exit step deletes the job, if it runs"
)
def test_the_exit_step_deletes_the_job_that_a_killed_step_left(left: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever becomes of MLflow: the job holds GPUs."""
    monkeypatch.setattr(tracking, "connect", lambda: 1 / 0)
    with pytest.raises(GltError, match="the run ended as RUNNING"):
        finish("sample", "d", "c", "RUNNING")
    assert left.deleted == ["glt-pretrain-1"]


def test_jobs_of_other_runs_train_on(left: Cluster) -> None:
    assert jobs.delete_of_run("r2") == []
    jobs.delete_of_run_quietly("r2")
    jobs.delete_of_run_quietly("")
    assert left.deleted == []


def test_a_run_without_the_right_to_see_jobs_ends_as_others(left: Cluster) -> None:
    left.allows = False
    jobs.delete_of_run_quietly("r1")
    with pytest.raises(GltError, match="trainjobs is forbidden"):
        jobs.delete_of_run("r1")
    assert left.deleted == []


def test_a_machine_that_is_no_pod_asks_no_cluster(left: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(settings.CLUSTER)
    jobs.delete_of_run_quietly("r1")
    assert left.deleted == []


def test_the_job_of_a_run_that_was_terminated_is_deleted_by_the_next_run(
    left: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = {tracking.PIPELINE: "r1"}
    ended = SimpleNamespace(data=SimpleNamespace(tags=tags), info=SimpleNamespace(run_id="1", run_name="run"))
    monkeypatch.setattr(kubeflow_runs, "open_runs", lambda client: [ended])
    monkeypatch.setattr(kubeflow_runs, "_outcome", lambda server, run: ("KILLED", "terminated"))
    for module, name in ((kubeflow_runs.kubeflow, "connect"), (kubeflow_runs.kubeflow, "describe")):
        monkeypatch.setattr(module, name, lambda *_: None)
    monkeypatch.setattr(kubeflow_runs.run_ends, "close_run", lambda *_: None)
    assert kubeflow_runs.close_ended(None, "r2")  # type: ignore[arg-type]
    assert left.deleted == ["glt-pretrain-1"]
