from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from glt.data.hashes import FileHashes


def aged(path: Path, content: bytes, seconds: float = 60) -> Path:
    path.write_bytes(content)
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_that_did_not_change_is_not_read_again(tmp_path: Path) -> None:
    file = aged(tmp_path / "a", b"one")
    first = FileHashes(tmp_path / "hashes.json")
    assert first.of(file) == sha256(b"one")
    first.save()
    written = json.loads((tmp_path / "hashes.json").read_text())
    written["files"][str(file)][-1] = "remembered"
    (tmp_path / "hashes.json").write_text(json.dumps(written))
    assert FileHashes(tmp_path / "hashes.json").of(file) == "remembered"


@pytest.mark.parametrize("change", ["content", "time", "replaced"])
def test_a_file_that_changed_is_read_again(tmp_path: Path, change: str) -> None:
    file = aged(tmp_path / "a", b"one")
    hashes = FileHashes(tmp_path / "hashes.json")
    hashes.of(file)
    before = file.stat()
    if change == "replaced":
        aged(tmp_path / "b", b"two").replace(file)
    else:
        file.write_bytes(b"three" if change == "content" else b"two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + (change == "time")))
    assert hashes.of(file) == sha256(file.read_bytes())


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"one")
    hashes = FileHashes(tmp_path / "hashes.json")
    stamp = file.stat()
    hashes.of(file)
    file.write_bytes(b"two")
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert hashes.of(file) == sha256(b"two")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"algorithm": "sha256"}', '{"algorithm": "md5", "files": {}}'])
def test_a_damaged_memory_is_an_empty_one(tmp_path: Path, content: str) -> None:
    (tmp_path / "hashes.json").write_text(content)
    assert FileHashes(tmp_path / "hashes.json").of(aged(tmp_path / "a", b"one")) == sha256(b"one")


def test_files_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    hashes = FileHashes(tmp_path / "hashes.json")
    hashes.of(aged(tmp_path / "a", b"one"))
    hashes.of(aged(tmp_path / "b", b"two"))
    (tmp_path / "a").unlink()
    hashes.save()
    assert list(json.loads((tmp_path / "hashes.json").read_text())["files"]) == [str(tmp_path / "b")]
