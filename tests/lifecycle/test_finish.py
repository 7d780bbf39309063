"""The exit step believes only FAILED of Kubeflow's states; for the rest the runs of the steps decide."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from mlflow.entities import Run

from glt.errors import GltError
from glt.lifecycle import tracking
from glt.recipe import load
from glt.steps.finish import finish
from tests.lifecycle.conftest import VERSIONS

RECIPE = load("sample")
# What KFP 2.17's backend and its local runner hand to an exit step (dsl.PipelineTaskFinalStatus.state).
GOOD = ("COMPLETE", "CACHED", "RUNNING", "SUCCEEDED", "CANCELED")
TRAINING = ("ingest", "disentangle", "pretrain", "linear_probe", "finetune/05pct-seed0", "gate", "report", "register")


def record(*names: str, metrics: Mapping[str, float] | None = None) -> None:
    """Steps that finished."""
    for name in names:
        with tracking.step(RECIPE, VERSIONS, name) as run:
            if name == "gate":
                run.metrics(metrics or {"gate/passed": 0.0})


def fail(name: str) -> None:
    with pytest.raises(GltError), tracking.step(RECIPE, VERSIONS, name):
        raise GltError(f"{name}: no room")


def open_run(name: str, **tags: str) -> str:
    """A step whose process was killed: its run never ended."""
    client, parent = tracking.connect(), tracking.parent(RECIPE, VERSIONS)
    tags = {tracking.PARENT: parent, tracking.STEP: name} | tags
    return str(client.create_run(client.get_run(parent).info.experiment_id, tags=tags).info.run_id)


def end(state: str) -> Run:
    finish(RECIPE.to_json(), VERSIONS.data, VERSIONS.code, state)
    return tracking.connect().get_run(tracking.parent(RECIPE, VERSIONS))


@pytest.mark.parametrize("state", GOOD)
def test_a_run_whose_last_steps_finished_is_finished(home: Path, state: str) -> None:
    record(*TRAINING)
    run = end(state)
    assert run.info.status == "FINISHED"
    assert "error" not in run.data.tags


@pytest.mark.parametrize(
    ("state", "status"),
    [("COMPLETE", "FINISHED"), ("CACHED", "FINISHED"), ("SUCCEEDED", "FINISHED"), ("RUNNING", "FAILED")],
)
def test_a_last_step_whose_end_mlflow_missed(home: Path, state: str, status: str) -> None:
    """MLflow was away when it ended; RUNNING alone would also be said of one that was killed."""
    record(*TRAINING[:-1])
    left = open_run("register")
    assert end(state).info.status == status
    assert tracking.connect().get_run(left).info.status == ("FINISHED" if status == "FINISHED" else "KILLED")


def test_failed_is_believed_although_every_step_finished(home: Path) -> None:
    record(*TRAINING)
    run = end("FAILED")
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", "Kubeflow Pipelines reports FAILED")


@pytest.mark.parametrize("state", GOOD)
def test_a_failed_step_fails_the_run_and_names_the_reason(home: Path, state: str) -> None:
    record("ingest", "disentangle")
    fail("pretrain")
    run = end(state)
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", "pretrain: no room")


def test_a_step_that_was_tried_again_and_finished_fails_nothing(home: Path) -> None:
    fail("pretrain")
    record(*TRAINING)
    assert end("RUNNING").info.status == "FINISHED"


def test_of_two_attempts_with_runs_of_their_own_the_last_one_counts(home: Path) -> None:
    client = tracking.connect()
    client.set_terminated(open_run("pretrain"), "FAILED")  # as Kubeflow's MLflow plugin makes one per attempt
    client.set_terminated(open_run("pretrain"), "FINISHED")
    record(*(name for name in TRAINING if name != "pretrain"))
    assert end("RUNNING").info.status == "FINISHED"


# Every word: of the metadata store, which the backend hands over, of its API, and of the local runner.
BACKEND = ("NEW", "RUNNING", "COMPLETE", "FAILED", "CACHED", "CANCELED", "UNKNOWN")
API = ("PENDING", "RUNNING", "SUCCEEDED", "SKIPPED", "FAILED", "CANCELING", "CANCELED", "PAUSED")
LOCAL = ("SUCCEEDED", "FAILED", "CANCELLED", "SKIPPED", "", "RUNTIME_STATE_UNSPECIFIED")
WORDS = tuple(dict.fromkeys((*BACKEND, *API, *LOCAL)))
CANCELLED = {"CANCELED", "CANCELLED", "CANCELING"}


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize(
    ("how", "status"),
    [
        ("complete", "FINISHED"),
        ("a skipped branch ends last", "FINISHED"),
        ("a condition is false", "FINISHED"),
        ("a pod is killed", "FAILED"),
        ("it is terminated", "FAILED"),
        ("a step fails", "FAILED"),
    ],
)
def test_every_word_for_every_way_in_which_a_run_ends(home: Path, word: str, how: str, status: str) -> None:
    """In the second to the fifth way KFP's backend says RUNNING, so the steps decide; FAILED alone is believed."""
    if how in ("complete", "a skipped branch ends last"):  # the branch: promotion, where the gate says no
        record(*TRAINING)
    elif how == "a condition is false":  # nothing new
        record("check_for_new_data")
        tracking.log_on_parent(RECIPE, VERSIONS, {}, {tracking.RETRAINING: f"{tracking.SKIPPED}: v3 has seen it"})
    else:
        record("ingest", "disentangle")
    if how == "a pod is killed":
        open_run("pretrain")
    elif how == "a step fails":
        fail("pretrain")
    run = end(word)
    if word in CANCELLED and how in ("it is terminated", "a pod is killed"):
        status = "KILLED"
    assert run.info.status == ("FAILED" if word == "FAILED" else status)
    assert ("error" in run.data.tags) == (run.info.status != "FINISHED")
    if how == "a step fails":
        assert run.data.tags["error"] == "pretrain: no room"


