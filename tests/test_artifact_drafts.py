"""A replaced artifact is the old or the new one at every instant; what killed processes leave is swept."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from glt import artifact
from glt.artifact import drafts
from glt.errors import GltError


def make(path: Path, number: int) -> Path:
    with artifact.create(path, "thing", {"number": number}) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "data.txt").write_text(f"data of {number}")
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Dies before its n-th operation on the file system: Python reports those that it offers, and we wrap the two others.
DEADLY = """
import os, signal, sys
from pathlib import Path
from glt import artifact
from glt.artifact import drafts

calls, watched = 0, ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "fcntl.flock")
def count():
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
def deadly(function):
    def call(*args, **kwargs):
        count()
        return function(*args, **kwargs)
    return call
def without_exchange(*paths):
    raise OSError(22, "Invalid argument")

os.fsync = deadly(os.fsync)
drafts.exchange = without_exchange if sys.argv[3] == "rename" else deadly(drafts.exchange)
sys.addaudithook(lambda event, args: count() if event in watched else None)
"""
CREATE = """
with artifact.create(Path(sys.argv[1]), "thing", {"number": 2}) as folder:
    (folder / "data.txt").write_text("new")
"""
DELETE = "artifact.delete(Path(sys.argv[1]))"
WRITE = "artifact.write_bytes(Path(sys.argv[1]), b'new')"


def killed(script: str, path: Path, system: str) -> Iterator[int]:
    """Run the script again and again, killed before its n-th operation; yields n."""
    for moment in range(1, 200):
        done = subprocess.run([sys.executable, "-c", DEADLY + script, str(path), str(moment), system], check=False)
        assert done.returncode in (0, -signal.SIGKILL)
        yield moment
        if done.returncode == 0:
            return
    raise AssertionError("never came to its end")


@pytest.mark.fault("a step is killed while it replaces an artifact", "the old or the new one is there, whole")
@pytest.mark.parametrize("system", ["exchange", "rename"])
def test_killed_at_any_operation_the_old_or_the_new_one_is_there(tmp_path: Path, system: str) -> None:
    path, found = make(tmp_path / "thing", 1), []
    for _ in killed(CREATE, path, system):
        if system == "exchange":
            assert (path / artifact.MANIFEST).exists()  # also for a program that does not ask glt
        found.append(artifact.open_artifact(path, "thing")["number"])
        make(path, 1)
        assert names(tmp_path) == ["thing"]  # swept
    assert len(found) > 20
    assert set(found) == {1, 2}
    assert found == sorted(found)


@pytest.mark.fault("kill -9 at any moment while an artifact is first made", "the whole artifact is there, or none")
def test_killed_at_any_operation_there_is_the_new_one_or_none(tmp_path: Path) -> None:
    path, found = tmp_path / "thing", []
    for _ in killed(CREATE, path, "exchange"):
        if path.exists():
            found.append(artifact.open_artifact(path, "thing")["number"])
        else:
            with pytest.raises(GltError, match="not a finished thing folder"):
                artifact.open_artifact(path, "thing")
        make(tmp_path / "beside", 3)
        assert set(names(tmp_path)) <= {"thing", "beside"}
    assert set(found) == {2}


def test_killed_at_any_operation_a_deleted_one_is_whole_or_gone(tmp_path: Path) -> None:
    path, there = make(tmp_path / "thing", 1), []
    for _ in killed(DELETE, path, "exchange"):
        there.append(path.exists())
        if path.exists():
            artifact.open_artifact(path, "thing")
        make(path, 1)
        assert names(tmp_path) == ["thing"]
    assert there == sorted(there, reverse=True)
    assert set(there) == {True, False}


@pytest.mark.fault("kill -9 at any moment while a file is written", "the old or the new one is there, whole")
def test_killed_at_any_operation_the_old_or_the_new_file_is_there(tmp_path: Path) -> None:
    path, found = tmp_path / "file", []
    path.write_bytes(b"old")
    for _ in killed(WRITE, path, "exchange"):
        found.append(path.read_bytes())
        artifact.write_bytes(path, b"old")
        assert names(tmp_path) == ["file"]
    assert set(found) == {b"old", b"new"}


def test_where_folders_cannot_be_exchanged_a_failure_puts_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rename = make(tmp_path / "thing", 1), os.rename

    def refuse(source: Path, target: Path) -> None:
        if Path(source).name in ("content", "thing") and Path(target) == path:
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    def unknown(first: Path, second: Path) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(drafts, "exchange", unknown)
    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="Input/output"):
        make(path, 2)
    assert artifact.open_artifact(path, "thing") == {"number": 1}
    assert names(tmp_path) == ["thing"]


WAITS = """
import sys
from pathlib import Path
from glt import artifact
from glt.artifact import drafts

