"""`glt doctor` on machines where something is really broken."""

from __future__ import annotations

import json
import socket
import sqlite3
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from glt import cli, doctor
from glt.serving import keys

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "KF_PIPELINES_ENDPOINT", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("GLT_SIGNING_KEY", "GLT_VERIFYING_KEYS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GLT_HOME", str(tmp_path / "home"))


def result(check: str, root: Path) -> doctor.Result:
    return next(result for result in doctor.examine(root) if result.check == check)


@pytest.fixture
def closed_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_good_machine_has_no_problem_and_stays_as_it_is(tmp_path: Path) -> None:
    results = doctor.examine(ROOT)
    assert [result for result in results if result.status == "problem"] == []
    assert all(result.remedy for result in results if result.status != "ok")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("variable", "check"),
    [
        ("MLFLOW_TRACKING_URI", "mlflow store"),
        ("AWS_ENDPOINT_URL", "object store"),
        ("KF_PIPELINES_ENDPOINT", "kubeflow"),
    ],
)
def test_a_closed_port(variable: str, check: str, closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, f"http://127.0.0.1:{closed_port}")
    found = result(check, ROOT)
    assert found.status == "problem"
    assert f"127.0.0.1:{closed_port}" in found.message
    assert variable in found.remedy


def test_a_password_in_an_address_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.listen()
        port = server.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://team:secret@127.0.0.1:{port}")
        found = result("mlflow store", ROOT)
    assert "secret" not in found.message
    assert found.message.startswith(f"http://127.0.0.1:{port}/health does not respond: timed out")


def test_a_server_that_never_answers_takes_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{mute.getsockname()[1]}")
        before = time.monotonic()
        (found,) = doctor._object_store(ROOT)
        assert time.monotonic() - before < 10
    assert found.status == "problem"


def test_a_damaged_store(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "mlflow.db").write_bytes(b"not a database, but long enough for a header" * 100)
    found = result("mlflow store", ROOT)
    assert (found.status, "not a database" in found.message) == ("problem", True)


def test_a_store_of_another_mlflow(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with sqlite3.connect(tmp_path / "home" / "mlflow.db") as database:
        database.execute("CREATE TABLE experiments (experiment_id INTEGER)")
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES ('0123abcd')")
    found = result("mlflow store", ROOT)
    assert found.status == "problem"
    assert "schema 0123abcd" in found.message
    assert "install the newer MLflow" in found.remedy
    with sqlite3.connect(tmp_path / "home" / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    found = result("mlflow store", ROOT)
    assert found.status == "warning"
    assert "the next command migrates it" in found.remedy


def test_keys_of_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said() -> tuple[str, str]:
        found = result("model keys", ROOT)
        return found.status, found.message

    (one, public, _), (_, other, _) = keys.new_keys(tmp_path / "one"), keys.new_keys(tmp_path / "other")
    assert said() == ("ok", "none: the registry's digests alone verify models, so who can write to it can replace them")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert said()[0] == "warning"
    monkeypatch.setenv("GLT_VERIFYING_KEYS", str(other))
    assert said()[0] == "ok"
    monkeypatch.setenv("GLT_SIGNING_KEY", str(one))
    assert said()[0] == "warning"
    assert "verifies them" in said()[1]
    monkeypatch.setenv("GLT_VERIFYING_KEYS", str(public))
    assert said()[0] == "ok"
    one.chmod(0o644)
    assert said() == ("warning", f"{one} can be read by others")
    one.write_text("no key")
    assert said()[0] == "problem"


def test_a_folder_that_is_no_project(tmp_path: Path) -> None:
    assert result("data", tmp_path).status == "warning"
    assert result("git", tmp_path).status == "warning"


def test_recordings_that_are_not_those_pinned_and_a_remote_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "data.dvc").write_text("outs:\n- {md5: 00.dir, size: 7, nfiles: 1, hash: md5, path: data}\n")
    (tmp_path / ".dvc").mkdir()
    config = "[core]\n    remote = store\n['remote \"store\"']\n    url = ../nowhere\n"
    (tmp_path / ".dvc" / "config").write_text(config)
    assert "make data" in result("data", tmp_path).remedy
    remote = result("dvc remote", tmp_path)
    assert (remote.status, "nowhere does not exist" in remote.message) == ("warning", True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.zip").write_bytes(b"1234567")
    assert result("data", tmp_path).status == "ok"


def test_a_port_in_use() -> None:
    with socket.socket() as server:
        try:
            server.bind(("127.0.0.1", 5001))
            server.listen()
        except OSError:
            pass  # in use already, which is as good
        assert result("port 5001", ROOT).status == "warning"


def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "9999")
    assert "OMP_NUM_THREADS" in result("threads", ROOT).remedy


def test_the_command_ends_with_1_and_prints_json(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port}")
    done = CliRunner().invoke(cli.app, ["doctor", "--json"])
    assert done.exit_code == 1
    by_check = {row["check"]: row for row in json.loads(done.stdout)}
    assert by_check["object store"]["status"] == "problem"
    assert by_check["python"]["status"] == "ok"
    shown = CliRunner().invoke(cli.app, ["doctor"])
    assert shown.exit_code == 1
    assert "problem  object store" in shown.stdout
