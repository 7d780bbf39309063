"""Print an overlay that names every image of a folder of manifests by its digest: the manifests of a release.

`.venv/bin/python infra/k8s/pin_images.py lab > release/kustomization.yaml` after the images were pushed, then
`kubectl apply -k release`. Digests are those that podman or docker (ENGINE) knows for the image at its registry; one
that is not on this machine is pulled.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml


class PinError(Exception):
    """An image has no digest; names the remedy."""


def images(document: Any) -> Iterator[str]:
    """The images of all containers in a manifest."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key in ("containers", "initContainers"):
                yield from (container["image"] for container in value)
            yield from images(value)
    elif isinstance(document, list):
        for value in document:
            yield from images(value)


def repository(image: str) -> str:
    """An image's name without tag and digest."""
    return re.sub(r"(:[\w.-]+)?(@sha256:[0-9a-f]+)?$", "", image)


def digest(engine: str, image: str) -> str:
    """The digest by which the registry knows an image.

    Raises:
        PinError: it is nowhere, or was never pushed.
    """
    if already := re.search(r"@(sha256:[0-9a-f]{64})$", image):
        return already[1]
    inspect = [engine, "image", "inspect", "--format", "{{json .RepoDigests}}", image]
    found = subprocess.run(inspect, capture_output=True, text=True, check=False)
    if found.returncode:
        pulled = subprocess.run([engine, "pull", "--quiet", image], capture_output=True, text=True, check=False)
        if pulled.returncode:
            reason = (pulled.stderr.strip().splitlines() or [f"exit {pulled.returncode}"])[-1]
            raise PinError(f"{image}: is not here and cannot be pulled ({reason}); build and push it first")
        found = subprocess.run(inspect, capture_output=True, text=True, check=True)
    name = repository(image)
    for known in json.loads(found.stdout) or ():
        where, _, value = known.partition("@")
        if where == name or where.endswith(f"/{name}"):  # the engine adds its default registry
            return str(value)
    raise PinError(f"{image}: has no digest of {name}; push it there first: {engine} push {image}")


def overlay(folder: Path, base: str, engine: str) -> dict[str, Any]:
    """A kustomization on top of `folder`, which `base` names, with each of its images by digest.

    Raises:
        PinError: kubectl cannot render the folder, or an image has no digest.
    """
    rendered = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    if rendered.returncode:
        raise PinError(f"{folder}: {rendered.stderr.strip()}")
    names = sorted(set(images(list(yaml.safe_load_all(rendered.stdout)))))
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [base],
        "images": [{"name": repository(name), "digest": digest(engine, name)} for name in names],
    }


def main() -> str | None:
    """Return None on success, else the message to end with (exit status 1)."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="overlay whose images are named")
    parser.add_argument("--base", help="path of that folder, as seen from the new one; ../FOLDER by default")
    arguments = parser.parse_args()
    engine = os.environ.get("ENGINE") or next(filter(shutil.which, ("podman", "docker")), "podman")
    try:
        made = overlay(arguments.folder, arguments.base or f"../{arguments.folder}", engine)
    except PinError as error:
        return f"pin_images: {error}"
    print(yaml.safe_dump(made, sort_keys=False), end="")
    return None


if __name__ == "__main__":
    sys.exit(main())
