"""What stands in MLflow after a run, on SQLite and on a real server, and when that server goes away."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.entities import Run

from glt import settings
from glt.errors import GltError
from glt.lifecycle import outbox, run_artifacts, run_ends, step_run, tracking
from glt.recipe import load
from tests.lifecycle.conftest import VERSIONS, Server

RECIPE = load("sample")


def runs(client: MlflowClient) -> list[Run]:
    experiment = client.get_experiment_by_name(RECIPE.experiment)
    return list(client.search_runs([experiment.experiment_id]))


def children(client: MlflowClient, parent: str) -> dict[str, Run]:
    """The runs of the steps by their tag."""
    found = [run for run in runs(client) if run.data.tags.get(tracking.PARENT) == parent]
    return {run.data.tags["glt.step"]: run for run in found}


def history(client: MlflowClient, run_id: str, metric: str) -> list[tuple[int, float]]:
    return sorted((point.step, point.value) for point in client.get_metric_history(run_id, metric))


def do_a_step(tmp_path: Path) -> str:
    """A step that leaves one of everything; its run's id."""
    (tmp_path / "notes.txt").write_text("rejects: 3")
    with tracking.step(RECIPE, VERSIONS, "pretrain") as run:
        run.metrics({"pretrain/loss": 2.5, "pretrain/direction_top1/interval_5": 0.4}, step=0)
        run.metrics({"pretrain/loss": 1.5}, step=1)
        run.params({"device": "cpu"})
        run.tags({"note": "short"})
        run.figure(Figure(), "curves.png")
        run.file(tmp_path / "notes.txt", "ingest")
        run.dataset("sample", VERSIONS.data, "/somewhere/data", "training")
    return run.run_id


def fail_a_step() -> None:
    with tracking.step(RECIPE, VERSIONS, "finetune", "05pct-seed0") as run:
        run.metrics({"loss": 3.0}, step=0)
        raise ValueError("loss is not finite")


def check_the_step(client: MlflowClient, run_id: str) -> None:
    """Everything `do_a_step` left is there."""
    run = client.get_run(run_id)
    parent = client.get_run(run.data.tags[tracking.PARENT])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == run.data.tags["glt.step"] == "pretrain"
    assert history(client, run_id, "pretrain/loss") == [(0, 2.5), (1, 1.5)]
    assert run.data.metrics["pretrain/direction_top1/interval_5"] == 0.4
    assert run.data.params == {"device": "cpu"}
    assert run.data.tags["note"] == "short"
    assert [file.path for file in client.list_artifacts(run_id, "figures")] == ["figures/curves.png"]
    assert [file.path for file in client.list_artifacts(run_id, "ingest")] == ["ingest/notes.txt"]
    for described in (run, parent):
        (entry,) = described.inputs.dataset_inputs
        assert (entry.dataset.name, entry.dataset.digest) == ("sample", VERSIONS.data)
        assert [(tag.key, tag.value) for tag in entry.tags] == [("mlflow.data.context", "training")]
        assert described.data.tags["data.version"] == VERSIONS.data
        assert described.data.tags["code.version"] == VERSIONS.code
        assert described.data.tags["recipe"] == "sample"
    assert parent.data.params["pretrain.epochs"] == str(RECIPE.pretrain.epochs)
    assert parent.info.status == "RUNNING"


def test_a_step_is_a_child_of_the_pipeline_run(home: Path, tmp_path: Path) -> None:
    run_id = do_a_step(tmp_path)
    client = tracking.connect()
    check_the_step(client, run_id)
    parent = client.get_run(tracking.parent(RECIPE, VERSIONS))
    assert parent.data.tags["kfp.run_id"] == "pipeline-run-1"
    assert parent.info.artifact_uri.startswith((home / "mlartifacts" / "sample-xsub").as_uri())
    assert not (home / "spool").exists()


def test_the_structure_is_the_same_over_http(server: Callable[[str], Server], tmp_path: Path) -> None:
    server("over-http")
    run_id = do_a_step(tmp_path)
    check_the_step(tracking.connect(), run_id)
    assert not (tmp_path / "pod").exists()


def test_a_step_that_runs_again_continues_its_run(home: Path) -> None:
    with pytest.raises(ValueError, match="loss is not finite"):
        fail_a_step()
    client = tracking.connect()
    first = children(client, tracking.parent(RECIPE, VERSIONS))["finetune/05pct-seed0"].info
    failed = client.get_run(first.run_id)
    assert failed.info.status == "FAILED"
    assert failed.data.tags["error"] == "ValueError: loss is not finite"
    assert failed.data.metrics == {"loss": 3.0}
    with tracking.step(RECIPE, VERSIONS, "finetune", "05pct-seed0") as second:
        assert client.get_run(first.run_id).info.status == "RUNNING"
        second.metrics({"loss": 2.0}, step=1)
    with tracking.step(RECIPE, VERSIONS, "finetune", "10pct-seed0") as other:
        pass
    assert second.run_id == first.run_id != other.run_id
    again = client.get_run(first.run_id)
    assert again.info.status == "FINISHED"
    assert "error" not in again.data.tags
    assert history(client, first.run_id, "loss") == [(0, 3.0), (1, 2.0)]


