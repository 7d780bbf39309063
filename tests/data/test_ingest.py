from __future__ import annotations

import json
import os
import pickle
import re
import resource
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from glt.data import ingest as module
from glt.data import segments as kept
from glt.data.clips import ClipStore
from glt.data.ingest import ingest
from glt.errors import GltError
from glt.recipe import Recipe
from glt.reporter import Silent
from tests.data import recorded


def store(recordings: Path, out: Path, recipe: Recipe | None = None, segments: str = "segments") -> ClipStore:
    """Segments are kept beside the folder of the clips."""
    cache = out.parent.with_name(f"{out.parent.name}-{segments}")
    ingest(recordings, recipe or recorded.recipe(), out, {"data_version": "1"}, Silent(), cache)
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


def same_clips(one: ClipStore, other: ClipStore) -> None:
    """The two hold the same, wherever it stands in their segments."""
    assert one.digest == other.digest
    apart = ["segment", "offset"]
    pd.testing.assert_frame_equal(one.index.drop(columns=apart), other.index.drop(columns=apart))
    for number in range(len(one.index)):
        for mine, theirs in zip(one.clip(number), other.clip(number), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_a_zip_equals_the_folder_it_came_from(tmp_path: Path) -> None:
    files = recorded.delivery()
    noise = {"__MACOSX/day/._S001C001P001R001A001.skeleton": b"x", "readme.txt": b"x", ".hidden/a.skeleton": b"x"}
    folder = store(recorded.write_folder(tmp_path / "in", files), tmp_path / "folder")
    backwards = dict(reversed({**files, **noise}.items()))
    same_clips(store(recorded.write_zip(tmp_path / "in.zip", backwards), tmp_path / "zip"), folder)


def test_a_full_ingest_gives_the_same_bytes_again(tmp_path: Path) -> None:
    recordings = recorded.write_folder(tmp_path / "in", recorded.delivery())
    store(recordings, tmp_path / "one", segments="first")
    store(recordings, tmp_path / "two", segments="second")
    assert recorded.tree(tmp_path / "one") == recorded.tree(tmp_path / "two")


class Interrupted:
    """A reporter that ends the process, as a user or a scheduler may."""

    def __init__(self, after: int) -> None:
        self.after = after

    def metrics(self, values: object, step: int = 0) -> None:
        pass

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        if done >= self.after:
            raise KeyboardInterrupt


@pytest.mark.fault("an ingest is interrupted", "the same command resumes it and ends with the same bytes")
def test_an_interrupted_ingest_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "SEGMENT_FILES", 3)
    damaged = {"day/S001C001P009R001A001.skeleton": b"1\n"}
    recordings = recorded.write_folder(tmp_path / "in", {**recorded.delivery(), **damaged})
    recipe = recorded.recipe(max_rejects=0.2)
    store(recordings, tmp_path / "full", recipe, segments="of-the-full")

    out, cache = tmp_path / "again", tmp_path.with_name(f"{tmp_path.name}-segments")
    with pytest.raises(KeyboardInterrupt):
        ingest(recordings, recipe, out, {"data_version": "1"}, Interrupted(after=7), cache)
    assert not out.exists()

    written = count_writes(monkeypatch)
    store(recordings, out, recipe)
    assert written == [3]
    assert recorded.tree(out) == recorded.tree(tmp_path / "full")


