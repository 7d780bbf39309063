"""infra/local/stack.py: what it makes of the manifests, without starting anything; tests/stack starts them."""

from __future__ import annotations

import http.server
import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.local import servers
from infra.local import stack as module
from infra.local.servers import StackError
from infra.local.stack import PORTS, Stack


def test_a_command_names_nothing_that_only_a_cluster_has(tmp_path: Path) -> None:
    stack = Stack(tmp_path, images={})
    seen = 0
    for name in (*PORTS, "backup", "restore"):
        pod = stack.pod(name)
        for container in [*pod.get("initContainers", ()), *pod["containers"]]:
            command, environment = stack.command(name, container)
            own = {key: value for key, value in environment.items() if key not in module.os.environ}
            said = " ".join([*command, *own.values()])
            assert not re.search(r"0\.0\.0\.0|\b(database|object-store|mlflow(\.glt)?):\d|host=database", said), name
            mounts = {mount["mountPath"] for mount in container["volumeMounts"]} - {"/tmp"}
            assert not [path for path in mounts if re.search(rf"(?<![\w./-]){path}(?![\w-])", said)], name
            seen += 1
    assert seen == 10


def test_secrets_and_ports_are_made_once_and_nobody_else_may_read_them(tmp_path: Path) -> None:
    first, second = Stack(tmp_path), Stack(tmp_path)
    assert first.environment() == second.environment()
    first.change_secret("glt-mlflow", MLFLOW_TRACKING_PASSWORD="new")
    assert Stack(tmp_path).environment()["MLFLOW_TRACKING_PASSWORD"] == "new"
    assert (tmp_path / "secrets.json").stat().st_mode & 0o077 == 0
    assert json.loads((tmp_path / "ports.json").read_text()) == first.ports


def test_a_port_that_is_taken_is_left_to_who_has_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        number = taken.getsockname()[1]
        assert not module._is_free(number)
    assert module._is_free(number)
    ports = Stack(tmp_path).ports
    assert len(set(ports.values())) == len(ports) == 6


