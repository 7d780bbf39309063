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
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from glt.lifecycle import tracking
from infra.local import containers, servers
from infra.local.manifests import WORKLOADS, Document, documents, pod
from infra.local.servers import Container, Database, ObjectStore, Server, StackError, write_private

INFRA = Path(__file__).resolve().parents[1]
PORTS = {"database": 5432, "object-store": 8333, "mlflow": 5000}  # of the manifests; in the order of their start
STORES = ("database", "object-store")  # they ask no other server
INNER = {"object-store": ("master", "volume", "filer")}  # servers behind one; in its pod it has all ports for itself


class Stack:
    """The servers, with their data, logs, Secrets and ports in one folder."""

    def __init__(self, folder: Path, images: Mapping[str, str] | None = None) -> None:
        """Open the stack of a folder, or create one there; starts nothing.

        Args:
            folder: of the stack.
            images: servers that run as containers: the image to run, by the image in the manifest. By default that is
                PostgreSQL, if it is not installed here and podman or docker is. The choice is stored in the folder,
                since a server could not read the files of another image.
        """
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._documents = documents("base", "pipelines", "restore")
        self._secrets: Document = self._load_or_create("secrets.json", _new_secrets)
        self.ports: dict[str, int] = self._load_or_create("ports.json", _free_ports)
        self._images_file = self.folder / "images.json"
        self.images = dict(images if images is not None else self._choose_images())
        processes = {"database": Database, "object-store": ObjectStore}
        self.servers: dict[str, Server] = {
            name: (Container if self.image(name) in self.images else processes.get(name, Server))(self, name)
            for name in PORTS
        }

    def __getitem__(self, name: str) -> Server:
        """A server by its name: database, object-store or mlflow."""
        return self.servers[name]

    def up(
        self, report: Callable[[str], object] = lambda name: None, say: Callable[[str], object] = lambda line: None
    ) -> None:
        """Start the servers that are not running, one after another; if one fails, those started here are stopped.

        Args:
            report: called with the name of each server before it starts.
            say: called with a line for each server that is moved to another port.

        Raises:
            StackError: a program is missing, or a server does not start; with the end of its log.
        """
        if missing := [server for server in self.servers.values() if not server.is_installed()]:
            raise StackError("; ".join(f"no {server.program} here: {server.remedy}" for server in missing))
        self._move_from_taken_ports(say)
        write_private(self._images_file, json.dumps(self.images))
        started: list[Server] = []
        try:
            for name, server in self.servers.items():
                report(name)
                if server.process is None:
                    started.append(server)
                    server.start()
        except BaseException:
            for server in reversed(started):
                server.stop()
            raise

    def down(self) -> None:
        """Stop all servers in reverse order; their data stay."""
        for server in reversed(self.servers.values()):
            server.stop()

    def job(self, name: str) -> str:
        """Run the containers of a Job or CronJob one after another; returns their output.

        Raises:
            StackError: a container failed; with its output.
        """
        pod = self.pod(name)
        return "".join(self.run(name, container) for container in [*pod["initContainers"], *pod["containers"]])

    def run(self, workload: str, container: Document) -> str:
        """Run one container's command to its end; returns its output. Raises as `job`."""
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
        """The image, in the manifest, of the one container of a workload; init containers do not count."""
        (container,) = self.pod(name)["containers"]
        return str(container["image"])

    def environment(self) -> dict[str, str]:
        """The environment variables by which a pipeline's pod reaches the servers."""
        addresses = self._config_map("glt-tracking")
        here = {name: self._localise(value, {}) for name, value in addresses.items()}
        return here | self.secret("glt-object-store") | self.secret("glt-mlflow")

    def secret(self, name: str) -> dict[str, str]:
        """A Secret's keys and values."""
        return dict(self._secret_data(name))

    def change_secret(self, name: str, **values: str) -> None:
        """Change values of a Secret, or create it; a server reads them at its next start."""
        if not self._has_secret(name):
            self._secrets["items"].append({"metadata": {"name": name}, "stringData": {}})
        self._secret_data(name).update(values)
        write_private(self.folder / "secrets.json", json.dumps(self._secrets))

    def command(self, workload: str, container: Document) -> tuple[list[str], dict[str, str]]:
        """The command that runs a container on this machine, as a process or by the engine, and its environment."""
        folders, image = self._folders(workload, container), self.images.get(container["image"])
        variables = self._variables(container)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_"))}
        environment |= {"PATH": servers.search_path(), "NO_PROXY": "localhost,127.0.0.1"}
        arguments = list(container.get("command", ()))
        if image is None:
            mounted = {"/opt": INFRA / "image", **folders}
            arguments = [self._localise(argument, mounted) for argument in arguments]
            arguments += [f"-{server}.port={self.ports[server]}" for server in inner(workload)]
            return arguments, environment | {name: self._localise(value, mounted) for name, value in variables.items()}
        ports = {PORTS[workload]: self.ports[workload]} if workload in STORES else None
        if ports is None:  # it is on this machine's network, and reaches the others as a process does
            arguments = [self._localise(argument, {}) for argument in arguments]
            variables = {name: self._localise(value, {}) for name, value in variables.items()}
        file = self.folder / f"{workload}-{container['name']}.env"
        write_private(file, "".join(f"{name}={value}\n" for name, value in variables.items()))
        return containers.run(image, self.pod(workload), container, arguments, file, folders, ports), environment

    def _variables(self, container: Document) -> dict[str, str]:
        """The environment variables that a container's manifest gives it."""
        variables: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            if "secretRef" in source:
                reference = source["secretRef"]
                if self._has_secret(reference["name"]) or not reference.get("optional"):
                    variables |= self.secret(reference["name"])
            else:
                variables |= self._config_map(source["configMapRef"]["name"])
        for entry in container.get("env", ()):
            reference = entry.get("valueFrom", {}).get("secretKeyRef")
            value = self.secret(reference["name"])[reference["key"]] if reference else entry["value"]
            variables[entry["name"]] = value
        return variables

    def _move_from_taken_ports(self, say: Callable[[str], object]) -> None:
        """Move servers that are not running off ports that other programs use; MLflow is then restarted."""
        idle = [name for server in self.servers if self[server].process is None for name in (server, *inner(server))]
        moved = [name for name in idle if not all(map(_is_free, self._opened(name)))]
        for name in moved:
            before, self.ports[name] = self.ports[name], 0
            self.ports[name] = _next_free(before + 1, self.ports.values())
            say(f"{name}: port {before} is in use by another program; using {self.ports[name]}")
        if moved:
            write_private(self.folder / "ports.json", json.dumps(self.ports))
            self["mlflow"].stop()  # it reads the addresses of the others when it starts

    def _opened(self, name: str) -> list[int]:
        """The ports that a server opens, by its name or that of one behind it."""
        port = self.ports[name]
        return [port] if name in ("database", "mlflow") else [port, port + 10000]

    def _choose_images(self) -> dict[str, str]:
        """The images chosen at the first start or, before that, those that would be chosen now."""
        if self._images_file.exists():
            return dict(json.loads(self._images_file.read_text()))
        if servers.find_program(Database.program) or not containers.engine():
            return {}
        return {self.image("database"): self.image("database")}

    def _folders(self, workload: str, container: Document) -> dict[str, Path]:
        """The folder of each mounted path, with the files of Secrets and ConfigMaps written into it."""
        volumes = {volume["name"]: volume for volume in self.pod(workload).get("volumes", ())}
        folders: dict[str, Path] = {}
        for mount in container.get("volumeMounts", ()):
            volume = volumes.get(mount["name"], {})
            claim = volume.get("persistentVolumeClaim", {}).get("claimName", f"{workload}-{mount['name']}")
            folder = self.folder / claim
            folder.mkdir(exist_ok=True)
            files: dict[str, str] = {}
            if "secret" in volume:
                files = self.secret(volume["secret"]["secretName"])
            elif "configMap" in volume:
                files = self._config_map(volume["configMap"]["name"])
            for file, text in files.items():
                write_private(folder / file, self._localise(text, {}))
            if container["image"] in self.images and os.geteuid() == 0:
                for path in (folder, *map(folder.joinpath, files)):
                    os.chown(path, *containers.owner(self.pod(workload)))
            folders[mount["mountPath"]] = folder
        return folders

    def _localise(self, text: str, mounted: Mapping[str, Path]) -> str:
        """Text of the manifests with this machine's paths, addresses and ports."""
        paths = "|".join(map(re.escape, mounted)) or "(?!)"
        text = re.sub(rf"(?<![\w./])({paths})(?=[/\"\s]|$)", lambda found: str(mounted[found[1]]), text)
        for name, port in PORTS.items():
            text = re.sub(rf"\b{name}(\.glt)?:{port}\b", f"localhost:{self.ports[name]}", text)
            text = text.replace(f"port={port}", f"port={self.ports[name]}")
        return text.replace("--host=database", "--host=localhost").replace("0.0.0.0", "127.0.0.1")

    def _has_secret(self, secret: str) -> bool:
        return any(item["metadata"]["name"] == secret for item in self._secrets["items"])

    def _secret_data(self, secret: str) -> dict[str, str]:
        (found,) = (item["stringData"] for item in self._secrets["items"] if item["metadata"]["name"] == secret)
        return found  # type: ignore[no-any-return]

    def _config_map(self, name: str) -> dict[str, str]:
        (found,) = (item for item in self._documents if (item["kind"], item["metadata"]["name"]) == ("ConfigMap", name))
        return dict(found["data"])

    def _load_or_create(self, file: str, create: Callable[[], Document]) -> Document:
        """The content of a JSON file of the stack, created at its first use."""
        path = self.folder / file
        if not path.exists():
            write_private(path, json.dumps(create()))
        return dict(json.loads(path.read_text()))


