"""infra/k8s/pin_images.py: the overlay of a release names every image by the digest that its registry has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from infra.k8s.pin_images import images, repository

from .conftest import K8S, ROOT
from .test_base import needs_kubectl

DIGEST = f"sha256:{'5' * 64}"
# The digest at other registries comes first, as an image that was tagged twice has it.
ENGINE = """#!/bin/sh
for image; do :; done
case "$1 $image" in
"pull "*nowhere*) echo "Trying"; echo "Error: connection refused" >&2; exit 125 ;;
"pull "*) echo "$image" >> "$PULLED" ;;
*nowhere*) exit 125 ;;
*rclone*) grep -qs rclone "$PULLED" || exit 125; echo '["docker.io/rclone/rclone@DIGEST"]' ;;
*unpushed*) echo '[]' ;;
*) echo "[\\"other.lab/glt@sha256:1\\", \\"docker.io/library/${image%:*}@DIGEST\\", \\"${image%:*}@DIGEST\\"]" ;;
esac
""".replace("DIGEST", DIGEST)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """An overlay as docs/cluster.md has it, beside a copy of infra/."""
    shutil.copytree(K8S, tmp_path / "infra" / "k8s")
    (tmp_path / "lab").mkdir()
    (tmp_path / "engine").write_text(ENGINE)
    (tmp_path / "engine").chmod(0o755)
    write(tmp_path / "lab", {"glt": "registry.lab:5000/glt", "glt-mlflow": "registry.lab:5000/glt-mlflow"})
    return tmp_path / "lab"


def write(folder: Path, names: dict[str, str]) -> None:
    entries = [{"name": name, "newName": new, "newTag": "0.1.0"} for name, new in names.items()]
    kustomization = {"resources": ["../infra/k8s/overlays/gpu"], "images": entries}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))


def pin(lab: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"ENGINE": str(lab.parent / "engine"), "PULLED": str(lab.parent / "pulled")}
    command = [sys.executable, str(ROOT / "infra/k8s/pin_images.py"), "lab"]
    return subprocess.run(command, cwd=lab.parent, env=environment, capture_output=True, text=True, check=False)


@needs_kubectl
def test_every_image_of_a_release_is_a_digest(lab: Path) -> None:
    done = pin(lab)
    assert done.returncode == 0, done.stderr
    (lab.parent / "release").mkdir()
    (lab.parent / "release" / "kustomization.yaml").write_text(done.stdout)
    rendered = subprocess.run(
        ["kubectl", "kustomize", lab.parent / "release"], capture_output=True, text=True, check=True
    )
    found = set(images(list(yaml.safe_load_all(rendered.stdout))))
    assert found == {
        f"{name}@{DIGEST}"
        for name in (
            "registry.lab:5000/glt",
            "registry.lab:5000/glt-mlflow",
            "postgres",
            "chrislusf/seaweedfs",
            "rclone/rclone",
        )
    }
    assert (lab.parent / "pulled").read_text().split() == ["rclone/rclone:1.75.2"]  # the one that was not here


@needs_kubectl
def test_an_image_that_was_not_pushed_is_refused(lab: Path) -> None:
    write(lab, {"glt": "registry.lab:5000/unpushed"})
    done = pin(lab)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("pin_images: registry.lab:5000/unpushed:0.1.0: has no digest")
    assert "push registry.lab:5000/unpushed:0.1.0" in done.stderr


@needs_kubectl
def test_an_image_that_is_nowhere_is_refused(lab: Path) -> None:
    write(lab, {"glt": "nowhere.lab/glt"})
    done = pin(lab)
    assert done.stderr == (
        "pin_images: nowhere.lab/glt:0.1.0: is not here and cannot be pulled (Error: connection refused); build and "
        "push it first\n"
    )


@needs_kubectl
def test_a_folder_that_is_none_is_reported_in_one_line(lab: Path) -> None:
    shutil.rmtree(lab)
    assert pin(lab).stderr.startswith("pin_images: lab: ")


@pytest.mark.parametrize(
    "image", ["a.b:5000/c/d", "a.b:5000/c/d:1.2", f"a.b:5000/c/d@{DIGEST}", f"a.b:5000/c/d:1@{DIGEST}"]
)
def test_a_port_is_no_tag(image: str) -> None:
    assert repository(image) == "a.b:5000/c/d"