with artifact.create(Path(sys.argv[1]), "thing", {"number": 2}) as folder, drafts.draft_file(Path(sys.argv[2])):
    (folder / "data.txt").write_text("new")
    print("ready", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("system", ["with exchange", "without"])
def test_committing_once_more_puts_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    def unknown(first: Path, second: Path) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    if system == "without":
        monkeypatch.setattr(drafts, "exchange", unknown)
    target = tmp_path / "a"
    target.mkdir()
    (target / "old").touch()
    with drafts.draft(target) as draft:
        (draft.folder / "new").touch()
        draft.commit()
        assert names(target) == ["new"]
        draft.commit()
        assert names(target) == ["old"]
    assert names(tmp_path) == ["a"]


@contextmanager
def another_process(path: Path, file: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is writing an artifact and a file."""
    command = [sys.executable, "-c", WAITS, str(path), str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


@pytest.mark.fault("a draft (an artifact being written) of a living process, however old", "never deleted")
def test_drafts_of_the_living_are_never_swept(tmp_path: Path) -> None:
    with another_process(tmp_path / "theirs", tmp_path / "file") as process:
        before = names(tmp_path)
        for entry in (*tmp_path.iterdir(), *tmp_path.rglob("*")):
            os.utime(entry, (0, 0))
        process.send_signal(signal.SIGSTOP)  # also if it makes no progress
        make(tmp_path / "mine", 1)
        artifact.sweep(tmp_path)
        assert names(tmp_path) == sorted([*before, "mine"])
        process.send_signal(signal.SIGCONT)
        process.communicate("go on\n")
        assert process.returncode == 0
    assert artifact.open_artifact(tmp_path / "theirs", "thing") == {"number": 2}
    assert names(tmp_path) == ["mine", "theirs"]


@pytest.mark.fault("a draft of a killed process", "deleted when the next artifact is written beside it")
def test_drafts_of_the_dead_are_swept_at_once(tmp_path: Path) -> None:
    with another_process(tmp_path / "theirs", tmp_path / "file") as process:
        process.kill()
    assert len(names(tmp_path)) == 2
    make(tmp_path / "mine", 1)
    assert names(tmp_path) == ["mine"]


def test_two_processes_with_one_place_both_end_well(tmp_path: Path) -> None:
    with another_process(tmp_path / "thing", tmp_path / "file") as process:
        make(tmp_path / "thing", 1)
        process.communicate("go on\n")
        assert process.returncode == 0
    assert artifact.open_artifact(tmp_path / "thing", "thing") == {"number": 2}
    assert names(tmp_path) == ["thing"]


@pytest.mark.fault("the user's own hidden files beside an artifact, with names like a draft's", "never deleted")
def test_what_is_not_ours_is_not_swept(tmp_path: Path) -> None:
    theirs = (".thing.old", ".thing.a1b2c3d4", ".thing.glt", ".thing.glt-notes", ".thing.glt-0000abcdefgh.txt")
    for name in theirs:
        (tmp_path / name).write_text("mine")
    for name in (".other.glt-0000abcdefgh", ".more.glt-0000abcdefgh"):  # a draft's name, but something else in it
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("mine")
    (tmp_path / ".more.glt-0000abcdefgh" / "lock").touch()
    (tmp_path / ".link.glt-0000abcdefgh").symlink_to(tmp_path / ".more.glt-0000abcdefgh")
    before = sorted(tmp_path.rglob("*"))
    make(tmp_path / "thing", 1)
    artifact.write_bytes(tmp_path / "file", b"")
    assert {*before} == {*tmp_path.rglob("*")} - {
        tmp_path / "file",
        *(tmp_path / "thing").rglob("*"),
        tmp_path / "thing",
    }


@pytest.mark.parametrize(("age", "stays"), [(3600.0, True), (48 * 3600.0, False)])
def test_a_draft_of_another_machine_is_swept_a_day_later(tmp_path: Path, age: float, stays: bool) -> None:
    """Some network volumes lock for one machine only."""
    other = f"{int(drafts.machine(), 16) ^ 1:04x}"
    for entry in (tmp_path / f".thing.glt-{other}abcdefgh", tmp_path / f".file.glt-{other}abcdefgh"):
        if "thing" in entry.name:
            (entry / "content").mkdir(parents=True)
            (entry / "lock").touch()
        else:
            entry.touch()
        for path in (entry, *entry.rglob("*")):
            os.utime(path, (time.time() - age,) * 2)
    artifact.sweep(tmp_path)
    assert len(names(tmp_path)) == (2 if stays else 0)


def test_without_locks_work_goes_on_and_nothing_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(handle: int, operation: int) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    with another_process(tmp_path / "theirs", tmp_path / "file") as process:
        process.kill()
    left = names(tmp_path)
    monkeypatch.setattr(fcntl, "flock", unsupported)
    with artifact.reserve(tmp_path / "thing"):
        make(tmp_path / "thing", 1)
    assert names(tmp_path) == sorted([*left, "thing"])


RESERVES = """
import sys
from pathlib import Path
from glt import artifact

with artifact.reserve(Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.fault(
    "two runs at once with the same output", "the second is refused in one line, as long as the first runs"
)
def test_a_reserved_path_is_refused_to_others_until_its_process_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="glt")
    command = [sys.executable, "-c", RESERVES, str(tmp_path / "thing")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        artifact.sweep(tmp_path)
        with (
            pytest.raises(GltError, match=r"thing: another process is writing it; wait"),
            artifact.reserve(tmp_path / "thing"),
        ):
            pass
        process.kill()
        with artifact.reserve(tmp_path / "thing", wait="waiting for the other"):
            assert len(names(tmp_path)) == 1
    assert names(tmp_path) == []
