"""Pretraining that is killed, interrupted, or killed while it saves: real processes, real signals."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest
import torch

from glt.motion.disentangle import Motions
from glt.randomness import seed_dropout
from glt.recipe import Recipe
from glt.training.interruption import catch_sigterm
from tests.conftest import small_recipe
from tests.training.processes import Training, same

REGULARISED: Recipe = small_recipe(
    model={"max_frames": 16, "head_dim": 2, "heads": 2, "depth": 2, "dropout": 0.2, "drop_path": 0.3},
    pretrain={"epochs": 8, "batch": 8, "lr": 2e-3, "augment": {"mask": 0.1, "yaw": 30}},
)


@pytest.fixture(scope="module")
def whole(motions: Motions, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A training that nothing interrupted."""
    training = Training(tmp_path_factory.mktemp("whole"), motions, REGULARISED)
    training.finish()
    return training


@pytest.mark.fault(
    "a training is killed at any moment, also while it saves", "it resumes and ends with the same weights, bit for bit"
)
def test_killed_and_resumed_it_ends_as_if_nothing_had_happened(
    motions: Motions, tmp_path: Path, whole: Training
) -> None:
    """Bit for bit in weights and metrics, with dropout and drop path."""
    training = Training(tmp_path / "t", motions, REGULARISED)
    code, err = training.break_off(4, signal.SIGKILL)
    assert code == -signal.SIGKILL, err
    assert not training.out.exists()
    assert 1 <= len([name for name in training.names() if not name.startswith(".")]) <= 3
    training.finish()
    assert same(training, whole)


@pytest.mark.fault(
    "a training is killed at any moment, also while it saves", "it resumes and ends with the same weights, bit for bit"
)
def test_killed_while_it_saves_it_loses_that_step_alone(motions: Motions, tmp_path: Path, whole: Training) -> None:
    training = Training(tmp_path / "t", motions, REGULARISED)
    run = training.start("die=7")
    _, err = run.communicate(timeout=120)
    assert run.returncode == -signal.SIGKILL, err
    draft, *states = training.names()
    assert draft.startswith(".step-00000007.")
    assert states == ["step-00000005", "step-00000006"]
    _, err = (run := training.start()).communicate(timeout=120)
    assert run.returncode == 0
    assert "step-00000006, 1 epochs and 2 steps done" in err
    assert draft not in training.names()
    assert same(training, whole)


def test_interrupted_it_saves_and_exits_with_143(motions: Motions, tmp_path: Path, whole: Training) -> None:
    training = Training(tmp_path / "t", motions, REGULARISED)
    code, err = training.break_off(3, signal.SIGTERM)
    assert code == 143, err
    assert "was interrupted (SIGTERM) at epoch" in err
    assert "run the same again to go on" in err
    assert not training.out.exists()
    training.finish()
    assert same(training, whole)


def test_the_signal_is_noted_within_the_block_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with catch_sigterm() as terminated:
        assert not terminated.is_set()
        signal.raise_signal(signal.SIGTERM)
        assert terminated.is_set()
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_may_train() -> None:
    seen = []

    def train() -> None:
        with catch_sigterm() as terminated:
            seen.append(terminated.is_set())

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert seen == [False]


def test_dropout_is_of_seed_epoch_step_and_process_alone() -> None:
    def drawn(*place: int) -> list[float]:
        seed_dropout(*place)
        return torch.rand(3).tolist()

    first = drawn(1, 2, 3, 4)
    torch.rand(5)
    assert drawn(1, 2, 3, 4) == first
    places = [(0, 2, 3, 4), (1, 0, 3, 4), (1, 2, 0, 4), (1, 2, 3, 0), (1, 2, 4, 3)]
    assert all(drawn(*place) != first for place in places)
