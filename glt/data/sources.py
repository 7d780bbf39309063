"""Batches of recordings in a folder or an archive: names and bytes of their files.

`glt.data.listing` finds them. An archive is equivalent to the folder that it was packed from.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from glt.data import archives
from glt.data.machine import raise_machine_failure
from glt.data.recording import Rejection
from glt.errors import GltError, first_line

FOLDER = "folder"
_HELD = 64 << 20  # bytes of a compressed tar that are in memory for one chunk


@dataclass(frozen=True)
class Batch:
    """Recordings that are read together.

    Attributes:
        path: the archive, or the folder that `names` are relative to.
        names: of the recordings, sorted, clean text with forward slashes.
        kind: FOLDER, or the kind of archive.
        sidecar_names: names of the sidecars.
        members: position and size in bytes of the members of an archive, by name (see `archives.Members`).
        paths: path on disk, relative to `path`, of the files of a folder whose name there is not clean.
    """

    path: Path
    names: tuple[str, ...]
    kind: str = FOLDER
    sidecar_names: tuple[str, ...] = ()
    members: Mapping[str, tuple[int, int]] = field(default_factory=dict, repr=False)
    paths: Mapping[str, str] = field(default_factory=dict, repr=False)

    def file(self, name: str) -> Path:
        """Path of a file of a folder."""
        return self.path / self.paths.get(name, name)

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Name and size in bytes of each recording; size 0 if unknown."""
        for name in self.names:
            if self.is_archive:
                yield name, min(self.members[name][1], archives.LARGEST_PICKLE)  # more is not read
                continue
            try:
                yield name, os.stat(f"{self.path}/{self.paths.get(name, name)}").st_size  # noqa: PTH116 - a Path is slow
            except OSError:
                yield name, 0

    @property
    def is_archive(self) -> bool:
        """True if one file holds all recordings."""
        return self.kind != FOLDER

    def parts(self, size: int) -> Iterator[Batch]:
        """Split the batch into parts of at most `size` files; a compressed tar is one part."""
        step = max(len(self.names), 1) if self.kind == archives.STREAM else size
        for start in range(0, len(self.names), step):
            yield self.subset(self.names[start : start + step])

    def subset(self, names: tuple[str, ...]) -> Batch:
        """The batch with these recordings only."""
        wanted = (*names, *self.sidecar_names)
        members = {name: self.members[name] for name in wanted} if self.members else {}
        paths = {name: self.paths[name] for name in wanted if name in self.paths} if self.paths else {}
        return replace(self, names=names, members=members, paths=paths)

    def chunks(self, size: int) -> Iterator[Chunk]:
        """Split the batch into chunks that any process can read; a compressed tar in the order of its members."""
        if self.kind != archives.STREAM:
            for part in self.parts(size):
                yield Chunk(part)
            return
        wanted, sidecars = set(self.names), dict(self._stream(set(self.sidecar_names)))
        contents: list[tuple[str, bytes | Rejection]] = []
        held = 0
        for name, content in self._stream(set(self.names)):
            contents.append((name, content))
            wanted.remove(name)
            held += 0 if isinstance(content, Rejection) else len(content)
            if len(contents) == size or held > _HELD:
                yield self._chunk(contents, sidecars)
                contents, held = [], 0
        lost = Rejection("unreadable", "the archive is damaged or cut off before it")
        contents += [(name, lost) for name in sorted(wanted)]
        if contents:
            yield self._chunk(contents, sidecars)

    def _chunk(self, contents: list[tuple[str, bytes | Rejection]], sidecars: Mapping[str, bytes | Rejection]) -> Chunk:
        return Chunk(self.subset(tuple(name for name, _ in contents)), tuple(contents), sidecars)

    def _stream(self, names: set[str]) -> Iterator[tuple[str, bytes | Rejection]]:
        """Name and content of some members of a compressed tar."""
        by_position = {self.members[name][0]: name for name in names}
        if not by_position:
            return
        for position, read in archives.stream(self.path):
            if position in by_position:
                yield by_position.pop(position), read()

    def sidecars(self, name: str) -> dict[str, bytes]:
        """The sidecars that describe a recording, by file name: those in the nearest folder above it."""
        return Chunk(self).sidecars(name)


