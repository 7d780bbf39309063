"""Notes and links: what MLflow shows on a run, and what a report says about where it belongs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from glt.errors import GltError
from glt.lifecycle import links, notes, run_artifacts, tracking
from glt.lifecycle.connection import connect
from glt.lifecycle.tracking import Versions
from glt.recipe import load
from tests.lifecycle.conftest import VERSIONS

RECIPE = load("sample")


def record_report(folder: Path) -> str:
    """A run with both reports, written where Kubeflow Pipelines wants them; the id of the parent."""
    (folder / "page").write_text("<!DOCTYPE html>")
    with tracking.step(RECIPE, VERSIONS, "ingest") as ingest:
        ingest.page(folder / "page", notes.DATA, "data-report")
    with tracking.step(RECIPE, VERSIONS, "report") as report:
        report.page(folder / "page", notes.REPORT, "report")
    return report.parent_id


def note_of(client: MlflowClient, run_id: str) -> str:
    return str(client.get_run(run_id).data.tags.get("mlflow.note.content", ""))


def test_pages_end_in_html_and_the_note_on_the_run_links_to_them(home: Path, tmp_path: Path) -> None:
    parent = record_report(tmp_path)
    tags = {"gate.reason": "not promoted, worse", notes.MODEL: "glt-sample-xsub", notes.VERSION: "3"}
    tracking.log_on_parent(RECIPE, VERSIONS, {"probe/top1": 0.5}, tags)
    notes.describe_run(parent)
    client = connect()
    (report,), (ingest,) = (tracking.children(client, parent, step) for step in ("report", "ingest"))
    assert [file.path for file in client.list_artifacts(report.info.run_id, "report")] == ["report/report.html"]
    assert [file.path for file in client.list_artifacts(ingest.info.run_id, "data")] == ["data/data-report.html"]
    first, _, reason, *table = note_of(client, parent).splitlines()
    base, query = f"#/experiments/{report.info.experiment_id}/runs", "?workflowType=machine_learning"
    assert first == (
        f"[Report]({base}/{report.info.run_id}/artifacts/report/report.html{query}) · "
        f"[Data report]({base}/{ingest.info.run_id}/artifacts/data/data-report.html{query}) · "
        "[Model glt-sample-xsub version 3](#/models/glt-sample-xsub/versions/3)"
    )
    assert reason == "not promoted, worse"
    assert "| Linear probe | 50.0 % |" in table


def test_a_reused_ingest_is_linked_though_another_run_made_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = record_report(tmp_path)
    (ingest,) = tracking.children(connect(), earlier, "ingest")
    monkeypatch.setenv("GLT_RUN_ID", "pipeline-run-2")
    tracking.log_on_parent(RECIPE, VERSIONS, {}, {"step.ingest": ingest.info.run_id})
    later = tracking.parent(RECIPE, VERSIONS)
    notes.describe_run(later)
    assert f"[Data report](#/experiments/{ingest.info.experiment_id}/runs/{ingest.info.run_id}/" in note_of(
        connect(), later
    )
    tracking.log_on_parent(RECIPE, VERSIONS, {"probe/top1": 0.5}, {"step.ingest": "0" * 32})  # deleted for good
    notes.describe_run(later)
    assert "Data report" not in note_of(connect(), later)


def test_a_note_that_a_person_has_edited_stays(home: Path, tmp_path: Path) -> None:
    parent, client = record_report(tmp_path), connect()
    notes.describe_run(parent)
    ours = note_of(client, parent)
    tracking.log_on_parent(RECIPE, VERSIONS, {"probe/top1": 0.5})
    notes.describe_run(parent)
    assert note_of(client, parent) != ours
    client.set_tag(parent, "mlflow.note.content", "the camera was moved")
    tracking.log_on_parent(RECIPE, VERSIONS, {"probe/top1": 0.75})
    notes.describe_run(parent)
    assert note_of(client, parent) == "the camera was moved"


def test_pages_of_earlier_versions_have_no_ending_and_are_found(home: Path, tmp_path: Path) -> None:
    for name in ("page", "summary.json", "findings.json"):
        (tmp_path / name).write_text(name)
    with tracking.step(RECIPE, VERSIONS, "report") as run:
        run.file(tmp_path / "summary.json", "report")
        assert run_artifacts.page_in(connect(), connect().get_run(run.run_id), "report") == ""
        run.file(tmp_path / "page", "report")
    run_artifacts.download_report(run.parent_id, tmp_path / "old.html")
    assert (tmp_path / "old.html").read_text() == "page"
    with tracking.step(RECIPE, VERSIONS, "report") as again:  # the same run, tried again by this version
        again.page(tmp_path / "findings.json", "report", "report")
    run_artifacts.download_report(run.parent_id, tmp_path / "new.html")
    assert (tmp_path / "new.html").read_text() == "findings.json"


def test_a_report_that_was_never_written_is_one_clear_error(home: Path, tmp_path: Path) -> None:
    with tracking.step(RECIPE, VERSIONS, "report") as run:
        pass
    with pytest.raises(GltError, match="has no report"):
        run_artifacts.download_report(run.parent_id, tmp_path / "page.html")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ""),
        ({"MLFLOW_TRACKING_URI": "https://user:secret@mlflow.lab/base/"}, "https://mlflow.lab/base/#/models/a%2Fb"),
        ({"MLFLOW_TRACKING_URI": "http://mlflow.glt:5000"}, "http://mlflow.glt:5000/#/models/a%2Fb"),
        (
            {"MLFLOW_TRACKING_URI": "http://mlflow.glt:5000", "GLT_MLFLOW_ADDRESS": "https://lab/mlflow"},
            "https://lab/mlflow/#/models/a%2Fb",
        ),
        ({"GLT_MLFLOW_ADDRESS": "javascript:alert(1)"}, ""),
        ({"GLT_MLFLOW_ADDRESS": "http://[half"}, ""),
    ],
)
def test_addresses_for_readers_elsewhere(
    home: Path, environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert links.absolute(links.model_page("a/b")) == expected


def test_a_report_links_to_its_run_its_data_report_and_its_model(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = record_report(tmp_path)
    (ingest,) = tracking.children(connect(), parent, "ingest")
    assert notes.links(parent, ingest.info.run_id, "glt-sample-xsub") == {}  # a local store has no address
    monkeypatch.setenv("GLT_MLFLOW_ADDRESS", "https://mlflow.lab")
    found = notes.links(parent, ingest.info.run_id, "glt-sample-xsub")
    assert list(found) == ["MLflow run sample-pipeline", "Data report", "Registered model glt-sample-xsub"]
    assert all(address.startswith("https://mlflow.lab/#/") for address in found.values())
    assert list(notes.links(parent, "none", "m")) == ["MLflow run sample-pipeline", "Registered model m"]


def test_names_from_outside_are_no_markup(home: Path, tmp_path: Path) -> None:
    other = Versions("data", "code")
    hostile = "](javascript:alert(1)) <img src=x onerror=alert(1)> | **bold** \n# title `code` www.evil.example"
    tracking.log_on_parent(RECIPE, other, {}, {"gate.reason": hostile, notes.MODEL: hostile, notes.VERSION: "<b>"})
    parent = tracking.parent(RECIPE, other)
    notes.describe_run(parent)
    first, _, reason = note_of(connect(), parent).splitlines()
    assert [part for part in ("<", "*", "#", "`", "|", "www.", "](") if part in reason.replace("&#", "")] == []
    assert first.count("](") == 1
    assert "<" not in first


def test_an_experiment_has_a_note_and_a_view_with_the_scores_first(home: Path) -> None:
    tracking.parent(RECIPE, VERSIONS)
    client = connect()
    experiment = client.get_experiment_by_name("sample-xsub")
    assert experiment is not None
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert "viewStateShareKey=glt-scores" in experiment.tags["mlflow.note.content"]
    view = json.loads(experiment.tags["mlflow.sharedViewState.glt-scores"])
    assert {"name", "createdAt", "state"} <= view.keys()  # else the menu of MLflow's page does not list it
    assert json.loads(view["state"])["selectedColumns"][:2] == ["metrics.`probe/top1`", "metrics.`probe/top1_clean`"]


def test_what_people_change_on_an_experiment_stays(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = connect()
    number = client.create_experiment("sample-xsub", tags={"mlflow.note.content": "ours"})  # by an earlier version
    tracking.parent(RECIPE, VERSIONS)
    assert client.get_experiment(number).tags["mlflow.note.content"] == "ours"
    assert "mlflow.sharedViewState.glt-scores" in client.get_experiment(number).tags
    client.delete_experiment_tag(number, "mlflow.sharedViewState.glt-scores")
    monkeypatch.setenv("GLT_RUN_ID", "pipeline-run-2")
    tracking.parent(RECIPE, VERSIONS)
    assert "mlflow.sharedViewState.glt-scores" not in client.get_experiment(number).tags
