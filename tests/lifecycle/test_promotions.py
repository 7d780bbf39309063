"""The history decides what is in service: promotions that are cut short or overtaken, and registries full of junk."""

from __future__ import annotations

import errno
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from glt import cli
from glt.errors import GltError
from glt.lifecycle import lineage, promotions, registry, tracking
from tests.lifecycle.conftest import VERSIONS, make_classifier
from tests.lifecycle.test_lineage import text
from tests.lifecycle.test_registry import NAME, RECIPE, VERDICT, aliases_of, register

WRITES = ("set_registered_model_tag", "set_registered_model_alias", "set_model_version_tag")


class Killed(BaseException):
    """Nothing after it is done, as after SIGKILL."""


@pytest.fixture
def three(home: Path, tmp_path: Path) -> MlflowClient:
    """Three versions, of which the first is in service."""
    for seed in (1, 2, 3):
        register(make_classifier(tmp_path / str(seed), seed))
    registry.promote(NAME, "1", "first")
    return tracking.connect()


def kill_at(patch: pytest.MonkeyPatch, allowed: int) -> None:
    """Let the process die instead of sending one request more than `allowed` that changes something."""
    left = [allowed]

    def dying(send: Callable[..., object]) -> Callable[..., object]:
        def sent(*args: object, **named: object) -> object:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return send(*args, **named)

        return sent

    for name in WRITES:
        patch.setattr(MlflowClient, name, dying(getattr(MlflowClient, name)))


def agree(client: MlflowClient, name: str = NAME) -> list[str]:
    """Check that history, aliases and tags say the same; the versions that were in service."""
    events = registry.history(name)
    last = events[-1]
    held = {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}
    assert held["champion"] == last.version
    assert held.get("previous", "") == last.replaced
    tags = client.get_model_version(name, last.version).tags
    assert (tags["promoted.at"], tags["promoted.reason"]) == (last.at, last.reason)
    champion = registry.champion(name)
    assert champion is not None
    assert champion.version == last.version
    return [event.version for event in events]


@pytest.mark.fault(
    "a promotion is killed at any of its requests", "champion, tags and history agree after the next command"
)
def test_a_promotion_that_is_killed_at_any_request(three: MlflowClient) -> None:
    seen, expected = [], ["1"]
    for allowed in range(10):
        version = "2" if expected[-1] != "2" else "3"
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, allowed)
            try:
                registry.promote(NAME, version, f"after {allowed}")
            except Killed:
                seen.append(allowed)
            else:
                break
        if allowed:  # the first request is the one that counts
            expected.append(version)
        assert agree(three) == expected
    assert len(seen) > 3
    assert agree(three) == [*expected, version]


@pytest.mark.fault("a promotion's last request arrives after a later promotion", "the later promotion counts")
def test_a_request_that_outlasts_the_lock_changes_nothing_for_good(three: MlflowClient) -> None:
    registry.promote(NAME, "2", "better")
    registry.promote(NAME, "3", "better still")
    three.set_registered_model_alias(NAME, "champion", "2")  # the alias that the first one asked for
    champion = registry.find(NAME)
    assert champion.version == "3"
    assert registry.aliases(NAME, "3") == ["challenger", "champion"]
    assert agree(three) == ["1", "2", "3"]
    assert aliases_of(three)["champion"] == "3"


