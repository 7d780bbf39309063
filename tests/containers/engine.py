"""Podman or Docker: what the tests ask of it, and what this machine must tell it."""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

USER = 54321  # no image knows it: what OpenShift would choose
# As the restricted Pod Security Standard has it, with /tmp as the one place to write to.
CONFINED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=host")
LIMIT = 16384  # of files and processes
_PIP = ("cert", "find-links", "index-url", "proxy", "trusted-host", "default-timeout")


@dataclass(frozen=True)
class Engine:
    """The program, and the environment that it is called with."""

    program: str
    environment: Mapping[str, str]

    @property
    def podman(self) -> bool:
        return Path(self.program).name == "podman"

    def __call__(self, *arguments: str, seconds: float = 600, check: bool = True, **more: Any) -> str:
        """What a command of the engine prints."""
        done = subprocess.run(
            [self.program, *arguments],
            env=self.environment,
            timeout=seconds,
            capture_output=True,
            text=True,
            check=False,
            **more,
        )
        assert not check or done.returncode == 0, f"{shlex.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout.strip()

    def has(self, image: str) -> bool:
        """Whether the image is here, or could be pulled."""
        for command in (("image", "inspect", image), ("pull", image)):
            done = subprocess.run([self.program, *command], env=self.environment, capture_output=True, check=False)
            if done.returncode == 0:
                return True
        return False

    def image(self, name: str) -> dict[str, Any]:
        """What the engine knows of an image."""
        found: dict[str, Any] = json.loads(self("image", "inspect", name))[0]
        return found

    def run(self, image: str, *command: str, options: Sequence[str] = (), user: str = f"{USER}:0") -> str:
        """What a command prints in the image, without rights."""
        temporary = ("--tmpfs=/tmp:mode=1777", *(["--read-only-tmpfs=false"] if self.podman else []))
        return self("run", "--rm", f"--user={user}", *CONFINED, *temporary, *options, image, *command)

    @contextmanager
    def socket(self, folder: Path) -> Iterator[str]:
        """The address at which Docker's programming interface answers."""
        if not self.podman:
            yield self.environment.get("DOCKER_HOST", "unix:///var/run/docker.sock")
            return
        path = folder / "podman.sock"
        command = [self.program, "system", "service", "--time=0", f"unix://{path}"]
        with (folder / "podman.log").open("w") as log:
            service = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 60
            while not path.exists():
                assert service.poll() is None, (folder / "podman.log").read_text()
                assert time.monotonic() < deadline, "podman's socket does not come"
                time.sleep(0.1)
            yield f"unix://{path}"
        finally:
            service.terminate()
            service.wait()


def find(folder: Path) -> Engine | None:
    """The engine of this machine, if there is one; `folder` keeps what it must be told."""
    program = shutil.which("podman") or shutil.which("docker")
    if program is None:
        return None
    engine = Engine(program, dict(os.environ))
    told = "CONTAINERS_CONF" in os.environ or Path("/run/systemd/system").exists()
    if engine.podman and not told:
        (folder / "containers.conf").write_text(_containers_conf())
        engine = Engine(program, {**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf")})
    answers = subprocess.run([program, "info"], env=engine.environment, capture_output=True, check=False)
    return engine if answers.returncode == 0 else None


def _containers_conf() -> str:
    """For podman without systemd, as in a container: no cgroup driver, no journal, and no limit that it may not set."""
    limits = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    lowest = {name: min(LIMIT, *(n for n in resource.getrlimit(kind) if n > 0)) for name, kind in limits.items()}
    ulimits = [f"{name}={limit}:{limit}" for name, limit in lowest.items()]
    runtime = 'runtime = "runc"\n' if shutil.which("runc") else ""
    return (
        f'[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n{runtime}'
        f'[containers]\nnetns = "host"\ndefault_ulimits = {json.dumps(ulimits)}\n'
    )


def build_arguments(folder: Path) -> str:
    """What a build must be told so that its pip reaches what this machine's pip reaches: settings, and local files."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    settings = {}
    for line in sorted(listed.splitlines(), reverse=True):  # those of the environment (":env:") come last, and win
        name, value = line.split("=", 1)
        settings[name.rsplit(".", 1)[1]] = value.strip("'")
    settings = {name: value for name, value in settings.items() if name in _PIP}
    conf = folder / "pip.conf"
    conf.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()))
    paths = [path for value in settings.values() for path in value.split() if path.startswith("/")]
    mounts = [(conf, "/etc/pip.conf"), *((path, path) for path in paths if Path(path).exists())]
    return shlex.join(f"--volume={here}:{there}:ro" for here, there in mounts)
