"""One place lists every environment variable that glt reads, and reads it."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import pytest

from glt import logs, settings

SOURCES = sorted(path for path in Path(settings.__file__).parent.rglob("*.py") if path.name != "settings.py")
# torchrun's variables, and the one that a function which Kubeflow Trainer copies to its nodes reads there.
READ_ELSEWHERE = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "GLT_COMMAND"}


def listed() -> set[str]:
    rows = [line for line in (settings.__doc__ or "").splitlines() if line.startswith("| ")]
    return {name for row in rows for name in re.findall(r"[A-Z][A-Z0-9_]{3,}", row.split("|")[1])}


def read(tree: ast.AST) -> set[str]:
    """Variables that a module asks the environment for by name."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(
                value=ast.Attribute(attr="environ"), slice=ast.Constant(value=str(name)), ctx=ast.Load()
            ):
                found.add(name)
            case ast.Call(
                func=ast.Attribute(value=ast.Attribute(attr="environ"), attr="get"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                found.add(name)
    return found - {"PATH", "CC"}


def test_a_group_of_pod_variables_replaces_what_libraries_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, so that keys and accounts of two servers are never mixed; a line break at the end is a mistake."""
    theirs = {
        "AWS_ACCESS_KEY_ID": "launcher", "AWS_SECRET_ACCESS_KEY": "launcher", "AWS_SESSION_TOKEN": "launcher",
        "MLFLOW_TRACKING_URI": "http://plugin", "MLFLOW_TRACKING_TOKEN": "plugin", "MLFLOW_TRACKING_USERNAME": "plugin",
    }  # fmt: skip
    ours = {"GLT_S3_ACCESS_KEY_ID": "key\n", "GLT_S3_SECRET_ACCESS_KEY": "secret", "GLT_TRACKING_URI": "http://ours\n"}
    for name in ("MLFLOW_TRACKING_PASSWORD", "GLT_TRACKING_USERNAME", "GLT_S3_SESSION_TOKEN", "GLT_S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (theirs | ours).items():
        monkeypatch.setenv(name, value)
    settings.apply_pod_names()
    found = {name: os.environ.get(name) for name in theirs}
    assert found == dict.fromkeys(theirs) | {
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "MLFLOW_TRACKING_URI": "http://ours",
    }  # fmt: skip


def test_without_pod_variables_a_users_own_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("GLT_S3_", "GLT_TRACKING_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "mine")
    settings.apply_pod_names()
    assert (os.environ["AWS_ACCESS_KEY_ID"], os.environ["MLFLOW_TRACKING_TOKEN"]) == ("mine", "mine")


def test_no_other_module_reads_a_variable_of_ours() -> None:
    assert set().union(*(read(ast.parse(path.read_text())) for path in SOURCES)) == READ_ELSEWHERE


def test_a_planted_reader_is_found() -> None:
    text = "import os\nos.environ['GLT_A']\nos.environ.get('GLT_B', '1')\nos.environ['GLT_C'] = 'x'\n"
    assert read(ast.parse(text)) == {"GLT_A", "GLT_B"}


def test_every_variable_that_the_sources_name_is_listed() -> None:
    named = {name for path in SOURCES for name in re.findall(r"\bGLT_[A-Z_]+\b", path.read_text())}
    texts = {value for name, value in vars(settings).items() if name.isupper() and isinstance(value, str)}
    constants = {value for value in texts if re.fullmatch("[A-Z0-9_]+", value)}
    assert named | constants | READ_ELSEWHERE <= listed()


def test_values_and_what_stands_for_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in listed():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    assert settings.home() == tmp_path / "runs"
    assert settings.store_uri() == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert settings.is_local()
    assert (settings.git_user(), settings.region()) == ("git", "us-east-1")
    assert settings.run_id() == settings.image() == settings.locks() == settings.git_token() == ""
    monkeypatch.setenv("GLT_HOME", "elsewhere")
    assert settings.home() == tmp_path / "elsewhere"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    assert (settings.store_uri(), settings.is_local()) == ("https://mlflow.example", False)


POD = {
    "GLT_S3_ENDPOINT_URL": "http://store:8333",
    "GLT_S3_REGION": "eu-central-1",
    "GLT_S3_ACCESS_KEY_ID": "ours",
    "GLT_S3_SECRET_ACCESS_KEY": "our secret",
    "GLT_TRACKING_URI": "http://mlflow:5000",
    "GLT_TRACKING_USERNAME": "pipelines",
    "GLT_TRACKING_PASSWORD": "our password",
}
OTHERS = {
    "AWS_ENDPOINT_URL": "http://other",
    "AWS_ENDPOINT_URL_S3": "http://other",
    "AWS_DEFAULT_REGION": "other",
    "AWS_ACCESS_KEY_ID": "other",
    "AWS_SECRET_ACCESS_KEY": "other",
    "AWS_SESSION_TOKEN": "other",
    "AWS_SECURITY_TOKEN": "other",
    "MLFLOW_TRACKING_URI": "http://other",
    "MLFLOW_TRACKING_USERNAME": "other",
    "MLFLOW_TRACKING_PASSWORD": "other",
    "MLFLOW_TRACKING_TOKEN": "other",
    "MLFLOW_TRACKING_AUTH": "kubernetes",
}


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of a process that was given another store and another MLflow."""
    for name in POD:
        monkeypatch.delenv(name, raising=False)
    for name, value in OTHERS.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def now() -> dict[str, str]:
    return {name: os.environ[name] for name in OTHERS if name in os.environ}


def test_without_a_pods_variables_those_of_the_machine_hold(others: pytest.MonkeyPatch) -> None:
    others.setenv("GLT_S3_ACCESS_KEY_ID", "")
    logs.run_entry(lambda: None)
    assert now() == OTHERS


def test_a_pods_variables_win_and_are_not_mixed_with_others(others: pytest.MonkeyPatch) -> None:
    for name, value in POD.items():
        others.setenv(name, value)
    assert logs.run_entry(now) == {
        "AWS_ENDPOINT_URL": "http://other",  # of other services than S3
        "AWS_ENDPOINT_URL_S3": "http://store:8333",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "ours",
        "AWS_SECRET_ACCESS_KEY": "our secret",
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        "MLFLOW_TRACKING_USERNAME": "pipelines",
        "MLFLOW_TRACKING_PASSWORD": "our password",
    }
    assert settings.object_store() == "http://store:8333"
    assert settings.region() == "eu-central-1"
    assert settings.store_uri() == "http://mlflow:5000"


def test_half_a_key_is_not_completed_with_anothers(others: pytest.MonkeyPatch) -> None:
    others.setenv("GLT_S3_ACCESS_KEY_ID", "ours")
    logs.run_entry(lambda: None)
    assert now() == {name: value for name, value in OTHERS.items() if not re.search("_SECRET_|_TOKEN$", name)} | {
        "AWS_ACCESS_KEY_ID": "ours",
        "MLFLOW_TRACKING_TOKEN": "other",
    }


def test_a_token_comes_with_its_keys(others: pytest.MonkeyPatch) -> None:
    for name in ("GLT_S3_ACCESS_KEY_ID", "GLT_S3_SECRET_ACCESS_KEY", "GLT_S3_SESSION_TOKEN"):
        others.setenv(name, name)
    logs.run_entry(lambda: None)
    assert os.environ["AWS_SESSION_TOKEN"] == "GLT_S3_SESSION_TOKEN"
    assert "AWS_SECURITY_TOKEN" not in os.environ
