"""Settings and small fixtures for all tests."""

from __future__ import annotations

import inspect
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from hypothesis import settings
from numpy.typing import NDArray

from glt import accelerator, recipe
from glt.data.clips import content_sha256
from glt.data.layouts import Skeleton
from glt.motion.disentangle import Motions, write_motions
from glt.recipe import Recipe
from glt.reporter import Silent

settings.register_profile("glt", max_examples=40, deadline=None, derandomize=True, database=None)
settings.load_profile("glt")

_outer_frames = inspect.getouterframes


def _stack(context: int = 1) -> list[inspect.FrameInfo]:
    """`inspect.stack`, but KFP gets only the two frames that it asks for, without source lines.

    Each setter of a KFP task asks for its caller's name, for which `inspect.stack` reads the source of every frame up
    to pytest's entry point: a graph takes 25 s to compile under pytest, and 0.1 s with this.
    """
    frame = sys._getframe(1)
    if frame.f_globals.get("__name__") != "kfp.dsl.pipeline_task" or frame.f_back is None:
        return _outer_frames(frame, context)
    return [
        inspect.FrameInfo(found, found.f_code.co_filename, found.f_lineno, found.f_code.co_name, None, None)
        for found in (frame, frame.f_back)
    ]


inspect.stack = _stack

# A shell starts background jobs with Ctrl-C ignored, and processes that tests start and interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The slowest files start first, so that no worker is left with one of them at the end.
SLOW = (
    *("pipelines/test_local", "lifecycle/test_collection", "training/test_distributed", "steps/", "lifecycle/"),
    *("training/", "benchmarks/", "pipelines/", "serving/"),
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: list[object]) -> None:
    """Workers share the cores: torch, BLAS and the processes that tests start read this when they are imported."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // len(specs))))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files for the workers of `make test`, each of which takes whole files."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: next((rank for rank, name in enumerate(SLOW) if _file(item).startswith(name)), 99))


def _file(item: pytest.Item) -> str:
    return item.path.relative_to(Path(__file__).parent).as_posix()


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` fills once for all workers; who reads it must not change it."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, draft = root / name, root / f"{name}.draft"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            make(draft)
            draft.rename(folder)
    return folder


STICK = Skeleton(
    name="stick",
    joints=("hips", "neck", "left shoulder", "right shoulder", "left hand", "right hand"),
    bones=((0, 1), (1, 2), (1, 3), (2, 4), (3, 5)),
    centre=1,
    pairs=((2, 3), (4, 5)),
    shoulders=(2, 3),
)
REST = np.array([(0, 1, 0), (0, 1.5, 0), (0.2, 1.5, 0), (-0.2, 1.5, 0), (0.3, 1, 0.2), (-0.3, 1, 0.2)])
LABELS = ("jump", "walk", "wave")


@dataclass
class Store:
    """What `write_motions` needs of a clip store."""

    index: pd.DataFrame
    clips: list[tuple[NDArray[np.float32], NDArray[np.bool_]]]
    skeleton: Skeleton = STICK

    def clip(self, clip_id: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Frames [T, P, K, 3] and present [T, P]."""
        return self.clips[clip_id]


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this CPU compute as a GPU does."""
    monkeypatch.setattr(accelerator, "GPUS", {"cuda", "cpu"})


def small_recipe(**sections: dict[str, object]) -> Recipe:
    """A recipe for `store`, so small that an epoch takes a few milliseconds."""
    small: dict[str, dict[str, object]] = {
        "data": {"dataset": "stick", "format": "ntu", "protocol": "xsub", "persons": 2},
        "motion": {"intervals": [1, 3], "magnitude_classes": 4},
        "model": {"max_frames": 16, "head_dim": 2, "heads": 2, "depth": 2, "dropout": 0.0, "drop_path": 0.0},
        "pretrain": {"epochs": 4, "batch": 8, "lr": 2e-3},
        "probe": {"epochs": 30},
        "finetune": {"epochs": 3, "batch": 8},
    }
    return recipe.parse(
        {"name": "stick"}
        | {key: small.get(key, {}) | value for key, value in sections.items()}
        | {key: value for key, value in small.items() if key not in sections},
        "of the tests",
    )


def store() -> Store:
    """42 clips of 1 to 20 frames by two persons, of whom the second comes late or never.

    Subjects 1, 2, 4 train and 3, 6 test (cross-subject); some training clips have no label, one was recorded twice
    under two subjects of the training split, and one test clip equals a training clip.
    """
    random = np.random.default_rng(0)
    rows, clips = [], []
    for clip_id in range(42):
        subject, label = (1, 2, 4, 3, 6)[clip_id % 5], LABELS[clip_id % 3]
        length = 1 if clip_id == 7 else int(random.integers(6, 21))
        clips.append(_clip(random, label, length, late=clip_id % 4))
        rows.append({"subject": subject, "label": None if subject == 4 and clip_id % 3 == 0 else label})
    clips[15], clips[30] = clips[0], clips[5]  # subject 1 twice: harmless
    clips[16] = clips[0]  # subjects 1 and 2
    rows[16]["label"] = rows[15]["label"] = rows[0]["label"]
    rows[30]["label"] = rows[5]["label"]
    clips[3], rows[3]["label"] = clips[1], rows[1]["label"]  # test and training
    index = pd.DataFrame(rows)
    index.insert(0, "name", [f"clip{clip_id:02d}" for clip_id in range(len(clips))])
    index["segment"] = "s"
    index["length"] = [len(frames) for frames, _ in clips]
    index["persons"] = [int(present.any(axis=0).sum()) for _, present in clips]
    index["sha256"] = [content_sha256(*clip) for clip in clips]
    return Store(index, clips)


def _clip(
    random: np.random.Generator, label: str, length: int, late: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """One motion of the class `label`, seen from a random side; the second person misses the first `late` frames."""
    time = np.arange(length) * 0.5 + random.uniform(0, 6)
    frames = np.tile(REST, (length, 2, 1, 1))
    frames[:, 1, :, 0] += 1
    if label == "jump":
        frames[..., 1] += 0.3 * np.abs(np.sin(time))[:, None, None]
    elif label == "walk":
        frames[..., 2] += 0.1 * time[:, None, None]
    else:
        frames[:, :, 4, 1] += 0.4 + 0.3 * np.sin(time)[:, None]
    angle = random.uniform(-3, 3)
    turn = np.array([(np.cos(angle), 0, np.sin(angle)), (0, 1, 0), (-np.sin(angle), 0, np.cos(angle))])
    frames = frames @ turn.T + random.normal(scale=0.01, size=frames.shape)
    present = np.ones((length, 2), bool)
    present[: length if late == 0 else late, 1] = False
    return (frames * present[..., None, None]).astype(np.float32), present


@pytest.fixture(scope="session")
def motions(tmp_path_factory: pytest.TempPathFactory) -> Motions:
    """The motions of `store`; read only."""
    folder: Path = tmp_path_factory.mktemp("motions") / "motions"
    write_motions(store(), small_recipe(), folder, {"data_version": "test"}, Silent())  # type: ignore[arg-type]
    return Motions(folder)
