"""What is sent to a Kubeflow Pipelines server. A stub takes it, and reads every body with the server's own models."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from kfp_server_api import ApiClient, V2beta1RecurringRun, V2beta1Run

from glt.errors import GltError
from glt.lifecycle.dvc_hash import content_md5
from pipelines import cluster
from pipelines.cluster import Schedule

API = "/apis/v2beta1"


def parse(body: dict[str, Any], model: str) -> Any:
    """The body as the server's model; one that the model does not know all of is refused."""
    client = ApiClient()
    found = client.deserialize(SimpleNamespace(data=json.dumps(body)), model)
    assert to_plain(client.sanitize_for_serialization(found)) == to_plain(body)
    return found


def to_plain(value: Any) -> Any:
    """With numbers as text: in the JSON of a protobuf, 64-bit ones may be either."""
    if isinstance(value, dict):
        return {name: to_plain(inner) for name, inner in value.items()}
    return [to_plain(inner) for inner in value] if isinstance(value, list) else str(value)


class Stub:
    """As much of a server as submitting and scheduling need."""

    def __init__(self) -> None:
        self.runs: list[V2beta1Run] = []
        self.recurring: dict[str, dict[str, Any]] = {}
        self.tokens: set[str] = set()
        self.fails = False
        stub, self.number = self, 0

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def answer(self, value: Any, status: int = 200) -> None:
                content = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                stub.tokens.add(self.headers.get("authorization", ""))
                path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
                if stub.fails and path == f"{API}/recurringruns":
                    self.answer({"error": "no"}, 503)
                elif path == f"{API}/recurringruns":
                    runs, size = list(stub.recurring.values()), 2  # pages of two, whatever is asked
                    start = int(query.get("page_token", ["0"])[0] or 0)
                    more = {"next_page_token": str(start + size)} if start + size < len(runs) else {}
                    self.answer({"recurringRuns": runs[start : start + size], **more})
                elif path == f"{API}/experiments":
                    self.answer({"experiments": []})
                else:
                    self.answer({})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == f"{API}/experiments":
                    self.answer({"experiment_id": "e1", **body})
                elif self.path == f"{API}/runs":
                    stub.runs.append(parse(body, "V2beta1Run"))
                    self.answer({"run_id": f"run-{len(stub.runs)}", **body})
                elif self.path == f"{API}/recurringruns":
                    parse(body, "V2beta1RecurringRun")
                    stub.number += 1
                    stub.recurring[f"r{stub.number}"] = {**body, "recurring_run_id": f"r{stub.number}"}
                    self.answer(stub.recurring[f"r{stub.number}"])

            def do_DELETE(self) -> None:
                del stub.recurring[self.path.rpartition("/")[2]]
                self.answer({})

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def schedules(self) -> dict[str, V2beta1RecurringRun]:
        return {run["display_name"]: parse(run, "V2beta1RecurringRun") for run in self.recurring.values()}


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    made = Stub()
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", f"http://127.0.0.1:{made.server.server_port}")
    monkeypatch.setenv("KF_PIPELINES_TOKEN", "secret")
    monkeypatch.setenv("GLT_CODE_VERSION", "c0dec0dec0de")
    yield made
    made.server.shutdown()


def schedule(**changes: Any) -> Schedule:
    parameters = {"recordings": "dvc+https://git.lab/glt.git@main", "recipe": "ntu60-xsub"}
    return Schedule.model_validate({"graph": "retraining", "cron": "0 0 3 * * 1", "parameters": parameters} | changes)


def planned_changes(schedules: dict[str, Schedule], dry: bool = False) -> list[tuple[str, str]]:
    return [(change.action, change.name) for change in cluster.reconcile(schedules, dry=dry)]


def test_a_run_is_started_with_what_it_trains_on(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "a.skeleton").write_bytes(b"1")
    assert cluster.submit("training", str(tmp_path), "sample", "cpu") == "run-1"
    assert cluster.submit("retraining", "dvc+https://git.lab/glt.git@main", "sample", "gpu-nodes", 4) == "run-2"
    training, retraining = stub.runs
    given = training.runtime_config.parameters
    assert given.keys() == {"recordings", "recipe", "data_version", "code_version"}
    assert given["data_version"] == content_md5(tmp_path)
    assert json.loads(given["recipe"])["name"] == "sample"
    assert training.pipeline_spec["pipeline_spec"]["pipelineInfo"]["name"] == "glt-training"
    assert retraining.runtime_config.parameters.keys() == {"recordings", "recipe", "code_version", "nodes"}
    assert retraining.runtime_config.parameters["nodes"] == 4
    assert retraining.pipeline_spec["pipeline_spec"]["pipelineInfo"]["name"] == "glt-retraining"
    assert stub.tokens <= {"Bearer secret", ""}
    assert "Bearer secret" in stub.tokens


