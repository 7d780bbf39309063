"""Runs are closed in MLflow however their process ends, and no metric is recorded twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from glt import settings
from glt.errors import GltError
from glt.lifecycle import outbox, tracking
from glt.recipe import load
from tests.lifecycle.conftest import VERSIONS
from tests.lifecycle.test_tracking import Flaky, history

RECIPE = load("sample")
CODE = f"""
import os, signal, sys, time
from glt.lifecycle import tracking
from glt.logs import run_entry
from glt.recipe import load
def work():
    with tracking.step(load("sample"), tracking.Versions({VERSIONS.data!r}, {VERSIONS.code!r}), "ingest") as run:
        print(run.run_id, flush=True)
        exec(sys.argv[1])
run_entry(work)
"""


def start(code: str) -> tuple[subprocess.Popen[str], str]:
    """A step in a process of its own, and its run."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.mark.fault("a step's process is ended by SIGTERM or killed", "its MLflow run is closed with the reason")
def test_a_run_is_closed_however_its_process_ends(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLT_RUN_ID")  # the parent ends with its step
    client = tracking.connect()
    parent = tracking.parent(RECIPE, VERSIONS)
    for code, sent, status, reason in (
        ("time.sleep(60)", signal.SIGTERM, "FAILED", "ingest was interrupted (SIGTERM)"),
        ("time.sleep(60)", signal.SIGINT, "KILLED", "KeyboardInterrupt"),
        ("time.sleep(60)", signal.SIGKILL, "KILLED", "ingest was killed: its process never reported its end"),
        ("sys.exit(3)", None, "FAILED", "SystemExit: 3"),
    ):
        process, run_id = start(code)
        if sent is not None:
            tracking.connect()
            assert client.get_run(run_id).info.status == "RUNNING"  # its process lives
            process.send_signal(sent)
        _, said = process.communicate(timeout=60)
        assert process.returncode != 0
        tracking.connect()
        for one in (run_id, parent):
            assert client.get_run(one).info.status == status, (code, sent, said)
        assert client.get_run(run_id).data.tags["error"].startswith(reason)
    assert list((home / "locks" / "runs").iterdir()) == []


def test_a_run_that_leaves_by_sys_exit_without_an_error_is_finished(home: Path) -> None:
    with pytest.raises(SystemExit), tracking.step(RECIPE, VERSIONS, "ingest") as run:
        sys.exit(0)
    assert tracking.connect().get_run(run.run_id).info.status == "FINISHED"


def test_a_run_of_another_machine_is_left_alone(home: Path) -> None:
    client = tracking.connect()
    parent = tracking.parent(RECIPE, VERSIONS)
    folder = home / "locks" / "runs"
    folder.mkdir(parents=True)
    (folder / "a").write_text(f'{{"host": "elsewhere", "runs": ["{parent}"]}}')
    (folder / "b").write_text("{")
    (folder / "c").write_text('{"host": 1}')
    tracking.connect()
    assert client.get_run(parent).info.status == "RUNNING"
    assert [file.name for file in folder.iterdir()] == ["a"]


@pytest.mark.fault("MLflow is down while a training resumes", "no epoch is recorded twice, none is missing")
def test_no_epoch_is_recorded_twice(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed process left epochs 3 and 4 in its queue; the one that resumes could not read what MLflow has."""
    run_id, client = tracking.parent(RECIPE, VERSIONS), tracking.connect()
    flaky = Flaky(client)
    killed = outbox.Outbox(flaky, settings.store_uri(), run_id, home / "spool")  # type: ignore[arg-type]
    killed.send("metrics", rows=[["loss", 1.0, 1000, 1], ["loss", 2.0, 1000, 2]])
    flaky.away = True
    killed.send("metrics", rows=[["loss", 3.0, 1000, 3], ["loss", 4.0, 1000, 4], ["top1", 0.5, 1000, 0]])
    resumed = tracking.StepRun(client, run_id, run_id)
    with monkeypatch.context() as patch:
        patch.setattr(client, "get_metric_history", lambda *_: (_ for _ in ()).throw(ConnectionError()))
        assert resumed.logged_steps("loss") is None
    for epoch in range(1, 6):
        resumed.missing_metrics({"loss": float(epoch)}, epoch)
    resumed.metrics({"top1": 0.6})
    resumed.end("FINISHED")
    del killed
    tracking.connect()
    assert history(client, run_id, "loss") == [(epoch, float(epoch)) for epoch in range(1, 6)]
    assert {value for _, value in history(client, run_id, "top1")} == {0.5, 0.6}
    assert list((home / "spool").iterdir()) == []


def test_a_failing_step_names_its_reason_in_clean_text(home: Path) -> None:
    with pytest.raises(GltError), tracking.step(RECIPE, VERSIONS, "ingest") as run:
        raise GltError("a\x1b[31m\udcff" + "b" * 9000)
    tags = tracking.connect().get_run(run.run_id).data.tags
    assert tags["error"].startswith("a%1B[31m%FFbbb")
    assert len(tags["error"]) == 5000


@pytest.mark.fault(
    "a damaged line in the queue of messages for MLflow", "reported and left out; the messages after it are delivered"
)
@pytest.mark.parametrize(
    "damage", [b"[]", b"\xff{", b'{"kind": "tag\x13"}', b'{"run_id": "x", "kind": "metrics"}', b"{}"]
)
def test_a_damaged_line_of_the_queue(home: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    run_id = tracking.parent(RECIPE, VERSIONS)
    journal = home / "spool" / "x" / outbox.JOURNAL
    journal.parent.mkdir(parents=True)
    tag = json.dumps({"run_id": run_id, "kind": "tags", "values": {"after": "1"}}).encode()
    lost = json.dumps({"run_id": run_id, "kind": "file", "file": "1/gone.png", "folder": ""}).encode()
    journal.write_bytes(b"\n".join([b"{}", damage, lost, tag, b'{"run_id": "cut of']))
    assert tracking.connect().get_run(run_id).data.tags["after"] == "1"
    assert not journal.exists()
    assert [line for line in (2, 3) if f"line {line} is damaged" in caplog.text] == [2, 3]
    assert "line 5" not in caplog.text


@pytest.mark.fault("MLflow's store cannot grow during a promotion", "one line with the remedy, no traceback")
def test_a_store_that_cannot_grow_is_one_line(home: Path, tmp_path: Path) -> None:
    client = tracking.connect()
    client.create_registered_model("m")
    client.create_model_version("m", str(tmp_path), tags={"content.digest": "x"})
    code = """
import resource
from glt.lifecycle import registry
from glt.logs import run_entry
registry.Version.verify = lambda self: None  # it has no files
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
run_entry(registry.promote, "m", "1", "x")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if "error" in line] == [done.stderr.splitlines()[-1]]
    assert "check the disk" in done.stderr or "make room" in done.stderr
    assert tracking.connect().get_registered_model("m").tags == {}
