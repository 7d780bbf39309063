"""The registry: versions with evidence, aliases that move and move back."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.exceptions import MlflowException
from typer.testing import CliRunner

from glt import artifact, cli
from glt.errors import GltError
from glt.lifecycle import notes, registry, tracking
from glt.lifecycle.gate import Check, Verdict
from glt.recipe import flat, load
from tests.lifecycle.conftest import VERSIONS, Server, make_classifier

RECIPE = load("sample")
NAME = "glt-sample-xsub"
VERDICT = Verdict(
    passed=True,
    already=False,
    reason="better than the untrained encoder: right on 31 clips",
    baseline="untrained encoder",
    clips=120,
    candidate_top1=0.8,
    reference_top1=0.6,
    only_candidate=31,
    only_reference=7,
    p_value=0.0001,
    alpha=0.05,
    comparisons=0,
    checks=(Check("better", True, "right on 31 clips"),),
    answers_uri="runs:/r/gate",
    test="subjects",
    subjects=6,
)


def register(folder: Path) -> tuple[registry.Version, str]:
    """Register in the step `register`; the version and the run."""
    with tracking.step(RECIPE, VERSIONS, "register") as run:
        return registry.register(folder, RECIPE, VERSIONS, VERDICT, run.run_id), run.run_id


def model_of(client: MlflowClient, version: registry.Version) -> LoggedModel:
    return client.get_logged_model(version.tags["model.id"])


def test_the_logged_model_has_params_tags_and_scores_by_data_set(home: Path, tmp_path: Path) -> None:
    folder = make_classifier(tmp_path / "classifier", seed=1)
    version, run_id = register(folder)
    client = tracking.connect()
    model = model_of(client, version)
    assert model.params == {name: str(value) for name, value in flat(RECIPE.model_dump(mode="json")).items()}
    assert model.tags["data.version"] == VERSIONS.data
    assert model.tags["mlflow.note.content"].startswith(VERDICT.reason)
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": NAME, "version": "1"}]
    scores = {(one.key, one.dataset_name, one.dataset_digest, one.value) for one in model.metrics}
    assert scores == {
        ("probe/top1", "sample-xsub-test", VERSIONS.data[:36], 0.5),
        ("probe/val_top1", "sample-xsub-validation", VERSIONS.data[:36], 0.25),
    }
    run = client.get_run(run_id)
    assert {one.dataset.name for one in run.inputs.dataset_inputs} == {"sample-xsub-test", "sample-xsub-validation"}
    parent = client.get_run(tracking.parent(RECIPE, VERSIONS))
    for one in (run, parent):
        assert [output.model_id for output in one.outputs.model_outputs] == [model.model_id]


def test_a_run_that_reused_everything_shows_the_model_it_ended_with(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_classifier(tmp_path / "classifier", seed=1)
    first, _ = register(folder)
    register(folder)  # tried again
    monkeypatch.setenv("GLT_RUN_ID", "pipeline-run-2")
    again, run_id = register(folder)
    assert again.version == first.version
    client = tracking.connect()
    for one in (client.get_run(run_id), client.get_run(tracking.parent(RECIPE, VERSIONS))):
        assert [output.model_id for output in one.outputs.model_outputs] == [first.tags["model.id"]]


def test_a_version_s_description_is_its_card_with_links_to_the_run_and_its_reports(home: Path, tmp_path: Path) -> None:
    version, _ = register(make_classifier(tmp_path / "classifier", seed=1))
    client, parent = tracking.connect(), tracking.parent(RECIPE, VERSIONS)
    (tmp_path / "page").write_text("a page")
    with tracking.step(RECIPE, VERSIONS, "report") as run:
        run.page(tmp_path / "page", "report", "report")
    tracking.log_on_parent(RECIPE, VERSIONS, {}, {notes.MODEL: version.name, notes.VERSION: version.version})
    notes.describe_run(parent)
    notes.describe_run(parent)
    reason, links, card = client.get_model_version(NAME, "1").description.split("\n\n", 2)
    assert reason == VERDICT.reason
    assert links.count(f"/runs/{parent}?") == 1
    assert links.count(f"[Report](#/experiments/1/runs/{run.run_id}/artifacts/report/report.html") == 1
    assert card.startswith(f"# {NAME}\n")
    assert "Passed: better than the untrained encoder" in card
    client.update_model_version(NAME, "1", "a note by a person")
    notes.describe_run(parent)
    assert client.get_model_version(NAME, "1").description == "a note by a person"
    about = client.get_registered_model(NAME).description
    assert "[sample-xsub](#/experiments/1/runs?" in about


def test_the_description_of_earlier_versions_is_replaced_and_a_person_s_is_not(home: Path, tmp_path: Path) -> None:
    client = tracking.connect()
    client.create_registered_model(NAME, description="Global-local Motion Transformer with its linear classifier")
    register(make_classifier(tmp_path / "one", seed=1))
    assert client.get_registered_model(NAME).description.startswith("Recognises actions")
    client.update_registered_model(NAME, "ours")
    register(make_classifier(tmp_path / "two", seed=2))
    assert client.get_registered_model(NAME).description == "ours"


def aliases_of(client: MlflowClient) -> dict[str, str]:
    return {alias: str(version) for alias, version in client.get_registered_model(NAME).aliases.items()}


def test_a_version_carries_where_it_comes_from(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GLT_IMAGE", "registry.example/glt@sha256:abc")
    folder = make_classifier(tmp_path / "classifier", seed=1)
    version, run_id = register(folder)
    client = tracking.connect()
    found = client.get_model_version(NAME, version.version)
    assert version == registry.Version(NAME, "1", found.tags, run_id, found.source)
    assert found.run_id == run_id
    assert found.description.startswith(f"{VERDICT.reason}\n\n")
    assert found.tags == {
        "content.digest": artifact.digest(folder),
        "data.version": VERSIONS.data,
        "code.version": VERSIONS.code,
        "recipe": "sample",
        "image": "registry.example/glt@sha256:abc",
        "parent.model": "none",
        "model.id": found.source.split("/")[-2],
        "parent.run": tracking.parent(RECIPE, VERSIONS),
        "gate.passed": "True",
        "gate.p_value": "0.0001",
        "gate.test": "subjects (6)",
        "gate.baseline": "untrained encoder",
        "gate.clips": "120",
        "gate.comparisons": "0",
        "gate.champion_version": "none",
        "gate.answers_uri": "runs:/r/gate",
        "gate.better": "passed: right on 31 clips",
        "model.digests": found.tags["model.digests"],
    }
    assert aliases_of(client) == {"challenger": "1"}
    assert registry.champion(NAME) is None
    assert client.get_run(run_id).info.status == "FINISHED"
    (model,) = client.get_run(run_id).outputs.model_outputs
    logged = client.get_logged_model(model.model_id)
    assert logged.status == "READY"
    assert logged.experiment_id == client.get_run(run_id).info.experiment_id
    assert logged.artifact_location.startswith((home / "mlartifacts" / "sample-xsub").as_uri())
    assert logged.artifact_location == found.source
    version.folder()
    said = "".join(capfd.readouterr())
    assert [line for line in said.splitlines() if "has moved to" not in line] == []  # of the store, which was copied


def test_the_registered_model_is_data_only_and_comes_back_whole(home: Path, tmp_path: Path) -> None:
    folder = make_classifier(tmp_path / "classifier", seed=1)
    version, _ = register(folder)
    found = version.folder()
    assert artifact.digest(found) == artifact.digest(folder)
    stored = [path for path in found.parent.parent.rglob("*") if path.is_file()]
    assert {path.suffix for path in stored} <= {".safetensors", ".json", ".parquet", ".yaml", ".txt", ".md", ".whl", ""}
    recipe = (found.parent.parent / "MLmodel").read_text()
    assert "loader_module: glt.serving.pyfunc" in recipe
    assert "cloudpickle" not in "".join(path.read_text() for path in stored if path.suffix in {".yaml", ".txt"})
    requirements = (found.parent.parent / "requirements.txt").read_text().splitlines()
    assert any(line.startswith("torch==") for line in requirements)
    assert not any(line.partition("==")[0] == "glt" for line in requirements)


def test_the_same_content_is_registered_once(home: Path, tmp_path: Path) -> None:
    first, _ = register(make_classifier(tmp_path / "one", seed=1))
    again, _ = register(make_classifier(tmp_path / "same", seed=1))
    other, _ = register(make_classifier(tmp_path / "other", seed=2))
    assert (first.version, again.version, other.version) == ("1", "1", "2")
    assert aliases_of(tracking.connect()) == {"challenger": "2"}
    assert registry.comparisons(NAME, VERSIONS.data) == 2
    assert registry.comparisons(NAME, "other data") == 0
    assert registry.comparisons("glt-nothing", VERSIONS.data) == 0


def test_a_registration_that_was_cut_short_is_completed(home: Path, tmp_path: Path) -> None:
    version, _ = register(make_classifier(tmp_path / "one", seed=1))
    client = tracking.connect()
    client.delete_registered_model_alias(NAME, "challenger")
    register(make_classifier(tmp_path / "one", seed=1))
    assert aliases_of(client) == {"challenger": version.version}


def test_promotion_and_the_way_back(home: Path, tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        register(make_classifier(tmp_path / str(seed), seed))
    client = tracking.connect()
    registry.promote(NAME, "1", "first")
    assert aliases_of(client) == {"champion": "1", "challenger": "3"}
    registry.promote(NAME, "3", "better than the champion v1")
    assert aliases_of(client) == {"champion": "3", "previous": "1", "challenger": "3"}
    champion = registry.champion(NAME)
    assert champion is not None
    assert champion.version == "3"
    assert champion.tags["promoted.reason"] == "better than the champion v1"
    assert champion.tags["promoted.replaced"] == "1"
    assert champion.tags["promoted.by"] == "pipeline run pipeline-run-1"
    assert champion.tags["promoted.at"].endswith("+00:00")
    registry.promote(NAME, "3", "again")  # a task that is tried again
    assert aliases_of(client)["previous"] == "1"
    assert registry.aliases(NAME, "3") == ["challenger", "champion"]

    back = registry.rollback(NAME)
    assert back.version == "1"
    assert back.tags["promoted.reason"] == "rolled back from v3 by hand"
    assert aliases_of(client) == {"champion": "1", "previous": "3", "challenger": "3"}
    assert registry.rollback(NAME).version == "3"


def test_history_has_every_change_and_keeps_it(home: Path, tmp_path: Path) -> None:
    for seed in (1, 2):
        register(make_classifier(tmp_path / str(seed), seed))
    assert registry.history(NAME) == []
    registry.promote(NAME, "1", "first")
    registry.promote(NAME, "2", "better")
    registry.promote(NAME, "2", "better")  # again: nothing changes
    registry.rollback(NAME, "falls are missed")
    events = registry.history(NAME)
    assert [(e.action, e.version, e.replaced, e.reason) for e in events] == [
        ("promoted", "1", "", "first"),
        ("promoted", "2", "1", "better"),
        ("rolled back", "1", "2", "rolled back from v2 by hand: falls are missed"),
    ]
    assert [e.at for e in events] == sorted(e.at for e in events)
    assert {e.by for e in events} == {"pipeline run pipeline-run-1"}
    said = CliRunner().invoke(cli.app, ["history", NAME]).output
    changes = re.findall(r"UTC  (.*)\n    (.*\S) *\n", said)
    assert changes == [
        ("v1 promoted by pipeline run pipeline-run-1", "first"),
        ("v1 → v2 promoted by pipeline run pipeline-run-1", "better"),
        ("v2 → v1 rolled back by pipeline run pipeline-run-1", "rolled back from v2 by hand: falls are missed"),
    ]
    with pytest.raises(GltError, match="no such registered model"):
        registry.history("glt-nothing")


def test_a_champion_that_came_since_the_comparison_stops_a_promotion(home: Path, tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        register(make_classifier(tmp_path / str(seed), seed))
    registry.promote(NAME, "1", "better than untrained", expected_champion="")
    registry.promote(NAME, "2", "better than v1", expected_champion="1")
    with pytest.raises(GltError, match="compared with champion v1, but v2 is in service now; compare again"):
        registry.promote(NAME, "3", "better than v1", expected_champion="1")
    with pytest.raises(GltError, match="compared with the untrained encoder, but v2"):
        registry.promote(NAME, "3", "better than untrained", expected_champion="")
    registry.promote(NAME, "2", "better than v1", expected_champion="1")  # a task that is tried again
    assert aliases_of(tracking.connect())["champion"] == "2"


def test_tags_that_an_earlier_version_wrote_are_read(home: Path, tmp_path: Path) -> None:
    register(make_classifier(tmp_path / "one", seed=1))
    register(make_classifier(tmp_path / "two", seed=2))
    client = tracking.connect()
    assert registry.find(f"{NAME}/2").compared_champion == ""
    client.delete_model_version_tag(NAME, "2", "gate.champion_version")
    client.set_model_version_tag(NAME, "2", "gate.over", "1")
    assert registry.find(f"{NAME}/2").compared_champion == "1"
    client.set_model_version_tag(NAME, "2", "gate.over", "none")
    assert registry.find(f"{NAME}/2").compared_champion == ""
    at = "2024-01-01T00:00:00+00:00"
    written = {"at": at, "what": "promoted", "version": "1", "over": "", "because": "b", "by": "c"}
    client.set_registered_model_tag(NAME, "history.20240101T000000.000000Z", json.dumps(written))
    assert registry.history(NAME) == [registry.Event(at, "promoted", "1", "", "b", "c")]


def test_of_two_promotions_at_once_one_wins(server: Callable[[str], Server], tmp_path: Path) -> None:
    """Both were compared with the same champion, in processes of their own."""
    server("two-at-once")
    recipe = RECIPE.model_copy(update={"data": RECIPE.data.model_copy(update={"dataset": "two-at"})})
    for seed in (1, 2, 3):
        folder = make_classifier(tmp_path / str(seed), seed)
        with tracking.step(recipe, VERSIONS, "register") as run:
            name = registry.register(folder, recipe, VERSIONS, VERDICT, run.run_id).name
    registry.promote(name, "1", "first")
    code = "from sys import argv; from glt.lifecycle.registry import promote; promote(*argv[1:3], 'better', '1')"
    both = [
        subprocess.Popen([sys.executable, "-c", code, name, version], stderr=subprocess.PIPE, text=True)
        for version in ("2", "3")
    ]
    said = [process.communicate()[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], said
    assert "is in service now; compare again" in "".join(said)
    (winner,) = ("23"[number] for number, process in enumerate(both) if process.returncode == 0)
    champion = registry.champion(name)
    assert champion is not None
    assert champion.version == winner
    assert [event.version for event in registry.history(name)] == ["1", winner]


def test_a_champion_that_is_registered_again_stays_what_it_is(home: Path, tmp_path: Path) -> None:
    register(make_classifier(tmp_path / "one", seed=1))
    register(make_classifier(tmp_path / "two", seed=2))
    registry.promote(NAME, "1", "first")
    register(make_classifier(tmp_path / "again", seed=1))
    assert aliases_of(tracking.connect()) == {"champion": "1", "challenger": "2"}


def test_what_cannot_be_promoted_or_rolled_back_is_reported(home: Path, tmp_path: Path) -> None:
    with pytest.raises(GltError, match="no version 1"):
        registry.promote(NAME, "1", "better")
    with pytest.raises(GltError, match="no such registered model"):
        registry.rollback(NAME)
    register(make_classifier(tmp_path / "one", seed=1))
    with pytest.raises(GltError, match="no version 9"):
        registry.promote(NAME, "9", "better")
    registry.promote(NAME, "1", "first")
    with pytest.raises(GltError, match="nothing to roll back to"):
        registry.rollback(NAME)
    assert aliases_of(tracking.connect()) == {"champion": "1", "challenger": "1"}


def test_files_that_were_changed_or_lost_are_reported(home: Path, tmp_path: Path) -> None:
    version, _ = register(make_classifier(tmp_path / "one", seed=1))
    stored = Path(urlsplit(version.source).path)
    (stored / "data" / "classifier" / "config.json").write_text("{}")
    with pytest.raises(GltError, match=r"v1: data/classifier/config\.json: not as it was registered; do not use it"):
        version.folder()
    (stored / "data" / "classifier" / "config.json").unlink()
    with pytest.raises(GltError, match=r"v1: data/classifier/config\.json: missing; do not use it"):
        version.folder()
    shutil.rmtree(stored)
    with pytest.raises(GltError, match="v1: its files cannot be fetched"):
        version.folder()
    assert list((home / "models").iterdir()) == []


def test_an_error_of_the_store_does_not_pass_for_no_champion(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a weak candidate, compared with the untrained encoder only, would replace a champion."""
    register(make_classifier(tmp_path / "one", seed=1))
    registry.promote(NAME, "1", "first")

    def fail(*_: object) -> None:
        raise MlflowException("the database is locked")

    monkeypatch.setattr(MlflowClient, "get_registered_model", fail)
    with pytest.raises(GltError, match="the database is locked"):
        registry.champion(NAME)


