"""A model in service and new recordings: whole retrainings through Kubeflow's local runner, on a cluster's servers."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.entities import Run

from glt.errors import GltError
from glt.lifecycle import registry, tracking
from infra.local.stack import Stack
from pipelines import local
from tests.pipelines.conftest import change

MODEL = "glt-tiny-xsub"


def copy_without(recordings: Path, copy: Path, out: Callable[[str], bool]) -> Path:
    """Copy the recordings except those whose name `out` accepts."""
    with zipfile.ZipFile(recordings) as whole, zipfile.ZipFile(copy, "w") as part:
        for name in whole.namelist():
            if not out(name):
                part.writestr(name, whole.read(name))
    return copy


def run_of(parent: str) -> Run:
    return tracking.connect().get_run(parent)


def steps(parent: str) -> dict[str, Run]:
    found = tracking.children(tracking.connect(), parent)
    return {run.data.tags["glt.step"]: run for run in found}


def test_a_model_over_its_life(stack: Stack, recordings: Path, tmp_path: Path) -> None:
    recipe = str(change(tmp_path, retrain={"start": "champion", "epochs": 2}))

    first = local.retrain(str(recordings), recipe)
    assert run_of(first).data.tags[tracking.RETRAINING] == "from scratch: there is no champion yet"
    assert run_of(first).info.status == "FINISHED"
    champion = registry.champion(MODEL)
    assert champion is not None
    assert champion.version == "1"

    again = local.retrain(str(recordings), recipe)
    assert again != first
    run = run_of(again)
    assert run.data.tags[tracking.RETRAINING].startswith("skipped: champion v1 was trained on data ")
    assert run.info.status == "FINISHED"
    assert run.data.metrics["retraining/new_data"] == 0
    assert steps(again).keys() == {"check_for_new_data"}

    fewer = copy_without(recordings, tmp_path / "fewer.zip", lambda name: name.endswith("P001R001A121.skeleton"))
    third = local.retrain(str(fewer), recipe)
    said = run_of(third).data.tags[tracking.RETRAINING]
    assert said.startswith(f"from the encoder of {MODEL}/1: data ")
    ran = steps(third)
    assert {"check_for_new_data", "ingest", "admit", "pretrain", "gate", "register"} <= ran.keys()
    curve = tracking.connect().get_metric_history(ran["pretrain"].info.run_id, "pretrain/loss")
    before = tracking.connect().get_metric_history(steps(first)["pretrain"].info.run_id, "pretrain/loss")
    assert len(curve) == 2  # retrain.epochs
    assert curve[0].value < before[0].value  # it goes on from what was learned
    newest = registry.find(f"{MODEL}@challenger")
    assert newest.version == "2"
    assert newest.tags["gate.baseline"] == "champion v1"
    assert {"gate.better", "gate.classes", "gate.latency", "gate.data", "gate.leak"} <= newest.tags.keys()

    lost = copy_without(recordings, tmp_path / "lost.zip", lambda name: "A129" in name and name[9:12] in TRAINING)
    with pytest.raises(GltError, match="Nothing was trained"):
        local.retrain(str(lost), recipe)
    which = f"tags.`{tracking.PIPELINE}` != ''"  # parent runs, the newest first
    parent = tracking.connect().search_runs([run.info.experiment_id], which, max_results=1)[0]
    assert parent.info.status == "FAILED"
    assert "Nothing was trained" in parent.data.tags["error"]
    assert "disentangle" not in steps(parent.info.run_id)
    assert registry.champion(MODEL) == champion or registry.champion(MODEL) == registry.find(f"{MODEL}/2")


TRAINING = {f"{p:03}" for p in (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)}
