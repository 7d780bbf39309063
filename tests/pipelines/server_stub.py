"""As much of a Kubeflow Pipelines server as glt needs. It reads every body with the server's own models."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from kfp_server_api import ApiClient, V2beta1RecurringRun, V2beta1Run

API = "/apis/v2beta1"
MISSING = {"error": "not found", "code": 5, "message": "ResourceNotFoundError: not found", "details": []}


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
    """The server.

    Attributes:
        health: its description of itself.
        states: fields of runs by id, beside `run_id`.
        answers: (status, body) by the start of a path, in place of what the server does; bytes are no JSON.
        plugins: whether it knows inputs of plugins; fields that a server does not know it refuses.
        more_headers: of every answer.
        hidden: kinds of things whose next listing shows none, as if another client created it just then.
    """

    def __init__(self) -> None:
        self.health: dict[str, Any] = {"commit_sha": "1", "tag_name": "2.17.0", "multi_user": False}
        self.answers: dict[str, tuple[int, object]] = {}
        self.states: dict[str, dict[str, Any]] = {}
        self.runs: list[V2beta1Run] = []
        self.recurring: dict[str, dict[str, Any]] = {}
        self.experiments: list[dict[str, Any]] = []
        self.pipelines: list[dict[str, Any]] = []
        self.versions: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.namespaces: set[str] = set()
        self.hidden: set[str] = set()
        self.more_headers: dict[str, str] = {}
        self.plugins = True
        self._number = 0
        self._lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def answer(self, value: object, status: int = 200) -> None:
                content = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                kind = "text/html" if isinstance(value, bytes) else "application/json"
                for name, text in ({"Content-Type": kind} | stub.more_headers).items():
                    self.send_header(name, text)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def handle_request(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                with stub._lock:
                    stub.headers.append({name.lower(): value for name, value in self.headers.items()})
                    chosen = next((a for start, a in stub.answers.items() if parts.path.startswith(start)), None)
                    status, value = chosen or stub._respond(self.command, parts.path, query, content)
                self.answer(value, status)

            do_GET = do_POST = do_DELETE = handle_request

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def schedules(self) -> dict[str, V2beta1RecurringRun]:
        return {run["display_name"]: parse(run, "V2beta1RecurringRun") for run in self.recurring.values()}

    def id(self, kind: str) -> str:
        self._number += 1
        return f"{kind}{self._number}"

    def _respond(self, method: str, path: str, query: dict[str, str], content: bytes) -> tuple[int, object]:
        self.namespaces.add(query.get("namespace", ""))
        match method, path.removeprefix(API):
            case "GET", "/healthz":
                return 200, self.health
            case "POST", "/pipelines/upload_version":
                return self._upload(query, content)
            case _, place:
                body = json.loads(content) if content else {}
                return self._respond_json(method, place, query, body)

    def _respond_json(self, method: str, place: str, query: dict[str, str], body: dict[str, Any]) -> tuple[int, object]:
        match method, place.strip("/").split("/"):
            case "GET", ["experiments"]:
                return 200, {"experiments": self._named("experiments", self.experiments, query)}
            case "POST", ["experiments"]:
                return self._create("e", self.experiments, body, "V2beta1Experiment", "experiment_id")
            case "GET", ["pipelines"]:
                return 200, {"pipelines": self._named("pipelines", self.pipelines, query)}
            case "POST", ["pipelines"]:
                return self._create("p", self.pipelines, body, "V2beta1Pipeline", "pipeline_id")
            case "GET", ["pipelines", pipeline, "versions"]:
                versions = [one for one in self.versions if one["pipeline_id"] == pipeline]
                return 200, {"pipeline_versions": self._named("versions", versions, query)}
            case "POST", ["runs" | "recurringruns"] if "plugins_input" in body and not self.plugins:
                return 400, {"code": 3, "message": 'proto: (line 1:1): unknown field "plugins_input"'}
            case "POST", ["runs"]:
                self._accept(body)
                self.runs.append(parse(body, "V2beta1Run"))
                return 200, {"run_id": f"run-{len(self.runs)}", **body}
            case "GET", ["runs", run]:
                return (200, {"run_id": run, **self.states[run]}) if run in self.states else (404, MISSING)
            case "GET", ["recurringruns"]:
                runs, size = list(self.recurring.values()), 2  # pages of two, whatever is asked
                start = int(query.get("page_token") or 0)
                more = {"next_page_token": str(start + size)} if start + size < len(runs) else {}
                return 200, {"recurringRuns": runs[start : start + size], **more}
            case "POST", ["recurringruns"]:
                self._accept(body)
                parse(body, "V2beta1RecurringRun")
                number = self.id("r")
                self.recurring[number] = {**body, "recurring_run_id": number}
                return 200, self.recurring[number]
            case "DELETE", ["recurringruns", run]:
                return (200, {}) if self.recurring.pop(run, None) else (404, MISSING)
        return 404, MISSING

    def _accept(self, body: dict[str, Any]) -> None:
        reference = body["pipeline_version_reference"]
        assert any(reference.items() <= version.items() for version in self.versions)
        assert any(one["experiment_id"] == body["experiment_id"] for one in self.experiments)

    def _named(self, kind: str, entries: list[dict[str, Any]], query: dict[str, str]) -> list[dict[str, Any]]:
        """The entries that the filter names."""
        if kind in self.hidden:
            self.hidden.remove(kind)
            return []
        (predicate,) = json.loads(query["filter"])["predicates"]
        assert (predicate["operation"], predicate["key"]) == ("EQUALS", "display_name")
        return [one for one in entries if one["display_name"] == predicate["stringValue"]]

    def _create(
        self, kind: str, entries: list[dict[str, Any]], body: dict[str, Any], model: str, id_field: str
    ) -> tuple[int, object]:
        parse(body, model)
        self.namespaces.add(body.get("namespace", ""))
        if any(one["display_name"] == body["display_name"] for one in entries):
            return 409, {"error": "exists", "code": 6, "message": f"{body['display_name']} already exists"}
        entries.append({**body, id_field: self.id(kind)})
        return 200, entries[-1]

    def _upload(self, query: dict[str, str], content: bytes) -> tuple[int, object]:
        if any(
            (one["pipeline_id"], one["display_name"]) == (query["pipelineid"], query["name"]) for one in self.versions
        ):
            return 409, {"error_message": "Failed to create a pipeline version"}
        boundary = content.partition(b"\r\n")[0]
        package = content.split(boundary)[1].partition(b"\r\n\r\n")[2].decode()
        assert re.search(rb'filename="[\w-]+\.yaml"', content)
        version = {
            "pipeline_id": query["pipelineid"],
            "pipeline_version_id": self.id("v"),
            "display_name": query["name"],
            "description": query.get("description", ""),
            "pipeline_spec": next(iter(yaml.safe_load_all(package))),
        }
        parse(version, "V2beta1PipelineVersion")
        self.versions.append(version)
        return 200, version


@contextmanager
def running_stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """A server that the environment points to, without a log-in."""
    made = Stub()
    for name in ("TOKEN", "COOKIES", "SA_TOKEN_PATH", "NAMESPACE"):
        monkeypatch.delenv(f"KF_PIPELINES_{name}", raising=False)
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", made.address)
    yield made
    made.server.shutdown()
