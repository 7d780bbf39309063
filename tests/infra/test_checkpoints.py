"""The volume of the checkpoints: a Job makes it writable for steps, and says so where it cannot."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from infra.local.manifests import Document, pod

from .conftest import ROOT, assemble, documented_overlay
from .test_base import by_name, needs_kubectl

STEP = (10001, 0)  # user and group of the image, and of every step
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes the place of other users")


@pytest.fixture(scope="module")
def job(pipelines: list[Document]) -> Document:
    return pod(by_name(pipelines, "Job")["glt-checkpoints"])


def run(container: Document, folder: Path, user: int, group: int) -> subprocess.CompletedProcess[str]:
    """A container's command with the volume at `folder`."""
    command = [text.replace("/checkpoints", str(folder)) for text in container["command"]]
    return subprocess.run(
        command, user=user, group=group, extra_groups=[], cwd="/", capture_output=True, text=True, check=False
    )


@pytest.fixture
def volume() -> Path:
    """The root of a volume that no storage class has prepared: root:root 0755."""
    folder = Path("/tmp") / f"glt-volume-{os.getpid()}"
    folder.mkdir(mode=0o755)
    yield folder
    shutil.rmtree(folder)


def test_the_job_is_of_the_user_and_the_group_of_the_steps(job: Document) -> None:
    text = (ROOT / "infra" / "image" / "Containerfile").read_text()
    assert f"USER {STEP[0]}:{STEP[1]}" in text
    security = job["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"], security["fsGroup"]) == (*STEP, 0)
    assert {container["image"] for container in job["initContainers"] + job["containers"]} == {"glt:0.1.0"}


def test_the_job_is_gone_before_another_image_is_applied(pipelines: list[Document]) -> None:
    assert by_name(pipelines, "Job")["glt-checkpoints"]["spec"]["ttlSecondsAfterFinished"] <= 600


def test_nodes_of_a_train_job_give_the_volume_to_the_same_group() -> None:
    (runtime,) = (one for one in assemble("trainer") if one["kind"] == "TrainingRuntime")
    (node,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    security = node["template"]["spec"]["template"]["spec"]["securityContext"]
    assert (security["fsGroup"], security["fsGroupChangePolicy"]) == (0, "OnRootMismatch")


@as_root
def test_a_volume_that_steps_cannot_write_to_fails_the_job_with_the_remedy(job: Document, volume: Path) -> None:
    (prepare,), (check,) = job["initContainers"], job["containers"]
    assert run(prepare, volume, *STEP).returncode == 0
    failed = run(check, volume, *STEP)
    assert failed.returncode == 1
    assert "docs/cluster.md, Checkpoints" in failed.stdout
    assert re.search(r"^drwxr-xr-x \d+ 0 0 ", failed.stdout, re.MULTILINE)
    assert "## Checkpoints" in (ROOT / "docs" / "cluster.md").read_text()


@as_root
def test_its_owner_opens_the_volume_to_the_steps(job: Document, volume: Path) -> None:
    """As the documented patch runs it: root, without any capability."""
    (prepare,), (check,) = job["initContainers"], job["containers"]
    assert run(prepare, volume, 0, 0).returncode == 0
    assert run(check, volume, *STEP).returncode == 0
    assert list(volume.iterdir()) == []


@as_root
@pytest.mark.parametrize("mode", [0o777, 0o2775])
def test_a_volume_that_is_open_is_left_as_it_is(job: Document, volume: Path, mode: int) -> None:
    volume.chmod(mode)
    (prepare,), (check,) = job["initContainers"], job["containers"]
    assert run(prepare, volume, *STEP).returncode == run(check, volume, *STEP).returncode == 0
    assert volume.stat().st_mode & 0o7777 == mode


@needs_kubectl
def test_the_documented_patch_runs_one_container_as_root(tmp_path: Path) -> None:
    patched = pod(by_name(documented_overlay("initContainers/0", tmp_path), "Job")["glt-checkpoints"])
    security = patched["initContainers"][0]["securityContext"]
    assert (security["runAsUser"], security["runAsNonRoot"]) == (0, False)
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert "runAsUser" not in patched["containers"][0]["securityContext"]
