"""The step `pretrain`, interrupted, killed, and run again: one MLflow run, every epoch once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from glt.errors import GltError
from glt.lifecycle import tracking
from glt.lifecycle.tracking import Versions
from glt.motion.disentangle import Motions
from glt.steps import training
from tests.conftest import small_recipe

EPOCHS = 40
RECIPE = small_recipe(pretrain={"epochs": EPOCHS, "batch": 8, "lr": 2e-3})
CHANGED = small_recipe(pretrain={"epochs": EPOCHS, "batch": 8, "lr": 1e-3})
VERSIONS = Versions("test", "c1")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GLT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GLT_RUN_ID", "pipeline-run")
    return tmp_path / "home"


def start(motions: Motions, folder: Path, *more: str) -> subprocess.Popen[str]:
    """`glt pretrain`, a checkpoint a step."""
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE.model_dump(mode="json")), encoding="utf-8")
    what = ["pretrain", motions.path, folder / "recipe.yaml", folder / "encoder", "--code-version", "c1"]
    return subprocess.Popen(
        [sys.executable, "-m", "glt", *map(str, what), "--accelerator", "cpu", "--save-every", "0", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def wait_for(run: subprocess.Popen[str], states: Path, step: int) -> None:
    """Until there is a checkpoint of that step or a later one."""
    while not any(int(path.name.rpartition("-")[2]) >= step for path in states.glob("step-*")):
        assert run.poll() is None, run.communicate()
        time.sleep(0.005)


def test_one_mlflow_run_through_all_interruptions(motions: Motions, home: Path, tmp_path: Path) -> None:
    states = tmp_path / "durable"
    run = start(motions, tmp_path, "--checkpoints", str(states))
    wait_for(run, states, 20)
    run.send_signal(signal.SIGTERM)
    out, err = run.communicate(timeout=120)
    assert run.returncode == 143, err
    assert err.splitlines()[-1].startswith("glt: error: pretraining was interrupted (SIGTERM) at epoch"), err
    assert f"its state is in {states}, run the same again to go on" in err
    assert "Traceback" not in out + err

    client = tracking.connect()
    parent = tracking.parent(RECIPE, VERSIONS)
    children = f"tags.`mlflow.parentRunId` = '{parent}'"
    (first,) = client.search_runs([client.get_run(parent).info.experiment_id], children)
    assert first.info.status == "FAILED"
    assert first.data.tags["error"].startswith("pretraining was interrupted (SIGTERM)")

    # Another recipe or code may not go on from there, and harms nothing.
    for recipe, code, says in (
        (CHANGED, "c1", "pretrain.lr: 0.002 in the checkpoint, 0.001 now; restore that, or delete"),
        (RECIPE, "c2", "code version: c1 in the checkpoint, c2 now; restore that, or delete"),
    ):
        with pytest.raises(GltError, match=says):
            training.pretrain(
                motions.path, recipe.to_json(), tmp_path / "e", "cpu", checkpoints=states, code_version=code
            )

    run = start(motions, tmp_path, "--checkpoints", str(states))
    wait_for(run, states, 80)
    run.kill()
    run.communicate()
    assert not (tmp_path / "encoder").exists()

    _, err = (run := start(motions, tmp_path, "--checkpoints", str(states))).communicate(timeout=120)
    assert run.returncode == 0, err
    assert "goes on from" in err
    assert not states.exists()
    (last,) = client.search_runs([client.get_run(parent).info.experiment_id], children)
    assert last.info.run_id == first.info.run_id
    assert last.info.status == "FINISHED"
    assert "error" not in last.data.tags
    rows = json.loads((tmp_path / "encoder" / "history.json").read_text(encoding="utf-8"))
    for name in ("pretrain/loss", "pretrain/lr"):
        metrics = client.get_metric_history(last.info.run_id, name)
        assert sorted(metric.step for metric in metrics) == list(range(1, EPOCHS + 1)), name
    losses = {metric.step: metric.value for metric in client.get_metric_history(last.info.run_id, "pretrain/loss")}
    assert losses == {row["epoch"]: row["pretrain/loss"] for row in rows}
