"""Reads and checks one chunk of a batch. Worker processes import this module, so it stays light.

This is the one place where an error becomes a rejection: whatever a reader, a layout mapping or a check raises concerns
one file or one recording. Only failures of the machine itself stop a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from glt.data.checks import accept
from glt.data.formats import FORMATS, ntu
from glt.data.layout_mapping import to_layout
from glt.data.machine import raise_machine_failure
from glt.data.recording import Recording, Rejection
from glt.data.resampling import to_rate
from glt.data.skeleton_yaml import parse_skeleton
from glt.data.sources import Chunk
from glt.errors import GltError, first_line
from glt.recipe import DataConfig

MISSING_LIST = "missing-list"  # check of a recording that its data set lists as bad: rejecting it is no loss


def read_chunk(chunk: Chunk, data: DataConfig) -> list[tuple[str, list[Recording | Rejection]]]:
    """(file name, its clips and rejections) for each file of a chunk, in order; a clip has frames [T, persons, K, 3].

    `persons` is that of the recipe. Every file gives at least one clip or rejection.

    Raises:
        MachineFailure: such as an input/output error; it names the file.
    """
    return [(name, list(results)) for name, results in read_files(chunk, data)]


def read_files(
    chunk: Chunk, data: DataConfig, any_name: bool = False
) -> Iterator[tuple[str, Iterator[Recording | Rejection]]]:
    """Like `read_chunk`, but lazily: the results of a file are valid until the next file is requested.

    Args:
        chunk: files to read.
        data: the format and the checks.
        any_name: accept files without the format's name or label.
    """
    for name, content in chunk.files():
        yield name, _read_file(chunk, name, content, data, any_name)


def rejection_of(error: Exception, name: str = "") -> Rejection:
    """Turn an exception of a reader or a check into the rejection of its file or recording.

    Args:
        error: the exception.
        name: of the recording, if a file holds several.
    """
    if isinstance(error, Rejection):
        return Rejection(
            error.check, error.reason, name=error.name or name, recording=error.recording, where=error.where
        )
    if isinstance(error, MemoryError):
        return Rejection("memory", "reading it takes more memory than is allowed for a file", name=name)
    if isinstance(error, GltError):
        return Rejection("layout", str(error), name=name)
    return Rejection("reader", f"cannot be read ({type(error).__name__}: {first_line(error)})", name=name)


def _read_file(
    chunk: Chunk, name: str, content: bytes | Rejection, data: DataConfig, any_name: bool
) -> Iterator[Recording | Rejection]:
    """The clips and rejections of a file; an exception of its reader rejects what the reader has not yet yielded."""
    if isinstance(content, Rejection):
        yield content
        return
    count = 0
    reader = FORMATS[data.format]
    read = reader.read_any if any_name else reader.read
    try:
        for recording in read(name, content, chunk.sidecars(name)):
            yield recording if isinstance(recording, Rejection) else _to_clip(recording, data)
            count += 1
        if not count:
            yield Rejection("empty", "no recording in it")
    except Exception as error:
        raise_machine_failure(error, name)
        yield rejection_of(error)


def _to_clip(recording: Recording, data: DataConfig) -> Recording | Rejection:
    """The recording mapped to the recipe's layout, checked and repaired; or why it is rejected."""
    try:
        if data.missing_list and ntu.on_missing_list(recording.name):
            return Rejection(
                MISSING_LIST, "it is on NTU's list of recordings with missing skeletons", name=recording.name
            )
        if data.layout is not None:
            recording = to_layout(recording, parse_skeleton(data.layout))
        clip = replace(accept(recording, data), confidence=None)
        return clip if data.rate is None else to_rate(clip, data.rate)
    except Exception as error:
        raise_machine_failure(error, recording.name)
        return rejection_of(error, recording.name)
