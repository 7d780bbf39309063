"""A whole study, as `make ablation` runs it: Kubeflow's local runner and a real MLflow store."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from experiments import ablations
from glt import recipe
from glt.lifecycle import run_artifacts, tracking
from glt.recipe import study
from pipelines import local
from tests.pipelines.conftest import change
from tests.pipelines.test_local_run import children, parents


@pytest.fixture(scope="module")
def studied(home: Path, tmp_path_factory: pytest.TempPathFactory) -> study.Study:
    folder = tmp_path_factory.mktemp("study")
    base = change(folder, pretrain={"epochs": 1, "batch": 16, "lr": 0.005})
    arms = {"full": {}, "persons-apart": {"model": {"person_attention": False}}}
    fields = {"name": "tiny", "recipe": str(base), "seeds": [0, 1], "arms": arms}
    (folder / "study.yaml").write_text(yaml.safe_dump(fields, sort_keys=False), encoding="utf-8")
    return study.load(str(folder / "study.yaml"))


def test_arms_stand_side_by_side(
    studied: study.Study, home: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers = logging.getLogger().handlers[:]
    chosen = [*studied.recipes(seeds=(0,)), *studied.recipes(seeds=(1,), arms=("persons-apart",))]
    rows = {(arm.arm, arm.seed): row for arm, row in ablations.run_study(studied, recordings, chosen)}
    assert logging.getLogger().handlers == handlers, "a task of the loop left one behind"
    (parent,) = parents(home)
    assert parent.info.status == "FINISHED"
    steps = {run.data.tags["glt.step"]: run for run in children(parent)}
    trained = ["full-seed0", "persons-apart-seed0", "persons-apart-seed1"]
    names = {f"{step}/{arm}" for step in ("disentangle", "pretrain", "linear_probe") for arm in trained}
    assert steps.keys() == names | {"ingest", "compare_arms"}
    assert {run.info.status for run in steps.values()} == {"FINISHED"}
    for arm in trained:
        params = steps[f"linear_probe/{arm}"].data.params
        assert params["model.person_attention"] == str("apart" not in arm)
        assert params["seed"] == arm[-1]
    metrics = {arm: steps[f"linear_probe/{arm}"].data.metrics["probe/top1"] for arm in trained}
    mean = parent.data.metrics["arm/persons-apart/top1_mean"]
    assert mean == pytest.approx((metrics["persons-apart-seed0"] + metrics["persons-apart-seed1"]) / 2)
    client = tracking.connect()
    assert [file.path for file in client.list_artifacts(steps["compare_arms"].info.run_id, "figures")] == [
        "figures/arms.png"
    ]
    assert run_artifacts.page_in(client, steps["compare_arms"], "report") == "report/study.html"
    assert "[Comparison of the arms](#/experiments/" in parent.data.tags["mlflow.note.content"]

    assert rows.keys() == {("full", 0), ("persons-apart", 0), ("persons-apart", 1)}
    row = rows["persons-apart", 1]
    assert row["top1"] == metrics["persons-apart-seed1"]
    wanted = {"dataset", "protocol", "recipe", "arm", "task", "labelled_fraction", "seed", "commit", "data_version"}
    assert wanted | {"top1_clean", "hardware", "seconds", "recipe_sha256"} <= row.keys()
    json.dumps(rows["full", 0])

    local.ablate(str(recordings), studied, studied.recipes(seeds=(0,)))
    shown = capsys.readouterr().out
    assert shown.count("nothing changed, reused") == 1 + 2 * 3
    assert "persons-apart" in shown
    assert "full-seed0 pretrain" in shown


def test_a_cluster_gets_the_arms_as_a_parameter() -> None:
    command = [sys.executable, "-m", "pipelines", "arms", "sbu"]
    shown = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert [recipe.load(arm["recipe"]) for arm in shown] == study.load("sbu").recipes()


def test_an_unknown_arm_is_one_line_before_anything_runs() -> None:
    command = [sys.executable, "-m", "pipelines", "ablate", "--study", "sample", "--arms", "nope"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "no arm nope; it has full, persons-apart" in run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""
