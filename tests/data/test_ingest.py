from __future__ import annotations

import contextlib
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glt.data import ingest as module
from glt.data.clips import ClipStore
from glt.data.ingest import ingest
from glt.data.sources import batches
from glt.errors import GltError
from glt.recipe import Recipe
from glt.reporter import Silent
from tests.data import recorded


def store(recordings: Path, out: Path, recipe: Recipe | None = None) -> ClipStore:
    ingest(recordings, recipe or recorded.recipe(), out, {"data_version": "1"}, Silent())
    return ClipStore(out)


def test_clips_are_what_was_recorded(tmp_path: Path) -> None:
    clips = store(recorded.write_folder(tmp_path / "in", recorded.delivery()), tmp_path / "clips")
    assert clips.index["name"].tolist() == [f"S001C001P{p:03}R001A{1 + p % 2:03}" for p in range(1, 9)]
    assert clips.index["length"].tolist() == [3 + p for p in range(1, 9)]
    for number, subject in enumerate(clips.index["subject"]):
        frames, present = clips.clip(number)
        np.testing.assert_array_equal(frames[:, 0], recorded.walk(subject, 3 + subject))
        assert present.all()
        assert (frames.dtype, present.dtype) == (np.float32, bool)
    assert clips.info["data_version"] == "1"
    assert clips.rejected.empty
    assert clips.rejected.columns.tolist() == ["source", "check", "reason"]


def test_a_zip_equals_the_folder_it_came_from(tmp_path: Path) -> None:
    files = recorded.delivery()
    noise = {"__MACOSX/day/._S001C001P001R001A001.skeleton": b"x", "readme.txt": b"x", ".hidden/a.skeleton": b"x"}
    store(recorded.write_folder(tmp_path / "in", files), tmp_path / "folder")
    backwards = dict(reversed({**files, **noise}.items()))
    store(recorded.write_zip(tmp_path / "in.zip", backwards), tmp_path / "zip")
    assert recorded.tree(tmp_path / "folder") == recorded.tree(tmp_path / "zip")


class Interrupted:
    """A reporter that ends the process, as a user or a scheduler may."""

    def __init__(self, after: int) -> None:
        self.after = after

    def metrics(self, values: object, step: int = 0) -> None:
        pass

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        if done >= self.after:
            raise KeyboardInterrupt


def test_an_interrupted_ingest_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT_FILES", 3)
    damaged = {"day/S001C001P009R001A001.skeleton": b"1\n"}
    recordings = recorded.write_folder(tmp_path / "in", {**recorded.delivery(), **damaged})
    recipe = recorded.recipe(max_rejects=0.2)
    store(recordings, tmp_path / "full", recipe)

    out = tmp_path / "again" / "clips"
    with pytest.raises(KeyboardInterrupt):
        ingest(recordings, recipe, out, {"data_version": "1"}, Interrupted(after=7))
    assert not out.exists()

    written = count_writes(monkeypatch)
    store(recordings, out, recipe)
    assert written == [3]
    assert recorded.tree(out) == recorded.tree(tmp_path / "full")
    assert [path.name for path in out.parent.iterdir()] == ["clips"]


