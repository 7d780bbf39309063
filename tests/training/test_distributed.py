"""Many processes train as one does: the partition, and real processes under torchrun."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from glt import recipe
from glt.analysis import summary
from glt.errors import GltError
from glt.motion.disentangle import Motions
from glt.recipe import Recipe
from glt.reporter import Silent
from glt.training import distributed
from glt.training.distributed import World, partition, world
from tests.conftest import small_recipe
from tests.training.processes import Training, assert_close

RECIPE: Recipe = small_recipe(pretrain={"epochs": 6, "batch": 8, "lr": 2e-3, "augment": {"mask": 0.1, "yaw": 30}})


class LostPod(Exception):
    """Stands for one."""


class Lost(Silent):
    """Breaks a training off after three epochs."""

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        if done == 3:
            raise LostPod


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40), st.integers(1, 9))
def test_parts_are_even_in_frames(weights: list[int], parts: int) -> None:
    shares = partition(weights, parts)
    assert sorted(n for share in shares for n in share) == list(range(len(weights)))
    assert all(share == sorted(share) for share in shares)
    assert sum(not share for share in shares) == max(0, parts - len(weights))
    loads = [sum(weights[n] for n in share) for share in shares]
    assert max(loads) - min(loads) <= max(weights)
    assert partition(weights, parts) == shares


def test_frames_count_and_not_clips() -> None:
    assert partition([10, 100, 30, 20, 20, 20], 2) == [[1], [0, 2, 3, 4, 5]]


def test_a_world_of_one_is_plain() -> None:
    with world("cpu") as alone:
        assert alone == World(torch.device("cpu"), 0, 1)
        assert alone.is_first
        model, value = torch.nn.Linear(1, 1), torch.ones(2)
        assert alone.parallel(model) is model
        assert alone.total(value) is value
        assert alone.share([3, 1, 2]) == [0, 1, 2]
        alone.agree("anything", 1, 2)
        alone.wait()


def test_a_world_that_nobody_described_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(GltError, match=r"WORLD_SIZE is 2, but RANK, .* not set: start through torchrun, or unset it"):
        with world("cpu"):
            pass


@pytest.mark.parametrize(("accelerator", "backend"), [("cpu", "gloo"), ("gpu", "nccl")])
def test_others_wait_while_the_first_writes_to_a_slow_volume(
    accelerator: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights and both moments of Adam of the largest recipe, at 0.5 MB/s."""
    asked: dict[str, Any] = {}
    for name, value in {
        "RANK": 0,
        "LOCAL_RANK": 0,
        "WORLD_SIZE": 2,
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": 1,
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(distributed, "device_of", lambda name: torch.device("cuda" if name == "gpu" else "cpu"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **more: asked.update(more, backend=backend))
    for name in ("barrier", "destroy_process_group"):
        monkeypatch.setattr(dist, name, lambda: None)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    with world(accelerator):
        pass
    assert asked["backend"] == backend
    names = [file.stem for file in (Path(recipe.__file__).parents[1] / "recipes").glob("*-paper.yaml")]
    largest = max(summary.parameters(summary.Pretraining(recipe.load(name))) for name in names)
    assert asked["timeout"].total_seconds() >= largest * 3 * 4 / 0.5e6


@pytest.fixture(scope="module")
def alone(motions: Motions, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """What one process makes."""
    training = Training(tmp_path_factory.mktemp("alone"), motions, RECIPE)
    training.here(Silent())
    return training


def test_two_processes_train_as_one_does(motions: Motions, tmp_path: Path, alone: Training) -> None:
    training = Training(tmp_path / "t", motions, RECIPE)
    training.finish(processes=2)
    assert_close(training, alone)
    assert len(training.names()) == 2  # one process writes


def test_one_process_goes_on_where_two_were_interrupted(motions: Motions, tmp_path: Path, alone: Training) -> None:
    """torchrun passes the signal on; all processes stop at the same step, in the middle of an epoch or not."""
    training = Training(tmp_path / "t", motions, RECIPE)
    code, err = training.break_off(2, signal.SIGTERM, processes=2)
    assert code == 1, err  # torchrun's own
    assert err.count("glt: error: pretraining was interrupted (SIGTERM)") == 2, err
    assert not training.out.exists()
    training.here(Silent())
    assert_close(training, alone)


def test_two_processes_go_on_where_one_was_lost(motions: Motions, tmp_path: Path, alone: Training) -> None:
    training = Training(tmp_path / "t", motions, RECIPE)
    with pytest.raises(LostPod):
        training.here(Lost())
    shutil.rmtree(training.states / training.names()[-1])  # so that it is the middle of an epoch
    training.finish(processes=2)
    assert_close(training, alone)


def test_fewer_clips_than_processes(motions: Motions, tmp_path: Path) -> None:
    """Batches of one clip: the other process takes part and counts for nothing."""
    single = small_recipe(pretrain={"epochs": 1, "batch": 1, "lr": 2e-4})
    one, two = (Training(tmp_path / name, motions, single) for name in ("one", "two"))
    one.here(Silent())
    two.finish(processes=2)
    assert_close(one, two)


def test_processes_that_see_different_checkpoints_are_rejected(motions: Motions, tmp_path: Path) -> None:
    training = Training(tmp_path / "t", motions, RECIPE)
    training.here(Silent())
    training.states.rename(tmp_path / "states0")
    run = training.start(processes=2, states=str(tmp_path / "states{rank}"))
    _, err = run.communicate(timeout=120)
    assert run.returncode != 0
    assert "the processes disagree on where the training is (epochs, steps, steps in all): [[" in err
    assert "[0, 0, 0]] by rank; give all the same files" in err
