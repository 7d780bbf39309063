"""The servers of infra/k8s/base on this machine's loopback: `make stack`, `make stack-down`.

Commands, environments, probes and their order are those of the manifests, with what a cluster has of its own put in
place: a Service's address becomes one of this machine, a mounted volume a folder, and the Secrets are those of
new_secrets.py. SeaweedFS, MLflow and rclone come from the Python packages of the extra `stack`, PostgreSQL from the
system's package.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml

INFRA = Path(__file__).resolve().parent
WORKLOADS = {"Deployment", "StatefulSet", "Job", "CronJob"}
PORTS = {"database": 5432, "object-store": 8333, "mlflow": 5000}  # of the manifests; in the order of their start
STARTS_WITHIN, STOPS_WITHIN = 300.0, 60.0  # seconds, as in the manifests
Document = dict[str, Any]


class StackError(Exception):
    """What is missing or does not run; says what mends it."""


class Stack:
    """The servers, with their data, logs, Secrets and ports in one folder."""

    def __init__(self, folder: Path) -> None:
        """Use the stack of a folder, or make one there; nothing is started yet."""
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._documents = documents("base", "pipelines", "restore")
        self._secrets: Document = self._kept("secrets.json", _new_secrets)
        self.ports: dict[str, int] = self._kept("ports.json", _free_ports)
        servers = (Database(self, "database"), ObjectStore(self, "object-store"), Server(self, "mlflow"))
        self.servers: dict[str, Server] = {server.name: server for server in servers}

    def __getitem__(self, name: str) -> Server:
        """A server by its name: database, object-store or mlflow."""
        return self.servers[name]

    def up(self, say: Callable[[str], object] = lambda name: None) -> None:
        """Start those that do not run, one after another; `say` hears which.

        Raises:
            StackError: a program is missing; says which. Or one does not start; with the end of its log.
        """
        if lacking := [server.program for server in self.servers.values() if _program(server.program[0]) is None]:
            raise StackError("; ".join(f"no {name} here: {remedy}" for name, remedy in lacking))
        for name, server in self.servers.items():
            say(name)
            server.start()

    def down(self) -> None:
        """End all, the last first; what they stored stays."""
        for server in reversed(self.servers.values()):
            server.stop()

    def job(self, name: str) -> str:
        """Run the containers of a Job or CronJob to their end, one after another; what they print.

        Raises:
            StackError: one failed; with what it said.
        """
        pod = self.pod(name)
        return "".join(self.run(name, container) for container in [*pod["initContainers"], *pod["containers"]])

    def run(self, workload: str, container: Document) -> str:
        """Run one container's command to its end; what it prints. Raises as `job`."""
        command, environment = self.command(workload, container)
        done = subprocess.run(command, env=environment, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StackError(f"{workload}, {container['name']}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def pod(self, name: str) -> Document:
        """The pod's specification of a workload."""
        (found,) = (item for item in self._documents if item["kind"] in WORKLOADS and item["metadata"]["name"] == name)
        return pod(found)

    def environment(self) -> dict[str, str]:
        """What a pipeline's pod is given to reach the servers."""
        addresses = self._config_map("glt-tracking")
        here = {name: self._here(value, {}) for name, value in addresses.items()}
        return here | self.secret("glt-object-store") | self.secret("glt-mlflow")

    def secret(self, name: str) -> dict[str, str]:
        """A Secret's keys and values."""
        return dict(self._keys(name))

    def change_secret(self, name: str, **values: str) -> None:
        """Give keys of a Secret other values; a server reads them at its next start."""
        self._keys(name).update(values)
        _write(self.folder / "secrets.json", json.dumps(self._secrets))

    def command(self, workload: str, container: Document) -> tuple[list[str], dict[str, str]]:
        """A container's command, and its environment, as they are on this machine."""
        mounted = self._mounted(workload, container)
        told: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            if "secretRef" in source:
                told |= self.secret(source["secretRef"]["name"])
            else:
                told |= self._config_map(source["configMapRef"]["name"])
        for entry in container.get("env", ()):
            reference = entry.get("valueFrom", {}).get("secretKeyRef")
            told[entry["name"]] = self.secret(reference["name"])[reference["key"]] if reference else entry["value"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_"))}
        environment |= {"PATH": _path(), "NO_PROXY": "localhost,127.0.0.1"}
        environment |= {name: self._here(value, mounted) for name, value in told.items()}
        return [self._here(word, mounted) for word in container.get("command", ())], environment

    def _mounted(self, workload: str, container: Document) -> dict[str, str]:
        """The folder that stands for each mounted path, with the files of Secrets and ConfigMaps in it."""
        volumes = {volume["name"]: volume for volume in self.pod(workload).get("volumes", ())}
        found = {"/opt": str(INFRA)}
        for mount in container.get("volumeMounts", ()):
            volume = volumes.get(mount["name"], {})
            place = self.folder / volume.get("persistentVolumeClaim", {}).get(
                "claimName", f"{workload}-{mount['name']}"
            )
            place.mkdir(exist_ok=True)
            files: dict[str, str] = {}
            if "secret" in volume:
                files = self.secret(volume["secret"]["secretName"])
            elif "configMap" in volume:
                files = self._config_map(volume["configMap"]["name"])
            for file, text in files.items():
                _write(place / file, self._here(text, {}))
            found[mount["mountPath"]] = str(place)
        return found

    def _here(self, text: str, mounted: dict[str, str]) -> str:
        """A text of the manifests, with this machine's paths, addresses and ports."""
        paths = "|".join(map(re.escape, mounted)) or "(?!)"
        text = re.sub(rf"(?<![\w./])({paths})(?=[/\"\s]|$)", lambda found: mounted[found[1]], text)
        for name, port in PORTS.items():
            text = re.sub(rf"\b{name}(\.glt)?:{port}\b", f"localhost:{self.ports[name]}", text)
            text = text.replace(f"port={port}", f"port={self.ports[name]}")
        return text.replace("--host=database", "--host=localhost").replace("0.0.0.0", "127.0.0.1")

    def _keys(self, secret: str) -> dict[str, str]:
        (found,) = (item["stringData"] for item in self._secrets["items"] if item["metadata"]["name"] == secret)
        return found  # type: ignore[no-any-return]

    def _config_map(self, name: str) -> dict[str, str]:
        (found,) = (item for item in self._documents if (item["kind"], item["metadata"]["name"]) == ("ConfigMap", name))
        return dict(found["data"])

    def _kept(self, file: str, made: Callable[[], Document]) -> Document:
        """What a file holds, made at its first use."""
        path = self.folder / file
        if not path.exists():
            _write(path, json.dumps(made()))
        return dict(json.loads(path.read_text()))


class Server:
    """A server of the manifests, as a process of this machine and its children."""

    program = ("mlflow", "make setup installs it")
    last_word = signal.SIGTERM

    def __init__(self, stack: Stack, name: str) -> None:
        """Use `Stack`."""
        self.name, self.stack, self.port = name, stack, stack.ports[name]
        self.log = stack.folder / f"{name}.log"
        self._kept = stack.folder / f"{name}.process"

    @property
    def process(self) -> psutil.Process | None:
        """Its process, whoever started it; None if it does not run."""
        if not self._kept.exists():
            return None
        number, born = json.loads(self._kept.read_text())
        try:
            found = psutil.Process(number)
            alive = found.create_time() == born and found.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return found if alive else None

    def start(self) -> None:
        """Start it, and wait until it answers; nothing if it runs."""
        if self.process is not None:
            return
        pod = self.stack.pod(self.name)
        for container in pod.get("initContainers", ()):
            self.stack.run(self.name, container)
        (container,) = pod["containers"]
        command, environment = self.started_by(*self.stack.command(self.name, container))
        with self.log.open("ab") as log:
            made = subprocess.Popen(
                command, env=environment, cwd=self.stack.folder, stdout=log, stderr=log, start_new_session=True
            )
        _write(self._kept, json.dumps([made.pid, psutil.Process(made.pid).create_time()]))
        self._wait(made, container["startupProbe"])

    def started_by(self, command: list[str], environment: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        """What is run; a server whose image has an entry point of its own says it here."""
        return command, environment

    def stop(self) -> None:
        """Tell it to end, and wait for it; nothing if it does not run."""
        if (process := self.process) is not None:
            everything = [process, *process.children(recursive=True)]
            process.send_signal(self.last_word)
            _, alive = psutil.wait_procs(everything, timeout=STOPS_WITHIN)
            for one in alive:
                one.kill()
            psutil.wait_procs(alive, timeout=10)
        self._kept.unlink(missing_ok=True)

    def kill(self) -> None:
        """End it at once, as a node that is lost does."""
        killed = self._signal(signal.SIGKILL)
        psutil.wait_procs(killed, timeout=10)

    def pause(self) -> None:
        """Let it hang: it accepts connections and says nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> list[psutil.Process]:
        process = self.process
        if process is None:
            raise StackError(f"{self.name} does not run")
        everything = [process, *process.children(recursive=True)]
        for one in everything:
            one.send_signal(number)
        return everything

    def _wait(self, started: subprocess.Popen[bytes], probe: Document) -> None:
        until = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < until:
            if started.poll() is not None:
                break
            if self._answers(probe):
                return
            time.sleep(0.2)
        said = self.log.read_text(errors="replace")[-2000:]
        raise StackError(f"{self.name} does not start; the end of {self.log}:\n{said}")

    def _answers(self, probe: Document) -> bool:
        if "exec" in probe:
            command = [*probe["exec"]["command"], "-p", str(self.port)]
            return subprocess.run(command, env={"PATH": _path()}, capture_output=True, check=False).returncode == 0
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{probe['httpGet']['path']}", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False


class Database(Server):
    """PostgreSQL, made as its image's entry point makes it."""

    program = ("postgres", "install your system's package of PostgreSQL's server")
    last_word = signal.SIGINT  # it ends without waiting for those who are connected

    def started_by(self, command: list[str], environment: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        """The server, on data that are made at its first start."""
        data, user = Path(environment["PGDATA"]), environment["POSTGRES_USER"]
        # PostgreSQL refuses to run as root; so root is called nobody, and the files stay root's.
        other = ["unshare", "--user", "--map-user=65534", "--map-group=65534"] if os.geteuid() == 0 else []
        if not (data / "PG_VERSION").exists():
            password = self.stack.folder / "database.password"
            _write(password, environment["POSTGRES_PASSWORD"])
            made = ["--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C"]
            initdb = [*other, str(_program("initdb")), f"--pgdata={data}", f"--username={user}", *made]
            done = subprocess.run(initdb, env=environment, capture_output=True, text=True, check=False)
            password.unlink()
            if done.returncode:
                raise StackError(f"initdb failed: {done.stderr.strip()}")
            single = [*other, str(_program("postgres")), "--single", "-D", str(data), "postgres"]
            create = f"CREATE DATABASE {environment['POSTGRES_DB']};"
            subprocess.run(single, input=create, env=environment, capture_output=True, text=True, check=True)
        server = [str(_program("postgres")), "-D", str(data), "-h", "127.0.0.1", "-p", str(self.port), "-k", ""]
        return [*other, *server], environment


class ObjectStore(Server):
    """SeaweedFS; in its pod it has all ports for itself."""

    program = ("weed", "make setup installs it")

    def started_by(self, command: list[str], environment: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        """With ports for the servers behind S3, too."""
        ports = self.stack.ports
        inner = [f"-{server}.port={ports[server]}" for server in ("master", "volume", "filer")]
        return [*command, *inner], environment


def documents(*folders: str) -> list[Document]:
    """Those of folders of infra/k8s, in the order of their kustomizations."""
    found: list[Document] = []
    for folder in folders:
        place = INFRA / "k8s" / folder
        for name in yaml.safe_load((place / "kustomization.yaml").read_text())["resources"]:
            found += yaml.safe_load_all((place / name).read_text())
    return found


def pod(workload: Document) -> Document:
    """The pod's specification of a Deployment, StatefulSet, Job or CronJob."""
    specification = workload["spec"]
    specification = specification["jobTemplate"]["spec"] if "jobTemplate" in specification else specification
    return dict(specification["template"]["spec"])


def _path() -> str:
    """Where programs are: beside this Python, on the PATH, and where Debian puts PostgreSQL's."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], *map(str, debian)])


def _program(name: str) -> str | None:
    return shutil.which(name, path=_path())


def _new_secrets() -> Document:
    made = subprocess.run([sys.executable, INFRA / "k8s" / "new_secrets.py"], capture_output=True, check=True)
    return dict(json.loads(made.stdout))


def _free_ports() -> dict[str, int]:
    """A port a server: the manifests' if it is free, else any; SeaweedFS opens the ten thousandth above, too."""
    wanted = PORTS | {"master": 9333, "volume": 8080, "filer": 8888}
    found: dict[str, int] = {}
    for name, number in wanted.items():
        while number in found.values() or not (_is_free(number) and _is_free(number + 10000)):
            with socket.socket() as any_port:
                any_port.bind(("127.0.0.1", 0))
                number = any_port.getsockname()[1] % 40000 + 10000
        found[name] = number
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _write(path: Path, text: str) -> None:
    """Nobody else may read it."""
    part = path.with_name(f"{path.name}.part")
    part.touch(mode=0o600)
    part.write_text(text)
    part.replace(path)


def main() -> str | None:
    """Return None on success, else the message to end with (exit status 1)."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("what", choices=("up", "down"))
    arguments.add_argument("--folder", type=Path, default=Path("runs/stack"))
    given = arguments.parse_args()
    try:
        stack = Stack(given.folder)
        if given.what == "down":
            stack.down()
            print(f"stopped; what they stored is in {given.folder}, and the next start finds it there")
            return None
        stack.up(
            lambda name: print(f"{name}: localhost:{stack.ports[name]}, log {given.folder / name}.log", flush=True)
        )
    except StackError as error:
        return f"stack: {error}"
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in stack.environment().items())
    _write(stack.folder / "environment", exports)
    admin = stack.secret("mlflow-accounts")["MLFLOW_PASSWORD_ADMIN"]
    print(f"ready: `. {given.folder / 'environment'}` and make run goes there")
    print(f"MLflow UI: {stack.environment()['MLFLOW_TRACKING_URI']}, log in as admin, {admin}")
    return None


if __name__ == "__main__":
    sys.exit(main())
