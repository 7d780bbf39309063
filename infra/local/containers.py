"""A container of the manifests as podman or docker runs it: its image, command, user, rights, limits and mounts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from infra.local.manifests import Document

ENGINES = ("podman", "docker")


def engine() -> str | None:
    """The program that runs containers: ENGINE, or the one on the PATH."""
    return os.environ.get("ENGINE") or next(filter(None, map(shutil.which, ENGINES)), None)


def run(
    image: str,
    pod: Document,
    container: Document,
    words: list[str],
    variables: Path,
    folders: Mapping[str, Path],
    ports: Mapping[int, int] | None,
) -> list[str]:
    """The command that runs a container in the foreground and removes it at its end.

    Args:
        image: in place of the manifest's, or the same.
        pod: the specification it is of.
        container: its part of it.
        words: its command, in place of the image's entry point, as in Kubernetes; none leaves the entry point.
        variables: a file of its environment, NAME=value a line: a list of processes shows none, and the engine itself
            takes none for its own.
        folders: of this machine, by the path at which they are mounted.
        ports: of this machine's loopback, by the container's; None gives it this machine's network.
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
        f"--env-file={variables}",
        *(f"--volume={folders[mount['mountPath']]}:{_mounted(mount)}" for mount in container.get("volumeMounts", ())),
        *(f"--entrypoint={word}" for word in words[:1]),
        *(image, *words[1:]),
    ]


def owner(pod: Document) -> tuple[int, int]:
    """Whose processes and files a pod's are here: the manifest's user if root starts it, else the one who does."""
    if os.geteuid():
        return os.geteuid(), os.getegid()
    return pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]


def _mounted(mount: Document) -> str:
    return f"{mount['mountPath']}:{'ro' if mount.get('readOnly') else 'rw'}"