def _new_secrets() -> Document:
    run = subprocess.run([sys.executable, INFRA / "k8s" / "new_secrets.py"], capture_output=True, check=True)
    return dict(json.loads(run.stdout))


def inner(server: str) -> tuple[str, ...]:
    """The servers behind a server, which need a port each if they share its machine."""
    return INNER.get(server, ())


def _free_ports() -> dict[str, int]:
    """One port per server: the manifest's, or the next free one after it."""
    preferred = PORTS | {"master": 9333, "volume": 8080, "filer": 8888}
    ports: dict[str, int] = {}
    for name, port in preferred.items():
        ports[name] = _next_free(port, ports.values())
    return ports


def _next_free(port: int, taken: Iterable[int]) -> int:
    """The first port from `port` on that is free and not `taken`; SeaweedFS also opens each port plus 10000."""
    others = set(taken)
    for candidate in range(port, 65536 - 10000):
        if candidate not in others and _is_free(candidate) and _is_free(candidate + 10000):
            return candidate
    raise StackError(f"no free port from {port} on; stop other programs")


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def main() -> str | None:
    """Return None on success, else the message to end with (exit status 1)."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("what", choices=("up", "down"))
    arguments.add_argument("--folder", type=Path, default=Path("runs/stack"))
    given = arguments.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        stack = Stack(given.folder)
        if given.what == "down":
            stack.down()
            print(f"stopped; what they stored is in {given.folder}, and the next start finds it there")
            return None
        stack.up(
            lambda name: print(f"{name}: localhost:{stack.ports[name]}, log {given.folder / name}.log", flush=True),
            lambda line: print(line, flush=True),
        )
    except StackError as error:
        return f"stack: {error}"
    except KeyboardInterrupt:
        return "stack: interrupted; the servers that this command started are stopped"
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in stack.environment().items())
    write_private(stack.folder / "environment", exports)
    admin = stack.secret("mlflow-accounts")["MLFLOW_PASSWORD_ADMIN"]
    print(f"ready: `. {given.folder / 'environment'}` and make run goes there")
    print(f"MLflow UI: {stack.environment()['MLFLOW_TRACKING_URI']}{tracking.UI}, log in as admin, {admin}")
    return None


if __name__ == "__main__":
    sys.exit(main())
