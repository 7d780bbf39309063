"""Bad input, as the user meets it: one message that says what and how to mend it, and nothing half-written."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from glt.errors import GltError
from glt.steps import data, training
from tests.steps.recordings import RECIPE, name, text, write


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GLT_RUN_ID", "bad-input")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def names_in(folder: Path) -> list[str]:
    """What stands in the folder, hidden things too."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def broken_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name(1), text())
    path.write_bytes(path.read_bytes()[:200])


def nan(content: str) -> str:
    return content.replace("0.1000", "nan", 1)


def wrong_joint_count(content: str) -> str:
    lines = content.split("\n")
    return "\n".join([*lines[:3], "24", *lines[4:28], *lines[29:]])


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (lambda path: None, "no such file or folder"),
        (broken_zip, "not a readable zip archive"),
        (lambda path: write(path, {name(1): nan(text())}), "finite"),
        (lambda path: write(path, {name(1): wrong_joint_count(text())}), "joint"),
        (lambda path: write(path, {"readme.txt": "hello"}), "no file that ends with .skeleton"),
    ],
    ids=["missing path", "unreadable archive", "NaN coordinates", "wrong joint count", "other files"],
)
def test_recordings_that_cannot_be_read(tmp_path: Path, prepare: Callable[[Path], None], says: str) -> None:
    recordings, out = tmp_path / "recordings.zip", tmp_path / "out"
    prepare(recordings)
    with pytest.raises(GltError, match=says) as caught:
        data.ingest(str(recordings), yaml.safe_dump(RECIPE), out / "clips")
    assert str(recordings) in str(caught.value)
    assert [found for found in names_in(out) if not found.endswith(".rejected.csv")] == []


def pretrained(folder: Path, files: dict[str, str]) -> Path:
    """The folder with clips, motions and an encoder made of these recordings."""
    write(folder / "recordings.zip", files)
    recipe = yaml.safe_dump(RECIPE)
    data.ingest(str(folder / "recordings.zip"), recipe, folder / "clips")
    data.disentangle(folder / "clips", recipe, folder / "motions")
    training.pretrain(folder / "motions", recipe, folder / "encoder", accelerator="cpu")
    return folder


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (
            {name(s, action=None, take=t): text(20 + s) for s in (1, 3) for t in (1, 2)},
            "no labelled clip in the train split",
        ),
        ({name(s, take=t): text(20 + s + t) for s in (1, 3) for t in (1, 2)}, "every labelled training clip is 'A001'"),
    ],
    ids=["no labels", "one class only"],
)
def test_labels_that_no_classifier_can_learn(tmp_path: Path, files: dict[str, str], says: str) -> None:
    made = pretrained(tmp_path, files)
    before = names_in(tmp_path)
    recipe = yaml.safe_dump(RECIPE)
    for step in (
        lambda: training.linear_probe(made / "motions", made / "encoder", recipe, made / "probe", accelerator="cpu"),
        lambda: training.finetune(
            made / "motions", made / "encoder", recipe, 0.1, 0, made / "tuned", accelerator="cpu"
        ),
    ):
        with pytest.raises(GltError, match=says):
            step()
    assert names_in(tmp_path) == before


def test_empty_split(tmp_path: Path) -> None:
    write(tmp_path / "recordings.zip", {name(1, take=t): text(20 + t) for t in (1, 2)})
    recipe = yaml.safe_dump(RECIPE)
    data.ingest(str(tmp_path / "recordings.zip"), recipe, tmp_path / "clips")
    with pytest.raises(GltError, match="test"):
        data.disentangle(tmp_path / "clips", recipe, tmp_path / "motions")
    assert "motions" not in names_in(tmp_path)


def test_clip_of_one_frame_is_kept_with_a_warning_and_trains(tmp_path: Path) -> None:
    files = {name(s, action=a, take=t): text(20 + s + t) for s in (1, 2, 3) for a in (1, 2) for t in (1, 2)}
    made = pretrained(tmp_path, files | {name(4): text(1)})
    metrics = training.linear_probe(
        made / "motions", made / "encoder", yaml.safe_dump(RECIPE), made / "probe", accelerator="cpu"
    )
    assert 0 <= metrics["probe/top1"] <= 1


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ("nope", "unknown recipe 'nope': take one of"),
        (yaml.safe_dump(RECIPE | {"pretain": {}}), "pretain: unknown key"),
        (yaml.safe_dump(RECIPE | {"model": {"max_frames": "many"}}), "model.max_frames"),
    ],
    ids=["unknown recipe", "unknown key", "wrong type"],
)
def test_recipe_that_is_none(tmp_path: Path, recipe: str, says: str) -> None:
    write(tmp_path / "recordings.zip", {name(1): text()})
    with pytest.raises(GltError, match=says):
        data.ingest(str(tmp_path / "recordings.zip"), recipe, tmp_path / "clips")
    assert names_in(tmp_path) == ["recordings.zip"]


def test_recordings_that_changed_since_the_run_began(tmp_path: Path) -> None:
    write(tmp_path / "recordings.zip", {name(1): text()})
    with pytest.raises(GltError, match=r"is version .*, not 0123"):
        data.ingest(str(tmp_path / "recordings.zip"), yaml.safe_dump(RECIPE), tmp_path / "clips", data_version="0123")


def test_command_says_it_in_one_line_and_exits_with_1(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "glt", "ingest", str(tmp_path / "nowhere"), "sample", str(tmp_path / "clips")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("glt: error: recordings")
    assert "Traceback" not in run.stderr
