"""The servers of infra/k8s/base on this machine's loopback: `make stack`, `make stack-down`.

Commands, environments, probes and their order are those of the manifests, with what a cluster has of its own put in
place: a Service's address becomes one of this machine, a mounted volume a folder, and the Secrets are those of
new_secrets.py. SeaweedFS, MLflow and rclone come from the Python packages of the extra `stack`, PostgreSQL from the
system's package or, where there is none, as a container of the image that its manifest names.
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
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import yaml

from infra import containers
from infra.containers import Document

INFRA = Path(__file__).resolve().parent
WORKLOADS = {"Deployment", "StatefulSet", "Job", "CronJob"}
PORTS = {"database": 5432, "object-store": 8333, "mlflow": 5000}  # of the manifests; in the order of their start
STORES = ("database", "object-store")  # they ask no other server
INNER = {"object-store": ("master", "volume", "filer")}  # servers behind one; in its pod it has all ports for itself
STARTS_WITHIN, STOPS_WITHIN = 300.0, 60.0  # seconds, as in the manifests


class StackError(Exception):
    """What is missing or does not run; says what mends it."""


class Stack:
    """The servers, with their data, logs, Secrets and ports in one folder."""

    def __init__(self, folder: Path, images: Mapping[str, str] | None = None) -> None:
        """Use the stack of a folder, or make one there; nothing is started yet.

        Args:
            folder: of the stack.
            images: what is a container here: the image to run, by the manifests'. None: PostgreSQL, if this machine
                has no program of it, but podman or docker. The choice is kept: another could not read its files.
        """
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._documents = documents("base", "pipelines", "restore")
        self._secrets: Document = self._kept("secrets.json", _new_secrets)
        self.ports: dict[str, int] = self._kept("ports.json", _free_ports)
        self._chosen = self.folder / "images.json"
        self.images = dict(images if images is not None else self._choice())
        processes = {"database": Database, "object-store": ObjectStore}
        self.servers: dict[str, Server] = {
            name: (Container if self.image(name) in self.images else processes.get(name, Server))(self, name)
            for name in PORTS
        }

    def __getitem__(self, name: str) -> Server:
        """A server by its name: database, object-store or mlflow."""
        return self.servers[name]

    def up(self, say: Callable[[str], object] = lambda name: None) -> None:
        """Start those that do not run, one after another; `say` hears which.

        Raises:
            StackError: a program is missing; says which. Or one does not start; with the end of its log.
        """
        if lacking := [server for server in self.servers.values() if not server.is_here()]:
            raise StackError("; ".join(f"no {server.program} here: {server.remedy}" for server in lacking))
        _write(self._chosen, json.dumps(self.images))
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

    def image(self, name: str) -> str:
        """The image of a server, as its manifest names it."""
        (container,) = self.pod(name)["containers"]
        return str(container["image"])

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
        folders, image = self._folders(workload, container), self.images.get(container["image"])
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
        words = list(container.get("command", ()))
        if image is None:
            mounted = {"/opt": INFRA, **folders}
            words = [self._here(word, mounted) for word in words]
            words += [f"-{server}.port={self.ports[server]}" for server in INNER.get(workload, ())]
            return words, environment | {name: self._here(value, mounted) for name, value in told.items()}
        ports = {PORTS[workload]: self.ports[workload]} if workload in STORES else None
        if ports is None:  # it reaches the others as a process does
            words = [self._here(word, {}) for word in words]
            told = {name: self._here(value, {}) for name, value in told.items()}
        return containers.run(image, self.pod(workload), container, words, told, folders, ports), environment | told

    def _choice(self) -> dict[str, str]:
        """The images as they were chosen at the first start, or as they would be now."""
        if self._chosen.exists():
            return dict(json.loads(self._chosen.read_text()))
        if _program(Database.program) or not containers.engine():
            return {}
        return {self.image("database"): self.image("database")}

    def _folders(self, workload: str, container: Document) -> dict[str, Path]:
        """The folder that stands for each mounted path, with the files of Secrets and ConfigMaps in it."""
        volumes = {volume["name"]: volume for volume in self.pod(workload).get("volumes", ())}
        found: dict[str, Path] = {}
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
            if container["image"] in self.images and os.geteuid() == 0:
                for path in (place, *map(place.joinpath, files)):
                    os.chown(path, *containers.owner(self.pod(workload)))
            found[mount["mountPath"]] = place
        return found

    def _here(self, text: str, mounted: Mapping[str, Path]) -> str:
        """A text of the manifests, with this machine's paths, addresses and ports."""
        paths = "|".join(map(re.escape, mounted)) or "(?!)"
        text = re.sub(rf"(?<![\w./])({paths})(?=[/\"\s]|$)", lambda found: str(mounted[found[1]]), text)
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

    program, remedy = "mlflow", "make setup installs it"
    last_word = signal.SIGTERM

    def __init__(self, stack: Stack, name: str) -> None:
        """Use `Stack`."""
        self.name, self.stack, self.port = name, stack, stack.ports[name]
        self.log = stack.folder / f"{name}.log"
        self._kept = stack.folder / f"{name}.process"

    def is_here(self) -> bool:
        """Whether this machine has its program."""
        return _program(self.program) is not None

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
        """What is run; a server whose start is more than its manifest's command says it here."""
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
            return self._succeeds(probe["exec"]["command"])
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{probe['httpGet']['path']}", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def _succeeds(self, command: list[str]) -> bool:
        """Whether a command of the pod does, beside the server."""
        environment = {"PATH": _path(), "PGPORT": str(self.port)}
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0


class Database(Server):
    """PostgreSQL, made as its image's entry point makes it."""

    program, remedy = "postgres", "install your system's package of PostgreSQL's server, or podman or docker"
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
    """SeaweedFS."""

    program = "weed"


class Container(Server):
    """A server as a container of its image; its process here is the engine's, which shows what the server says."""

    program, remedy = "podman or docker", "its files in this stack's folder were written by a container"

    def __init__(self, stack: Stack, name: str) -> None:
        """Use `Stack`."""
        super().__init__(stack, name)
        self.container = f"glt-stack-{name}-{self.port}"

    def is_here(self) -> bool:
        """Whether this machine runs containers."""
        return containers.engine() is not None

    def started_by(self, command: list[str], environment: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        """The engine's command, with a name; the image is pulled before, and a container that was left is removed."""
        image = self.stack.images[self.stack.image(self.name)]
        if self._engine("image", "inspect", image).returncode and (pulled := self._engine("pull", image)).returncode:
            said = pulled.stderr.strip()
            raise StackError(f"{self.name}: {image} cannot be pulled; pull it yourself and tag it so. {said}")
        self._engine("rm", "--force", self.container)
        program, run, *options = command
        return [program, run, f"--name={self.container}", *options], environment

    def stop(self) -> None:
        """Tell it to end, and wait for it; nothing if it does not run."""
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

    def _succeeds(self, command: list[str]) -> bool:
        return self._engine("exec", self.container, *command).returncode == 0

    def _engine(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of the engine."""
        command = [containers.engine() or "podman", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)


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
