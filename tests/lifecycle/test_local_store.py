"""The SQLite store: made once, whatever is killed; migrated as a whole; moved with GLT_HOME."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.tracking._tracking_service import utils

from glt import artifact
from glt.errors import GltError
from glt.lifecycle import local_store, registry, run_artifacts, tracking
from tests.lifecycle.conftest import VERSIONS, make_classifier
from tests.lifecycle.test_registry import NAME, RECIPE, VERDICT

OLDER = "c8d9e0f1a2b3"  # a schema that MLflow had before the installed one


def ask(home: Path, *command: str) -> subprocess.Popen[str]:
    """Start a command in GLT_HOME `home`."""
    environment = {**os.environ, "GLT_HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-m", "glt", *command],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def change(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        for statement in statements:
            database.execute(statement)


def value(file: Path, query: str) -> object:
    with closing(sqlite3.connect(file)) as database:
        return database.execute(query).fetchone()[0]


@pytest.mark.fault(
    "several first commands start at once in a new GLT_HOME", "the store is made once; all commands succeed"
)
def test_any_number_of_first_commands_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = tmp_path / "new home, 새 폴더 #1 100%"
    commands = {
        ("history", "a"): "a: no such registered model",
        ("lineage", "b"): "model b: no such model",
        ("compare-models", "c", "d"): "model c: no such model",
        ("doctor",): "",
    }
    tasks = [ask(home, *command) for command in commands]
    for task, words in zip(tasks, commands.values(), strict=True):
        said = task.communicate(timeout=300)[1]
        assert words in said
        assert "Traceback" not in said
    assert local_store.is_ready(home / "mlflow.db")
    assert not list(home.glob("*.draft*")) + list(home.glob("*.damaged*"))


@pytest.mark.fault("a process is killed while it creates MLflow's SQLite store", "the next command creates it whole")
def test_a_process_that_is_killed_while_it_makes_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's name appears at once: before, there is a draft at most."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = tmp_path / "home"
    code = (
        "import itertools, os, signal\nfrom sqlalchemy import Engine, event\ncount = itertools.count()\n"
        "@event.listens_for(Engine, 'before_cursor_execute')\n"
        "def die(conn, cursor, statement, *rest):\n"
        "    if 'CREATE TABLE' in statement and next(count) == 12: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from glt.lifecycle import tracking; tracking.connect()\n"
    )
    environment = {**os.environ, "GLT_HOME": str(home)}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, check=False, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    assert (home / "mlflow.db.draft").exists()
    assert not (home / "mlflow.db").exists()
    monkeypatch.setenv("GLT_HOME", str(home))
    tracking.connect()
    assert local_store.is_ready(home / "mlflow.db")
    assert not (home / "mlflow.db.draft").exists()


HALF_MADE: dict[str, Callable[[Path], None]] = {
    "an empty file": lambda file: file.write_bytes(b""),
    "the first tables": lambda file: change(file, "CREATE TABLE experiments (experiment_id INTEGER, name TEXT)"),
    "no revision": lambda file: change(file, "DELETE FROM alembic_version"),
    "a table of a later migration": lambda file: change(
        file, f"UPDATE alembic_version SET version_num = '{OLDER}'", "DELETE FROM experiments"
    ),
    "a table that is missing": lambda file: change(file, "DROP TABLE logged_model_tags"),
}


@pytest.mark.parametrize("state", HALF_MADE)
@pytest.mark.fault(
    "an incomplete store from an earlier release", "created anew; the incomplete file is kept under another name"
)
def test_a_store_that_an_earlier_process_made_by_half(home: Path, state: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="glt")
    file = home / "mlflow.db"
    if state in ("an empty file", "the first tables"):
        file.unlink()
    HALF_MADE[state](file)
    tracking.connect()
    assert local_store.is_ready(file)
    assert tracking.parent(RECIPE, VERSIONS)
    if list(home.glob("mlflow.db.damaged-*")):
        assert "was left unfinished by a killed process" in caplog.text


@pytest.fixture
def older(home: Path) -> Path:
    """A store with a run, of an earlier MLflow: what its last migrations made is undone by their own downgrades."""
    tracking.parent(RECIPE, VERSIONS)
    file = home / "mlflow.db"
    downgrade = (
        "import sys, alembic.command\nfrom mlflow.store.db import utils\n"
        "engine = utils.create_sqlalchemy_engine(sys.argv[1])\nconfig = utils._get_alembic_config(sys.argv[1])\n"
        "with engine.begin() as connection:\n"
        "    config.attributes['connection'] = connection\n    alembic.command.downgrade(config, sys.argv[2])\n"
    )
    subprocess.run([sys.executable, "-c", downgrade, f"sqlite:///{file}", OLDER], check=True, timeout=300)
    return file


def test_a_store_of_an_earlier_mlflow_is_migrated_by_the_next_command(
    older: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="glt")
    assert local_store.revision(older) == OLDER
    runs = value(older, "SELECT count(*) FROM runs")
    tasks = [ask(older.parent, "history", name) for name in "ab"]
    said = [task.communicate(timeout=300)[1] for task in tasks]
    assert sum("no such registered model" in text for text in said) == 2, said
    assert sum("is migrated to the schema of this MLflow" in text for text in said) == 1, said
    assert local_store.is_ready(older)
    assert value(older, "SELECT count(*) FROM runs") == runs
    assert local_store.revision(older.with_name(f"mlflow.db.schema-{OLDER}")) == OLDER


def test_a_store_with_runs_that_cannot_be_migrated_stays_as_it_is(home: Path) -> None:
    tracking.parent(RECIPE, VERSIONS)
    file = home / "mlflow.db"
    change(file, f"UPDATE alembic_version SET version_num = '{OLDER}'")
    before = file.read_bytes()
    with pytest.raises(GltError, match=r"its schema \(c8d9e0f1a2b3\) cannot be migrated to .*nothing was changed"):
        tracking.connect()
    assert file.read_bytes() == before


@pytest.mark.fault("a store that a newer MLflow wrote", "refused in one line; the store is not changed")
def test_a_store_of_a_newer_mlflow_is_one_line(home: Path) -> None:
    change(home / "mlflow.db", "UPDATE alembic_version SET version_num = 'fffffffffff1'")
    before = (home / "mlflow.db").read_bytes()
    with pytest.raises(GltError, match=r"written by a newer MLflow \(schema fffffffffff1\)"):
        tracking.connect()
    assert (home / "mlflow.db").read_bytes() == before


def test_files_that_are_no_store_are_not_touched(home: Path) -> None:
    file = home / "mlflow.db"
    for write, words in (
        (lambda: file.write_bytes(b"a text that is as long as the header of a database" * 20), "not a SQLite database"),
        (lambda: change(file, "CREATE TABLE photos (name TEXT)"), "a database of another program"),
    ):
        file.unlink()
        write()
        before = file.read_bytes()
        with pytest.raises(GltError, match=words):
            tracking.connect()
        assert file.read_bytes() == before


def use(patch: pytest.MonkeyPatch, home: Path) -> None:
    """As a new process whose GLT_HOME is `home`: MLflow keeps addresses in the environment and in memory."""
    utils._artifact_repos_cache.clear()
    patch.setenv("GLT_HOME", str(home))
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)


def filled(folder: Path) -> str:
    """Register and promote a model, and log a file; the run's id."""
    with tracking.step(RECIPE, VERSIONS, "register") as run:
        registry.register(make_classifier(folder / "classifier", seed=1), RECIPE, VERSIONS, VERDICT, run.run_id)
        run.file(folder / "classifier" / "config.json", "gate")
    registry.promote(NAME, "1", "first")
    return run.run_id


