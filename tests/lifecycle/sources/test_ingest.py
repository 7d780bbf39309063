"""The step `ingest` reads what was listed: what changes stops it, what arrives is left to the next run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glt.data.clips import ClipStore
from glt.errors import GltError
from glt.lifecycle import sources
from glt.lifecycle.sources import Source
from glt.lifecycle.sources.local import ChangedRecordings
from glt.steps import data
from tests.data.recorded import write_folder
from tests.steps.recordings import RECIPE, name, text

TEXT = json.dumps(RECIPE)


@pytest.fixture
def folder(home: Path, tmp_path: Path) -> Path:
    return write_folder(tmp_path / "recordings", {name(subject): text().encode() for subject in (1, 2)})


def followed_by(function: Callable[..., Any], action: Callable[[], object]) -> Callable[..., Any]:
    """The function, followed by an action."""

    def both(*arguments: Any) -> Any:
        result = function(*arguments)
        action()
        return result

    return both


def test_clips_of_recordings_that_changed_meanwhile_are_removed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = followed_by(data.ingest_recordings, lambda: (folder / name(2)).write_text(text(30)))
    monkeypatch.setattr(data, "ingest_recordings", change)
    with pytest.raises(ChangedRecordings, match=rf"{name(2)} was changed during the run"):
        data.ingest(str(folder), TEXT, tmp_path / "clips")
    assert not (tmp_path / "clips").exists()


def test_clips_behind_a_link_are_removed_likewise(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clips").symlink_to("elsewhere")
    change = followed_by(data.ingest_recordings, lambda: (folder / name(2)).write_text(text(30)))
    monkeypatch.setattr(data, "ingest_recordings", change)
    with pytest.raises(ChangedRecordings, match=rf"{name(2)} was changed during the run"):
        data.ingest(str(folder), TEXT, tmp_path / "clips")
    assert (tmp_path / "clips").is_symlink()
    assert not (tmp_path / "elsewhere").exists()


def test_clips_of_an_earlier_run_stay_if_this_one_reads_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.ingest(str(folder), TEXT, tmp_path / "clips")
    resolve = sources.resolve

    def resolve_and_change(recordings: str, version: str) -> Source:
        source = resolve(recordings, version)
        assert source.version.endswith(".dir")
        (folder / name(3)).write_text(text())
        return source

    monkeypatch.setattr(sources, "resolve", resolve_and_change)
    with pytest.raises(ChangedRecordings, match=rf"{name(3)} was added"):
        data.ingest(str(folder), TEXT, tmp_path / "clips")
    assert len(ClipStore(tmp_path / "clips").index) == 2


def deliver(client: Any, *subjects: int) -> None:
    for subject in subjects:
        client.put_object(Bucket="landing", Key=f"lab/{name(subject)}", Body=text(20 + subject).encode())


def test_a_step_reads_the_version_that_its_run_began_with(home: Path, bucket: Any, tmp_path: Path) -> None:
    deliver(bucket, 1, 2)
    version = sources.resolve("s3://landing/lab").version
    deliver(bucket, 3)
    data.ingest("s3://landing/lab", TEXT, tmp_path / "clips", data_version=version)
    clips = ClipStore(tmp_path / "clips")
    assert sorted(clips.index["subject"]) == [1, 2]
    assert clips.info["data_version"] == version
    bucket.put_object(Bucket="landing", Key=f"lab/{name(1)}", Body=text(40).encode())
    with pytest.raises(GltError, match=rf"is version s3-\w+, not {version}; start a new run"):
        data.ingest("s3://landing/lab", TEXT, tmp_path / "later", data_version=version)
    assert not (tmp_path / "later").exists()