def test_a_promotion_that_was_overtaken_says_so(three: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    send = MlflowClient.set_registered_model_tag

    def overtaken(client: MlflowClient, name: str, key: str, value: str) -> None:
        send(client, name, key, value)
        later = {**json.loads(value), "version": "3"}
        send(client, name, promotions._next_key({key: value}), json.dumps(later))

    monkeypatch.setattr(MlflowClient, "set_registered_model_tag", overtaken)
    with pytest.raises(GltError, match="another process put v3 in service at the same time"):
        registry.promote(NAME, "2", "better")
    monkeypatch.undo()


def test_events_stay_in_order_although_clocks_differ(three: MlflowClient) -> None:
    ahead = {"at": "2999-01-01T00:00:00+00:00", "action": "promoted", "version": "2", "replaced": "1"}
    ahead |= {"reason": "of a machine whose clock is wrong", "by": "x"}
    three.set_registered_model_tag(NAME, "history.29990101T000000.000000Z", json.dumps(ahead))
    registry.promote(NAME, "3", "now")
    assert agree(three) == ["1", "2", "3"]


JUNK = {
    "no JSON": "{",
    "a list": "[]",
    "null": "null",
    "fields that are missing": '{"at": "x"}',
    "other fields": '{"a": 1}',
    "numbers": json.dumps({"at": 1, "action": 2, "version": 3, "replaced": 4, "reason": 5, "by": 6}),
    "no version": json.dumps(dict.fromkeys(("at", "action", "version", "replaced", "reason", "by"), "x")),
    "deep": "[" * 4000,
    "control characters": "\x1b[31m\x07 \u202e",
    "digits of another script": json.dumps(
        {"at": "", "action": "promoted", "version": "\u0662", "replaced": "1", "reason": "", "by": ""}
    ),
}


@pytest.mark.parametrize("value", JUNK.values(), ids=JUNK)
@pytest.mark.fault("a history tag that cannot be parsed", "listed as unreadable; promote, rollback and predict work")
def test_a_history_tag_that_holds_junk(three: MlflowClient, value: str) -> None:
    registry.promote(NAME, "2", "better")
    three.set_registered_model_tag(NAME, "history.29990101T000000.000000Z", value)
    three.set_registered_model_tag(NAME, "history.of another tool", value)
    said = CliRunner().invoke(cli.app, ["history", NAME])
    assert said.exit_code == 0
    assert "\x1b" not in said.output
    assert said.output.count("unreadable") == 2
    assert "tag history.29990101T000000.000000Z holds no event" in said.output.replace("\n    ", "")
    assert registry.find(NAME).version == "2"
    assert registry.rollback(NAME).version == "1"
    registry.promote(NAME, "3", "again")
    assert [event.version for event in registry.history(NAME)] == ["", "1", "2", "", "1", "3"]


@pytest.mark.parametrize(
    "stamp", ["20269999T999999.999999Z", "99991231T235959.999999Z", "\uff12\uff10\uff12\uff160101T000000.000000Z"]
)
@pytest.mark.fault("a history tag with an impossible time", "listed; it decides nothing and stops nothing")
def test_a_history_tag_of_no_time(three: MlflowClient, stamp: str) -> None:
    event = {"at": "?", "action": "promoted", "version": "3", "replaced": "1", "reason": "?", "by": "?"}
    three.set_registered_model_tag(NAME, f"history.{stamp}", json.dumps(event))
    assert registry.find(NAME).version == "1"
    registry.promote(NAME, "2", "better")
    assert agree(three) == ["3", "1", "2"]


def test_a_surrogate_in_an_event_is_shown_and_kept_out_of_the_terminal(three: MlflowClient) -> None:
    event = {"at": "2999-01-01T00:00:00+00:00", "action": "promoted", "version": "2", "replaced": "1", "by": "\x1b[2J"}
    three.set_registered_model_tag(
        NAME, "history.29990101T000000.000000Z", json.dumps(event | {"reason": "\ud800 [bold]x[/bold]"})
    )
    said = CliRunner().invoke(cli.app, ["history", NAME])
    assert said.exit_code == 0
    assert "%ED%A0%80 [bold]x[/bold]" in said.output
    assert "\x1b" not in said.output


@pytest.mark.fault(
    "the champion was deleted in MLflow", "reported; history works; rollback and promote put another version in service"
)
def test_a_champion_that_was_deleted(three: MlflowClient, caplog: pytest.LogCaptureFixture) -> None:
    registry.promote(NAME, "3", "better")
    three.delete_model_version(NAME, "3")
    assert registry.champion(NAME) is None
    assert "its champion v3 was deleted" in caplog.text
    with pytest.raises(GltError, match="it has no champion; its versions are 1, 2"):
        registry.find(NAME)
    assert registry.rollback(NAME).version == "1"
    three.delete_model_version(NAME, "1")
    registry.promote(NAME, "2", "the only one left", expected_champion="")
    with pytest.raises(GltError, match="nothing to roll back to"):
        registry.rollback(NAME)
    assert [event.version for event in registry.history(NAME)] == ["1", "3", "1", "2"]


def test_an_alias_that_dangles(three: MlflowClient, home: Path) -> None:
    """As a registry that was edited by hand has it; MLflow deletes the aliases of a version that it deletes."""
    with closing(sqlite3.connect(home / "mlflow.db")) as database, database:
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute("UPDATE registered_model_aliases SET version = 77")
    assert registry.find(NAME).version == "1"
    with pytest.raises(GltError, match="it has no version with the alias challenger; its versions are 1, 2, 3"):
        registry.find(f"{NAME}@challenger")
    registry.promote(NAME, "2", "better")
    assert registry.rollback(NAME).version == "1"


@pytest.mark.fault(
    "a version without a digest, registered by another tool", "reported and not promoted; everything else works"
)
def test_a_version_of_another_tool(three: MlflowClient, tmp_path: Path) -> None:
    three.create_model_version(NAME, str(tmp_path), tags={"gate.passed": "True", "content.digest.old": "\x1b[1m"})
    three.delete_model_version_tag(NAME, "2", "content.digest")
    for number in ("2", "4"):
        for force in ([], ["--force"]):
            said = CliRunner().invoke(cli.app, ["promote", f"{NAME}/{number}", "--because", "x", *force])
            assert f"v{number}: digest missing: not promotable; register again" in str(said.exception)
        with pytest.raises(GltError, match="digest missing"):
            registry.find(f"{NAME}/{number}").folder()
    registry.promote(NAME, "3", "better")
    three.delete_model_version_tag(NAME, "1", "content.digest")
    with pytest.raises(GltError, match="nothing to roll back to"):
        registry.rollback(NAME)
    assert f"{NAME}/4" in text(lineage.trace_model(f"{NAME}/4", tmp_path))


def test_versions_whose_run_and_experiment_were_deleted(three: MlflowClient, tmp_path: Path) -> None:
    run_id = three.get_model_version(NAME, "1").run_id
    three.delete_run(run_id)
    three.delete_run(tracking.parent(RECIPE, VERSIONS))
    three.delete_experiment(three.get_experiment_by_name(RECIPE.experiment).experiment_id)
    three.transition_model_version_stage(NAME, "1", "Archived")
    registry.promote(NAME, "2", "better")
    assert registry.rollback(NAME).version == "1"
    assert registry.find(NAME).folder().exists()
    assert f"{NAME}/1" in text(lineage.trace_model(NAME, tmp_path))
    page = CliRunner().invoke(cli.app, ["compare-models", f"{NAME}/1", f"{NAME}/2"])
    assert page.exception is None, page.exception


NAMES = ("it's", 'a "b"', "100% %_x", "back\\slash\\", "a'b\"c\\'", "with space@home", "한국어", "-x; DROP")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.fault("quotes, % or backslashes in a model's name", "every command finds exactly that model")
def test_names_with_characters_of_mlflow_s_filters(
    three: MlflowClient, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.Version, "verify", lambda self: None)  # recipes give no such names
    for one in {name, name.replace("'", "X").replace('"', "X").replace("\\", "X")}:
        three.create_registered_model(one)
        for digest in ("1", "2"):
            three.create_model_version(one, str(tmp_path), tags={"content.digest": digest, "data.version": name})
    registry.promote(name, "1", "first")
    registry.promote(name, "2", "second", expected_champion="1")
    assert registry.find(name).version == "2"
    assert registry.find(f"{name}/v1").tags["content.digest"] == "1"
    assert registry.find(f"{name}@previous").version == "1"
    assert registry.rollback(name).name == name
    assert agree(three, name) == ["1", "2", "1"]
    assert name in {version.name for version in registry.versions_trained_on(name)}
    assert registry.comparisons(name, name) == 2
    assert registry.only_model() == NAME  # the others are not ours


@pytest.mark.parametrize("name", [".", "..", "a/b/c", "a:b", "", " ", "x" * 5000, "\ud800", "\x1b[31m", "models:/a/1"])
def test_names_that_mlflow_does_not_take_are_one_line(home: Path, name: str) -> None:
    for ask in (registry.find, registry.history, registry.rollback, lambda name: registry.promote(name, "1", "x")):
        with pytest.raises(GltError) as said:
            ask(name)
        assert "\x1b" not in str(said.value)
    assert registry.champion(name) is None


def test_version_numbers_may_have_gaps(three: MlflowClient, tmp_path: Path) -> None:
    three.delete_model_version(NAME, "2")
    version, _ = register(make_classifier(tmp_path / "4", seed=4))
    assert version.version == "4"
    registry.promote(NAME, "4", "better")
    assert registry.rollback(NAME).version == "1"
    with pytest.raises(GltError, match="no version 2"):
        registry.promote(NAME, "2", "x")


def test_a_long_reason_of_any_text_is_recorded(three: MlflowClient) -> None:
    registry.promote(NAME, "2", "좋다\udcff\x1b" + '"\\' * 5000)
    assert agree(three) == ["1", "2"]
    tags = three.get_registered_model(NAME).tags
    assert max(map(len, tags.values())) <= 5000
    assert registry.history(NAME)[-1].reason.startswith('좋다%FF%1B"\\')


def test_the_aliases_count_in_a_registry_without_a_history(three: MlflowClient) -> None:
    """As versions before the history wrote it."""
    for key in three.get_registered_model(NAME).tags:
        three.delete_registered_model_tag(NAME, key)
    three.set_registered_model_alias(NAME, "previous", "2")
    assert registry.find(NAME).version == "1"
    assert registry.rollback(NAME).version == "2"
    assert VERDICT.passed


@pytest.mark.fault(
    "the files of the previous champion cannot be fetched", "nothing is rolled back, and the reason is given"
)
def test_a_version_that_cannot_be_fetched_is_not_skipped(three: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.promote(NAME, "2", "better")
    registry.promote(NAME, "3", "better")

    def full(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(GltError, match="v2: its files cannot be fetched"):
        registry.rollback(NAME)
    assert registry.champion(NAME).version == "3"  # type: ignore[union-attr]
