"""Real file systems that are full, without inodes, or read-only: one line, and nothing that was whole is lost."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from glt import artifact, logs
from glt.data.clips import ClipStore
from glt.data.ingest import ingest
from glt.reporter import Silent
from tests.data import recorded


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system with these options, or changes its options; where that is allowed."""
    volume = tmp_path / "volume"
    volume.mkdir()

    def mounted(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(volume)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
        return volume

    yield mounted
    subprocess.run(["umount", "--lazy", str(volume)], capture_output=True, check=False)


def said_by(capsys: pytest.CaptureFixture[str], step: Callable[[], object]) -> str:
    """The line on stderr with which a program that calls `step` ends."""
    with pytest.raises(SystemExit) as ended:
        logs.run_entry(step)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("glt: error: ")
    assert said.count("\n") == 1
    return said


def make(path: Path, size: int, files: int = 1) -> Path:
    with artifact.create(path, "thing", {"size": size}) as folder:
        for index in range(files):
            np.save(folder / f"{index}.npy", np.zeros(size, np.uint8))
    return path


LIMITS = {"full": ("size=100k", 200_000, 1), "no inodes": ("size=10m,nr_inodes=15", 10, 20)}


@pytest.mark.fault("a full file system, or one without inodes", "one line; the old artifact stays and the rerun works")
@pytest.mark.parametrize("limit", LIMITS)
def test_a_full_file_system_loses_nothing(
    mount: Callable[[str], Path], capsys: pytest.CaptureFixture[str], limit: str
) -> None:
    options, size, files = LIMITS[limit]
    volume = mount(options)
    thing = make(volume / "thing", 10)
    said = said_by(capsys, lambda: make(thing, size, files))
    assert f"{thing}: cannot be written (No space left on device); make room on its disk" in said
    assert artifact.open_artifact(thing, "thing") == {"size": 10}
    assert [path.name for path in volume.iterdir()] == ["thing"]
    mount("remount,size=10m,nr_inodes=1000")  # the remedy
    assert artifact.open_artifact(make(thing, size, files), "thing") == {"size": size}


def test_a_file_on_a_full_file_system_is_named(
    mount: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file = mount("size=100k") / "page.html"
    artifact.write_bytes(file, b"old")
    said = said_by(capsys, lambda: artifact.write_bytes(file, bytes(200_000)))
    assert f"{file}: No space left on device; make room" in said
    assert file.read_bytes() == b"old"
    assert [path.name for path in file.parent.iterdir()] == ["page.html"]


@pytest.mark.fault("a read-only file system", "one line that names the path; what is there is read")
def test_a_read_only_file_system_is_named(mount: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    volume = mount("size=1m")
    thing = make(volume / "thing", 10)
    mount("remount,ro")
    assert f"{thing}: {volume} cannot be written to; give another path" in said_by(capsys, lambda: make(thing, 20))
    said = said_by(capsys, lambda: artifact.write_bytes(volume / "page.html", b"new"))
    assert f"{volume}/page.html: Read-only file system; give another path" in said
    assert artifact.open_artifact(thing, "thing") == {"size": 10}


@pytest.mark.fault("GLT_HOME or the output of ingest is full", "one line; the same command resumes once there is room")
@pytest.mark.parametrize("where", ["segments", "clips"])
def test_an_ingest_goes_on_once_there_is_room(
    mount: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    recorded.write_folder(tmp_path / "in", recorded.delivery(8))
    volume = mount("size=16k")
    places = {name: (volume if name == where else tmp_path) / name for name in ("segments", "clips")}

    def step() -> None:
        ingest(tmp_path / "in", recorded.recipe(), places["clips"], {}, Silent(), places["segments"])

    assert str(volume) in said_by(capsys, step)
    mount("remount,size=10m")
    step()
    assert len(ClipStore(places["clips"]).index) == 8
