"""An account of MLflow cannot lead the server to places that are not its own, nor make it talk about itself."""

from __future__ import annotations

import re
import sys
import uuid
from pathlib import Path
from typing import Any

import mlflow
import pytest
import requests
from mlflow import MlflowClient

from infra.local.stack import Stack
from tests.stack.models import promoted
from tests.stack.test_servers import client

FOREIGN = [
    *("s3://landing/x", "s3://recordings", "s3://mlflow/1", "S3://landing/x", " s3://landing/x", "gs://bucket/x"),
    *("/tmp/foreign", "relative/foreign", "../foreign", "file:///etc", "dbfs:/x", "ftp://elsewhere/x"),
    *("mlflow-artifacts:/1", "mlflow-artifacts:/../x", "mlflow-artifacts://elsewhere/1", "models:/m/1", "runs:/r/x"),
    *("http://169.254.169.254/x", "https://elsewhere/api/2.0/mlflow-artifacts/artifacts/1", "wasbs://c@a/x"),
]
API = "api/2.0/mlflow"


class Account:
    """An account without any right of its own, and the requests that it makes."""

    def __init__(self, stack: Stack) -> None:
        self.uri = stack.environment()["MLFLOW_TRACKING_URI"]
        self.name, self.password = f"visitor-{uuid.uuid4().hex[:8]}", "looks-around-all-day"
        admin = ("admin", stack.secret("mlflow-accounts")["MLFLOW_PASSWORD_ADMIN"])
        made = {"username": self.name, "password": self.password}
        requests.post(f"{self.uri}/{API}/users/create", json=made, auth=admin, timeout=60).raise_for_status()
        self._session = requests.Session()
        self._session.auth = (self.name, self.password)

    def ask(self, method: str, path: str, **content: Any) -> requests.Response:
        return self._session.request(method, f"{self.uri}/{path}", timeout=60, **content)

    def create(self, what: str, **fields: object) -> Any:
        answer = self.ask("POST", f"{API}/{what}", json=fields)
        answer.raise_for_status()
        return answer.json()

    def experiment(self) -> str:
        return str(self.create("experiments/create", name=uuid.uuid4().hex)["experiment_id"])


@pytest.fixture
def account(stack: Stack) -> Account:
    return Account(stack)


def one_line(answer: requests.Response) -> str:
    """The message of an error answer, which is one line."""
    message = str(answer.json()["message"])
    assert "\n" not in message
    return message