def count_writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Fills with the number of files of each segment that is written from now on."""
    written: list[int] = []
    write = module._write

    def counted(part: module.Batch, *rest: object) -> Path:
        written.append(len(part.names))
        return write(part, *rest)

    monkeypatch.setattr(module, "_write", counted)
    return written


def test_a_segment_that_was_damaged_is_made_again(tmp_path: Path) -> None:
    recordings = recorded.write_folder(tmp_path / "in", recorded.delivery())
    first = store(recordings, tmp_path / "clips")
    (segment,) = (tmp_path / "clips" / "segments").iterdir()
    with (segment / "frames.npy").open("r+b") as stream:
        stream.seek(500)
        stream.write(b"damage")
    with pytest.raises(GltError, match=r"frames\.npy: changed since it was written"):
        ClipStore(tmp_path / "clips")
    assert len(ClipStore(tmp_path / "clips", verify=False).index) == 8
    again = store(recordings, tmp_path / "clips")
    assert again.digest == first.digest
    np.testing.assert_array_equal(again.clip(2)[0], first.clip(2)[0])


def test_new_recordings_make_new_segments_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = list(recorded.delivery().items())
    whole = store(recorded.write_folder(tmp_path / "whole", dict(files)), tmp_path / "one")
    recorded.write_zip(tmp_path / "in" / "week1.zip", dict(files[:5]))
    first = store(tmp_path / "in", tmp_path / "clips")
    recorded.write_zip(tmp_path / "in" / "week0.zip", dict(files[5:]))

    written = count_writes(monkeypatch)
    both = store(tmp_path / "in", tmp_path / "clips")
    assert written == [3]
    assert set(first.info["segments"]) < set(both.info["segments"])
    assert both.digest == whole.digest != first.digest
    assert both.index["name"].tolist() == whole.index["name"].tolist()
    for number in range(len(files)):
        np.testing.assert_array_equal(both.clip(number)[0], whole.clip(number)[0])


def test_what_comes_twice_is_taken_once(tmp_path: Path) -> None:
    files = list(recorded.delivery().items())
    recorded.write_zip(tmp_path / "in" / "a.zip", dict(files))
    recorded.write_zip(tmp_path / "in" / "b.zip", dict(files))
    recorded.write_zip(tmp_path / "in" / "c.zip", {"elsewhere/" + Path(n).name: c for n, c in files[:2]})
    clips = store(tmp_path / "in", tmp_path / "clips")
    assert len(clips.index) == 8
    assert clips.rejected["source"].tolist() == [
        "elsewhere/S001C001P001R001A002.skeleton",
        "elsewhere/S001C001P002R001A001.skeleton",
        "b.zip",
    ]
    assert set(clips.rejected["check"]) == {"repeat"}


def test_one_name_for_two_contents_is_a_reject(tmp_path: Path) -> None:
    files = recorded.delivery()
    files["later/S001C001P001R001A002.skeleton"] = recorded.one_person(99)
    recordings = recorded.write_folder(tmp_path / "in", files)
    clips = store(recordings, tmp_path / "clips", recorded.recipe(max_rejects=0.2))
    (row,) = clips.rejected.to_dict("records")
    assert (row["source"], row["check"]) == ("later/S001C001P001R001A002.skeleton", "duplicate")
    assert "day/S001C001P001R001A002.skeleton gives the clip S001C001P001R001A002 too" in row["reason"]
    np.testing.assert_array_equal(clips.clip(0)[0][:, 0], recorded.walk(1, 4))


def test_rejects_are_listed_with_their_reasons(tmp_path: Path) -> None:
    files = recorded.delivery()
    nan = recorded.walk(1)
    nan[2, 3, 0] = np.nan
    files["day/S001C001P010R001A001.skeleton"] = recorded.one_person(1, joints=20)
    files["day/S001C001P011R001A001.skeleton"] = recorded.skeleton([{"1": frame} for frame in nan])
    files["day/S001C001P012R001A001.skeleton"] = recorded.skeleton([{}, {}])
    files["day/holiday.skeleton"] = recorded.one_person(1)
    recordings = recorded.write_folder(tmp_path / "in", files)
    clips = store(recordings, tmp_path / "clips", recorded.recipe(max_rejects=0.5))
    assert len(clips.index) == 8
    assert clips.rejected[["source", "check"]].to_numpy().tolist() == [
        ["day/S001C001P010R001A001.skeleton", "joints"],
        ["day/S001C001P011R001A001.skeleton", "finite"],
        ["day/S001C001P012R001A001.skeleton", "empty"],
        ["day/holiday.skeleton", "name"],
    ]


def test_too_many_rejects_stop_the_ingest_and_are_kept(tmp_path: Path) -> None:
    damaged = {f"day/S001C001P{p:03}R001A001.skeleton": b"1\n" for p in (21, 22)}
    recordings = recorded.write_folder(tmp_path / "in", {**recorded.delivery(), **damaged})
    out = tmp_path / "out" / "clips"
    with pytest.raises(
        GltError, match=r"2 of 10 rejected \(20\.0%, data\.max_rejects allows 10\.0%\): 2 x format"
    ) as error:
        store(recordings, out, recorded.recipe(max_rejects=0.1))
    listed = out.parent / "clips.rejected.csv"
    assert str(listed) in str(error.value)
    assert [path.name for path in out.parent.iterdir()] == [listed.name]
    assert pd.read_csv(listed)["source"].tolist() == sorted(damaged)

    store(recordings, out, recorded.recipe(max_rejects=0.2))
    assert [path.name for path in out.parent.iterdir()] == ["clips"]


def test_no_clip_left_is_an_error_whatever_may_be_rejected(tmp_path: Path) -> None:
    recordings = recorded.write_folder(tmp_path / "in", {"S001C001P001R001A001.skeleton": b""})
    with pytest.raises(GltError, match="1 of 1 rejected"):
        store(recordings, tmp_path / "clips", recorded.recipe(max_rejects=1.0))


def test_unlabelled_recordings_are_taken(tmp_path: Path) -> None:
    files = {"S001C001P001R001-1.skeleton": recorded.one_person(1), "S001C001P003R001.skeleton": recorded.one_person(2)}
    clips = store(recorded.write_folder(tmp_path / "in", files), tmp_path / "clips")
    assert clips.index["label"].tolist() == [None, None]
    assert clips.index["name"].tolist() == ["S001C001P001R001-1", "S001C001P003R001"]


def test_persons_belong_to_a_segments_name(tmp_path: Path) -> None:
    recordings = recorded.write_folder(tmp_path / "in", recorded.delivery())
    one = store(recordings, tmp_path / "clips", recorded.recipe(persons=1))
    two = store(recordings, tmp_path / "clips", recorded.recipe(persons=2))
    assert one.info["segments"] != two.info["segments"]
    frames, present = two.clip(0)
    assert frames.shape[1:] == (2, 25, 3)
    assert not present[:, 1].any()
    assert two.index["persons"].tolist() == [1] * 8


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GltError, match=r"no such file or folder; give a folder, a zip, or one \.skeleton file"):
        store(tmp_path / "none", tmp_path / "clips")


@pytest.mark.parametrize("name", ["in.zip", "in", "in.rar"])
def test_an_unreadable_archive_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 but not really")
    with pytest.raises(GltError, match="not a readable zip archive"):
        store(tmp_path / name, tmp_path / "clips")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_recordings_of_another_format_are_an_error(tmp_path: Path) -> None:
    recorded.write_zip(tmp_path / "in.zip", {"a01_s01_e01_v01.json": b"{}"})
    with pytest.raises(GltError, match=r"no file that ends with \.skeleton; .* change data\.format"):
        store(tmp_path / "in.zip", tmp_path / "clips")


def test_a_protocol_of_other_data_is_known_before_reading(tmp_path: Path) -> None:
    with pytest.raises(GltError, match=r"data\.protocol"):
        store(tmp_path / "none", tmp_path / "clips", recorded.recipe("ntu", "5-fold"))


def test_one_file_is_a_data_set(tmp_path: Path) -> None:
    recorded.write_folder(tmp_path, {"S001C001P001R001A001.skeleton": recorded.one_person(1)})
    clips = store(tmp_path / "S001C001P001R001A001.skeleton", tmp_path / "clips")
    assert clips.index["source"].tolist() == ["S001C001P001R001A001.skeleton"]


def test_a_damaged_member_is_a_reject(tmp_path: Path) -> None:
    archive = recorded.write_zip(tmp_path / "in.zip", recorded.delivery())
    with zipfile.ZipFile(archive) as opened:
        second = opened.infolist()[1]
    content = bytearray(archive.read_bytes())
    content[second.header_offset + 200] ^= 0xFF
    archive.write_bytes(content)
    clips = store(archive, tmp_path / "clips", recorded.recipe(max_rejects=0.2))
    assert len(clips.index) == 7
    assert clips.rejected[["source", "check"]].to_numpy().tolist() == [[second.filename, "unreadable"]]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_damage_to_an_archive_escapes_as_anything_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    archive = recorded.write_zip(folder / "in.zip", {"a.skeleton": b"1\n0\n", "b.skeleton": b"2\n0\n0\n"})
    content = bytearray(archive.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    archive.write_bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    with contextlib.suppress(GltError):
        for batch in batches(archive, (".skeleton",)):
            assert [name for name, _ in batch.files()] == list(batch.names)
    shutil.rmtree(folder)


def test_a_member_without_a_name_is_no_recording(tmp_path: Path) -> None:
    archive = recorded.write_zip(tmp_path / "in.zip", {"a.skeleton": b"1\n0\n", "b": b""})
    archive.write_bytes(archive.read_bytes().replace(b"b", b"\0"))
    (batch,) = batches(archive, (".skeleton",))
    assert batch.names == ("a.skeleton",)


def test_an_encrypted_archive_is_an_error(tmp_path: Path) -> None:
    archive = recorded.write_zip(tmp_path / "in.zip", {"a.skeleton": b"1\n0\n"})
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    with pytest.raises(GltError, match="the archive is encrypted"):
        batches(archive, (".skeleton",))


def test_a_batch_is_read_file_by_file_and_falls_into_parts(tmp_path: Path) -> None:
    archive = recorded.write_zip(tmp_path / "in.zip", recorded.delivery(3))
    (batch,) = batches(archive, (".skeleton",))
    files = batch.files()
    assert next(files)[0] == batch.names[0]
    assert [part.names for part in batch.parts(2)] == [batch.names[:2], batch.names[2:]]