def test_schedules_are_created_replaced_and_deleted_and_others_left_alone(stub: Stub) -> None:
    stub.recurring["theirs"] = {"recurring_run_id": "theirs", "display_name": "theirs", "description": "by hand"}
    declared = {name: schedule() for name in ("a", "b", "c")}
    assert planned_changes(declared, dry=True) == [("create", "a"), ("create", "b"), ("create", "c")]
    assert stub.schedules.keys() == {"theirs"}
    assert planned_changes(declared) == [("create", "a"), ("create", "b"), ("create", "c")]
    run = stub.schedules["a"]
    assert (run.trigger.cron_schedule.cron, run.max_concurrency, run.no_catchup) == ("0 0 3 * * 1", "1", True)
    assert run.mode == "ENABLE"
    assert run.runtime_config.parameters == {**declared["a"].parameters, "code_version": "c0dec0dec0de"}
    assert planned_changes(declared) == []

    changed = {"a": declared["a"], "b": schedule(cron="0 30 4 * * 1"), "d": schedule(enabled=False)}
    before = set(stub.recurring)
    changes = cluster.reconcile(changed, dry=True)
    assert [(change.action, change.name) for change in changes] == [("replace", "b"), ("delete", "c"), ("create", "d")]
    assert "0 0 3 * * 1" in changes[0].reason
    assert "0 30 4 * * 1" in changes[0].reason
    assert set(stub.recurring) == before
    assert planned_changes(changed) == [("replace", "b"), ("delete", "c"), ("create", "d")]
    assert stub.schedules.keys() == {"theirs", "a", "b", "d"}
    assert stub.schedules["b"].trigger.cron_schedule.cron == "0 30 4 * * 1"
    assert stub.schedules["d"].mode == "DISABLE"
    assert planned_changes({}) == [("delete", "a"), ("delete", "b"), ("delete", "d")]
    assert stub.schedules.keys() == {"theirs"}


def test_new_code_replaces_a_schedule(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    planned_changes({"a": schedule()})
    monkeypatch.setenv("GLT_CODE_VERSION", "another")
    assert planned_changes({"a": schedule()}) == [("replace", "a")]


def test_the_declared_schedules_are_whole(stub: Stub) -> None:
    file = Path(__file__).parents[2] / "infra" / "schedules.yaml"
    declared = cluster.read_schedules(file)
    assert {one.graph for one in declared.values()} == {"collection", "retraining"}
    assert not any(one.enabled for one in declared.values())  # they name an example's repository
    assert [what for what, _ in planned_changes(declared)] == ["create"] * len(declared)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"cron": "0 3 * * 1"}, "6 fields"),
        ({"graph": "ablation"}, "graph"),
        ({"crom": "x"}, "crom"),
        ({"parameters": {"recipes": "x"}}, "has no parameter recipes"),
    ],
)
def test_a_wrong_schedule_is_reported(stub: Stub, tmp_path: Path, change: dict[str, Any], why: str) -> None:
    fields = {"graph": "retraining", "cron": "0 0 3 * * 1", "parameters": {}} | change
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({"weekly": fields}))
    with pytest.raises(GltError, match=re.escape(why)):
        cluster.reconcile(cluster.read_schedules(tmp_path / "s.yaml"), dry=True)
    assert not stub.recurring


def test_a_server_that_refuses_or_is_not_named_is_reported(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.fails = True
    with pytest.raises(GltError, match="check KF_PIPELINES_ENDPOINT"):
        cluster.reconcile({"a": schedule()}, dry=True)
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT")
    with pytest.raises(GltError, match="set it to the address"):
        cluster.reconcile({}, dry=True)
    with pytest.raises(GltError, match="give the path of a YAML file"):
        cluster.read_schedules(Path("nowhere.yaml"))
