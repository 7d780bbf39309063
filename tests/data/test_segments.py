"""The cache of segments: damage in it is found, whatever a time stamp says, and two runs at once share it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glt import artifact
from glt.data import ingest as ingest_module
from glt.data.clips import ClipStore
from glt.data.ingest import ingest
from glt.data.segments import Part, SegmentCache
from glt.errors import GltError
from glt.reporter import Silent
from tests.data import recorded


def store(folder: Path, out: str = "clips") -> ClipStore:
    """The clips of the recordings in `folder`; the cache is beside them."""
    ingest(folder / "in", recorded.recipe(), folder / out, {"data_version": "1"}, Silent(), folder / "segments")
    return ClipStore(folder / out)


def one_segment(folder: Path) -> Path:
    recorded.write_folder(folder / "in", recorded.delivery(3))
    (digest,) = store(folder).info["segments"]
    return folder / "segments" / str(digest)


def flip(file: Path) -> None:
    """Change one bit, as a disk does: no time stamp changes."""
    state, content = file.stat(), bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    with file.open("r+b") as stream:
        stream.write(content)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def unreadable_manifest(segment: Path) -> None:
    (segment / artifact.MANIFEST).write_text("[" * 200_000)


def manifest_of_nothing(segment: Path) -> None:
    artifact.write_json(segment / artifact.MANIFEST, {"kind": "segment", "info": {}, "files": {}})


def link_to_elsewhere(segment: Path) -> None:
    (segment / "clips.parquet").rename(segment.parent.parent / "elsewhere")
    (segment / "clips.parquet").symlink_to(segment.parent.parent / "elsewhere")


DAMAGE: dict[str, Callable[[Path], object]] = {
    **{name: lambda folder, name=name: flip(folder / name) for name in ("frames.npy", "present.npy", "clips.parquet")},  # type: ignore[misc]
    "no file": lambda folder: (folder / "rejected.parquet").unlink(),
    "no manifest": lambda folder: (folder / artifact.MANIFEST).unlink(),
    "manifest": unreadable_manifest,
    "manifest of nothing": manifest_of_nothing,
    "link": link_to_elsewhere,
    "pipe": lambda folder: ((folder / "frames.npy").unlink(), os.mkfifo(folder / "frames.npy")),
}


@pytest.mark.fault(
    "a bit flips in the cache of segments", "found when the segment is linked into clips; its recordings are read again"
)
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_in_the_cache_is_found_said_and_repaired(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    segment = one_segment(tmp_path)
    before = ClipStore(tmp_path / "clips").digest
    DAMAGE[damage](segment)
    caplog.set_level("INFO", logger="glt")
    assert store(tmp_path, "again").digest == before
    assert len(caplog.messages) == 1
    assert str(segment) in caplog.text
    assert "its recordings are read again" in caplog.text
    caplog.clear()
    assert store(tmp_path, "once more").digest == before
    assert not caplog.messages


@pytest.mark.fault(
    "a bit flips in clips, which are hard links to the cache", "refused; the remedy in the message works"
)
def test_the_remedy_for_damaged_clips_works(tmp_path: Path) -> None:
    one_segment(tmp_path)
    flip(next((tmp_path / "clips" / "segments").glob("*/frames.npy")))
    with pytest.raises(GltError, match=rf"frames\.npy: changed since it was written; delete {tmp_path}/clips and run"):
        ClipStore(tmp_path / "clips")
    artifact.open_artifact(store(tmp_path).path, "clips")


def test_files_of_the_user_in_a_segment_stay(tmp_path: Path) -> None:
    segment = one_segment(tmp_path)
    (segment / "notes.txt").write_text("mine")
    flip(segment / "frames.npy")
    with pytest.raises(GltError, match=r"holds 'notes\.txt', which is not part of the segment.*move it away"):
        store(tmp_path, "again")
    assert (segment / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("content", ["notes", "[]", '{"files": 3}', "[" * 200_000])
def test_a_foreign_file_at_the_place_of_the_hashes_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    (tmp_path / "segments").mkdir()
    (tmp_path / "segments" / "hashes.json").write_text(content)
    for file in recorded.write_folder(tmp_path / "in", recorded.delivery(3)).rglob("*.skeleton"):
        os.utime(file, (0, 0))
    store(tmp_path)
    assert (tmp_path / "segments" / "hashes.json").read_text() == content
    assert "hashes.json: not written by glt, so it is kept" in caplog.text


INGEST = """
import sys
from pathlib import Path
from glt import artifact, logs
from tests.data.test_segments import store

def main():
    with artifact.reserve(Path(sys.argv[1]) / sys.argv[2]):
        sys.stdin.readline()
        store(Path(sys.argv[1]), sys.argv[2])

logs.run_entry(main)
"""


@pytest.mark.fault("two ingests of the same recordings at once", "both succeed; only one of them reads")
def test_two_ingests_at_once_share_the_cache(tmp_path: Path) -> None:
    recorded.write_folder(tmp_path / "in", recorded.delivery(8))
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", INGEST, str(tmp_path), out], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for out in ("one", "two")
    ]
    for run in runs:
        assert run.stdin
        run.stdin.write("go\n")
        run.stdin.flush()
    for run in runs:
        _, said = run.communicate()
        assert run.returncode == 0, said
        assert "damaged" not in said
    assert ClipStore(tmp_path / "one").digest == ClipStore(tmp_path / "two").digest
    assert not [path for path in (*tmp_path.iterdir(), *(tmp_path / "segments").iterdir()) if path.name[0] == "."]


@pytest.mark.fault("a recording that changes before it is read", "taken, and read again by the next ingest")
def test_a_segment_of_a_file_that_changed_meanwhile_is_not_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = recorded.delivery(3)
    recorded.write_folder(tmp_path / "in", names)
    fill = ingest_module._fill_segment

    def change_and_fill(part: Part, *arguments: Any) -> Any:
        (tmp_path / "in" / min(names)).write_bytes(recorded.one_person(50))
        return fill(part, *arguments)

    monkeypatch.setattr(ingest_module, "_fill_segment", change_and_fill)
    (digest,) = store(tmp_path).info["segments"]
    cache = SegmentCache(tmp_path / "segments")
    assert not cache.has(digest)
    monkeypatch.undo()
    assert cache.has(store(tmp_path).info["segments"][0])
