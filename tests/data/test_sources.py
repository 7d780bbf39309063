from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import io
import lzma
import os
import pickle
import shutil
import socket
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glt.data import archives, segments
from glt.data.listing import Listing, Names, list_recordings
from glt.data.recording import Rejection
from glt.data.sources import Batch
from glt.errors import GltError
from tests.data import recorded

ENDS = (".skeleton",)
FILES = {f"day/{n:02}.skeleton": f"{n}\n".encode() * (n + 1) for n in range(7)}
KINDS = ("folder", "zip", "tar", "tar.gz", "tar.xz", "tar.bz2")


def write_batch(place: Path, kind: str, files: dict[str, bytes]) -> Path:
    """The files as a folder or an archive of this kind."""
    if kind == "folder":
        return recorded.write_folder(place / "in", files)
    if kind == "zip":
        return recorded.write_zip(place / "in.zip", files)
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"in.{kind}"
    with tarfile.open(path, f"w:{kind.removeprefix('tar').removeprefix('.')}") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def listing(path: Path, sidecars: tuple[str, ...] = ()) -> Listing:
    return list_recordings(path, Names(ENDS, sidecars))


def batches(path: Path, ends: tuple[str, ...] = ENDS, sidecars: tuple[str, ...] = ()) -> list[Batch]:
    return list_recordings(path, Names(ends, sidecars)).batches


def checks(
    path: Path, sidecars: tuple[str, ...] = ()
) -> tuple[list[str], list[tuple[str, str]], list[tuple[str, str]]]:
    """Names of the recordings; name and check of what is rejected, and of what is left out."""
    found = listing(path, sidecars)
    names = [name for batch in found.batches for name in batch.names]
    rejected, left_out = ([(one.name, one.check) for one in files] for files in (found.rejected, found.left_out))
    return names, rejected, left_out


