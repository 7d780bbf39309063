"""One piece of a batch, read and checked. Worker processes import this and no more, so it stays light."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from glt.data.checks import accept
from glt.data.formats import FORMATS, ntu
from glt.data.layouts import declared
from glt.data.mapping import to_layout
from glt.data.recording import Recording, Rejection
from glt.data.sources import Chunk
from glt.recipe import DataConfig

MISSING_LIST = "missing-list"  # the check of a recording that its own data set calls bad: leaving it out is no loss


def read(chunk: Chunk, data: DataConfig) -> list[tuple[str, list[Recording | Rejection]]]:
    """Each file of a chunk with its clips (frames [T, persons, K, 3]) and rejections, in the chunk's order."""
    return [(name, list(_clips(chunk, name, content, data))) for name, content in chunk.files()]


def _clips(chunk: Chunk, name: str, content: bytes | Rejection, data: DataConfig) -> Iterator[Recording | Rejection]:
    if isinstance(content, Rejection):
        yield content
        return
    try:
        for recording in FORMATS[data.format].read(name, content, chunk.sidecars(name)):
            yield recording if isinstance(recording, Rejection) else _clip(recording, data)
    except Rejection as rejection:
        yield rejection


def _clip(recording: Recording, data: DataConfig) -> Recording | Rejection:
    if data.missing_list and ntu.on_missing_list(recording.name):
        return Rejection(MISSING_LIST, "NTU's list of recordings with missing skeletons has it", name=recording.name)
    if data.layout is not None:
        recording = to_layout(recording, declared(data.layout))
    try:
        return replace(accept(recording, data), confidence=None)
    except Rejection as rejection:
        return Rejection(
            rejection.check,
            rejection.reason,
            name=recording.name,
            recording=rejection.recording,
            where=rejection.where,
        )
