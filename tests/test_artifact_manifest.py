"""What an artifact says about itself is data from outside: bounded, typed, and refused in one line."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from glt import artifact
from glt.errors import GltError
from glt.training.weights import read_weights, write_weights


def make(path: Path) -> Path:
    with artifact.create(path, "thing", {"number": 1}) as folder:
        (folder / "data.txt").write_text("data")
    return path


def replaced(make_other: Callable[[Path], object]) -> Callable[[Path], None]:
    """Puts something else at the place of the manifest."""

    def damage(thing: Path) -> None:
        (thing / artifact.MANIFEST).unlink()
        make_other(thing / artifact.MANIFEST)

    return damage


def text(content: str) -> Callable[[Path], None]:
    return replaced(lambda path: path.write_text(content))


def fields(**changed: Any) -> Callable[[Path], None]:
    return text(json.dumps({"kind": "thing", "info": {}, "files": {}} | changed))


def large(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(3 << 30)


def to_elsewhere(path: Path) -> None:
    (path.parent.parent / "elsewhere").write_text(json.dumps({"kind": "thing", "info": {}, "files": {}}))
    path.symlink_to(path.parent.parent / "elsewhere")


SHA = "0" * 64
MANIFESTS: dict[str, Callable[[Path], None]] = {
    "list": text("[]"),
    "number": text("3"),
    "text": text('"thing"'),
    "deep": text("[" * 200_000),
    "deep and closed": text("[" * 200_000 + "]" * 200_000),
    "deep info": fields(info={"a": json.loads("[" * 300 + "]" * 300)}),
    "huge number": text('{"kind": ' + "9" * 10_000 + "}"),
    "not UTF-8": replaced(lambda path: path.write_bytes(b'{"kind": "\xff"}')),
    "empty": text(""),
    "large": replaced(large),
    "pipe": replaced(os.mkfifo),
    "folder": replaced(Path.mkdir),
    "device": replaced(lambda path: path.symlink_to("/dev/zero")),
    "link out": replaced(to_elsewhere),
    "link to itself": replaced(lambda path: path.symlink_to(path)),
    "another key": fields(more=1),
    "kind": fields(kind=3),
    "info": fields(info=[]),
    "files": fields(files=["data.txt"]),
    "digest": fields(files={"data.txt": "abc"}),
    "no digest": fields(files={"data.txt": None}),
    **{
        f"name {name!r}": fields(files={name: SHA})
        for name in ("/etc/passwd", "../elsewhere", "a/../../b", "", ".", "a\0b", "a//b", "a/", "./a", "\ud800", "a\nb")
    },
    "itself": fields(files={artifact.MANIFEST: SHA}),
}


@pytest.mark.fault(
    "a manifest that is huge, deep, of wrong types, a pipe or a link", "refused in one line that names it"
)
@pytest.mark.parametrize("damage", MANIFESTS)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, damage: str) -> None:
    thing = make(tmp_path / "thing")
    MANIFESTS[damage](thing)
    for read in (lambda: artifact.open_artifact(thing, "thing"), lambda: artifact.digest(thing)):
        with pytest.raises(GltError, match=rf"^{thing}/manifest\.json: (damaged|cannot be read) ") as caught:
            read()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400
    with pytest.raises(GltError, match=r"(manifest\.json is damaged|not glt's, such as .*), so it is not replaced"):
        make(thing)


def linked_out(thing: Path) -> None:
    (thing / "data.txt").rename(thing.parent / "data.txt")
    (thing / "data.txt").symlink_to(thing.parent / "data.txt")


FILES: dict[str, Callable[[Path], None]] = {
    "missing": lambda thing: (thing / "data.txt").unlink(),
    "leads out of the folder": linked_out,
    "not a regular file": lambda thing: ((thing / "data.txt").unlink(), os.mkfifo(thing / "data.txt")),  # type: ignore[dict-item]
    "changed since it was written": lambda thing: (thing / "data.txt").write_text("other"),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("reason", FILES)
def test_a_file_that_is_another_is_refused(tmp_path: Path, reason: str) -> None:
    thing = make(tmp_path / "thing")
    FILES[reason](thing)
    with pytest.raises(GltError, match=rf"^{thing}/data\.txt: .*{reason}.*; delete {thing} and run its step again$"):
        artifact.open_artifact(thing, "thing")
    make(tmp_path / "elsewhere")  # the remedy
    (thing / "data.txt").unlink(missing_ok=True)
    assert artifact.open_artifact(make(thing), "thing") == {"number": 1}


def test_a_link_within_the_folder_and_to_the_folder_is_followed(tmp_path: Path) -> None:
    thing = make(tmp_path / "thing")
    (thing / "data.txt").rename(thing / "real.txt")
    (thing / "data.txt").symlink_to("real.txt")
    (tmp_path / "link").symlink_to(thing)
    assert artifact.open_artifact(tmp_path / "link", "thing") == {"number": 1}


@pytest.mark.parametrize("content", ["[]", "{", "[" * 200_000, '{"a": ' * 101 + "1" + "}" * 101])
def test_a_json_file_of_an_artifact_is_typed_and_bounded(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(GltError, match=rf"config\.json: damaged.*; delete {tmp_path} and run its step again"):
        artifact.read_json(tmp_path / "config.json", dict)


def header(content: bytes, length: int | None = None, rest: bytes = b"") -> bytes:
    return struct.pack("<Q", len(content) if length is None else length) + content + rest


def entry(shape: list[int], offsets: list[int], dtype: str = "F32") -> bytes:
    return json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()


WEIGHTS = {
    "empty": b"",
    "cut off": struct.pack("<Q", 100) + b"{",
    "no length": b"\x01",
    "90 MB of header": header(b" " * (90 << 20)),
    "header longer than the file": header(b"{}", 2**63),
    "not JSON": header(b"\xff\xfe"),
    "deep": header(b"[" * 200_000),
    "larger than it is": header(entry([1 << 40], [0, 4 << 40])),
    "overflow": header(entry([1 << 62, 1 << 62], [0, 8]), rest=b"12345678"),
    "outside": header(entry([2], [8, 16]), rest=b"12345678"),
    "backwards": header(entry([2], [8, 0]), rest=b"12345678"),
    "other size": header(entry([3], [0, 8]), rest=b"12345678"),
    "unknown type": header(entry([2], [0, 8], "PICKLE"), rest=b"12345678"),
    "more at its end": header(entry([2], [0, 8]), rest=b"12345678 and more"),
}


@pytest.mark.fault(
    "weights (safetensors) with a header of 90 MB or wrong sizes", "refused in one line that names the file"
)
@pytest.mark.parametrize("content", WEIGHTS)
def test_weights_that_are_none_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(WEIGHTS[content])
    with pytest.raises(GltError, match=r"model\.safetensors: damaged.*run its step again$") as caught:
        read_weights(tmp_path / "model.safetensors")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make_other", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_weights_that_are_no_file_are_refused(tmp_path: Path, make_other: Callable[[Path], object]) -> None:
    make_other(tmp_path / "model.safetensors")
    with pytest.raises(GltError, match="not a regular file"):
        read_weights(tmp_path / "model.safetensors")


def test_weights_are_read_as_they_were_written(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 4), "b": torch.tensor(2**40)}
    write_weights(tmp_path / "weights", tensors)
    read = read_weights(tmp_path / "weights")
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], value) for name, value in tensors.items())
