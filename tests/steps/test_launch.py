"""The step `pretrain` on a machine that shows two GPUs: torchrun starts two processes (which here take the CPU)."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from glt.errors import GltError, Interrupted
from glt.motion.disentangle import Motions
from glt.steps import launch
from tests.conftest import small_recipe


@pytest.fixture(autouse=True)
def _two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("GLT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GLT_RUN_ID", "launch")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_sigterm_is_passed_on_and_the_same_call_resumes(
    motions: Motions, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe, out = small_recipe(pretrain={"epochs": 60, "batch": 8, "lr": 2e-3}), tmp_path / "encoder"

    def strike() -> None:
        while "0/60" not in seen():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    text = ""

    def seen() -> str:
        nonlocal text
        text += "".join(capfd.readouterr())
        return text

    thread = threading.Thread(target=strike)
    thread.start()
    with pytest.raises(Interrupted, match=r"pretrain was interrupted \(SIGTERM\)"):
        launch.launch_pretraining(motions.path, recipe.to_json(), out, "auto", "", "c1")
    thread.join()
    assert "glt: error: pretraining was interrupted (SIGTERM) at epoch" in seen()
    assert not out.exists()

    metrics = launch.launch_pretraining(motions.path, recipe.to_json(), out, "auto", "", "c1")
    assert "goes on from" in seen()
    assert 0 < metrics["pretrain/loss"] < 10
    assert "epoch" not in metrics


def test_a_failure_is_one(motions: Motions, tmp_path: Path) -> None:
    with pytest.raises(GltError, match="pretrain failed in 2 processes; the lines above say why"):
        launch.launch_pretraining(tmp_path / "none", small_recipe().to_json(), tmp_path / "encoder", "auto", "", "c1")


def test_no_node_is_rejected(motions: Motions, tmp_path: Path) -> None:
    with pytest.raises(GltError, match="nodes 0: give how many machines train together, 1 or more"):
        launch.launch_pretraining(
            motions.path, small_recipe().to_json(), tmp_path / "encoder", "cpu", "", "c1", nodes=0
        )


def test_the_job_has_the_labels_of_the_profile_and_of_the_run(
    motions: Motions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object, labels: dict[str, str], **__: object) -> None:
        raise GltError(f"labels {labels}")

    monkeypatch.setattr(launch.jobs, "run", run)
    monkeypatch.setenv("GLT_JOB_LABELS", '{"kueue.x-k8s.io/queue-name": "lab", "pipeline/runid": "another"}')
    with pytest.raises(GltError, match=r"labels \{'kueue.x-k8s.io/queue-name': 'lab', 'pipeline/runid': 'launch'\}"):
        launch.launch_pretraining(motions.path, small_recipe().to_json(), tmp_path / "e", "cpu", "", "c1", nodes=2)
