"""Runs that ended on the Kubeflow Pipelines server without their exit step are closed in MLflow; others never are."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run

from glt import doctor, settings
from glt.errors import GltError
from glt.lifecycle import kubeflow, kubeflow_runs, tracking
from glt.recipe import load
from glt.steps.finish import finish
from tests.lifecycle.conftest import VERSIONS
from tests.pipelines.server_stub import API, MISSING, Stub, running_stub

RECIPE = load("sample")
THIS = str(uuid.UUID(int=0))


@pytest.fixture
def stub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    monkeypatch.setenv("GLT_RUN_ID", THIS)
    with running_stub(monkeypatch) as made:
        yield made


@pytest.fixture(autouse=True)
def days_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has happened for a day in any run, as far as the code under test can tell."""
    monkeypatch.setattr(kubeflow_runs, "SILENCE", -3600.0)


def left_open(number: int, step: str = "pretrain", pipeline_run: str = "") -> tuple[str, str, str]:
    """A pipeline run whose pods are gone: its id, its parent run and the open run of a step."""
    client, pipeline_run = tracking.connect(), pipeline_run or str(uuid.UUID(int=number))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLT_RUN_ID", pipeline_run)
        parent = tracking.parent(RECIPE, VERSIONS)
    tags = {tracking.PARENT: parent, tracking.STEP: step}
    experiment = client.get_run(parent).info.experiment_id
    return pipeline_run, parent, str(client.create_run(experiment, tags=tags).info.run_id)


def run(run_id: str) -> Run:
    return tracking.connect().get_run(run_id)


def history(*states: str) -> list[dict[str, str]]:
    return [{"state": state} for state in states]


@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [
        ({"state": "SUCCEEDED"}, "FINISHED", ""),
        ({"state": "SKIPPED"}, "FINISHED", ""),
        ({"state": "FAILED"}, "FAILED", "pretrain was killed, evicted or out of memory"),
        ({"state": "FAILED", "state_history": history("RUNNING", "CANCELING", "FAILED")}, "KILLED", "was terminated"),
        ({"state": "CANCELED"}, "KILLED", "was terminated"),
        (
            {"state": "FAILED", "state_history": history("CANCELING", "FAILED", "RUNNING", "FAILED")},  # tried again
            *("FAILED", "pretrain was killed"),
        ),
        (None, "KILLED", "is unknown to Kubeflow Pipelines"),
        *(
            ({"state": state}, "RUNNING", "")
            for state in ("PENDING", "RUNNING", "CANCELING", "PAUSED", "RUNTIME_STATE_UNSPECIFIED", "NEW_WORD", "")
        ),
        ({}, "RUNNING", ""),
    ],
)
def test_a_run_is_closed_as_the_server_says(
    stub: Stub, fields: dict[str, Any] | None, status: str, reason: str
) -> None:
    pipeline_run, parent, step = left_open(1)
    if fields is not None:
        stub.states[pipeline_run] = fields
    closed = kubeflow_runs.close_ended(tracking.connect(), THIS)
    assert [(one.run.info.run_id, one.status) for one in closed] == ([(parent, status)] if status != "RUNNING" else [])
    assert run(parent).info.status == status
    assert run(step).info.status == {"FAILED": "KILLED"}.get(status, status)
    assert reason in run(parent).data.tags.get("error", "")
    assert bool(reason) == ("error" in run(parent).data.tags)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"<html>no such page</html>"),  # of a proxy
        (404, {"error": "no route"}),
        (401, {"code": 16}),
        (403, {"code": 7}),
        (500, {"code": 13}),
        (502, b"<html>bad gateway</html>"),
        (503, MISSING),
        (200, b"<html>log in</html>"),
        (200, {}),
        (200, {"run_id": "another", "state": "FAILED"}),
    ],
)
def test_an_answer_that_is_not_certain_closes_nothing(stub: Stub, status: int, body: object) -> None:
    _, parent, step = left_open(1)
    stub.answers[f"{API}/runs"] = (status, body)
    kubeflow_runs.close_ended_quietly(tracking.connect(), THIS)
    assert (run(parent).info.status, run(step).info.status) == ("RUNNING", "RUNNING")


