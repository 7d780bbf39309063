"""Whatever a reader or a check raises is a rejection; a failure of the machine is not."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from glt.data import chunk_reader
from glt.data.clips import SegmentWriter, read_clips
from glt.data.formats import FORMATS
from glt.data.ingest import _add
from glt.data.layouts import NTU25
from glt.data.listing import Names, list_recordings
from glt.data.machine import MachineFailure
from glt.data.recording import Recording, Rejection
from glt.errors import GltError
from tests.data import recorded

ERRORS = [
    RecursionError("maximum recursion depth exceeded"),
    OverflowError("Python int too large to convert to C long"),
    UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    MemoryError(),
    pa.ArrowInvalid("of arrow"),
    np.exceptions.AxisError("of numpy"),
    GltError("data.layout: nothing in common"),
    FileNotFoundError(errno.ENOENT, "no such file"),
    AssertionError(),
    StopIteration(),
]


def recording(name: str, **fields: object) -> Recording:
    frames = recorded.walk(1)[:, None]
    return replace(Recording(name, frames, np.ones(frames.shape[:2], bool), NTU25), **fields)  # type: ignore[arg-type]


def read(folder: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception) -> list[Recording | Rejection]:
    """What a reader gives that yields one recording and then raises."""

    def reader(name: str, content: bytes, sidecars: Mapping[str, bytes]) -> Iterable[Recording]:
        yield recording("good")
        raise raised

    monkeypatch.setitem(FORMATS, "ntu", replace(FORMATS["ntu"], read=reader))
    recorded.write_folder(folder, {"a.skeleton": b"1"})
    (batch,) = list_recordings(folder, Names((".skeleton",))).batches
    (chunk,) = batch.chunks(1)
    ((_, results),) = chunk_reader.read_chunk(chunk, recorded.recipe().data)
    return results


@pytest.mark.fault("a reader raises any exception", "the file is rejected with its reason; the others are taken")
@pytest.mark.parametrize("raised", ERRORS, ids=lambda error: type(error).__name__)
def test_an_exception_of_a_reader_is_a_rejection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    good, rejection = read(tmp_path, monkeypatch, raised)
    assert isinstance(good, Recording)
    assert isinstance(rejection, Rejection)
    assert rejection.check in {"reader", "memory", "layout"}
    assert len(rejection.reason) > 10


@pytest.mark.parametrize("raised", ERRORS, ids=lambda error: type(error).__name__)
def test_an_exception_of_a_check_rejects_its_recording_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    def failing(one: Recording, data: object) -> Recording:
        raise raised

    monkeypatch.setattr(chunk_reader, "accept", failing)
    rejections = read(tmp_path, monkeypatch, Rejection("format", "the rest"))
    assert [isinstance(one, Rejection) and one.name for one in rejections] == ["good", ""]


@pytest.mark.fault(
    "the disk fails while a recording is being read", "the run stops; the message blames the machine, not the file"
)
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EMFILE, errno.EDQUOT])
def test_a_failure_of_the_machine_is_said_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    with pytest.raises(MachineFailure, match=r"a\.skeleton: cannot be read .* failure of this machine"):
        read(tmp_path, monkeypatch, OSError(number, "of the machine"))


def test_an_input_output_error_of_a_file_stops_and_a_denied_permission_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded.write_folder(tmp_path, {"a.skeleton": b"1"})
    (batch,) = list_recordings(tmp_path, Names((".skeleton",))).batches
    (chunk,) = batch.chunks(1)

    def fail(number: int) -> None:
        def failing(path: Path, *_: object) -> Any:
            raise OSError(number, "as told", str(path))

        monkeypatch.setattr(Path, "open", failing)

    fail(errno.EACCES)
    ((_, content),) = chunk.files()
    assert isinstance(content, Rejection)
    fail(errno.EIO)
    with pytest.raises(MachineFailure, match=r"a\.skeleton"):
        list(chunk.files())


@pytest.mark.fault("a label, name or number that the table cannot hold", "that clip is rejected; the others are taken")
@pytest.mark.parametrize(
    "fields",
    [
        {"label": "\ud800"},
        {"label": "a\x1b[31m"},
        {"label": ""},
        {"label": 3},
        {"label": "x" * 1_000_000},
        {"name": ""},
        {"name": "\udcff"},
        {"subject": 2**64},
        {"subject": -1},
        {"camera": 1.5},
        {"splits": ("\ud800",)},
    ],
    ids=lambda fields: f"{fields!r:.30}",
)
def test_a_value_that_the_table_cannot_hold_rejects_its_clip_alone(tmp_path: Path, fields: dict[str, Any]) -> None:
    with SegmentWriter(tmp_path, 1) as segment:
        for one in (recording("first"), replace(recording("second"), **fields), recording("third")):
            _add(segment, "a/\udcff.skeleton", one)
    clips = read_clips(tmp_path)
    assert clips["name"].tolist() == ["first", "third"]
    assert clips["source"].tolist() == ["a/%FF.skeleton"] * 2
    assert clips["offset"].tolist() == [0, 5]
    assert np.load(tmp_path / "frames.npy").shape == (10, 1, 25, 3)