@pytest.mark.parametrize("api", ["api", "ajax-api"])
@pytest.mark.parametrize("field", ["artifact_location", "artifactLocation", "artifact\\u005flocation"])
def test_no_account_makes_an_experiment_at_another_place(account: Account, api: str, field: str) -> None:
    for location in FOREIGN:
        text = f'{{"name": "{uuid.uuid4().hex}", "{field}": "{location}"}}'
        answer = account.ask(
            "POST", f"{api}/2.0/mlflow/experiments/create", data=text, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 400, location
        assert one_line(answer).startswith("artifact_location: this server chooses"), location


def test_no_account_registers_a_model_of_another_place(account: Account) -> None:
    experiment = account.experiment()
    run = account.create("runs/create", experiment_id=experiment)["run"]["info"]
    name = account.create("registered-models/create", name=uuid.uuid4().hex)["registered_model"]["name"]
    foreign = [place for place in FOREIGN if not place.startswith(("models:/", "runs:/"))]
    for source in [*foreign, f"{run['artifact_uri']}/../../../1", f"{run['artifact_uri']}%2f..%2f..%2f..%2f1"]:
        for given in ({}, {"run_id": run["run_id"]}):
            answer = account.ask("POST", f"{API}/model-versions/create", json={"name": name, "source": source, **given})
            assert answer.status_code == 400, source
            assert one_line(answer).startswith("Invalid model version source: "), source
    account.create("model-versions/create", name=name, source=f"{run['artifact_uri']}/model", run_id=run["run_id"])


def test_the_server_opens_no_other_place_whatever_its_tables_say(account: Account, tmp_path: Path) -> None:
    """A trace has its place in a tag, and anybody who may edit the trace sets its tags."""
    (tmp_path / "traces.json").write_text('{"spans": ["a file of the server"]}')
    trace = f"tr-{uuid.uuid4().hex}"
    place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": account.experiment()}}
    info = {"trace_id": trace, "trace_location": place, "request_time": "2026-01-01T00:00:00Z", "state": "OK"}
    account.ask("POST", "api/3.0/mlflow/traces", json={"trace": {"trace_info": info}}).raise_for_status()
    for location in (str(tmp_path), tmp_path.as_uri(), "s3://landing/x", "s3://mlflow/../landing"):
        tag = {"key": "mlflow.artifactLocation", "value": location}
        account.ask("PATCH", f"api/3.0/mlflow/traces/{trace}/tags", json=tag).raise_for_status()
        answer = account.ask("GET", f"ajax-api/3.0/mlflow/get-trace-artifact?request_id={trace}")
        assert answer.status_code == 403, location
        assert one_line(answer) == "These artifacts are not in the store of this server."


def test_no_account_has_the_server_run_commands_or_call_addresses(account: Account) -> None:
    assistant = "ajax-api/3.0/mlflow/assistant"
    for method, path in (("GET", "config"), ("PUT", "config"), ("POST", "message"), ("GET", "providers")):
        assert account.ask(method, f"{assistant}/{path}", json={"message": "x"}).status_code in (403, 404), path
    secret = {"secret_name": "x", "secret_value": [{"key": "api_key", "value": "x"}]}
    assert account.ask("POST", "api/3.0/mlflow/gateway/secrets/create", json=secret).status_code == 501
    hook = {"name": "x", "url": "https://elsewhere", "events": [{"entity": "REGISTERED_MODEL", "action": "CREATED"}]}
    assert account.ask("POST", f"{API}/webhooks", json=hook).status_code == 403


def test_ordinary_work_is_not_hindered(
    stack: Stack, account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own registration, and what MLflow's client does with runs, models and prompts."""
    promoted(tmp_path, "ordinary")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", account.name)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", account.password)
    own, name = MlflowClient(), uuid.uuid4().hex
    run = own.create_run(own.create_experiment(name)).info
    (tmp_path / "page.html").write_text("a page")
    own.log_artifact(run.run_id, str(tmp_path / "page.html"))
    assert Path(own.download_artifacts(run.run_id, "page.html", str(tmp_path / "."))).read_text() == "a page"
    own.create_registered_model(name)
    own.create_model_version(name, f"{run.artifact_uri}/page.html", run.run_id)
    assert own.copy_model_version(f"models:/{name}/1", f"{name}-copy").source == f"models:/{name}/1"
    assert mlflow.genai.register_prompt(f"prompt-{name}", "Say {{word}}").version == 1


# Malformed, missing or impossible: method, path, and what else the request has.
MALFORMED: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", f"{API}/experiments/create", {"data": b"{nope", "headers": {"Content-Type": "application/json"}}),
    ("POST", f"{API}/experiments/create", {"json": [1]}),
    ("POST", f"{API}/experiments/create", {"json": {"name": "a\0b"}}),
    ("POST", f"{API}/experiments/create", {"json": {"name": {"a": 1}}}),
    ("POST", f"{API}/registered-models/create", {"json": {"name": "x" * 1000}}),
    ("POST", f"{API}/runs/create", {"json": {"experiment_id": "0", "start_time": 2**64}}),
    ("POST", f"{API}/experiments/search", {"json": {"max_results": 1, "page_token": "eyJvZmZzZXQiOi01fQ=="}}),
    ("GET", f"{API}/runs/get?run_id=%00", {}),
    ("GET", f"{API}/experiments/get?experiment_id={10**30}", {}),
    ("GET", f"{API}/artifacts/list?run_id=none&path=../../etc", {}),
    ("GET", "get-artifact?run_id={run}&path=nothing.txt", {}),
    ("GET", "get-artifact?run_id={run}&path=../../../etc/passwd", {}),
    ("GET", "get-artifact?run_id={run}&path=%2Fetc%2Fpasswd", {}),
    ("GET", "api/2.0/mlflow-artifacts/artifacts/{experiment}/nothing.txt", {}),
    ("GET", "api/2.0/mlflow-artifacts/artifacts/{experiment}/%2e%2e/%2e%2e/etc/passwd", {}),
    ("PUT", "api/2.0/mlflow-artifacts/artifacts/{experiment}/" + "x" * 300, {"data": b"x"}),
    ("PUT", "api/2.0/mlflow-artifacts/artifacts/{experiment}/a%5C..%5Cb", {"data": b"x"}),
    ("POST", "api/2.0/mlflow-artifacts/mpu/abort/{experiment}/x", {"json": {"path": "x", "upload_id": "none"}}),
    ("POST", "ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=.", {"data": b"x"}),
    ("GET", "ajax-api/2.0/mlflow/metrics/get-history-bulk?run_id={run}&metric_key=k&max_results=x", {}),
    ("GET", "static-files/../../etc/passwd", {}),
    ("POST", "graphql", {"json": {"query": "{{{"}}),
    ("POST", "v1/traces", {"data": b"no", "headers": {"Content-Type": "application/x-protobuf"}}),
]
ABOUT_ITSELF = re.compile(
    rf"Traceback|File \"|\.py\b|\[SQL|psycopg2|site-packages|s3://|{sys.prefix}|/tmp/|/usr/|/opt/"
)


def test_answers_name_no_paths_and_no_traces(account: Account, stack: Stack) -> None:
    experiment = account.experiment()
    run = account.create("runs/create", experiment_id=experiment)["run"]["info"]["run_id"]
    ids = set[str]()
    for method, path, content in MALFORMED:
        answer = account.ask(method, path.format(run=run, experiment=experiment), **content)
        assert answer.status_code >= 400, path
        assert not ABOUT_ITSELF.search(answer.text), answer.text
        ids |= set(re.findall(r"details under ([0-9a-f]{8})", answer.text))
        if answer.status_code == 500:
            assert ids & set(re.findall(r"[0-9a-f]{8}", one_line(answer))), answer.text
    assert len(ids) >= 8
    log = stack["mlflow"].log.read_text(errors="replace")
    assert all(f"{one}: " in log for one in ids)
    assert "Traceback (most recent call last)" in log
    assert account.ask("GET", "get-artifact", params={"run_id": run, "path": "nothing.txt"}).status_code == 404


def test_the_object_store_names_no_paths_of_its_own(stack: Stack) -> None:
    """It repeats the key that it was asked for."""
    endpoint = stack.environment()["AWS_ENDPOINT_URL"]
    recorders = client(stack, "landing-recorders")
    urls = [f"{endpoint}/{path}" for path in ("", "landing/x", "landing/%2e%2e/x", "debug/pprof/", "metrics")]
    keys = ["a\0b", "../x", "x" * 1500]
    urls += [recorders.generate_presigned_url("put_object", {"Bucket": "landing", "Key": key}) for key in keys]
    for url in urls:
        answer = requests.put(url, data=b"x", timeout=60) if "?" in url else requests.get(url, timeout=60)
        assert 400 <= answer.status_code < 500, url
        assert not re.search(rf"goroutine|\.go\b|{stack.folder}|/data/", answer.text), answer.text
