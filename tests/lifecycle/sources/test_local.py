"""Recordings on this machine: their version is DVC's hash, and no change goes unnoticed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from glt.data.hashes import FileHashes
from glt.errors import GltError
from glt.lifecycle import sources
from glt.lifecycle.sources.local import ChangedRecordings
from tests.data.recorded import write_folder

FILES = {"a.skeleton": b"one", "deep/b.skeleton": b"two", ".hidden": b"three"}


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GLT_HOME", str(tmp_path / "home"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "recordings", FILES)


def test_versions_are_those_of_recorded_runs(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "week1.zip").write_bytes(b"PK archive")
    assert sources.resolve(str(folder)).version == "88538ef6e841ed9fed222c2cfe460178.dir"
    assert sources.resolve(str(tmp_path / "week1.zip")).version == "573006b081b1ff7f674fc3b3fc750629"


def test_nothing_is_copied(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    source = sources.resolve("recordings")
    assert source.address == str(folder)
    assert source.fetch(tmp_path / "elsewhere") == folder
    assert not (tmp_path / "elsewhere").exists()


def touch(file: Path) -> None:
    os.utime(file, ns=(1, 1))


def exchange(file: Path) -> None:
    """Put another file of the same size and time in the place of a file."""
    state = file.stat()
    other = file.with_name("other")
    other.write_bytes(b"x" * state.st_size)
    os.utime(other, ns=(state.st_mtime_ns, state.st_mtime_ns))
    other.replace(file)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "longer": (lambda folder: (folder / "a.skeleton").write_bytes(b"longer"), r"a\.skeleton was changed"),
    "touched": (lambda folder: touch(folder / "a.skeleton"), r"a\.skeleton was changed"),
    "exchanged": (lambda folder: exchange(folder / "a.skeleton"), r"a\.skeleton was changed"),
    "new": (lambda folder: (folder / "c.skeleton").write_bytes(b"new"), r"c\.skeleton was added"),
    "gone": (lambda folder: (folder / "deep" / "b.skeleton").unlink(), r"deep/b\.skeleton was removed"),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_a_change_after_the_listing_is_noticed(
    folder: Path, tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    source = sources.resolve(str(folder))
    assert source.version.endswith(".dir")
    change(folder)
    with pytest.raises(ChangedRecordings, match=rf"{message} during the run; start a new run"):
        source.fetch(tmp_path)


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_a_change_while_they_are_read_is_noticed(folder: Path, change: Callable[[Path], object], message: str) -> None:
    with pytest.raises(ChangedRecordings, match=message), sources.local_folder(sources.resolve(str(folder))):
        change(folder)


def test_a_change_while_they_are_hashed_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, hash_of = sources.resolve(str(folder)), FileHashes.of

    def hash_and_change(hashes: FileHashes, file: Path) -> str:
        found = hash_of(hashes, file)
        (folder / "late.skeleton").write_bytes(b"late")
        return found

    monkeypatch.setattr(FileHashes, "of", hash_and_change)
    with pytest.raises(ChangedRecordings, match=r"late\.skeleton was added"):
        source.version  # noqa: B018


@pytest.mark.parametrize("recordings", ["", "s3:/bucket/x", "S3://bucket/x", "gs://bucket/x", "https://lab.org/x.git"])
def test_what_is_no_address_of_ours_is_not_taken_for_a_path(recordings: str) -> None:
    with pytest.raises(
        GltError, match=r"give a path, s3://bucket/prefix or dvc\+<git repository>@<revision>"
    ) as caught:
        sources.resolve(recordings)
    assert recordings in str(caught.value)


def test_what_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(GltError, match=rf"recordings {tmp_path}/missing: no such file or folder"):
        sources.resolve(str(tmp_path / "missing"))


def test_a_path_that_names_no_user_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~no-such-user").mkdir()
    assert sources.resolve("~no-such-user").address == str(tmp_path / "~no-such-user")