@pytest.mark.parametrize("sign", ["start", "metric", "none"])
def test_an_unknown_run_that_shows_signs_of_life_stays_open(
    stub: Stub, sign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be of another server."""
    monkeypatch.setattr(kubeflow_runs, "SILENCE", 3600.0)
    hours_ago = int((time.time() - 2 * 3600) * 1000)
    client, pipeline_run = tracking.connect(), str(uuid.UUID(int=7))
    experiment = client.create_experiment("unknown")
    tags = {tracking.PIPELINE: pipeline_run}
    parent = client.create_run(experiment, start_time=hours_ago, tags=tags).info.run_id
    began = int(time.time() * 1000) if sign == "start" else hours_ago
    step_tags = {tracking.PARENT: parent, tracking.STEP: "pretrain"}
    step = client.create_run(experiment, start_time=began, tags=step_tags).info.run_id
    if sign == "metric":
        client.log_metric(step, "system/cpu", 1.0)
    closed = kubeflow_runs.close_ended(client, THIS)
    assert [one.run.info.run_id for one in closed] == ([parent] if sign == "none" else [])


def test_what_is_not_a_pipeline_run_of_the_server_is_left_alone(stub: Stub) -> None:
    local = left_open(0, pipeline_run=uuid.uuid4().hex)  # as a run of this machine is named
    by_hand = left_open(0, pipeline_run="sample-0123456789ab-c0dec0dec0de")
    own = left_open(0, pipeline_run=THIS)
    assert kubeflow_runs.close_ended(tracking.connect(), THIS) == []
    assert {run(one[1]).info.status for one in (local, by_hand, own)} == {"RUNNING"}
    assert not stub.headers  # nothing to ask for


@pytest.mark.parametrize("status", [403, 500])
def test_a_run_that_the_server_does_not_show_does_not_keep_others_open(stub: Stub, status: int) -> None:
    theirs, their_parent, _ = left_open(1)
    _, deleted, _ = left_open(2)
    stub.answers[f"{API}/runs/{theirs}"] = (status, {"code": 7, "message": "forbidden"})
    closed = kubeflow_runs.close_ended(tracking.connect(), THIS)
    assert [one.run.info.run_id for one in closed] == [deleted]
    assert run(their_parent).info.status == "RUNNING"


@pytest.mark.fault("a pipeline run is terminated or deleted", "the next run closes its MLflow run, with the reason")
def test_the_exit_step_of_the_next_run_closes_what_has_ended(stub: Stub) -> None:
    _, deleted, _ = left_open(1)
    alive, living, _ = left_open(2)
    stub.states[alive] = {"state": "RUNNING"}
    for name in ("report", "register"):
        with tracking.step(RECIPE, VERSIONS, name):
            pass
    finish(RECIPE.to_json(), VERSIONS.data, VERSIONS.code, "COMPLETE")
    assert run(tracking.parent(RECIPE, VERSIONS)).info.status == "FINISHED"
    assert (run(deleted).info.status, run(living).info.status) == ("KILLED", "RUNNING")


def test_the_exit_step_does_not_fail_without_the_server(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    _, parent, _ = left_open(1)
    stub.server.shutdown()
    stub.server.server_close()
    for endpoint in (stub.address, "http://ml-pipeline.invalid:8888", "::::", ""):
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", endpoint)
        kubeflow_runs.close_ended_quietly(tracking.connect(), THIS)
    assert run(parent).info.status == "RUNNING"
    with pytest.raises(GltError, match="KF_PIPELINES_ENDPOINT"):
        kubeflow_runs.close_ended(tracking.connect(), THIS)


def test_a_step_in_a_pod_asks_the_server_of_its_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KF_PIPELINES_ENDPOINT", "GLT_RUN_ID", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    assert kubeflow.address() == ""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert kubeflow.address() == ""  # a pod that is no step
    monkeypatch.setenv("GLT_RUN_ID", THIS)
    assert kubeflow.address() == "http://ml-pipeline:8888"
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", "kubeflow.lab/")
    assert kubeflow.address() == "https://kubeflow.lab"


def test_doctor_closes_what_has_ended_and_counts_the_rest(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    def lines() -> list[tuple[str, str, str]]:
        return [(one.check, one.status, one.message) for one in doctor._open_runs(Path())]

    assert lines() == []  # the store is a file, which no pod writes to
    monkeypatch.setattr(settings, "is_local", lambda: False)
    monkeypatch.setattr(doctor, "_answers", lambda *_: doctor.Result("mlflow store", "ok", ""))
    assert lines() == [("open runs", "ok", "no pipeline run is open in MLflow")]
    left_open(1)
    alive, living, _ = left_open(2)
    stub.states[alive] = {"state": "RUNNING"}
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT")
    ((check, status, message),) = lines()
    assert (check, status) == ("open runs", "warning")
    assert message.startswith("2 pipeline runs open in MLflow, the oldest since 20")
    assert message.endswith("which of them live is unknown: KF_PIPELINES_ENDPOINT is not set")
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", stub.address)
    ended, still = lines()
    assert ended[2] == "closed in MLflow, as their pipeline runs have ended: sample-00000000 (KILLED)"
    assert still[2].startswith("1 pipeline run open in MLflow, the oldest since 20")
    assert run(living).info.status == "RUNNING"
    stub.health["tag_name"] = "2.14.3"
    (old,) = doctor._kfp(Path())
    assert (old.status, old.remedy) == ("problem", "upgrade the server")
    stub.health["tag_name"] = "2.17.0"
    (good,) = doctor._kfp(Path())
    assert (good.status, good.message) == ("ok", f"Kubeflow Pipelines 2.17.0 with one namespace at {stub.address}")
    stub.health["multi_user"] = True
    (shared,) = doctor._kfp(Path())
    assert "2.17.0 with Kubeflow profiles at" in shared.message


def test_an_error_without_a_remedy_is_a_problem_for_doctor(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise GltError("cannot be asked")

    left_open(1)
    monkeypatch.setattr(settings, "is_local", lambda: False)
    monkeypatch.setattr(doctor, "_answers", lambda *_: doctor.Result("mlflow store", "ok", ""))
    monkeypatch.setattr(kubeflow_runs, "close_ended", fail)
    (unknown,) = doctor._open_runs(Path())
    assert unknown.status == "warning"
    assert unknown.message.endswith("which of them live is unknown: cannot be asked")
    monkeypatch.setattr(kubeflow, "describe", fail)
    assert list(doctor._kfp(Path())) == [doctor.Result("kubeflow", "problem", "cannot be asked", "")]
