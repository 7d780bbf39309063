"""From a model back to what was delivered, and from there to the models."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.tree import Tree

from glt.errors import GltError
from glt.lifecycle import collection, lineage, recordings, registry, tracking
from glt.reporter import Silent
from tests.data import recorded
from tests.lifecycle.conftest import VERSIONS, make_classifier
from tests.lifecycle.projects import commit, run
from tests.lifecycle.test_registry import NAME, RECIPE, VERDICT


def text(tree: Tree) -> str:
    console = Console(file=io.StringIO(), width=400)
    console.print(tree)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_both_ways(
    bucket: Any, home: Path, cloned: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = cloned("clone")
    delivered = "S001C001P001R001A001.skeleton"
    bucket.put_object(Bucket="landing", Key=f"lab/{delivered}", Body=recorded.one_person(1))
    done = collection.collect(root, "s3://landing/lab", recorded.recipe().data, Silent())
    commit(root, "week-1")
    run(root, "git", "commit", "-q", "--amend", "-m", "[lab] week 1")
    sha = run(root, "git", "rev-parse", "HEAD").strip()
    made_from = replace(VERSIONS, data=done.version)
    with tracking.step(RECIPE, made_from, "register") as step:
        step.dataset("lab", done.version, "dvc+https://git.lab/glt.git@main", "training")
        folder = make_classifier(tmp_path / "classifier", seed=1)
        registry.register(folder, RECIPE, made_from, VERDICT, step.run_id)
    registry.promote(NAME, "1", "test")

    back = text(lineage.trace_model(NAME, root))
    assert f"{NAME}/1 @challenger @champion" in back
    for said in (
        *(
            f"data: {done.version}",
            "read from dvc+https://git.lab/glt.git@main",
            f"commit {sha[:12]}",
            ": [lab] week 1",
        ),
        *(f"{done.batch}: 1 clips of 1 objects, as s3://landing/lab/{delivered}", "first: put there by hand"),
        *("code: c0dec0dec0de", "recipe: sample"),
    ):
        assert said in back
    for what in (done.version, done.version[:8], sha, sha[:8], done.batch, f"s3://landing/lab/{delivered}"):
        forth = text(lineage.trace_data(what, root))
        assert f"model: {NAME}/1" in forth
        assert "@champion" in forth
        assert "run: sample-pipeline" in forth
    assert done.version in (both := text(lineage.trace_data("first", root)))  # both commits pin it
    assert both.count("data:") == 2
    with pytest.raises(GltError, match="no data version, commit, file"):
        lineage.trace_data("s3://landing/lab/never.skeleton", root)
    with pytest.raises(GltError, match=f"registered are {NAME}"):
        lineage.trace_model("nothing/3", root)


def test_a_model_whose_data_no_commit_here_pins(home: Path, tmp_path: Path) -> None:
    with tracking.step(RECIPE, VERSIONS, "register") as step:
        registry.register(make_classifier(tmp_path / "c", seed=1), RECIPE, VERSIONS, VERDICT, step.run_id)
    assert f"data: {VERSIONS.data}" in text(lineage.trace_model(f"{NAME}/1", tmp_path))
    assert f"model: {NAME}/1" in text(lineage.trace_data(VERSIONS.data[:8], tmp_path))
    with pytest.raises(GltError, match="no such model"):
        lineage.trace_model("a/b/c", tmp_path)
    with closing(sqlite3.connect(home / "mlflow.db")) as database, database:
        database.execute("UPDATE model_version_tags SET value = NULL WHERE key = 'data.version'")
        database.execute("UPDATE model_version_tags SET value = X'FFFE' WHERE key = 'recipe'")
    assert f"{NAME}/1" in text(lineage.trace_model(f"{NAME}/1", tmp_path))


@pytest.mark.fault("`glt lineage` right after the first `make run`", "it names the source of the recordings")
def test_the_sample_recordings_need_no_remote(home: Path, tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    (root / "data.dvc").write_bytes((Path(__file__).parents[2] / "data.dvc").read_bytes())
    run(root, "git", "init", "-q", "-b", "main")
    commit(root, "first")
    version = recordings.sample_version()
    made_from = replace(VERSIONS, data=version)
    with tracking.step(RECIPE, made_from, "register") as step:
        registry.register(make_classifier(tmp_path / "c", seed=1), RECIPE, made_from, VERDICT, step.run_id)
    for tree in (lineage.trace_model(f"{NAME}/1", root), lineage.trace_data(version[:8], root)):
        assert "the sample recordings, which the project generates" in text(tree)
        assert "cannot be listed" not in text(tree)
    assert f"model: {NAME}/1" in text(lineage.trace_data(next(iter(recordings.pinned_files(root))), root))