def content(batch: Batch, size: int = 3) -> dict[str, bytes | Rejection]:
    """All that its chunks give, each as it arrives in another process."""
    chunks = [pickle.loads(pickle.dumps(chunk)) for chunk in batch.chunks(size)]
    return {name: found for chunk in chunks for name, found in chunk.files()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_source_gives_the_same_names_and_contents(tmp_path: Path, kind: str) -> None:
    noise = {"__MACOSX/day/._00.skeleton": b"x", "readme.txt": b"x", ".hidden/a.skeleton": b"x"}
    (batch,) = batches(write_batch(tmp_path, kind, {**dict(reversed(FILES.items())), **noise}), ENDS)
    assert batch.names == tuple(sorted(FILES))
    assert content(batch) == FILES
    assert batch.is_archive == (kind != "folder")
    parts = list(batch.parts(3))
    assert [name for part in parts for name in part.names] == sorted(FILES)
    assert {name: found for part in parts for name, found in content(part).items()} == FILES


@pytest.mark.parametrize("kind", KINDS)
def test_the_nearest_sidecar_counts(tmp_path: Path, kind: str) -> None:
    files = {
        **{"a/1.skeleton": b"1", "a/b/2.skeleton": b"2", "c/3.skeleton": b"3"},
        **{"labels.csv": b"top", "a/b/Labels.csv": b"deep", "a/skeleton.yaml": b"a", "c/other.csv": b"no"},
    }
    (batch,) = batches(write_batch(tmp_path, kind, files), ENDS, ("labels.csv", "skeleton.yaml"))
    for chunk in [*batch.chunks(2), *map(pickle.loads, map(pickle.dumps, batch.chunks(1)))]:
        for name, _ in chunk.files():
            expected = {
                "a/1.skeleton": {"labels.csv": b"top", "skeleton.yaml": b"a"},
                "a/b/2.skeleton": {"labels.csv": b"deep", "skeleton.yaml": b"a"},
                "c/3.skeleton": {"labels.csv": b"top"},
            }[name]
            assert chunk.sidecars(name) == batch.sidecars(name) == expected


def test_a_sidecar_that_changes_is_read_again(tmp_path: Path) -> None:
    folder = write_batch(tmp_path, "folder", {"1.skeleton": b"1", "labels.csv": b"one"})
    (batch,) = batches(folder, ENDS, ("labels.csv",))
    assert batch.sidecars("1.skeleton") == {"labels.csv": b"one"}
    (folder / "labels.csv").write_bytes(b"another")
    assert batch.sidecars("1.skeleton") == {"labels.csv": b"another"}


def test_a_folder_holds_archives_beside_loose_files(tmp_path: Path) -> None:
    for kind in ("zip", "tar", "tar.gz"):
        write_batch(tmp_path / kind, kind, {f"{kind}.skeleton": b"1"})
    write_batch(tmp_path, "folder", {}).mkdir(exist_ok=True)
    (tmp_path / "loose.skeleton").write_bytes(b"2")
    found = batches(tmp_path, ENDS)
    assert {(batch.path.name, batch.names) for batch in found} == {
        ("in.zip", ("zip.skeleton",)),
        ("in.tar", ("tar.skeleton",)),
        ("in.tar.gz", ("tar.gz.skeleton",)),
        (tmp_path.name, ("loose.skeleton",)),
    }


def test_a_link_to_a_file_is_the_file_and_a_loop_of_folders_is_harmless(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/ab12").write_bytes(b"1")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.skeleton").symlink_to(tmp_path / "cache/ab12")
    (tmp_path / "in/lost.skeleton").symlink_to(tmp_path / "gone")
    (tmp_path / "in/again").symlink_to(tmp_path / "in")
    (batch,) = batches(tmp_path / "in", ENDS)
    assert content(batch) == {"a.skeleton": b"1"}


@pytest.mark.fault("an archive member whose path leaves the archive", "that member is rejected; the others are taken")
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize(
    "name", ["../a.skeleton", "/etc/a.skeleton", "x/../../a.skeleton", "..\\a.skeleton", "C:a.skeleton"]
)
def test_a_member_that_points_out_of_its_archive_is_rejected(tmp_path: Path, kind: str, name: str) -> None:
    path = write_batch(tmp_path, kind, {"b.skeleton": b"1", name: b"2", "../readme.txt": b"3"})
    shown = name.replace("\\", "/") if kind == "zip" else name
    assert checks(path) == (["b.skeleton"], [(shown, "outside")], [("../readme.txt", "outside")])
    (batch,) = batches(path)
    assert content(batch) == {"b.skeleton": b"1"}


@pytest.mark.fault("a link, device or pipe in an archive", "that member is rejected; the others are taken")
@pytest.mark.parametrize("how", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_a_link_or_a_device_in_a_tar_is_rejected(tmp_path: Path, how: bytes, kind: str) -> None:
    with tarfile.open(tmp_path / f"in.{kind}", f"w:{kind[4:]}") as archive:
        for name, type in (("a.skeleton", how), ("latest", how), ("b.skeleton", tarfile.REGTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = type, "b.skeleton"
            archive.addfile(info)
    assert checks(tmp_path / f"in.{kind}") == (["b.skeleton"], [("a.skeleton", "link")], [("latest", "link")])
    (batch,) = batches(tmp_path / f"in.{kind}")
    assert content(batch) == {"b.skeleton": b""}


def test_a_link_in_a_zip_is_rejected(tmp_path: Path) -> None:
    path = recorded.write_zip(tmp_path / "in.zip", {"b.skeleton": b"1"})
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("a.skeleton")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    assert checks(path) == (["b.skeleton"], [("a.skeleton", "link")], [])


@pytest.mark.fault("two archive members with the same name", "the second is rejected")
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", ["day/01.skeleton", "day/é.skeleton"])
def test_a_name_twice_in_an_archive_rejects_the_second(tmp_path: Path, kind: str, name: str) -> None:
    path = write_batch(tmp_path, kind, {**FILES, name: b"1\n1\n"})
    opened = zipfile.ZipFile(path, "a") if kind == "zip" else tarfile.open(path, "a")  # noqa: SIM115
    again = unicodedata.normalize("NFD", name)
    with opened as archive:
        if isinstance(archive, zipfile.ZipFile):
            archive.writestr(again, b"other")
        else:
            archive.addfile(tarfile.TarInfo(again))
    names, rejected, left_out = checks(path)
    assert (sorted(names), rejected, left_out) == (sorted({*FILES, name}), [(name, "duplicate")], [])
    (batch,) = batches(path)
    assert content(batch)[name] == b"1\n1\n"


def test_a_bomb_in_a_zip_is_a_reject_and_costs_no_memory(tmp_path: Path) -> None:
    path = recorded.write_zip(tmp_path / "in.zip", {"a.skeleton": b"0" * (40 << 20), "b.skeleton": b"1"})
    (batch,) = batches(path, ENDS)
    found = content(batch)
    assert isinstance(found["a.skeleton"], Rejection)
    assert (found["a.skeleton"].check, found["b.skeleton"]) == ("too-large", b"1")


def test_a_zip_that_lies_of_its_size_gives_no_more_than_it_says(tmp_path: Path) -> None:
    path = recorded.write_zip(tmp_path / "in.zip", {"a.skeleton": b"0" * (40 << 20)})
    raw = bytearray(path.read_bytes())
    directory = raw.index(b"PK\x01\x02")
    raw[directory + 24 : directory + 28] = (100).to_bytes(4, "little")
    path.write_bytes(raw)
    (batch,) = batches(path, ENDS)
    assert isinstance(content(batch)["a.skeleton"], Rejection)


@pytest.mark.parametrize("kind", ["tar.gz", "tar.xz", "tar.bz2"])
def test_a_bomb_in_a_tar_is_an_error(tmp_path: Path, kind: str) -> None:
    with pytest.raises(GltError, match="unpacks to far more"):
        batches(write_batch(tmp_path, kind, {"a.skeleton": bytes(60 << 20), "b.skeleton": b"1"}), ENDS)


def test_a_file_that_is_too_large_is_a_reject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "LARGEST", 5)
    for kind in KINDS:
        (batch,) = batches(write_batch(tmp_path / kind, kind, {"a.skeleton": b"1" * 6, "b.skeleton": b"1" * 5}), ENDS)
        found = content(batch)
        assert isinstance(found["a.skeleton"], Rejection)
        assert found["b.skeleton"] == b"11111"


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz"])
@settings(max_examples=120, deadline=None)
@given(data=st.data())
@pytest.mark.fault(
    "an archive with flipped or missing bytes", "one line that names the archive, or its members are rejected"
)
def test_no_damage_to_an_archive_escapes_as_anything_else(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    archive = write_batch(folder, kind, {"a.skeleton": b"1\n0\n", "b.skeleton": b"2\n0\n0\n", "labels.csv": b"name\n"})
    raw = bytearray(archive.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=4)):
        raw[place] = data.draw(st.integers(0, 255))
    archive.write_bytes(raw[: data.draw(st.just(len(raw)) | st.integers(0, len(raw)))])
    with contextlib.suppress(GltError):
        for batch in batches(archive, ENDS, ("labels.csv",)):
            assert sorted(content(batch)) == list(batch.names)
            for name in batch.names:
                with contextlib.suppress(Rejection):
                    batch.sidecars(name)
    shutil.rmtree(folder)


@given(noise=st.binary(max_size=300), kind=st.sampled_from(["zip", "tar", "tar.gz", "tgz", "tar.bz2"]))
def test_garbage_is_no_archive(tmp_path_factory: pytest.TempPathFactory, noise: bytes, kind: str) -> None:
    folder = tmp_path_factory.mktemp("garbage")
    (folder / f"in.{kind}").write_bytes(noise)
    with pytest.raises(GltError):
        batches(folder / f"in.{kind}", ENDS)
    shutil.rmtree(folder)


def test_a_stream_that_ends_early_rejects_what_did_not_come(tmp_path: Path) -> None:
    path = write_batch(tmp_path, "tar.gz", FILES)
    (batch,) = batches(path, ENDS)
    write_batch(tmp_path, "tar.gz", dict(list(FILES.items())[:3]))
    found = content(batch)
    assert [isinstance(found[name], bytes) for name in sorted(FILES)] == [True] * 3 + [False] * 4


def test_a_member_without_a_name_is_no_recording(tmp_path: Path) -> None:
    archive = recorded.write_zip(tmp_path / "in.zip", {"a.skeleton": b"1\n0\n", "b": b""})
    archive.write_bytes(archive.read_bytes().replace(b"b", b"\0"))
    (batch,) = batches(archive, ENDS)
    assert batch.names == ("a.skeleton",)


def test_an_encrypted_archive_is_an_error(tmp_path: Path) -> None:
    path = encrypt(recorded.write_zip(tmp_path / "in.zip", {"a.skeleton": b"1\n0\n"}))
    with pytest.raises(GltError, match="the archive is encrypted"):
        batches(path, ENDS)


def test_an_encrypted_member_is_rejected(tmp_path: Path) -> None:
    path = encrypt(recorded.write_zip(tmp_path / "in.zip", {"a.skeleton": b"1\n0\n", "b.skeleton": b"1\n0\n"}))
    assert checks(path) == (["b.skeleton"], [("a.skeleton", "encrypted")], [])


def encrypt(archive: Path) -> Path:
    """The archive with its first member marked as encrypted."""
    raw = bytearray(archive.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(raw)
    return archive


def zip_with_raw_names(path: Path, names: dict[bytes, bytes], flag: int = 0) -> Path:
    """A zip whose members have these bytes as names, with or without the flag for UTF-8."""
    stand_ins = {raw: f"{index:0{len(raw)}}" for index, raw in enumerate(names)}
    recorded.write_zip(path, {stand_ins[raw]: content for raw, content in names.items()})
    data = path.read_bytes()
    for raw, stand_in in stand_ins.items():
        data = data.replace(stand_in.encode(), raw)
    data = bytearray(data)
    start = -1
    while (start := data.find(b"PK\x01\x02", start + 1)) >= 0:
        data[start + 8 : start + 10] = flag.to_bytes(2, "little")
    path.write_bytes(data)
    return path


HANGUL = "한글 폴더/걷기_01.skeleton"


@pytest.mark.fault(
    "a zip made by Windows, macOS or DOS, with names in that system's encoding",
    "the recordings are taken under their right names",
)
@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (HANGUL.encode("cp949"), HANGUL),
        (HANGUL.encode(), HANGUL),
        (unicodedata.normalize("NFD", HANGUL).encode(), HANGUL),
        ("Prüfung/1é.skeleton".encode("cp437"), "Prüfung/1é.skeleton"),
        (b"day\\sub\\01.skeleton", "day/sub/01.skeleton"),
        (b"a\x1b[31mb.skeleton", "a%1B[31mb.skeleton"),
        (b"plain.skeleton", "plain.skeleton"),
    ],
)
def test_a_name_without_an_encoding_in_a_zip_is_decoded(tmp_path: Path, raw: bytes, name: str) -> None:
    (batch,) = batches(zip_with_raw_names(tmp_path / "in.zip", {raw: b"1", b"00.skeleton": b"2"}))
    assert content(batch) == {name: b"1", "00.skeleton": b"2"}


@pytest.mark.fault("names in a tar that are not UTF-8", "the recordings are taken under a decoded or escaped name")
@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
@pytest.mark.parametrize(
    ("encoding", "stored", "name"),
    [
        ("cp949", HANGUL, HANGUL),
        ("latin-1", "prüf/é.skeleton", "pr%FCf/%E9.skeleton"),
        ("utf-8", unicodedata.normalize("NFD", HANGUL), HANGUL),
    ],
)
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_a_name_in_a_tar_is_decoded_or_escaped(
    tmp_path: Path, kind: str, encoding: str, stored: str, name: str, form: int
) -> None:
    path = tmp_path / f"in.{kind}"
    raw = stored.encode(encoding).decode("utf-8", "surrogateescape")
    with tarfile.open(path, f"w:{kind[4:]}", format=form, encoding="utf-8", errors="surrogateescape") as archive:
        info = tarfile.TarInfo(raw)
        info.size = 1
        archive.addfile(info, io.BytesIO(b"1"))
    (batch,) = batches(path)
    assert content(batch) == {name: b"1"}


@pytest.mark.fault("file names in NFD, or not in UTF-8, on a disk", "taken under a clean name, and found again")
def test_a_name_on_disk_that_is_not_clean_is_read_under_a_clean_one(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    nfd = unicodedata.normalize("NFD", "é.skeleton")
    for name in (nfd, "é.skeleton", "\udcff.skeleton", "a\nb.skeleton", "UPPER.SKELETON"):
        (folder / name).write_text(name, errors="surrogateescape")
    names, rejected, left_out = checks(folder)
    assert names == ["%FF.skeleton", "UPPER.SKELETON", "a%0Ab.skeleton", "é.skeleton"]
    assert (rejected, left_out) == ([("é.skeleton", "duplicate")], [])
    (batch,) = batches(folder)
    found = content(batch)
    assert found["%FF.skeleton"] == b"\xff.skeleton"
    assert found["a%0Ab.skeleton"] == b"a\nb.skeleton"
    assert found["é.skeleton"] == nfd.encode()


@pytest.mark.fault(
    "pipes, sockets, broken links and loops among recordings",
    "nothing hangs; each is left out, or rejected if it has the name of a recording, an archive or a sidecar",
)
def test_nothing_hangs_at_what_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = recorded.write_folder(tmp_path / "in", {"a/1.skeleton": b"1", "b/2.skeleton": b"2"})
    other = recorded.write_folder(tmp_path / "other", {"3.skeleton": b"3"})
    for name in ("pipe", "pipe.skeleton", "pipe.zip"):
        os.mkfifo(folder / name)
    monkeypatch.chdir(folder)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket.skeleton")
    for name in ("gone", "gone.skeleton", "labels.csv"):
        (folder / name).symlink_to(tmp_path / "gone")
    (folder / "self.skeleton").symlink_to(folder / "self.skeleton")
    (folder / "a/up").symlink_to(folder)
    (folder / "a/far-up").symlink_to(tmp_path)
    (folder / "again").symlink_to(folder / "b")
    (folder / "one").symlink_to(other)
    (folder / "two").symlink_to(other)
    names, rejected, left_out = checks(folder, ("labels.csv",))
    assert names == ["a/1.skeleton", "b/2.skeleton", "one/3.skeleton"]
    assert sorted(rejected) == [
        ("gone.skeleton", "link"),
        ("labels.csv", "link"),
        ("pipe.skeleton", "special"),
        ("pipe.zip", "special"),
        ("self.skeleton", "link"),
        ("socket.skeleton", "special"),
    ]
    linked = [(name, "link") for name in ("a/far-up", "a/up", "again", "gone", "two")]
    assert sorted(left_out) == sorted([*linked, ("pipe", "special")])


@pytest.mark.fault("labels.csv beside Labels.CSV", "one is read, the other rejected by its name")
def test_sidecars_that_differ_by_upper_case_are_told_apart(tmp_path: Path) -> None:
    files = {"a.skeleton": b"1", "labels.csv": b"name\n", "day/Labels.CSV": b"", "Labels.CSV": b""}
    for kind in ("folder", "zip"):
        found = listing(write_batch(tmp_path / kind, kind, files), ("labels.csv",))
        assert [(one.name, one.check) for one in found.rejected] == [("labels.csv", "duplicate")]
        assert found.batches[0].sidecar_names == ("Labels.CSV", "day/Labels.CSV")


@pytest.mark.fault("a file or folder that may not be read, or whose path is too long", "rejected with the reason")
def test_what_cannot_be_looked_at_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = recorded.write_folder(tmp_path / "in", {"a.skeleton": b"1"})
    part, name = "d" * 250, "x.skeleton"
    monkeypatch.chdir(folder)
    for _ in range(17):
        os.mkdir(part)  # noqa: PTH102 - the whole path would be too long
        os.chdir(part)
    Path(name).write_bytes(b"1")
    os.chdir(folder)
    names, rejected, left_out = checks(folder)
    assert names == ["a.skeleton"]
    assert [check for _, check in rejected] == ["unreadable"]
    assert left_out == []


@pytest.mark.fault("a sparse file of 300 GB", "rejected at once, unread")
def test_a_huge_file_is_rejected_unread(tmp_path: Path) -> None:
    folder = recorded.write_folder(tmp_path / "in", {"a.skeleton": b"1", "b.skeleton": b"1"})
    os.truncate(folder / "b.skeleton", 300 << 30)
    (batch,) = batches(folder)
    (part,) = segments.SegmentCache(tmp_path / "segments").parts([batch], "settings")
    assert part.files is not None
    assert part.files["b.skeleton"] == f"{300 << 30} bytes"
    assert isinstance(content(part.batch)["b.skeleton"], Rejection)


@pytest.mark.fault("a folder that the user may not read", "rejected with its reason; the others are taken")
def test_a_folder_that_cannot_be_read_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = recorded.write_folder(tmp_path / "in", {"a.skeleton": b"1", "closed/b.skeleton": b"2"})
    scandir = os.scandir

    def deny(path: Path) -> Any:
        if path.name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    assert checks(folder) == (["a.skeleton"], [("closed", "unreadable")], [])


@pytest.mark.fault("files that are not recordings", "each is left out with its reason")
@pytest.mark.parametrize("kind", KINDS)
def test_files_that_are_no_recordings_are_left_out_with_a_reason(tmp_path: Path, kind: str) -> None:
    others = {
        **{"readme.txt": "ending", ".hidden": "hidden", "__MACOSX/._a.skeleton": "hidden", "labels.csv": "sidecar"},
        **{"b.skeleton.gz": "compressed", "c.7z": "archive", "d.rar": "archive"},
    }
    if kind != "folder":
        others |= {"inner.zip": "nested", "inner.tar.gz": "nested", "inner.TAR": "nested"}
    path = write_batch(tmp_path, kind, {**dict.fromkeys(others, b"x"), "a.skeleton": b"1"})
    found = listing(path, ("labels.csv",))
    assert {one.name: one.check for one in found.left_out} == others
    assert found.rejected == []


@pytest.mark.fault("an unreadable archive among good files", "it counts as one rejected file; the others are taken")
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz", "tar.bz2"])
def test_a_bad_archive_beside_good_files_is_one_rejected_file(tmp_path: Path, kind: str) -> None:
    folder = recorded.write_folder(tmp_path / "in", {"a.skeleton": b"1"})
    noise = np.random.default_rng(0).bytes(50_000)
    path = write_batch(tmp_path / "elsewhere", kind, {"b.skeleton": noise, "c.skeleton": b"1"})
    for name, raw in (("cut", path.read_bytes()[:20_000]), ("garbage", noise), ("nothing", b"")):
        (folder / f"{name}.{kind}").write_bytes(raw)
    names, rejected, left_out = checks(folder)
    assert set(names) - {"b.skeleton"} == {"a.skeleton"}  # a tar is read up to the damage
    assert rejected == [(f"{name}.{kind}", "unreadable") for name in ("cut", "garbage", "nothing")]
    assert left_out == []


@pytest.mark.parametrize("size", [-1, -512, -(10**6), -(2**70)])
@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_a_member_of_negative_size_makes_a_tar_unreadable(tmp_path: Path, kind: str, size: int) -> None:
    path = tmp_path / f"in.{kind}"
    with tarfile.open(path, f"w:{kind[4:]}", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a.skeleton")
        info.pax_headers = {"size": str(size)}
        archive.addfile(info)
    with pytest.raises(GltError, match="not a readable tar archive"):
        batches(path)


def test_a_small_zip_of_members_that_overlap_is_a_bomb(tmp_path: Path) -> None:
    path = recorded.write_zip(tmp_path / "in.zip", {"a.skeleton": bytes(15 << 20)})
    raw = bytearray(path.read_bytes())
    start, end = raw.index(b"PK\x01\x02"), raw.index(b"PK\x05\x06")
    entry, tail = raw[start:end], raw[end:]
    many = b"".join(entry.replace(b"a.skeleton", f"{n:08}.s".encode()) for n in range(100))
    tail[8:10] = tail[10:12] = (100).to_bytes(2, "little")
    tail[12:16] = len(many).to_bytes(4, "little")
    path.write_bytes(raw[:start] + many + tail)
    with pytest.raises(GltError, match="unpacks to far more"):
        batches(path)


def tar_of(names: list[str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"abc"))
    return stream.getvalue()


GOOD_TAR = tar_of(["a.skeleton", "b.skeleton", "c.skeleton"])


@pytest.mark.fault(
    "a tar with a damaged header, cut off, or with another tar after it",
    "readable members are taken, and the archive is reported as damaged",
)
@pytest.mark.parametrize(
    ("raw", "names", "reason"),
    [
        (GOOD_TAR[:1034] + b"\xff" + GOOD_TAR[1035:], ("a",), "what follows its last readable member is lost"),
        (GOOD_TAR[:2048], ("a", "b"), "cut off: it has no end mark"),
        (GOOD_TAR[:1537], ("a", "b"), "what follows its last readable member is lost"),
        (GOOD_TAR + tar_of(["d.skeleton"]), ("a", "b", "c"), "continues after its end mark"),
        (gzip.compress(GOOD_TAR) + gzip.compress(GOOD_TAR), ("a", "b", "c"), "continues after its end mark"),
        (gzip.compress(GOOD_TAR) + b"noise", ("a", "b", "c"), "cannot be read after its end mark"),
        (GOOD_TAR + bytes(3 << 20), ("a", "b", "c"), "ends with megabytes of zeros"),
    ],
)
def test_a_tar_that_does_not_end_as_it_should_is_said(
    tmp_path: Path, raw: bytes, names: tuple[str, ...], reason: str
) -> None:
    name = "in.tar" if raw[:2] != b"\x1f\x8b" else "in.tar.gz"
    recorded.write_folder(tmp_path, {name: raw})
    found = listing(tmp_path)
    assert found.batches[0].names == tuple(f"{name}.skeleton" for name in names)
    (row,) = found.rejected
    assert row.name == name
    assert row.check == "unreadable"
    assert reason in row.reason


@pytest.mark.fault("members named `./a` or `day//a`, as `tar -C folder .` names them", "taken, with their sidecars")
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_members_are_named_without_dots(tmp_path: Path, kind: str) -> None:
    files = {"./skeleton.yaml": b"s", "./a.npz": b"1", "day//b.npz": b"2", "./day/./c.npz": b"3", "a.npz": b"again"}
    names = Names((".npz",), ("skeleton.yaml",))
    found = list_recordings(write_batch(tmp_path, kind, files), names)
    (batch,) = found.batches
    assert content(batch) == {"a.npz": b"1", "day/b.npz": b"2", "day/c.npz": b"3"}
    assert {name: batch.sidecars(name) for name in batch.names} == {
        name: {"skeleton.yaml": b"s"} for name in batch.names
    }
    assert [(one.name, one.check) for one in found.rejected] == [("a.npz", "duplicate")]


@pytest.mark.fault("a tar that several processes have compressed in parts", "taken as any other")
@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_tar_compressed_in_parts_is_read(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    parts = [GOOD_TAR[start : start + 700] for start in range(0, len(GOOD_TAR), 700)]
    folder = recorded.write_folder(tmp_path, {"in.tar.gz": b"".join(map(compress, parts))})
    (batch,) = batches(folder)
    assert content(batch) == dict.fromkeys(["a.skeleton", "b.skeleton", "c.skeleton"], b"abc")


@pytest.mark.fault("a .tar of zeros, as an unfinished download is", "rejected by its name, in no time")
def test_a_tar_of_zeros_is_rejected(tmp_path: Path) -> None:
    folder = recorded.write_folder(tmp_path, {"in.tar": b"", "a.skeleton": b"1"})
    os.truncate(folder / "in.tar", 300 << 30)
    assert checks(folder) == (["a.skeleton"], [("in.tar", "unreadable")], [])


def test_a_tar_cut_in_a_huge_member_is_read_up_to_there(tmp_path: Path) -> None:
    huge = tarfile.TarInfo("b.skeleton")
    huge.size = 1 << 60
    raw = tar_of(["a.skeleton"])[:1024] + huge.tobuf() + b"1" * 1000
    names, rejected, _ = checks(recorded.write_folder(tmp_path, {"in.tar": raw}))
    assert names == ["a.skeleton", "b.skeleton"]
    assert rejected == [("in.tar", "unreadable")]


@pytest.mark.fault(
    "a zip before or after another one in one file", "one is read, and the archive is reported as damaged"
)
def test_a_zip_beside_another_in_one_file_is_said(tmp_path: Path) -> None:
    one, two = (recorded.write_zip(tmp_path / f"{x}.zip", {f"{x}.skeleton": b"1"}).read_bytes() for x in "ab")
    nothing = recorded.write_zip(tmp_path / "c.zip", {}).read_bytes()
    for count, (raw, names) in enumerate(
        [(one + two, "b"), (b"MZ" + one + two, "b"), (one[:40] + two, "b"), (one + two[:40], "a"), (one + nothing, "")]
    ):
        folder = recorded.write_folder(tmp_path / f"{count}", {"in.zip": raw, "z.skeleton": b"1"})
        found, rejected, left_out = checks(folder)
        assert sorted(found) == [*(f"{x}.skeleton" for x in names), "z.skeleton"]
        assert rejected == [("in.zip", "unreadable")]
        assert left_out == []
    shifted = bytearray(one)
    place = one.index(b"PK\5\6") + 16
    shifted[place : place + 4] = (int.from_bytes(one[place : place + 4], "little") + 9).to_bytes(4, "little")
    assert checks(recorded.write_folder(tmp_path / "shifted", {"in.zip": bytes(shifted), "z.skeleton": b"1"}))
    extracting = recorded.write_folder(tmp_path / "exe", {"in.zip": b"MZ" + one})
    assert checks(extracting) == (["a.skeleton"], [], [])


@pytest.mark.fault("a member of an archive with a name of 60,000 characters", "rejected by its name; it is counted")
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_that_is_too_long_is_rejected(tmp_path: Path, kind: str) -> None:
    path = write_batch(
        tmp_path, kind, {"a" * 60_000 + ".skeleton": b"1", "b/" * 20_000 + "c.skeleton": b"1", "b.skeleton": b"1"}
    )
    names, rejected, left_out = checks(path)
    assert names == ["b.skeleton"]
    assert sorted(rejected) == [
        ("a" * 100 + "[...]" + "a" * 91 + ".skeleton", "name"),
        ("b/" * 50 + "[...]" + "b/" * 45 + "c.skeleton", "name"),
    ]
    assert left_out == []


@pytest.mark.fault("an empty archive", "listed as left out")
def test_an_empty_archive_is_left_out(tmp_path: Path) -> None:
    recorded.write_zip(tmp_path / "in" / "empty.zip", {})
    (tmp_path / "in" / "empty.tar").write_bytes(tar_of([]))
    recorded.write_folder(tmp_path / "in", {"a.skeleton": b"1"})
    assert checks(tmp_path / "in") == (["a.skeleton"], [], [("empty.tar", "empty"), ("empty.zip", "empty")])


def test_a_zip_that_promises_a_huge_member_is_rejected_and_not_believed(tmp_path: Path) -> None:
    path = recorded.write_zip(tmp_path / "in.zip", {"a.skeleton": b"1", "b.skeleton": b"2"})
    (batch,) = batches(path)
    batch = replace(batch, members={**batch.members, "a.skeleton": (0, 1 << 62)})
    assert dict(batch.sizes())["a.skeleton"] <= archives.LARGEST_PICKLE


@pytest.mark.parametrize(("crc", "expected"), [(0, "한글/01.skeleton"), (1, "__/01.skeleton")])
def test_the_unicode_path_of_info_zip_is_the_name_if_it_is_for_this_one(
    tmp_path: Path, crc: int, expected: str
) -> None:
    raw = b"__/01.skeleton"
    field = struct.pack("<BI", 1, (zlib.crc32(raw) + crc) % 2**32) + "한글/01.skeleton".encode()
    info = zipfile.ZipInfo(raw.decode())
    info.extra = struct.pack("<HH", 0x7075, len(field)) + field
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr(info, b"1")
    (batch,) = batches(tmp_path / "in.zip")
    assert content(batch) == {expected: b"1"}


@pytest.mark.fault("a file that grows while it is read", "rejected with its reason; the others are taken")
def test_a_file_that_grows_while_it_is_read_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (batch,) = batches(recorded.write_folder(tmp_path / "in", {"a.skeleton": b"1", "b.skeleton": b"2"}))
    true_open = Path.open

    def growing(path: Path, *mode: Any, **options: Any) -> Any:
        stream = true_open(path, *mode, **options)
        if path.name == "a.skeleton":
            read = stream.read

            def read_and_grow(size: int) -> bytes:
                with true_open(path, "ab") as end:
                    end.write(b"more")
                return bytes(read(size))

            stream = SimpleNamespace(fileno=stream.fileno, read=read_and_grow)
            return contextlib.nullcontext(stream)
        return stream

    monkeypatch.setattr(Path, "open", growing)
    read = content(batch)
    assert isinstance(read["a.skeleton"], Rejection)
    assert "grows" in read["a.skeleton"].reason
    assert read["b.skeleton"] == b"2"


@pytest.mark.fault("an archive with the ending of another kind", "read by its content")
@pytest.mark.parametrize(("kind", "ending"), [("tar.gz", "tar"), ("tar", "zip"), ("zip", "tar.gz"), ("tar", "tgz")])
def test_an_archive_with_another_ending_is_read_as_what_it_is(tmp_path: Path, kind: str, ending: str) -> None:
    path = write_batch(tmp_path, kind, FILES)
    (batch,) = batches(path.rename(tmp_path / f"renamed.{ending}"))
    assert content(batch) == FILES