@pytest.mark.parametrize(("former", "step"), [("compare", "gate"), ("look", "check_for_new_data")])
def test_runs_recorded_under_a_former_step_name_are_found(home: Path, tmp_path: Path, former: str, step: str) -> None:
    (tmp_path / "verdict.json").write_text("{}")
    with tracking.step(RECIPE, VERSIONS, former) as run:
        run.file(tmp_path / "verdict.json", "gate")
    found = run_artifacts.download_step_artifact(RECIPE, VERSIONS.data, step, "gate/verdict.json", tmp_path / "found")
    assert found is not None
    with tracking.step(RECIPE, VERSIONS, step) as again:
        assert again.run_id == run.run_id
    assert children(tracking.connect(), tracking.parent(RECIPE, VERSIONS)).keys() == {step}


def test_another_pipeline_run_has_another_parent(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tracking.parent(RECIPE, VERSIONS)
    assert tracking.parent(RECIPE, VERSIONS) == first
    monkeypatch.setenv("GLT_RUN_ID", "pipeline-run-2")
    assert tracking.parent(RECIPE, VERSIONS) != first


def test_steps_without_a_pipeline_share_a_parent_that_ends_with_them(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GLT_RUN_ID")
    for name in ("ingest", "disentangle"):
        with tracking.step(RECIPE, VERSIONS, name):
            pass
    client = tracking.connect()
    parent = tracking.parent(RECIPE, VERSIONS)
    assert set(children(client, parent)) == {"ingest", "disentangle"}
    assert client.get_run(parent).info.status == "FINISHED"


def test_the_run_injected_by_kubeflow_is_the_steps_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its plugin makes a run a pipeline run, below it one a loop and one a task; MLFLOW_RUN_ID is the task's."""
    client = tracking.connect()
    experiment = client.create_experiment("of-the-plugin")
    top = client.create_run(experiment).info.run_id
    loop = client.create_run(experiment, tags={tracking.PARENT: top}).info.run_id
    task = client.create_run(experiment, tags={tracking.PARENT: loop}).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", task)
    with tracking.step(RECIPE, VERSIONS, "finetune", "05pct-seed0") as run:
        run.metrics({"top1": 0.5})
    assert run.run_id == task
    assert client.get_run(task).data.tags["glt.step"] == "finetune/05pct-seed0"
    assert tracking.parent(RECIPE, VERSIONS) == top
    assert client.get_run(top).data.tags["kfp.run_id"] == "pipeline-run-1"
    assert client.get_run(top).data.params["name"] == "sample"
    assert client.get_experiment_by_name(RECIPE.experiment) is None


def test_an_injected_run_that_is_not_there_is_reported(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(GltError, match=r"MLFLOW_RUN_ID: .* has no run 0000"):
        tracking.parent(RECIPE, VERSIONS)


def test_a_deleted_experiment_is_reported(home: Path) -> None:
    client = tracking.connect()
    client.delete_experiment(client.create_experiment(RECIPE.experiment))
    with pytest.raises(GltError, match="experiment sample-xsub was deleted; restore it"):
        tracking.parent(RECIPE, VERSIONS)


def test_processes_that_start_at_once_share_a_parent(home: Path) -> None:
    """Two fine-tuning tasks, when their parent is not there yet."""
    code = (
        "from glt.lifecycle import tracking; from glt.recipe import load; import sys\n"
        f"v = tracking.Versions({VERSIONS.data!r}, {VERSIONS.code!r})\n"
        "sys.stdin.readline()\n"
        "with tracking.step(load('sample'), v, 'finetune', sys.argv[1]) as run:\n"
        "    for n in range(20): run.metrics({'loss': n}, n); run.tags({'n': str(n)})\n"
    )
    tasks = [
        subprocess.Popen([sys.executable, "-c", code, key], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for key in ("05pct-seed0", "10pct-seed0")
    ]
    for task in tasks:
        assert task.stdin is not None
        task.stdin.write("go\n")
        task.stdin.flush()
    said = [task.communicate(timeout=300)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    client = tracking.connect()
    parents = [run for run in runs(client) if tracking.PARENT not in run.data.tags]
    assert len(parents) == 1
    steps = children(client, parents[0].info.run_id)
    assert set(steps) == {"finetune/05pct-seed0", "finetune/10pct-seed0"}
    for run in steps.values():
        assert run.info.status == "FINISHED"
        assert len(history(client, run.info.run_id, "loss")) == 20
    assert said == ["", ""]  # no migrations, no links, no warnings


@pytest.mark.fault("two first commands start at once in a new GLT_HOME", "one store is made")
def test_processes_that_start_at_once_create_one_store(tmp_path: Path) -> None:
    """As two commands in a new folder; MLflow's own migrations exclude nobody."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": "", "GLT_HOME": str(tmp_path / "new")}
    code = "from glt.lifecycle import tracking; tracking.connect()"
    tasks = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [task.communicate(timeout=300)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said


def test_the_end_of_a_pipeline_run_is_reported_truthfully(home: Path) -> None:
    with pytest.raises(GltError), tracking.step(RECIPE, VERSIONS, "ingest"):
        raise GltError("data/x.skeleton: no frames")
    client = tracking.connect()
    parent = tracking.parent(RECIPE, VERSIONS)
    killed = client.create_run(
        client.get_run(parent).info.experiment_id, tags={tracking.PARENT: parent, tracking.STEP: "pretrain"}
    )
    run_ends.close(RECIPE, VERSIONS, "FAILED", "the pipeline failed")
    assert client.get_run(parent).info.status == "FAILED"
    assert client.get_run(parent).data.tags["error"] == "data/x.skeleton: no frames"
    lost = client.get_run(killed.info.run_id)
    assert lost.info.status == "KILLED"
    assert "pretrain was killed, evicted or out of memory" in lost.data.tags["error"]


def test_a_pipeline_run_whose_step_was_killed_says_so(home: Path) -> None:
    parent = tracking.parent(RECIPE, VERSIONS)
    client = tracking.connect()
    client.create_run(
        client.get_run(parent).info.experiment_id, tags={tracking.PARENT: parent, tracking.STEP: "pretrain"}
    )
    run_ends.close(RECIPE, VERSIONS, "FAILED", "exit code 137")
    assert client.get_run(parent).data.tags["error"].startswith("pretrain was killed")


def test_a_pipeline_run_that_failed_before_any_step_is_recorded(home: Path) -> None:
    run_ends.close(RECIPE, VERSIONS, "FAILED", "image cannot be pulled")
    parent = tracking.connect().get_run(tracking.parent(RECIPE, VERSIONS))
    assert (parent.info.status, parent.data.tags["error"]) == ("FAILED", "image cannot be pulled")


def test_a_pipeline_run_that_is_retried_and_succeeds_ends_finished(home: Path) -> None:
    run_ends.close(RECIPE, VERSIONS, "FAILED", "node lost")
    with tracking.step(RECIPE, VERSIONS, "pretrain"):
        client = tracking.connect()
        assert client.get_run(tracking.parent(RECIPE, VERSIONS)).info.status == "RUNNING"
    tracking.log_on_parent(RECIPE, VERSIONS, {"probe/top1": 0.75}, {"step.pretrain": "run-of-an-earlier-pipeline"})
    run_ends.close(RECIPE, VERSIONS, "FINISHED")
    parent = tracking.connect().get_run(tracking.parent(RECIPE, VERSIONS))
    assert parent.info.status == "FINISHED"
    assert "error" not in parent.data.tags
    assert parent.data.metrics == {"probe/top1": 0.75}
    assert parent.data.tags["step.pretrain"] == "run-of-an-earlier-pipeline"


def test_a_value_mlflow_cannot_take_is_reported_and_the_rest_goes_on(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="glt")
    with tracking.step(RECIPE, VERSIONS, "pretrain") as run:
        run.params({"device": "cpu"})
        run.params({"device": "gpu"})
        run.metrics({"loss": 1.0})
    found = tracking.connect().get_run(run.run_id)
    assert found.data.params == {"device": "cpu"}
    assert found.data.metrics == {"loss": 1.0}
    assert found.info.status == "FINISHED"
    assert "MLflow did not take params" in caplog.text


def test_the_stores_path_does_not_depend_on_the_working_directory(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings.store_uri() == f"sqlite:///{home}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mine/mlflow.db")
    assert settings.store_uri() == f"sqlite:///{tmp_path}/mine/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    assert settings.store_uri() == "https://mlflow.example"


@pytest.mark.parametrize("silent", [False, True], ids=["refuses", "accepts and never answers"])
def test_a_server_that_is_away_at_the_start_is_reported_in_seconds(
    home: Path, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        if silent:
            closed.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{closed.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(GltError, match=r"does not answer .*start the server, correct MLFLOW_TRACKING_URI") as said:
            tracking.connect()
        assert time.monotonic() - started < 10
        assert "secret" not in str(said.value)
    assert not (home / "spool").exists()


def test_a_store_that_cannot_be_made_is_reported(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/file/mlflow.db")
    with pytest.raises(GltError, match="does not answer"):
        tracking.connect()


def test_training_goes_on_when_the_server_is_killed_and_everything_arrives_later(
    server: Callable[[str], Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="glt")
    monkeypatch.setattr(outbox, "LAST_WAIT", 0.5)
    monkeypatch.setattr(step_run, "_FLUSH", 0.0)
    machine = server("server-killed")
    (tmp_path / "notes.txt").write_text("rejects: 3")
    with tracking.step(RECIPE, VERSIONS, "pretrain") as run:
        run.metrics({"loss": 0.0}, step=0)
        machine.kill()
        started = time.monotonic()
        for epoch in range(1, 200):
            run.metrics({"loss": float(epoch)}, step=epoch)
        run.figure(Figure(), "curves.png")
        run.file(tmp_path / "notes.txt", "ingest")
        run.dataset("sample", VERSIONS.data, "/somewhere/data", "training")
        run.tags({"note": "late"})
        assert time.monotonic() - started < 20
    (tmp_path / "notes.txt").unlink()
    said = caplog.text
    assert said.count("MLflow is away, the step goes on") == 1
    assert "wait in" in said
    assert len(list((tmp_path / "pod" / "spool").iterdir())) == 1

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/another.db")
    tracking.connect()  # another store: not its business
    assert len(list((tmp_path / "pod" / "spool").iterdir())) == 1

    server("server-killed").start()
    client = tracking.connect()
    found = client.get_run(run.run_id)
    assert history(client, run.run_id, "loss") == [(epoch, float(epoch)) for epoch in range(200)]
    assert found.info.status == "FINISHED"
    assert found.data.tags["note"] == "late"
    assert [file.path for file in client.list_artifacts(run.run_id, "ingest")] == ["ingest/notes.txt"]
    assert [file.path for file in client.list_artifacts(run.run_id, "figures")] == ["figures/curves.png"]
    assert found.inputs.dataset_inputs[0].dataset.digest == VERSIONS.data
    assert list((tmp_path / "pod" / "spool").iterdir()) == []


class Flaky:
    """A client whose store is away as long as `away` is set."""

    def __init__(self, client: MlflowClient) -> None:
        self.client, self.away = client, False

    def log_batch(self, *arguments: object, **named: object) -> None:
        if self.away:
            raise ConnectionError("refused")
        self.client.log_batch(*arguments, **named)


def test_what_waits_is_delivered_as_soon_as_the_store_is_back(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="glt")
    run_id = tracking.parent(RECIPE, VERSIONS)
    flaky = Flaky(tracking.connect())
    box = outbox.Outbox(flaky, "store", run_id, home / "spool")
    now = [1000.0]
    monkeypatch.setattr(outbox.time, "monotonic", lambda: now[0])
    flaky.away = True
    for number in range(3):
        box.send("tags", values={"n": str(number)})
    flaky.away = False
    box.send("tags", values={"n": "3"})
    assert "n" not in flaky.client.get_run(run_id).data.tags  # not before the pause is over
    now[0] += outbox.FIRST_PAUSE
    box.send("tags", values={"n": "4"})
    assert flaky.client.get_run(run_id).data.tags["n"] == "4"
    assert "5 messages delivered" in caplog.text
    assert list((home / "spool").iterdir()) == []


def test_a_killed_process_loses_nothing_and_a_living_one_is_left_alone(home: Path) -> None:
    run_id = tracking.parent(RECIPE, VERSIONS)
    flaky = Flaky(tracking.connect())
    flaky.away = True
    box = outbox.Outbox(flaky, settings.store_uri(), run_id, home / "spool")
    box.send("tags", values={"n": "1"})
    (folder,) = (home / "spool").iterdir()
    outbox.replay(flaky.client, settings.store_uri(), home / "spool")
    assert "n" not in flaky.client.get_run(run_id).data.tags  # its process lives
    with (folder / outbox.JOURNAL).open("a") as journal:
        journal.write('{"kind": "tags", "val')  # killed while it wrote
    del box
    tracking.connect()
    assert flaky.client.get_run(run_id).data.tags["n"] == "1"
    assert not folder.exists()


def test_messages_to_a_deleted_run_do_not_wait_for_ever(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="glt")
    folder = home / "spool" / "gone-1"
    folder.mkdir(parents=True)
    lines = [{"store": settings.store_uri()}, {"run_id": "0" * 32, "kind": "tags", "values": {"n": "1"}}]
    (folder / outbox.JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))
    tracking.connect()
    assert "MLflow did not take tags" in caplog.text
    assert not folder.exists()


def test_patience_with_the_server_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    with outbox.without_retries(3):
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "3"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "5"
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ
