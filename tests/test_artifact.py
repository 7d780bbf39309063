"""Artifact folders are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from glt import artifact
from glt.errors import GltError


def make(path: Path, text: str = "weights", **info: object) -> Path:
    with artifact.create(path, "thing", info) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "data.txt").write_text(text)
        (folder / "empty").write_bytes(b"")
    return path


def fail(path: Path, error: type[BaseException]) -> None:
    with artifact.create(path, "thing", {"number": 2}) as folder:
        (folder / "half").write_text("written")
        raise error


def fill(path: Path) -> None:
    """Write to the device that is always full."""
    with artifact.create(path, "thing", {}) as folder:
        (folder / "data").symlink_to("/dev/full")
        (folder / "data").write_bytes(b"weights")


def test_a_finished_folder_opens_with_what_it_was_made_from(tmp_path: Path) -> None:
    thing = make(tmp_path / "deep" / "thing", recipe={"seed": 1})
    assert artifact.open_artifact(thing, "thing") == {"recipe": {"seed": 1}}
    assert sorted(json.loads((thing / "manifest.json").read_text())["files"]) == ["empty", "sub/data.txt"]
    assert [p.name for p in thing.parent.iterdir()] == ["thing"]


def test_modes_follow_the_umask(tmp_path: Path) -> None:
    """Folders made under a temporary name are as readable as any other: another user's server opens them."""
    old = os.umask(0o022)
    try:
        thing = make(tmp_path / "thing")
    finally:
        os.umask(old)
    assert thing.stat().st_mode & 0o777 == 0o755
    assert (thing / "manifest.json").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        fail(tmp_path / "thing", error)
    assert not list(tmp_path.iterdir())


@pytest.mark.fault(
    "the disk is full while an artifact is written", "one line that names the folder; the old artifact stays"
)
def test_a_full_disk_is_reported_and_leaves_the_old_one(tmp_path: Path) -> None:
    thing = make(tmp_path / "thing", "old")
    with pytest.raises(GltError, match=r"thing: cannot be written \(No space left on device\); make room"):
        fill(thing)
    assert (thing / "sub" / "data.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["thing"]


def test_an_exception_leaves_the_old_one(tmp_path: Path) -> None:
    make(tmp_path / "thing", "old", number=1)
    with pytest.raises(ValueError):
        fail(tmp_path / "thing", ValueError)
    assert artifact.open_artifact(tmp_path / "thing", "thing") == {"number": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["thing"]


def test_an_info_that_is_not_json_leaves_the_old_one(tmp_path: Path) -> None:
    make(tmp_path / "thing", number=1)
    with pytest.raises(TypeError):
        make(tmp_path / "thing", number={1, 2})
    assert artifact.open_artifact(tmp_path / "thing", "thing") == {"number": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["thing"]


def test_a_new_one_replaces_the_old_one_whole(tmp_path: Path) -> None:
    make(tmp_path / "thing", number=1)
    old = tmp_path / "thing" / "sub" / "data.txt"
    old.rename(old.with_name("more.txt"))  # as if that version had another file
    manifest = json.loads((tmp_path / "thing" / "manifest.json").read_text().replace("data.txt", "more.txt"))
    artifact.write_json(tmp_path / "thing" / "manifest.json", manifest)
    make(tmp_path / "thing", number=2)
    assert artifact.open_artifact(tmp_path / "thing", "thing") == {"number": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["thing"]
    assert not old.with_name("more.txt").exists()


def test_without_a_manifest_there_is_no_artifact(tmp_path: Path) -> None:
    (tmp_path / "thing").mkdir()
    for path in (tmp_path / "thing", tmp_path / "nowhere"):
        with pytest.raises(GltError, match=r"not a finished thing folder.*run the step"):
            artifact.open_artifact(path, "thing")
    (tmp_path / "file").write_text("")
    with pytest.raises(GltError, match="not a finished thing folder"):
        artifact.open_artifact(tmp_path / "file", "thing")


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"kind": "thing"}', "\xff"])
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    thing = make(tmp_path / "thing")
    (thing / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(GltError, match=r"manifest\.json: damaged.*run its step again"):
        artifact.open_artifact(thing, "thing")


def test_another_kind_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(GltError, match="holds 'thing', expected 'encoder'"):
        artifact.open_artifact(make(tmp_path / "thing"), "encoder")


def test_a_changed_file_is_named(tmp_path: Path) -> None:
    thing = make(tmp_path / "thing")
    data = thing / "sub" / "data.txt"
    data.write_text("Weights")
    with pytest.raises(GltError, match=r"data\.txt: changed since it was written"):
        artifact.open_artifact(thing, "thing")
    artifact.open_artifact(thing, "thing", verify=False)
    data.unlink()
    with pytest.raises(GltError, match=r"data\.txt: missing"):
        artifact.open_artifact(thing, "thing", verify=False)


def test_the_digest_is_of_the_content_alone(tmp_path: Path) -> None:
    first, again = make(tmp_path / "a", run=1), make(tmp_path / "b", run=2)
    assert artifact.digest(first) == artifact.digest(again)
    assert artifact.digest(first) != artifact.digest(make(tmp_path / "c", "other"))


def test_a_copy_is_the_same_artifact(tmp_path: Path) -> None:
    first = make(tmp_path / "a", number=1)
    artifact.copy(first, tmp_path / "b", "thing")
    assert artifact.open_artifact(tmp_path / "b", "thing") == artifact.open_artifact(first, "thing")
    assert artifact.digest(tmp_path / "b") == artifact.digest(first)


def test_a_damaged_artifact_is_not_copied(tmp_path: Path) -> None:
    first = make(tmp_path / "a", "text")
    (first / "sub" / "data.txt").write_text("other")
    with pytest.raises(GltError, match="changed since it was written"):
        artifact.copy(first, tmp_path / "b", "thing")
    assert not (tmp_path / "b").exists()


def test_equal_values_give_equal_bytes(tmp_path: Path) -> None:
    artifact.write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, None]})
    artifact.write_json(tmp_path / "b.json", {"a": [1.5, None], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1.5, None], "b": 1}


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact.write_bytes(tmp_path / "file", b"old")

    def full(handle: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        artifact.write_bytes(tmp_path / "file", b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"old")]