def test_all_of_it_works_on_a_server(server: Callable[[str], Server], tmp_path: Path) -> None:
    server("registry-over-http")
    assert registry.champion(NAME) is None
    folder = make_classifier(tmp_path / "one", seed=1)
    first, run_id = register(folder)
    register(make_classifier(tmp_path / "two", seed=2))
    registry.promote(NAME, "1", "first")
    registry.promote(NAME, "2", "better")
    assert registry.rollback(NAME).version == "1"
    champion = registry.champion(NAME)
    assert champion is not None
    assert (champion.version, champion.run_id) == ("1", run_id)
    assert artifact.digest(champion.folder()) == artifact.digest(folder)
    assert first.tags["content.digest"] == artifact.digest(folder)


@pytest.mark.fault("a classifier is registered again after the gate was run again", "its version has the new evidence")
def test_evidence_is_that_of_the_last_verdict(home: Path, tmp_path: Path) -> None:
    classifier = make_classifier(tmp_path / "classifier", seed=1)
    first, run = register(classifier)
    better = replace(VERDICT, passed=False, reason="not promoted: data", champion_version="9", comparisons=7)
    again = registry.register(classifier, RECIPE, VERSIONS, better, run)
    assert again.version == first.version
    assert (again.tags["gate.passed"], again.compared_champion, again.tags["gate.comparisons"]) == ("False", "9", "7")
    assert (
        tracking.connect().get_model_version(again.name, again.version).description.startswith("not promoted: data\n\n")
    )
