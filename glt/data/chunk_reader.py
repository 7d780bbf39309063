"""Reads and checks one chunk of a batch. Worker processes import this module, so it stays light."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from glt.data.checks import accept
from glt.data.formats import FORMATS, ntu
from glt.data.layout_mapping import to_layout
from glt.data.layouts import parse_skeleton
from glt.data.recording import Recording, Rejection
from glt.data.sources import Chunk
from glt.recipe import DataConfig

MISSING_LIST = "missing-list"  # check of a recording that its data set lists as bad: rejecting it is no loss


def read_chunk(chunk: Chunk, data: DataConfig) -> list[tuple[str, list[Recording | Rejection]]]:
    """(file name, its clips and rejections) for each file of a chunk, in order; a clip has frames [T, persons, K, 3].

    `persons` is that of the recipe.
    """
    return [(name, list(_read_file(chunk, name, content, data))) for name, content in chunk.files()]


def _read_file(
    chunk: Chunk, name: str, content: bytes | Rejection, data: DataConfig
) -> Iterator[Recording | Rejection]:
    if isinstance(content, Rejection):
        yield content
        return
    try:
        for recording in FORMATS[data.format].read(name, content, chunk.sidecars(name)):
            yield recording if isinstance(recording, Rejection) else _to_clip(recording, data)
    except Rejection as rejection:
        yield rejection


def _to_clip(recording: Recording, data: DataConfig) -> Recording | Rejection:
    """The recording mapped to the recipe's layout, checked and repaired; or why it is rejected."""
    if data.missing_list and ntu.on_missing_list(recording.name):
        return Rejection(MISSING_LIST, "NTU's list of recordings with missing skeletons has it", name=recording.name)
    if data.layout is not None:
        recording = to_layout(recording, parse_skeleton(data.layout))
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
