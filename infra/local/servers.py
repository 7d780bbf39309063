"""A server of the manifests on this machine: a process, or a container of its image."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from infra.local import containers
from infra.local.manifests import Document

if TYPE_CHECKING:
    from infra.local.stack import Stack

STARTS_WITHIN, STOPS_WITHIN = 300.0, 60.0  # seconds, as in the manifests


class StackError(Exception):
    """A program is missing or a server does not run; names the remedy."""


class Server:
    """A server of the manifests, as a process of this machine and its children."""

    program, remedy = "mlflow", "make setup installs it"
    stop_signal = signal.SIGTERM

    def __init__(self, stack: Stack, name: str) -> None:
        """A server of `stack`; starts nothing."""
        self.name, self.stack = name, stack
        self.log = stack.folder / f"{name}.log"
        self._process_file = stack.folder / f"{name}.process"

    @property
    def port(self) -> int:
        """The port of this machine's loopback that the server listens on."""
        return self.stack.ports[self.name]

    def is_installed(self) -> bool:
        """True if this machine has the server's program."""
        return find_program(self.program) is not None

    @property
    def process(self) -> psutil.Process | None:
        """The server's process, whoever started it; None if it is not running."""
        if not self._process_file.exists():
            return None
        pid, created = json.loads(self._process_file.read_text())
        try:
            process = psutil.Process(pid)
            alive = process.create_time() == created and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if alive else None

    def start(self) -> None:
        """Start the server and wait until it responds; does nothing if it is running."""
        if self.process is not None:
            return
        pod = self.stack.pod(self.name)
        for container in pod.get("initContainers", ()):
            self.stack.run(self.name, container)
        (container,) = pod["containers"]
        command, environment = self.start_command(*self.stack.command(self.name, container))
        with self.log.open("ab") as log:
            started = subprocess.Popen(
                command, env=environment, cwd=self.stack.folder, stdout=log, stderr=log, start_new_session=True
            )
        write_private(self._process_file, json.dumps([started.pid, psutil.Process(started.pid).create_time()]))
        self._wait_until_ready(started, container["startupProbe"])

    def start_command(self, command: list[str], environment: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        """The command that starts the server, and its environment; prepares what the command needs."""
        return command, environment

    def stop(self) -> None:
        """Stop the server and wait for its end; does nothing if it is not running."""
        if (process := self.process) is not None:
            processes = [process, *process.children(recursive=True)]
            process.send_signal(self.stop_signal)
            _, alive = psutil.wait_procs(processes, timeout=STOPS_WITHIN)
            for one in alive:
                one.kill()
            psutil.wait_procs(alive, timeout=10)
        self._process_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """Kill the server, as the loss of its node would."""
        killed = self._signal(signal.SIGKILL)
        psutil.wait_procs(killed, timeout=10)

    def pause(self) -> None:
        """Suspend the server: it accepts connections and does not respond."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue after `pause`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> list[psutil.Process]:
        process = self.process
        if process is None:
            raise StackError(f"{self.name} does not run")
        processes = [process, *process.children(recursive=True)]
        for one in processes:
            one.send_signal(number)
        return processes

    def _wait_until_ready(self, started: subprocess.Popen[bytes], probe: Document) -> None:
        until = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < until:
            if started.poll() is not None:
                break
            if self._is_ready(probe):
                return
            time.sleep(0.2)
        end_of_log = self.log.read_text(errors="replace")[-2000:]
        raise StackError(f"{self.name} does not start; the end of {self.log}:\n{end_of_log}")

    def _listens(self) -> bool:
        """True if it is this server, not another program, that listens on its port."""
        process = self.process
        try:
            processes = [] if process is None else [process, *process.children(recursive=True)]
            listening = {
                connection.laddr.port
                for one in processes
                for connection in one.net_connections(kind="tcp")
                if connection.status == psutil.CONN_LISTEN
            }
        except psutil.NoSuchProcess:
            return False
        return self.port in listening

    def _is_ready(self, probe: Document) -> bool:
        if not self._listens():
            return False
        if "exec" in probe:
            return self._command_succeeds(probe["exec"]["command"])
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{probe['httpGet']['path']}", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def _command_succeeds(self, command: list[str]) -> bool:
        """True if a command of the pod, run beside the server, succeeds."""
        environment = {"PATH": search_path(), "PGPORT": str(self.port)}
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0


class Database(Server):
    """PostgreSQL, set up as its image's entry point does."""

    program, remedy = "postgres", "install your system's package of PostgreSQL's server, or podman or docker"
    stop_signal = signal.SIGINT  # it ends without waiting for clients to disconnect

    def start_command(self, command: list[str], environment: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        """The server, on a database that is created at its first start."""
        data, user = Path(environment["PGDATA"]), environment["POSTGRES_USER"]
        # PostgreSQL refuses to run as root; so root is called nobody, and the files stay root's.
        other = ["unshare", "--user", "--map-user=65534", "--map-group=65534"] if os.geteuid() == 0 else []
        if not (data / "PG_VERSION").exists():
            password = self.stack.folder / "database.password"
            write_private(password, environment["POSTGRES_PASSWORD"])
            made = ["--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C"]
            initdb = [*other, str(find_program("initdb")), f"--pgdata={data}", f"--username={user}", *made]
            done = subprocess.run(initdb, env=environment, capture_output=True, text=True, check=False)
            password.unlink()
            if done.returncode:
                raise StackError(f"initdb failed: {done.stderr.strip()}")
            single = [*other, str(find_program("postgres")), "--single", "-D", str(data), "postgres"]
            create = f"CREATE DATABASE {environment['POSTGRES_DB']};"
            subprocess.run(single, input=create, env=environment, capture_output=True, text=True, check=True)
        server = [str(find_program("postgres")), "-D", str(data), "-h", "127.0.0.1", "-p", str(self.port), "-k", ""]
        return [*other, *server], environment


class ObjectStore(Server):
    """SeaweedFS."""

    program = "weed"


class Container(Server):
    """A server as a container of its image; its process here is the engine's client, which prints the server's log."""

    program, remedy = "podman or docker", "its files in this stack's folder were written by a container"

    @property
    def container(self) -> str:
        """The container's name."""
        return f"glt-stack-{self.name}-{self.port}"

    def _listens(self) -> bool:
        return self.process is not None  # the engine listens, which fails to start a container on a taken port

    def is_installed(self) -> bool:
        """True if this machine runs containers."""
        return containers.engine() is not None

    def start_command(self, command: list[str], environment: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        """The engine's command, with a name; pulls the image, and removes a container that was left behind."""
        image = self.stack.images[self.stack.image(self.name)]
        if self._engine("image", "inspect", image).returncode and (pulled := self._engine("pull", image)).returncode:
            said = pulled.stderr.strip()
            raise StackError(f"{self.name}: {image} cannot be pulled; pull it yourself and tag it so. {said}")
        self._engine("rm", "--force", self.container)
        program, run, *options = command
        return [program, run, f"--name={self.container}", *options], environment

    def stop(self) -> None:
        """Stop the server and wait for its end; does nothing if it is not running."""
        stopped = self._engine("stop", f"--time={STOPS_WITHIN:.0f}", self.container).returncode == 0
        if stopped and (process := self.process) is not None:
            psutil.wait_procs([process], timeout=10)
        super().stop()

    def _signal(self, number: signal.Signals) -> list[psutil.Process]:
        words = {signal.SIGKILL: "kill", signal.SIGSTOP: "pause", signal.SIGCONT: "unpause"}
        process = self.process
        if process is None or self._engine(words[number], self.container).returncode:
            raise StackError(f"{self.name} does not run")
        return [process]

    def _command_succeeds(self, command: list[str]) -> bool:
        return self._engine("exec", self.container, *command).returncode == 0

    def _engine(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of the engine."""
        command = [containers.engine() or "podman", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)


def search_path() -> str:
    """The search path of programs: beside this Python, on the PATH, and where Debian installs PostgreSQL."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], *map(str, debian)])


def find_program(name: str) -> str | None:
    """A program's path; None if it is not installed."""
    return shutil.which(name, path=search_path())


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    part = path.with_name(f"{path.name}.part")
    part.touch(mode=0o600)
    part.write_text(text)
    part.replace(path)
