"""Pretraining on two nodes that are containers of this machine, through the same TrainJob code as on a cluster.

The volume that nodes share is a folder that podman's own settings mount in every container, at the same path.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import docker
import pytest
import torch
from safetensors.torch import load_file

from glt.errors import GltError
from glt.motion.disentangle import Motions
from glt.recipe import Recipe
from glt.steps import launch, training
from tests import waiting
from tests.conftest import small_recipe
from tests.containers.conftest import ROOT, Images
from tests.containers.engine import Engine

until = partial(waiting.until, seconds=180, every=1)
RUNTIME = ROOT / "infra" / "k8s" / "trainer" / "runtime.yaml"
START = """
import sys
from pathlib import Path
from glt.logs import run_entry
from glt.steps import launch
motions, recipe, out = sys.argv[1:]
run_entry(launch.launch_pretraining, Path(motions), recipe, Path(out), "cpu", "", "c1", nodes=2)
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What all nodes see; the container's user is another than ours."""
    before = os.umask(0)
    folder = tmp_path_factory.mktemp("volume")
    folder.chmod(0o777)
    yield folder
    os.umask(before)


@pytest.fixture(scope="module")
def socket(engine: Engine, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of an engine that gives every container the volume, and one thread, for they share this machine."""
    if not engine.podman:
        pytest.skip("docker has no setting that mounts a volume in every container: no TrainJob was tested")
    folder = tmp_path_factory.mktemp("podman")
    given = engine.environment.get("CONTAINERS_CONF")
    settings = Path(given).read_text(encoding="utf-8") if given else ""
    before, _, after = settings.partition("[containers]\n")
    ours = f'volumes = ["{shared}:{shared}"]\nenv = ["OMP_NUM_THREADS=1"]\n'
    conf = folder / "containers.conf"
    conf.write_text(f"{before}\n[containers]\n{ours}{after}", encoding="utf-8")
    told = replace(engine, environment={**engine.environment, "CONTAINERS_CONF": str(conf)})
    with told.socket(folder) as address:
        yield address


@pytest.fixture(scope="module")
def podman(socket: str) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=socket)
    yield client
    client.close()


@pytest.fixture
def nodes(
    podman: docker.DockerClient,
    socket: str,
    images: Images,
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[], dict[str, str]]]:
    """Ids of the containers of jobs, by name; what a step's pod has in its environment."""
    monkeypatch.setenv("DOCKER_HOST", socket)
    monkeypatch.setenv("GLT_JOBS", str(RUNTIME))
    monkeypatch.setenv("GLT_IMAGE", images.pipeline)
    monkeypatch.setenv("GLT_HOME", str(shared / tmp_path.name))
    monkeypatch.setenv("GLT_RUN_ID", "trainjob")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shared / tmp_path.name}/mlflow.db")
    monkeypatch.setenv("HOME", str(tmp_path))  # the SDK's containers get a folder there
    (shared / tmp_path.name).mkdir()

    def there() -> dict[str, str]:
        label = "trainer.kubeflow.org/trainjob-name"
        found = podman.api.containers(all=True, filters={"label": label})
        return {one["Names"][0].removeprefix("/"): one["Id"] for one in found}

    assert not there(), "containers of jobs are left from before"
    yield there
    for left in there().values():
        podman.api.remove_container(left, force=True)
    for name in networks(podman):
        podman.api.remove_network(name)


def networks(podman: docker.DockerClient) -> list[str]:
    return [network.name for network in podman.networks.list() if network.name.startswith("glt-pretrain")]


def start(motions: Motions, recipe: Recipe, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START, str(motions.path), recipe.to_json(), str(out)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_two_nodes_train_as_one_process_does(
    nodes: Callable[[], dict[str, str]],
    podman: docker.DockerClient,
    motions: Motions,
    tmp_path: Path,
    shared: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    recipe, seen, done = small_recipe().to_json(), set[str](), threading.Event()

    def watch() -> None:
        while not done.wait(2):
            seen.update(nodes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        two = launch.launch_pretraining(motions.path, recipe, tmp_path / "two", "cpu", "", "c1", nodes=2)
    finally:
        done.set()
        watcher.join()
    printed = capfd.readouterr().out
    assert {re.sub("[0-9a-f]{16}", "", name) for name in seen} == {"glt-pretrain--node-0", "glt-pretrain--node-1"}
    assert "4/4" in printed  # epochs, as the first node said
    assert not nodes()
    assert not networks(podman)
    assert not list((shared / tmp_path.name / "checkpoints").iterdir())

    monkeypatch.setenv("GLT_HOME", str(tmp_path / "alone"))
    one = training.pretrain(motions.path, recipe, tmp_path / "one", "cpu", code_version="c1")
    one.pop("speed/clips_per_s"), two.pop("speed/clips_per_s")
    assert two == pytest.approx(one, rel=1e-4)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert first.keys() == second.keys()
    for name, value in first.items():
        if not name.endswith("qkv.bias"):  # that of the keys has no gradient but rounding, which Adam blows up
            torch.testing.assert_close(second[name], value, rtol=0, atol=1e-5)


def test_what_went_wrong_on_a_node_is_the_step_s_error(
    nodes: Callable[[], dict[str, str]], podman: docker.DockerClient, motions: Motions, tmp_path: Path
) -> None:
    recipe = small_recipe(pretrain={"epochs": 4, "batch": 8, "lr": 1e30})
    with pytest.raises(
        GltError, match=r"(?s)TrainJob glt-pretrain-\w+ failed on 2 nodes.*node-0: glt: error: .*loss is nan"
    ):
        launch.launch_pretraining(motions.path, recipe.to_json(), tmp_path / "out", "cpu", "", "c1", nodes=2)
    assert not (tmp_path / "out").exists()
    assert not nodes()
    assert not networks(podman)


def test_a_job_ends_with_its_step_or_is_replaced_by_the_next(
    nodes: Callable[[], dict[str, str]], podman: docker.DockerClient, motions: Motions, tmp_path: Path
) -> None:
    recipe = small_recipe(pretrain={"epochs": 100_000, "batch": 8, "lr": 2e-3})
    lost = start(motions, recipe, tmp_path / "out")
    until(lambda: len(nodes()) == 2)
    before = nodes()
    lost.kill()  # a lost node: nobody could delete the job
    lost.communicate()
    assert nodes() == before

    again = start(motions, recipe, tmp_path / "out")
    until(lambda: nodes().keys() == before.keys() and not set(nodes().values()) & set(before.values()))
    second = start(motions, recipe, tmp_path / "other")
    _, refused = second.communicate(timeout=180)
    assert second.returncode == 1
    assert "another process trains with them" in refused

    assert again.stdout is not None
    until(lambda: "/100000" in str(again.stdout.readline()))  # it trains
    again.send_signal(signal.SIGTERM)
    _, said = again.communicate(timeout=180)
    assert "was interrupted (SIGTERM) and is deleted" in said
    assert again.returncode == 143
    assert not nodes()
    assert not networks(podman)