def test_the_reason_is_that_of_the_step_that_failed_first(home: Path) -> None:
    record("ingest", "disentangle", "pretrain")
    fail("linear_probe")
    fail("finetune/05pct-seed0")  # before it by name, after it in time
    assert end("FAILED").data.tags["error"] == "linear_probe: no room"


def test_the_reason_is_not_that_of_an_attempt_that_was_repeated(home: Path) -> None:
    client = tracking.connect()
    first = open_run("ingest")  # as Kubeflow's MLflow plugin makes a run per attempt
    client.set_tag(first, "error", "ingest: the store was away")
    client.set_terminated(first, "FAILED")
    client.set_terminated(open_run("ingest"), "FINISHED")
    fail("disentangle")
    assert end("FAILED").data.tags["error"] == "disentangle: no room"


@pytest.mark.parametrize(("state", "status"), [("RUNNING", "FAILED"), ("COMPLETE", "FAILED"), ("CANCELED", "KILLED")])
def test_a_run_that_was_terminated_is_not_finished(home: Path, state: str, status: str) -> None:
    record("ingest", "disentangle")
    run = end(state)
    assert run.info.status == status
    assert state in run.data.tags["error"]


def test_a_killed_step_fails_the_run(home: Path) -> None:
    record("ingest", "disentangle")
    killed = open_run("pretrain")
    run = end("RUNNING")
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith("pretrain was killed, evicted or out of memory")
    assert tracking.connect().get_run(killed).info.status == "KILLED"


def test_an_open_run_of_a_complete_training_is_closed_as_finished(home: Path) -> None:
    left_open = open_run("pretrain")  # its steps used its encoder, so it ended: MLflow was away then
    record(*(name for name in TRAINING if name != "pretrain"))
    assert end("RUNNING").info.status == "FINISHED"
    assert tracking.connect().get_run(left_open).info.status == "FINISHED"


def test_after_a_gate_that_passed_the_run_needs_its_promotion(home: Path) -> None:
    record(*TRAINING, metrics={"gate/passed": 1.0})
    assert end("RUNNING").info.status == "FAILED"
    record("promote")
    assert end("RUNNING").info.status == "FINISHED"


def test_a_retraining_without_new_data_is_finished(home: Path) -> None:
    record("check_for_new_data")
    assert end("RUNNING").info.status == "FAILED"  # it was to go on
    tracking.log_on_parent(RECIPE, VERSIONS, {}, {tracking.RETRAINING: f"{tracking.SKIPPED}: champion v3 has seen it"})
    assert end("RUNNING").info.status == "FINISHED"


def test_a_study_is_finished_when_its_arms_are_compared(home: Path) -> None:
    record("ingest", "disentangle/full-seed0", "pretrain/full-seed0", "linear_probe/full-seed0")
    assert end("COMPLETE").info.status == "FAILED"
    record("compare_arms")
    assert end("COMPLETE").info.status == "FINISHED"


def test_steps_below_the_plugins_loop_run_count_and_its_run_of_the_exit_step_does_not(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(*TRAINING)
    client, parent = tracking.connect(), tracking.parent(RECIPE, VERSIONS)
    experiment = client.get_run(parent).info.experiment_id
    loop = client.create_run(experiment, tags={tracking.PARENT: parent}).info.run_id
    client.set_terminated(open_run("finetune/10pct-seed0", **{tracking.PARENT: loop}), "FAILED")
    exit_task = client.create_run(experiment, tags={tracking.PARENT: parent}).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", exit_task)
    assert end("RUNNING").info.status == "FAILED"
    assert client.get_run(exit_task).info.status == "RUNNING"  # the plugin ends it
    assert client.get_run(loop).info.status == "RUNNING"


@pytest.mark.fault("the exit step cannot reach MLflow", "the reason why the run failed is printed first")
def test_the_exit_step_never_hides_the_reason(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fail("pretrain")
    end("FAILED")
    assert "the run did not finish: pretrain: no room" in caplog.text
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/absent/file.db")
    (home / "absent").write_text("")
    with pytest.raises(
        GltError, match=r"the run ended as FAILED: the disk is full\. Its MLflow run could not be closed"
    ):
        finish(RECIPE.to_json(), VERSIONS.data, VERSIONS.code, "FAILED", "the disk is full")
