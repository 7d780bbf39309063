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
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
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
        write_private(self._chosen, json.dumps(self.images))
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
        """The image of a workload of one container, without those that prepare, as its manifest names it."""
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
        write_private(self.folder / "secrets.json", json.dumps(self._secrets))

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
        environment |= {"PATH": servers.search_path(), "NO_PROXY": "localhost,127.0.0.1"}
        words = list(container.get("command", ()))
        if image is None:
            mounted = {"/opt": INFRA / "image", **folders}
            words = [self._here(word, mounted) for word in words]
            words += [f"-{server}.port={self.ports[server]}" for server in INNER.get(workload, ())]
            return words, environment | {name: self._here(value, mounted) for name, value in told.items()}
        ports = {PORTS[workload]: self.ports[workload]} if workload in STORES else None
        if ports is None:  # it reaches the others as a process does
            words = [self._here(word, {}) for word in words]
            told = {name: self._here(value, {}) for name, value in told.items()}
        variables = self.folder / f"{workload}-{container['name']}.env"
        write_private(variables, "".join(f"{name}={value}\n" for name, value in told.items()))
        return containers.run(image, self.pod(workload), container, words, variables, folders, ports), environment

    def _choice(self) -> dict[str, str]:
        """The images as they were chosen at the first start, or as they would be now."""
        if self._chosen.exists():
            return dict(json.loads(self._chosen.read_text()))
        if servers.find_program(Database.program) or not containers.engine():
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
                write_private(place / file, self._here(text, {}))
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
            write_private(path, json.dumps(made()))
        return dict(json.loads(path.read_text()))


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
    write_private(stack.folder / "environment", exports)
    admin = stack.secret("mlflow-accounts")["MLFLOW_PASSWORD_ADMIN"]
    print(f"ready: `. {given.folder / 'environment'}` and make run goes there")
    print(f"MLflow UI: {stack.environment()['MLFLOW_TRACKING_URI']}{tracking.UI}, log in as admin, {admin}")
    return None


if __name__ == "__main__":
    sys.exit(main())
