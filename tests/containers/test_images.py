"""What infra/README.md promises of the images, asked of the images themselves."""

from __future__ import annotations

import subprocess

import pytest

from glt.lifecycle.code_version import current_code_version
from tests.containers.conftest import ROOT, Images
from tests.containers.engine import USER, Engine

TOOLS = ("gcc", "cc", "g++", "c++", "clang", "ld", "as", "make", "nvcc")


@pytest.fixture(params=["pipeline", "mlflow"])
def image(request: pytest.FixtureRequest, images: Images) -> str:
    name: str = getattr(images, request.param)
    return name


def test_nobody_is_root(engine: Engine, image: str) -> None:
    assert engine.image(image)["Config"]["User"] == "10001:0"


def test_labels_say_the_commit_and_the_base(engine: Engine, image: str, base: str) -> None:
    describe = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    commit = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    labels = engine.image(image)["Config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == commit
    assert labels["org.opencontainers.image.base.name"] == base


def test_pipeline_image_says_its_code(engine: Engine, images: Images) -> None:
    assert engine.run(images.pipeline, "printenv", "GLT_CODE_VERSION") == current_code_version()


def test_no_compiler_is_in_it(engine: Engine, image: str) -> None:
    found = engine.run(image, "sh", "-c", f"for tool in {' '.join(TOOLS)}; do command -v $tool; done; true")
    assert found == ""


def test_cpu_image_is_small_and_holds_no_cuda(engine: Engine, images: Images) -> None:
    if engine.run(images.pipeline, "python", "-c", "import torch; print(torch.version.cuda)") != "None":
        pytest.skip("built with CUDA")
    code = "import importlib.metadata as m; print(*(d.name for d in m.distributions()))"
    packages = engine.run(images.pipeline, "python", "-c", code).split()
    assert "torch" in packages
    cuda = [name for name in packages if name.startswith(("nvidia", "cuda", "triton"))]
    assert cuda == ["nvidia-ml-py"]  # asks the driver for the load of a GPU, if there is one
    assert engine.image(images.pipeline)["Size"] < 2e9


def test_mlflow_image_is_small(engine: Engine, images: Images) -> None:
    assert engine.image(images.mlflow)["Size"] < 1.1e9


def test_any_user_of_group_0_can_work_and_writes_nowhere_but_to_tmp(engine: Engine, image: str) -> None:
    places = "/ /opt/venv /root /var/tmp /etc"
    script = f"id -u; id -g; for place in {places} /tmp; do touch $place/x 2>/dev/null && echo $place; done"
    assert engine.run(image, "sh", "-c", script).splitlines() == [str(USER), "0", "/tmp"]


def test_commands_and_libraries_of_the_pipeline_image(engine: Engine, images: Images) -> None:
    assert "pretrain" in engine.run(images.pipeline, "glt", "--help")
    libraries = (
        "torch, kfp, kfp.kubernetes, mlflow, dvc.api, dvc_s3, kubeflow.trainer, boto3, glt.cli, pipelines.graphs"
    )
    assert engine.run(images.pipeline, "python", "-c", f"import {libraries}; print('all')") == "all"


def test_libraries_of_the_mlflow_image(engine: Engine, images: Images) -> None:
    code = "import mlflow.server.auth, boto3, psycopg2; print('all')"
    assert engine.run(images.mlflow, "python", "-c", code) == "all"


@pytest.mark.parametrize("shell", [("sh", "-c"), ("bash", "-lc")])
def test_shells_find_the_programs(engine: Engine, images: Images, shell: tuple[str, str]) -> None:
    found = engine.run(images.pipeline, *shell, "for name in python torchrun glt; do command -v $name; done").split()
    assert found == [f"/opt/venv/bin/{name}" for name in ("python", "torchrun", "glt")]


def test_two_processes_train_together(engine: Engine, images: Images) -> None:
    count = "one = torch.ones(1); d.all_reduce(one); d.get_rank() or print('processes', int(one)); d.barrier(); "
    count += "d.destroy_process_group()"  # without it, a process of gloo sometimes aborts as it ends
    code = f"import torch, torch.distributed as d; d.init_process_group('gloo'); {count}"
    launch = "torchrun --standalone --nproc-per-node=2 /tmp/two.py"
    said = engine.run(images.pipeline, "bash", "-lc", f'echo "{code}" > /tmp/two.py && {launch}')
    assert said.splitlines() == ["processes 2"]