@pytest.mark.fault(
    "make stack with a port that is taken",
    "the next free port is used and printed; another program's answer is never taken for the server's",
)
def test_a_port_of_another_program_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two stacks that were made one after the other share ports."""
    monkeypatch.setattr(servers, "find_program", lambda name: name)
    monkeypatch.setattr(servers.Server, "start", lambda self: None)
    stack, said = Stack(tmp_path, images={}), list[str]()
    before = dict(stack.ports)
    with socket.socket() as other:
        other.bind(("127.0.0.1", stack.ports["master"]))
        other.listen()
        stack.up(say=said.append)
    assert said == [f"master: port {before['master']} is in use by another program; using {stack.ports['master']}"]
    assert stack.ports["master"] > before["master"]
    assert {name for name in before if stack.ports[name] != before[name]} == {"master"}
    assert Stack(tmp_path).ports == stack.ports
    arguments = " ".join(stack.command("object-store", stack.pod("object-store")["containers"][0])[0])
    assert f"-master.port={stack.ports['master']}" in arguments


class Answering(http.server.BaseHTTPRequestHandler):
    """Another program's server, which answers whatever it is asked."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[int]:
    with http.server.HTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_another_programs_answer_is_not_taken_for_ours(
    tmp_path: Path, answering: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Stack(tmp_path, images={})
    stack.ports["mlflow"] = answering
    (container,) = stack.pod("mlflow")["containers"]
    probe = container["startupProbe"]
    assert not stack["mlflow"]._is_ready(probe)  # it does not run
    (tmp_path / "mlflow.process").write_text(json.dumps([os.getpid(), psutil.Process().create_time()]))
    assert stack["mlflow"]._is_ready(probe)  # this process is the one that answers
    with subprocess.Popen(["sleep", "60"]) as ours:
        (tmp_path / "mlflow.process").write_text(json.dumps([ours.pid, psutil.Process(ours.pid).create_time()]))
        assert not stack["mlflow"]._is_ready(probe)
        ours.kill()


@pytest.mark.fault("make stack is interrupted, or cannot start a server", "the servers that it started are stopped")
@pytest.mark.parametrize("error", [KeyboardInterrupt, StackError])
def test_what_was_started_ends_with_what_could_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    calls = []

    def start(self: servers.Server) -> None:
        calls.append(("start", self.name))
        if self.name == "object-store":
            raise error

    monkeypatch.setattr(servers, "find_program", lambda name: name)
    monkeypatch.setattr(servers.Server, "start", start)
    monkeypatch.setattr(servers.Server, "stop", lambda self: calls.append(("stop", self.name)))
    with pytest.raises(error):
        Stack(tmp_path, images={}).up()
    assert calls == [
        (what, name)
        for what, name in zip(
            ("start", "start", "stop", "stop"), ("database", "object-store", "object-store", "database"), strict=True
        )
    ]


def test_what_is_missing_is_reported_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "search_path", lambda: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("ENGINE", raising=False)
    with pytest.raises(StackError) as missing:
        Stack(tmp_path / "stack").up()
    for what in ("postgres", "podman or docker", "weed", "mlflow", "make setup"):
        assert what in str(missing.value)
    assert not list(tmp_path.glob("stack/*.process"))


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with podman and no PostgreSQL."""
    program = tmp_path / "bin" / "podman"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho no registry here >&2\nexit 125\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.delenv("ENGINE", raising=False)
    monkeypatch.setattr(servers, "search_path", lambda: str(program.parent))
    return program


def test_without_its_program_the_database_is_a_container_of_the_manifests_image(podman: Path, tmp_path: Path) -> None:
    stack = Stack(tmp_path / "stack")
    (container,) = stack.pod("database")["containers"]
    assert stack.images == {container["image"]: container["image"]}
    command, environment = stack.command("database", container)
    assert command[:3] == [str(podman), "run", "--rm"]
    assert command[-1] == container["image"]  # its own entry point
    assert f"--publish=127.0.0.1:{stack.ports['database']}:5432" in command
    (variables,) = (Path(word.split("=")[1]) for word in command if word.startswith("--env-file="))
    assert f"POSTGRES_PASSWORD={stack.secret('database')['password']}\n" in variables.read_text()
    assert variables.stat().st_mode & 0o077 == 0
    assert not {"POSTGRES_PASSWORD", "PGDATA"} & environment.keys()  # the engine's own
    (dumps,) = stack.pod("backup")["initContainers"]
    command, _ = stack.command("backup", dumps)
    assert command[:2] == [str(podman), "run"]  # what dumps it, too
    assert "--network=host" in command


def test_who_began_with_a_container_goes_on_with_it(podman: Path, tmp_path: Path) -> None:
    stack = Stack(tmp_path / "stack")
    with pytest.raises(StackError, match=r"no weed.*no mlflow"):
        stack.up()
    (podman.parent / "postgres").touch(mode=0o755)
    assert Stack(tmp_path / "stack").images == {}  # nothing was started yet
    for name in ("weed", "mlflow"):
        (podman.parent / name).touch(mode=0o755)
    (podman.parent / "postgres").unlink()
    with pytest.raises(StackError, match=r"^database: postgres\S+ cannot be pulled; .*no registry here"):
        Stack(tmp_path / "stack").up()
    (podman.parent / "postgres").touch(mode=0o755)
    assert Stack(tmp_path / "stack").images == stack.images
    podman.unlink()
    with pytest.raises(StackError, match="no podman or docker here: its files in this stack's folder were written by"):
        Stack(tmp_path / "stack").up()


def test_this_machines_own_paths_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the checkout lies under a path that a pod has mounted."""
    monkeypatch.setattr(servers, "search_path", lambda: "/tmp/checkout/.venv/bin:/data/bin")
    stack = Stack(tmp_path)
    (container,) = stack.pod("object-store")["containers"]
    assert stack.command("object-store", container)[1]["PATH"] == "/tmp/checkout/.venv/bin:/data/bin"
