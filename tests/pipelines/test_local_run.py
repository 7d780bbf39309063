"""Whole runs, as `make run` makes them: real recordings files, Kubeflow's local runner, a real MLflow store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import kfp.local
import mlflow
import numpy as np
import pandas as pd
import pytest
from kfp import compiler, components
from mlflow.entities import Run

from experiments import protocols
from glt.errors import GltError
from glt.lifecycle import registry, sources, tracking
from glt.lifecycle.code_version import current_code_version
from glt.steps.predict import predict
from pipelines import local
from pipelines.training import training_pipeline
from tests.pipelines.conftest import RECIPE, change

MODEL = "glt-tiny-xsub"


def parents(home: Path) -> list[Run]:
    """Parent runs, the newest first."""
    client = tracking.connect()
    experiment = client.get_experiment_by_name("tiny-xsub")
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])
    return [run for run in runs if "mlflow.parentRunId" not in run.data.tags]


def children(parent: Run) -> list[Run]:
    client = tracking.connect()
    return client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'", max_results=100
    )


@pytest.fixture(scope="module")
def first(home: Path, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first run of all: a champion is made. Gives the recipe."""
    recipe = change(tmp_path_factory.mktemp("recipe"))
    local.run(str(recordings), str(recipe))
    return recipe


def test_first_run_makes_a_champion_and_tells_the_truth(
    first: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert print.__module__ == "builtins"  # KFP's runner replaces it for each task
    (parent,) = parents(home)
    assert parent.info.status == "FINISHED"
    assert {"probe/top1", "probe/top1_clean", "knn/top1", "finetune/05pct/top1_mean"} <= parent.data.metrics.keys()
    assert parent.data.tags["recipe"] == "tiny"
    assert parent.inputs is not None
    steps = [run.data.tags["glt.step"] for run in children(parent)]
    once = {"ingest", "disentangle", "pretrain", "linear_probe", "gate", "report", "register", "promote"}
    assert len(steps) == 10
    assert set(steps) == once | {"finetune/05pct-seed2", "finetune/10pct-seed2"}
    assert {run.info.status for run in children(parent)} == {"FINISHED"}
    champion = registry.champion(MODEL)
    assert champion is not None
    assert champion.tags["data.version"] == parent.data.tags["data.version"]
    assert champion.tags["code.version"] == current_code_version()


def test_champion_answers(first: Path, home: Path) -> None:
    model = mlflow.pyfunc.load_model(f"models:/{MODEL}@champion")
    frame = [[[0.1 * k, 0.02 * k, 2.0] for k in range(25)] for _ in range(10)]
    answer = model.predict([frame])
    assert set(answer["label"]) <= {"A121", "A122", "A123", "A129"}
    assert 0 < answer["confidence"][0] <= 1


def test_champion_answers_for_recordings_as_they_lie(first: Path, home: Path, recordings: Path) -> None:
    answers, rejected = predict(str(recordings))
    champion = registry.champion(MODEL)
    assert champion is not None
    stored = pd.read_parquet(champion.folder() / "predictions.parquet").set_index("name")
    ours = answers.set_index("clip").loc[stored.index]
    assert len(answers) > len(stored) > 0
    assert ours["label"].tolist() == stored["predicted"].tolist()
    np.testing.assert_allclose(ours["confidence"], stored["confidence"], atol=1e-5)
    assert list(rejected) == ["source", "check", "reason"]
    with pytest.raises(GltError, match="no such model; registered are glt-tiny-xsub"):
        predict(str(recordings), "glt-other")


def test_second_run_reuses_everything_that_did_not_change(
    first: Path, home: Path, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = registry.champion(MODEL)
    assert before is not None
    rows = dict(protocols.run_graph(protocols.Run(str(first), seed=2, minutes=1), recordings))
    shown = capsys.readouterr().out
    for step in ("ingest", "disentangle", "pretrain", "linear-probe", "finetune"):
        assert f"{step:<14}nothing changed, reused" in shown
    parent = parents(home)[0]
    assert parent.info.status == "FINISHED"
    assert sorted(run.data.tags["glt.step"] for run in children(parent)) == ["gate", "register", "report"]
    assert {"step.pretrain", "step.linear_probe"} <= parent.data.tags.keys()
    first_parent = parents(home)[1]
    for run in (parent, first_parent):
        (recorded,) = run.inputs.dataset_inputs
        assert recorded.dataset.digest == run.data.tags["data.version"][:36]
        (model,) = run.outputs.model_outputs
        assert model.model_id == before.tags["model.id"]
        note = run.data.tags["mlflow.note.content"]
        assert all(f"[{title}](#/" in note for title in ("Report", "Data report", f"Model {MODEL} version 1"))
    assert first_parent.data.metrics["cost/cpu_hours"] > 0
    assert "cost/cpu_hours" not in parent.data.metrics  # it trained nothing
    assert "already in service" in shown
    assert registry.champion(MODEL) == before

    assert rows.keys() == {"linear", "knn", "floor", "finetune-05pct", "finetune-10pct"}
    metrics = parents(home)[1].data.metrics  # of the first run, which made them
    assert rows["linear"]["top1"] == metrics["probe/top1"] != rows["floor"]["top1"] == metrics["probe/untrained_top1"]
    assert rows["linear"]["val_top1"] == metrics["probe/val_top1"]
    assert rows["finetune-05pct"]["top1"] == metrics["finetune/05pct/top1_mean"]
    assert rows["finetune-05pct"]["labelled_fraction"] == 0.05
    wanted = {"dataset", "protocol", "recipe", "task", "labelled_fraction", "seed", "top1", "top1_clean"}
    for row in rows.values():
        assert wanted | {"commit", "data_version", "hardware", "seconds", "recipe_sha256"} <= row.keys()
        assert row["seconds"] > 0


@pytest.fixture(scope="module")
def second_candidate(first: Path, home: Path, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of the graph as compiled for a cluster and loaded back, whose gate asks for more. Gives its id."""
    folder = tmp_path_factory.mktemp("compiled")
    compiler.Compiler().compile(training_pipeline("gpu"), str(folder / "training.yaml"))
    loaded = components.load_component_from_file(str(folder / "training.yaml"))
    kfp.local.init(kfp.local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "root"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLT_RUN_ID", "from-the-compiled-graph")
        loaded(
            recordings=str(recordings),
            recipe=change(folder, seed=1, gate={"alpha": 1e-9}).read_text(encoding="utf-8"),
            data_version=sources.resolve(str(recordings)).version,
            code_version=current_code_version(),
            trials=[{"fraction": 0.5, "seed": 3}],
            accelerator="cpu",
        )
    return "from-the-compiled-graph"


def test_compiled_graph_loaded_back_runs(second_candidate: str, home: Path) -> None:
    parent = parents(home)[0]
    assert parent.data.tags["kfp.run_id"] == second_candidate
    assert parent.info.status == "FINISHED"
    assert "finetune/50pct-seed3" in {run.data.tags["glt.step"] for run in children(parent)}


def test_candidate_that_is_no_better_stays_challenger(second_candidate: str, home: Path) -> None:
    champion = registry.champion(MODEL)
    assert champion is not None
    assert champion.tags["parent.run"] == parents(home)[-1].info.run_id  # the first of all
    versions_ = tracking.connect().search_model_versions(f"name='{MODEL}'")
    newest = max(versions_, key=lambda version: int(version.version))
    assert int(newest.version) > int(champion.version)
    assert newest.description.startswith("not promoted")
    assert tracking.connect().get_model_version_by_alias(MODEL, "challenger").version == newest.version


def test_failure_is_reported_and_recorded(first: Path, home: Path, recordings: Path, tmp_path: Path) -> None:
    recipe = change(tmp_path, pretrain={"epochs": 2, "batch": 16, "lr": 1e30})
    run = subprocess.run(
        [sys.executable, "-m", "pipelines", "run", "--recipe", str(recipe), "--recordings", str(recordings)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "lower pretrain.lr" in run.stderr
    assert "Traceback" not in run.stderr + run.stdout
    parent = parents(home)[0]
    assert parent.info.status == "FAILED"
    assert "lower pretrain.lr" in parent.data.tags["error"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--recipe", "nope"], "unknown recipe 'nope'"),
        (["--recipe", "nowhere.yaml"], "no such file"),
        (["--recordings", "no/such/path"], "no such file or folder"),
    ],
)
def test_bad_input_is_one_line_before_anything_runs(home: Path, arguments: list[str], says: str) -> None:
    command = [sys.executable, "-m", "pipelines", "run", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert says in run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""


def test_server_away_at_the_start_is_reported_at_once(
    recordings: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(GltError, match="MLFLOW_TRACKING_URI"):
        local.run(str(recordings), str(recipe))


def test_recipe_of_the_tests_is_a_recipe(recipe: Path) -> None:
    from glt.recipe import load

    assert load(str(recipe)).name == RECIPE["name"]


def test_runner_without_an_engine_is_reported_at_once(
    home: Path, recordings: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/engine.sock")
    with pytest.raises(GltError, match=r"no container engine answers .*DOCKER_HOST"):
        local.run(str(recordings), str(recipe), "docker")
