from __future__ import annotations

import contextlib
import io
import pickle
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glt.data import archives
from glt.data.recording import Rejection
from glt.data.sources import Batch, batches
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


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize(
    "name", ["../a.skeleton", "/etc/a.skeleton", "x/../../a.skeleton", "..\\a.skeleton", "C:a.skeleton"]
)
def test_a_member_that_points_out_of_its_archive_is_an_error(tmp_path: Path, kind: str, name: str) -> None:
    with pytest.raises(GltError, match="points out of the archive"):
        batches(write_batch(tmp_path, kind, {"b.skeleton": b"1", name: b"2"}), ENDS)


@pytest.mark.parametrize("how", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_link_or_a_device_in_a_tar_is_an_error(tmp_path: Path, how: bytes) -> None:
    with tarfile.open(tmp_path / "in.tar", "w") as archive:
        info = tarfile.TarInfo("a.skeleton")
        info.type, info.linkname = how, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(GltError, match="is a link or a device"):
        batches(tmp_path / "in.tar", ENDS)


def test_a_link_in_a_zip_is_an_error(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        info = zipfile.ZipInfo("a.skeleton")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(GltError, match="is a link or a device"):
        batches(tmp_path / "in.zip", ENDS)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_twice_in_an_archive_is_an_error(tmp_path: Path, kind: str) -> None:
    path = write_batch(tmp_path, kind, FILES)
    opened = zipfile.ZipFile(path, "a") if kind == "zip" else tarfile.open(path, "a")  # noqa: SIM115
    with opened as archive:
        if isinstance(archive, zipfile.ZipFile):
            archive.writestr("day/01.skeleton", b"other")
        else:
            archive.addfile(tarfile.TarInfo("day/01.skeleton"))
    with pytest.raises(GltError, match=r"'day/01\.skeleton' is in it 2 times"):
        batches(path, ENDS)


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
    archive = recorded.write_zip(tmp_path / "in.zip", {"a.skeleton": b"1\n0\n"})
    raw = bytearray(archive.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(raw)
    with pytest.raises(GltError, match="the archive is encrypted"):
        batches(archive, ENDS)
