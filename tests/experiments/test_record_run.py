"""`make record`: the scores of the newest finished run, in a file of the results folder whatever the recipe's path."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.record_run import record
from glt import recipe
from glt.errors import GltError
from glt.lifecycle import tracking
from glt.recipe import Recipe
from tests.lifecycle.conftest import home, migrated

__all__ = ["home", "migrated"]  # fixtures


@pytest.fixture
def own_recipe(home: Path, tmp_path: Path) -> Recipe:
    """A recipe of a file outside the repository, whose name is its own field."""
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "elsewhere" / "file.yaml"
    path.write_text("extends: sample\nname: mine\n")
    return recipe.load(str(path))


def test_the_newest_finished_run_is_written_into_the_results_folder(own_recipe: Recipe, tmp_path: Path) -> None:
    client = tracking.connect()
    experiment = client.create_experiment(own_recipe.experiment)
    shared = {"recipe": own_recipe.name, "gate.reason": "first", "data.version": "d", "code.version": "c"}
    for start, score, status in ((1000, 0.1, "FINISHED"), (2000, 0.2, "FINISHED"), (3000, 0.3, "FAILED")):
        parent = client.create_run(experiment, start_time=start, tags=shared).info.run_id
        client.log_metric(parent, "probe/top1", score)
        below = shared | {tracking.PARENT: parent, tracking.STEP: "a"}
        step = client.create_run(experiment, start_time=start, tags=below)
        client.set_terminated(step.info.run_id, status, end_time=start + 500)
        client.set_terminated(parent, status, end_time=start + 4000)
    path = record(own_recipe, tmp_path / "results")
    assert path == tmp_path / "results" / "mine.json"
    assert [file.name for file in (tmp_path / "elsewhere").iterdir()] == ["file.yaml"]
    written = json.loads(path.read_text())
    assert written["metrics"] == {"probe/top1": 0.2}
    assert written["seconds"] == {"run": 4.0, "a": 0.5}
    assert written["recipe"]["name"] == "mine"


def test_without_a_finished_run_there_is_one_line(own_recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(GltError, match="no finished run of the recipe mine in sample-xsub"):
        record(own_recipe, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_name_that_is_a_path_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("extends: sample\nname: ../x\n")
    with pytest.raises(GltError, match="name"):
        recipe.load(str(tmp_path / "x.yaml"))
