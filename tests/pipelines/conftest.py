"""A small world to run whole graphs in: few short recordings, a recipe that trains for a moment, a home of its own."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml

from glt.data import sample
from tests.conftest import made_once
from tests.pipelines.forked_steps import run_forked

RECIPE = {
    "name": "tiny",
    "seeds": [2],
    "seed": 2,  # with 39 validation clips and a moment's training, not every seed beats the untrained encoder
    "data": {"dataset": "tiny", "format": "ntu", "protocol": "xsub", "persons": 2, "max_rejects": 0.1},
    "motion": {"yaw": "first-frame"},
    "model": {"max_frames": 24, "head_dim": 1, "heads": 2, "depth": 1, "dropout": 0.0, "drop_path": 0.0},
    "pretrain": {"epochs": 8, "batch": 16, "lr": 0.005},
    "probe": {"features": "blocks", "solver": "lbfgs", "regularisation": [0.1]},
    "finetune": {"epochs": 2},
    "gate": {"alpha": 0.999},
}


@pytest.fixture(scope="session", autouse=True)
def no_profiles_of_a_checkout() -> Iterator[None]:
    """Tests see the profiles that come with glt, whatever a checkout's infra/profiles.yaml changes."""
    with patch("pipelines.profiles.FILE", Path("no-profiles.yaml")):
        yield


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "recordings", few_recordings) / "few.zip"


def few_recordings(folder: Path) -> Path:
    """Four actions of the sample set, all subjects, two cameras, one take."""
    sample.write_sample(folder / "all.zip")
    with zipfile.ZipFile(folder / "all.zip") as whole, zipfile.ZipFile(folder / "few.zip", "w") as few:
        for name in whole.namelist():
            if (
                "C003" not in name
                and "R001" in name
                and ("A" not in name or name[16:20] in {"A121", "A122", "A123", "A129"})
            ):
                few.writestr(name, whole.read(name))
    return folder / "few.zip"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """GLT_HOME of a module; afterwards the environment, and the `print` that KFP replaces, are as before."""
    folder = tmp_path_factory.mktemp("home")
    forked = patch("kfp.local.subprocess_task_handler.run_local_subprocess", run_forked)
    ours = patch("pipelines.processes.run_process", run_forked)
    with patch.dict(os.environ, {"GLT_HOME": str(folder)}), patch("builtins.print", print), forked, ours:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        yield folder


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The recipe as a file; `change` writes variants."""
    return change(tmp_path)


def change(folder: Path, **sections: object) -> Path:
    """The recipe with some sections replaced, as a file in `folder`."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(RECIPE | sections), encoding="utf-8")
    return path