@dataclass(frozen=True)
class Chunk:
    """A part of a batch that can be sent to another process.

    Attributes:
        batch: the part.
        contents: names and contents of the files, if they had to be read beforehand; else None.
        sidecar_contents: the same for the sidecars.
    """

    batch: Batch
    contents: tuple[tuple[str, bytes | Rejection], ...] | None = field(default=None, repr=False)
    sidecar_contents: Mapping[str, bytes | Rejection] = field(default_factory=dict, repr=False)

    def files(self) -> Iterator[tuple[str, bytes | Rejection]]:
        """(name, content) of each file; the content of an unreadable file is a Rejection."""
        if self.contents is not None:
            yield from self.contents
            return
        with _open(self.batch) as read:
            for name in self.batch.names:
                yield name, read(name)

    def sizes(self) -> tuple[int, int]:
        """Bytes of the largest file, and of all files."""
        sizes = [size for _, size in self.batch.sizes()]
        return max(sizes, default=0), sum(sizes)

    def singles(self) -> Iterator[Chunk]:
        """A chunk of each file."""
        contents = dict(self.contents or ())
        for name in self.batch.names:
            batch = self.batch.subset((name,))
            yield replace(self, batch=batch, contents=((name, contents[name]),) if self.contents is not None else None)

    def sidecars(self, name: str) -> dict[str, bytes]:
        """See `Batch.sidecars`.

        Raises:
            Rejection: a sidecar cannot be read.
        """
        contents: dict[str, bytes] = {}
        for file in _nearest(self.batch.sidecar_names, PurePosixPath(name)):
            known = file in self.sidecar_contents
            content = self.sidecar_contents[file] if known else _sidecar_content(self.batch, file)
            if isinstance(content, Rejection):
                raise Rejection("unreadable", f"its {PurePosixPath(file).name}: {content.reason}")
            contents[PurePosixPath(file).name.lower()] = content
        return contents


def _nearest(sidecars: tuple[str, ...], name: PurePosixPath) -> list[str]:
    """For each file name of a sidecar, the one in the nearest folder above a recording."""
    near: dict[str, tuple[int, str]] = {}
    for file in map(PurePosixPath, sidecars):
        if file.parent in name.parents:
            depth = len(file.parts)
            near[file.name.lower()] = max(near.get(file.name.lower(), (0, "")), (depth, str(file)))
    return sorted(file for _, file in near.values())


def _sidecar_content(batch: Batch, name: str) -> bytes | Rejection:
    """The content of a sidecar, cached until it changes."""
    path = batch.path if batch.is_archive else batch.file(name)
    try:
        state = path.stat()
    except OSError as error:
        raise_machine_failure(error, path)
        return Rejection("unreadable", str(error.strerror))
    return _read_cached(_Unhashed(batch), batch.path, name, state.st_mtime_ns, state.st_size)


@dataclass(frozen=True)
class _Unhashed:
    """A batch that is ignored when keys of a cache are compared."""

    batch: Batch = field(compare=False)


@functools.lru_cache(maxsize=64)
def _read_cached(of: _Unhashed, path: Path, name: str, modified: int, size: int) -> bytes | Rejection:
    if of.batch.kind == archives.STREAM:
        lost = Rejection("unreadable", "damaged in the archive")
        return next((content for _, content in of.batch._stream({name})), lost)
    with _open(of.batch) as read:
        return read(name)


@contextmanager
def _open(batch: Batch) -> Iterator[archives.Read]:
    """A function that reads a file of the batch, or returns a Rejection."""
    if batch.kind == FOLDER:
        yield lambda name: _read_file(batch.file(name))
        return
    opened = archives.reader(batch.path, batch.kind, batch.members)
    try:
        read = next(opened)
    except (OSError, GltError) as error:
        raise_machine_failure(error, batch.path)
        lost = Rejection("unreadable", f"the archive can no longer be read: {first_line(error)}")
        yield lambda name: lost
        return
    try:
        yield read
    finally:
        opened.close()


def _read_file(path: Path) -> bytes | Rejection:
    try:
        if not path.is_file():  # it may have become a pipe, which would block
            return Rejection("unreadable", "no longer a file")
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if rejection := archives.too_large(path.name, size):
                return rejection
            content = stream.read(size)
            grows = os.fstat(stream.fileno()).st_size > size  # it may grow faster than it is read
        return Rejection("unreadable", "grows while it is read; run again when it is complete") if grows else content
    except OSError as error:
        raise_machine_failure(error, path)
        return Rejection("unreadable", str(error.strerror))