def count_writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Fills with the number of files of each segment that is written from now on."""
    written: list[int] = []
    write = module._write_segment

    def counted(part: kept.Part, *rest: Any) -> None:
        written.append(len(part.batch.names))
        write(part, *rest)

    monkeypatch.setattr(module, "_write_segment", counted)
    return written


def test_a_segment_that_was_damaged_is_made_again(tmp_path: Path) -> None:
    recordings = recorded.write_folder(tmp_path / "in", recorded.delivery())
    first = store(recordings, tmp_path / "clips")
    frames = first.clip(2)[0]
    (segment,) = (tmp_path / "clips" / "segments").iterdir()
    with (segment / "frames.npy").open("r+b") as stream:
        stream.seek(500)
        stream.write(b"damage")
    with pytest.raises(GltError, match=r"frames\.npy: changed since it was written"):
        ClipStore(tmp_path / "clips")
    assert len(ClipStore(tmp_path / "clips", verify=False).index) == 8
    again = store(recordings, tmp_path / "clips")
    assert again.digest == first.digest
    np.testing.assert_array_equal(again.clip(2)[0], frames)


def test_loose_files_that_come_later_are_the_only_ones_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "SEGMENT_FILES", 3)
    files = list(recorded.delivery().items())
    recordings = recorded.write_folder(tmp_path / "in", dict(files[1::2]))
    first = store(recordings, tmp_path / "clips")
    recorded.write_folder(recordings, dict(files[0::2]))
    written = count_writes(monkeypatch)
    both = store(recordings, tmp_path / "clips")
    assert written == [3, 1]
    assert set(first.info["segments"]) < set(both.info["segments"])
    same_clips(both, store(recordings, tmp_path / "full", segments="new"))


def test_a_loose_file_that_changed_or_went_is_not_taken_from_a_segment(tmp_path: Path) -> None:
    recordings = recorded.write_folder(tmp_path / "in", recorded.delivery())
    store(recordings, tmp_path / "clips")
    (recordings / "day/S001C001P001R001A002.skeleton").write_bytes(recorded.one_person(99))
    (recordings / "day/S001C001P002R001A001.skeleton").unlink()
    clips = store(recordings, tmp_path / "clips")
    assert len(clips.index) == 7
    np.testing.assert_array_equal(clips.clip(0)[0][:, 0], recorded.walk(99))
    same_clips(clips, store(recordings, tmp_path / "full", segments="new"))


def test_clips_take_no_second_place_on_the_disk(tmp_path: Path) -> None:
    clips = store(recorded.write_folder(tmp_path / "in", recorded.delivery()), tmp_path / "clips")
    (segment,) = clips.info["segments"]
    inside = clips.path / "segments" / segment / "frames.npy"
    cached = tmp_path.with_name(f"{tmp_path.name}-segments") / segment / "frames.npy"
    assert inside.samefile(cached)


def test_many_processes_give_the_same_bytes_as_one(tmp_path: Path) -> None:
    recordings = recorded.write_zip(
        tmp_path / "in.zip", {f"S001C001P{p:03}R001A001.skeleton": recorded.one_person(p) for p in range(1, 200)}
    )
    info = {"data_version": "1"}
    for processes in (1, 2):
        out = tmp_path / f"by-{processes}"
        ingest(recordings, recorded.recipe(), out, info, Silent(), tmp_path / f"segments-{processes}", processes)
    assert recorded.tree(tmp_path / "by-1") == recorded.tree(tmp_path / "by-2")


def test_what_a_killed_ingest_left_long_ago_is_swept_away(tmp_path: Path) -> None:
    old, young, foreign = f".{'0' * 64}.abc", f".{'1' * 64}.abc", ".git"
    for name, age in ((old, 2 * 24 * 3600), (young, 60), (foreign, 2 * 24 * 3600)):
        recorded.write_folder(tmp_path / "segments" / name, {"frames.npy": b""})
        os.utime(tmp_path / "segments" / name, (time.time() - age,) * 2)
    kept.SegmentCache(tmp_path / "segments")
    assert {path.name for path in (tmp_path / "segments").iterdir()} == {young, foreign}


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
    shutil.copy(tmp_path / "in" / "a.zip", tmp_path / "in" / "b.zip")
    recorded.write_zip(tmp_path / "in" / "c.zip", {"elsewhere/" + Path(n).name: c for n, c in files[:2]})
    clips = store(tmp_path / "in", tmp_path / "clips")
    assert len(clips.index) == 8
    assert clips.rejected["source"].tolist() == [
        "c.zip/elsewhere/S001C001P001R001A002.skeleton",
        "c.zip/elsewhere/S001C001P002R001A001.skeleton",
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


def test_five_rejects_above_the_share_stop_the_ingest_and_are_kept(tmp_path: Path) -> None:
    damaged = {f"day/S001C001P{p:03}R001A001.skeleton": b"1\n" for p in range(21, 26)}
    damaged["day/=cmd()_.skeleton"] = damaged.pop("day/S001C001P021R001A001.skeleton")
    recordings = recorded.write_folder(tmp_path / "in", {**recorded.delivery(), **damaged})
    out = tmp_path / "out" / "clips"
    with pytest.raises(
        GltError, match=r"5 of 13 rejected \(38\.5%, data\.max_rejects allows 10\.0%\): 4 x format"
    ) as error:
        store(recordings, out, recorded.recipe(max_rejects=0.1))
    listed = out.parent / "clips.rejected.csv"
    assert str(listed) in str(error.value)
    assert [path.name for path in out.parent.iterdir()] == [listed.name]
    assert pd.read_csv(listed)["source"].tolist() == sorted(damaged)

    store(recordings, out, recorded.recipe(max_rejects=0.4))
    assert [path.name for path in out.parent.iterdir()] == ["clips"]


def test_fewer_than_five_rejects_never_stop_an_ingest(tmp_path: Path) -> None:
    damaged = {f"day/S001C001P{p:03}R001A001.skeleton": b"1\n" for p in range(21, 25)}
    recordings = recorded.write_folder(tmp_path / "in", {**recorded.delivery(1), **damaged})
    clips = store(recordings, tmp_path / "clips", recorded.recipe(max_rejects=0))
    assert (len(clips.index), len(clips.rejected)) == (1, 4)


def test_no_clip_left_is_an_error_whatever_may_be_rejected(tmp_path: Path) -> None:
    recordings = recorded.write_folder(tmp_path / "in", {"S001C001P001R001A001.skeleton": b""})
    with pytest.raises(GltError, match=r"1 of 1 rejected \(100\.0%, no clip is left\): 1 x format"):
        store(recordings, tmp_path / "clips", recorded.recipe(max_rejects=1.0))


@pytest.mark.fault("files of all kinds among recordings", "seen = taken + rejected + left out, each with its reason")
def test_every_file_is_accounted_for(tmp_path: Path) -> None:
    files = list(recorded.delivery(6).items())
    folder = recorded.write_folder(
        tmp_path / "in",
        {
            **dict(files[:2]),
            **{"bad.skeleton": b"1", "S001C002P005R002A008.skeleton": recorded.one_person(1)},  # on NTU's missing list
            **{"notes.txt": b"x", ".DS_Store": b"x", "cut.zip": b"PK\x03\x04", "take.skeleton.gz": b"x"},
        },
    )
    inner = recorded.write_zip(tmp_path / "inner.zip", {"a.skeleton": b"x"}).read_bytes()
    recorded.write_zip(folder / "week.zip", {**dict(files[2:5]), "inner.zip": inner, "../up.skeleton": b"1"})
    recorded.write_zip(folder / "week-again.zip", {**dict(files[2:5]), "more/" + files[0][0]: files[0][1]})
    (folder / "gone.skeleton").symlink_to(tmp_path / "gone")
    clips = store(folder, tmp_path / "clips")
    account = clips.account
    assert account is not None
    assert account.to_dict() == clips.info["account"] == {"seen": 18, "taken": 5, "rejected": 4, "left_out": 9}
    assert len(clips.index) == 5
    assert clips.left_out[["source", "check"]].to_numpy().tolist() == [
        ["week.zip/inner.zip", "nested"],
        [".DS_Store", "hidden"],
        ["notes.txt", "ending"],
        ["take.skeleton.gz", "compressed"],
    ]
    rejected = clips.rejected[clips.rejected["check"] != "repeat"]
    assert sorted(map(tuple, rejected[["source", "check"]].to_numpy())) == [
        ("S001C002P005R002A008.skeleton", "missing-list"),
        ("bad.skeleton", "name"),
        ("cut.zip", "unreadable"),
        ("gone.skeleton", "link"),
        ("week.zip/../up.skeleton", "outside"),
    ]
    assert account.describe(clips.left_out["check"]) == (
        "seen 18: 5 taken, 4 rejected, 9 left out (5 repeated or on NTU's missing list, "
        "1 nested in an archive, 1 hidden, 1 of another kind, 1 compressed)"
    )


def test_a_file_with_one_good_recording_is_taken(tmp_path: Path) -> None:
    keypoint = recorded.walk(1)[None]
    annotations = [
        {"frame_dir": "a#b", "label": 0, "keypoint": keypoint.copy()},
        {"frame_dir": "c#d", "label": -1, "keypoint": keypoint},
    ]
    folder = recorded.write_folder(
        tmp_path / "in",
        {"x#y.pkl": pickle.dumps(annotations), "z#1.pkl": pickle.dumps(annotations[1:]), "empty.pkl": b"]."},
    )
    clips = store(folder, tmp_path / "clips", recorded.recipe("pyskl", "given", given="xsub"))
    assert clips.info["account"] == {"seen": 3, "taken": 1, "rejected": 2, "left_out": 0}
    assert clips.rejected["source"].tolist() == ["empty.pkl", "x#y.pkl#c#d", "z#1.pkl#c#d"]


@pytest.mark.fault("a recording of another layout comes first", "it is rejected; those of the usual layout are taken")
@pytest.mark.parametrize("archives", [False, True])
def test_the_layout_of_most_clips_is_that_of_all(tmp_path: Path, archives: bool) -> None:
    files = {f"{name}.pkl": pickle.dumps([annotation(name, 20 if name == "a" else 25)]) for name in "abcd"}
    folder = tmp_path / "in"
    if archives:
        recorded.write_zip(folder / "a.zip", {"a.pkl": files.pop("a.pkl")})
        recorded.write_zip(folder / "z.zip", files)
    else:
        recorded.write_folder(folder, files)
    clips = store(folder, tmp_path / "clips", recorded.recipe("pyskl", "given", given="xsub"))
    assert clips.index["name"].tolist() == ["b", "c", "d"]
    assert clips.skeleton.name == "ntu25"
    assert clips.rejected[["source", "check"]].to_numpy().tolist() == [
        ["a.zip/a.pkl" if archives else "a.pkl", "layout"]
    ]
    assert clips.info["account"] == {"seen": 4, "taken": 3, "rejected": 1, "left_out": 0}


def annotation(name: str, joints: int) -> dict[str, Any]:
    return {"frame_dir": name, "label": 0, "keypoint": recorded.walk(ord(name), 5, joints)[None]}


def test_clips_of_an_older_version_have_no_account(tmp_path: Path) -> None:
    clips = store(recorded.write_folder(tmp_path / "in", recorded.delivery()), tmp_path / "clips")
    manifest = json.loads((clips.path / "manifest.json").read_text())
    (clips.path / "left_out.parquet").unlink()
    del manifest["info"]["account"]
    del manifest["files"]["left_out.parquet"]
    (clips.path / "manifest.json").write_text(json.dumps(manifest))
    older = ClipStore(clips.path)
    assert older.account is None
    assert older.left_out.empty


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
    with pytest.raises(GltError, match=r"no such file or folder; give a folder, an archive, or one \.skeleton file"):
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


@pytest.mark.fault("an unknown layout in the recipe", "an error of the recipe; no recording is rejected for it")
@pytest.mark.parametrize("layout", ["ntu26", "{", "joints: [a]"])
def test_an_unknown_layout_is_an_error_of_the_recipe(tmp_path: Path, layout: str) -> None:
    recordings = recorded.write_folder(tmp_path / "in", recorded.delivery(1))
    with pytest.raises(GltError, match=r"recipe: data\.layout: skeleton layout"):
        store(recordings, tmp_path / "clips", recorded.recipe(layout=layout))
    assert not (tmp_path / "clips.rejected.csv").exists()


@pytest.mark.fault("bad files of one name in several archives", "each is listed with its archive")
def test_a_rejected_member_is_listed_with_its_archive(tmp_path: Path) -> None:
    good, bad = recorded.delivery(1), "S009C001P001R001A001.skeleton"
    for place in ("a", "day/b"):
        recorded.write_zip(tmp_path / "in" / f"{place}.zip", {**good, bad: b"1\n" + place.encode()})
    clips = store(tmp_path / "in", tmp_path / "clips", recorded.recipe(max_rejects=0.9))
    rows = clips.rejected.set_index("source")
    assert sorted(rows.index[rows["check"] != "repeat"]) == [f"a.zip/{bad}", f"day/b.zip/{bad}"]
    repeated = rows[rows["check"] == "repeat"]
    first, second = repeated.index[0].partition(".zip")[0], repeated["reason"].iloc[0].partition(".zip")[0]
    assert {first, second} == {"a", "day/b"}
    assert clips.info["account"]["rejected"] == 2


def test_a_full_disk_is_reported_and_loses_nothing(tmp_path: Path) -> None:
    recordings = recorded.write_folder(tmp_path / "in", recorded.delivery())
    store(recordings, tmp_path / "clips")
    before = recorded.tree(tmp_path / "clips")
    recorded.write_folder(recordings, {"S001C001P020R001A001.skeleton": recorded.one_person(7, 2000)})

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    done = in_a_process(recordings, tmp_path / "clips", preexec_fn=full)
    assert done.returncode == 1
    assert re.search(r"File too large; free space on the disk .* finished segments are reused", done.stderr)
    assert recorded.tree(tmp_path / "clips") == before
    assert len(store(recordings, tmp_path / "clips").index) == 9


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    recordings = recorded.write_folder(tmp_path / "in", recorded.delivery(2))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(GltError, match=r"file is not a folder; give another path"):
        store(recordings, tmp_path / "file" / "clips")


def in_a_process(recordings: Path, out: Path, **how: Any) -> subprocess.CompletedProcess[str]:
    """`store` of the same recordings and place, where a limit of the process hits nobody else."""
    code = f"""
import sys
from pathlib import Path
from glt.errors import GltError
from tests.data.test_ingest import store
try:
    store(Path({str(recordings)!r}), Path({str(out)!r}))
except GltError as error:
    sys.exit(str(error))
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **how)