def is_in(version: registry.Version, home: Path) -> bool:
    """True if the version's files are stored in this GLT_HOME and can be loaded."""
    return version.source.startswith(f"{home.as_uri()}/") and version.folder().is_dir()


def check(home: Path, tmp_path: Path) -> None:
    """The model and the files of `filled` are read from, and new ones written to `home`."""
    champion = registry.find(NAME)
    assert is_in(champion, home)
    assert artifact.digest(champion.folder()) == artifact.digest(tmp_path / "classifier")
    found = run_artifacts.download_step_artifact(
        RECIPE, VERSIONS.data, "register", "gate/config.json", tmp_path / "found"
    )
    assert found is not None
    with tracking.step(RECIPE, VERSIONS, "register") as run:
        run.file(tmp_path / "classifier" / "config.json", "again")
    assert list((home / "mlartifacts").rglob("again/config.json"))
    assert tracking.connect().list_artifacts(run.run_id, "again")
    assert not [path for path in home.parent.rglob("*.new") if path.is_file()]


@pytest.mark.fault("GLT_HOME is moved", "history, predict, promote and the UI find everything at its new place")
@pytest.mark.parametrize("place", ["elsewhere", "a/deeper one, mit Ümläut %20 #1?"])
def test_a_home_that_was_moved(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    filled(tmp_path)
    new = tmp_path / place
    new.parent.mkdir(exist_ok=True)
    home.rename(new)
    use(monkeypatch, new)
    check(new, tmp_path)
    assert not home.exists()
    assert [event.version for event in registry.history(NAME)] == ["1"]


def test_a_home_that_is_reached_by_a_link(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path)
    (tmp_path / "link").symlink_to(home)
    use(monkeypatch, tmp_path / "link")
    check(home, tmp_path)
    home.rename(tmp_path / "moved")
    home.symlink_to(tmp_path / "moved")
    check(tmp_path / "moved", tmp_path)


def test_a_copy_and_its_original_do_not_mix(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path)
    copy = Path(shutil.copytree(home, tmp_path / "copy"))
    use(monkeypatch, copy)
    check(copy, tmp_path)
    assert not list(home.rglob("again"))
    use(monkeypatch, home)
    check(home, tmp_path)
    shutil.rmtree(home)
    use(monkeypatch, copy)
    check(copy, tmp_path)


def test_two_homes_with_one_store_keep_their_own_artifacts(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLFLOW_TRACKING_URI names the file; the second home does not take the first one's artifacts for its own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/shared.db")
    shutil.copyfile(home / "mlflow.db", tmp_path / "shared.db")
    filled(tmp_path)
    monkeypatch.setenv("GLT_HOME", str(tmp_path / "other"))
    (tmp_path / "other" / "mlartifacts").mkdir(parents=True)
    assert is_in(registry.find(NAME), home)
    home.rename(tmp_path / "moved")
    monkeypatch.setenv("GLT_HOME", str(tmp_path / "moved"))
    assert is_in(registry.find(NAME), tmp_path / "moved")


def test_messages_that_wait_are_delivered_after_a_move(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal names the store by its path."""
    from glt import settings
    from glt.lifecycle import outbox
    from tests.lifecycle.test_tracking import Flaky

    run_id = tracking.parent(RECIPE, VERSIONS)
    flaky = Flaky(tracking.connect())
    flaky.away = True
    box = outbox.Outbox(flaky, settings.store_uri(), run_id, home / "spool")  # type: ignore[arg-type]
    box.send("tags", values={"n": "1"})
    del box
    home.rename(tmp_path / "moved")
    use(monkeypatch, tmp_path / "moved")
    assert tracking.connect().get_run(run_id).data.tags["n"] == "1"
    assert list((tmp_path / "moved" / "spool").iterdir()) == []
