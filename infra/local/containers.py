"""The podman or docker command that runs a container of the manifests: image, user, rights, limits and mounts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from infra.local.manifests import Document

ENGINES = ("podman", "docker")


def engine() -> str | None:
    """The program that runs containers: ENGINE, else the first of podman and docker on the PATH."""
    return os.environ.get("ENGINE") or next(filter(None, map(shutil.which, ENGINES)), None)


def run(
    image: str,
    pod: Document,
    container: Document,
    command: list[str],
    environment: Path,
    folders: Mapping[str, Path],
    ports: Mapping[int, int] | None,
) -> list[str]:
    """The command that runs a container in the foreground and removes it at its end.

    Args:
        image: the manifest's, or one in its place.
        pod: specification of the container's pod.
        container: specification of the container.
        command: replaces the image's entry point, as in Kubernetes; an empty one keeps it.
        environment: file of environment variables, one NAME=value per line: so they show in no list of processes, and
            the engine does not take them for its own.
        folders: folders of this machine by the path at which they are mounted.
        ports: ports of this machine's loopback by the container's; None gives the container this machine's network.
    """
    program, secure = engine() or ENGINES[0], container["securityContext"]
    podman = Path(program).name == "podman"
    memory = container["resources"]["limits"]["memory"].removesuffix("i").lower()  # 2Gi: 2g
    published = [f"--publish=127.0.0.1:{here}:{there}" for there, here in (ports or {}).items()]
    user, group = owner(pod)
    return [
        *(program, "run", "--rm", f"--user={user}:{group}", f"--memory={memory}", "--security-opt=label=disable"),
        *(["--userns=keep-id"] if podman and os.geteuid() else []),
        *(["--network=host"] if ports is None else ["--network=bridge", *published]),
        *(["--read-only"] if secure["readOnlyRootFilesystem"] else []),
        *(["--read-only-tmpfs=false"] if podman else []),
        *([] if secure["allowPrivilegeEscalation"] else ["--security-opt=no-new-privileges"]),
        *(f"--cap-drop={name}" for name in secure["capabilities"]["drop"]),
        f"--env-file={environment}",
        *(f"--volume={folders[mount['mountPath']]}:{_mounted(mount)}" for mount in container.get("volumeMounts", ())),
        *(f"--entrypoint={program}" for program in command[:1]),
        *(image, *command[1:]),
    ]


def owner(pod: Document) -> tuple[int, int]:
    """User and group of a pod on this machine: the manifest's if root starts it, else the user who starts it."""
    if os.geteuid():
        return os.geteuid(), os.getegid()
    return pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]


def _mounted(mount: Document) -> str:
    return f"{mount['mountPath']}:{'ro' if mount.get('readOnly') else 'rw'}"
