"""Where recordings lie: a folder, an archive, or one file. All of them give named bytes.

A folder may hold archives (one a delivered batch) beside loose files. An archive equals the folder it was made from.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePosixPath

from glt.data import archives
from glt.data.recording import Rejection
from glt.errors import GltError

FOLDER = "folder"


@dataclass(frozen=True)
class Batch:
    """Some recordings that are read together.

    Attributes:
        path: the archive, or the folder that `names` start from.
        names: of the recordings, sorted, with forward slashes.
        kind: FOLDER, or what kind of archive.
        beside: names of the sidecars among its files.
        places: offset and size of the members of a tar.
    """

    path: Path
    names: tuple[str, ...]
    kind: str = FOLDER
    beside: tuple[str, ...] = ()
    places: Mapping[str, tuple[int, int]] = field(default_factory=dict, repr=False)

    @property
    def is_archive(self) -> bool:
        """Whether one file holds them all."""
        return self.kind != FOLDER

    def parts(self, size: int) -> Iterator[Batch]:
        """The batch in pieces of at most `size` files; a compressed tar is one piece."""
        step = max(len(self.names), 1) if self.kind == archives.STREAM else size
        for start in range(0, len(self.names), step):
            yield self.of(self.names[start : start + step])

    def of(self, names: tuple[str, ...]) -> Batch:
        """The batch of these of its recordings."""
        places = {name: self.places[name] for name in (*names, *self.beside)} if self.kind == archives.TAR else {}
        return replace(self, names=names, places=places)

    def chunks(self, size: int) -> Iterator[Chunk]:
        """The batch in pieces that any process can read; those of a compressed tar come in its own order."""
        if self.kind != archives.STREAM:
            for part in self.parts(size):
                yield Chunk(part)
            return
        wanted, beside = set(self.names), {}
        if self.beside:
            beside = {name: content for name, content in archives.stream(self.path) if name in self.beside}
        files = ((name, content) for name, content in archives.stream(self.path) if name in wanted)
        while read := list(islice(files, size)):
            wanted.difference_update(name for name, _ in read)
            yield Chunk(self.of(tuple(name for name, _ in read)), tuple(read), beside)
        if wanted:
            lost = Rejection("unreadable", "the archive is damaged or cut off before it")
            yield Chunk(self.of(tuple(sorted(wanted))), tuple((name, lost) for name in sorted(wanted)), beside)

    def sidecars(self, name: str) -> dict[str, bytes]:
        """The sidecars that say something of a recording, by file name: those in the nearest folder above it."""
        return Chunk(self).sidecars(name)


@dataclass(frozen=True)
class Chunk:
    """A piece of a batch that can be sent to another process.

    Attributes:
        batch: the piece.
        read: names and contents, where they had to be read beforehand.
        beside: contents of the sidecars, likewise.
    """

    batch: Batch
    read: tuple[tuple[str, bytes | Rejection], ...] | None = field(default=None, repr=False)
    beside: Mapping[str, bytes | Rejection] = field(default_factory=dict, repr=False)

    def files(self) -> Iterator[tuple[str, bytes | Rejection]]:
        """(name, content) of each file; a Rejection in place of the content of one that cannot be read."""
        if self.read is not None:
            yield from self.read
            return
        with _opened(self.batch) as content:
            for name in self.batch.names:
                yield name, content(name)

    def sidecars(self, name: str) -> dict[str, bytes]:
        """As `Batch.sidecars`.

        Raises:
            Rejection: a sidecar cannot be read.
        """
        found: dict[str, bytes] = {}
        for file in _nearest(self.batch.beside, PurePosixPath(name)):
            content = self.beside[file] if file in self.beside else _content(self.batch, file)
            if isinstance(content, Rejection):
                raise Rejection("unreadable", f"its {PurePosixPath(file).name}: {content.reason}")
            found[PurePosixPath(file).name.lower()] = content
        return found


def batches(recordings: Path, suffixes: tuple[str, ...], sidecars: tuple[str, ...] = ()) -> list[Batch]:
    """The batches at a path: each archive is one, the loose files of a folder are another.

    Args:
        recordings: a folder, an archive, or one recording.
        suffixes: how the names of recordings end, in lower case. Others, hidden ones and what macOS adds are skipped.
        sidecars: names of files that say something of all recordings below their folder.

    Raises:
        GltError: no such path, an archive that cannot be read or trusted, or no file that ends with one of `suffixes`.
    """
    recordings = Path(recordings)
    if not recordings.exists():
        raise GltError(
            f"recordings {recordings}: no such file or folder; give a folder, an archive, or one {suffixes[0]} file"
        )
    found = [batch for batch in _search(recordings, suffixes, sidecars) if batch.names]
    if not found:
        raise GltError(
            f"recordings {recordings}: no file that ends with {' or '.join(suffixes)}; "
            "give other recordings or change data.format"
        )
    return found


def _search(recordings: Path, suffixes: tuple[str, ...], sidecars: tuple[str, ...]) -> Iterator[Batch]:
    if recordings.is_dir():
        files = [file.relative_to(recordings).as_posix() for file in recordings.rglob("*") if file.is_file()]
        for name in sorted(files):
            if archives.is_archive(name) and visible(name):
                yield _archive(recordings / name, suffixes, sidecars)
        yield Batch(recordings, _chosen(files, suffixes), beside=_chosen(files, sidecars, whole=True))
    elif recordings.name.lower().endswith(suffixes) and not archives.is_archive(recordings.name):
        there = [file.name for file in recordings.parent.iterdir() if file.name.lower() in sidecars and file.is_file()]
        yield Batch(recordings.parent, (recordings.name,), beside=tuple(sorted(there)))
    else:
        yield _archive(recordings, suffixes, sidecars)


def _archive(path: Path, suffixes: tuple[str, ...], sidecars: tuple[str, ...]) -> Batch:
    kind, places = archives.members(path)
    names = list(places)
    return Batch(
        path,
        _chosen(names, suffixes),
        kind,
        _chosen(names, sidecars, whole=True),
        places if kind == archives.TAR else {},
    )


def _chosen(names: list[str], ends: tuple[str, ...], *, whole: bool = False) -> tuple[str, ...]:
    """Visible names whose last part ends so, or is so."""
    last = ((name, name.rpartition("/")[2].lower()) for name in names)
    return tuple(sorted(n for n, end in last if visible(n) and (end in ends if whole else end.endswith(ends))))


def visible(name: str) -> bool:
    """Whether a file, by its name from the folder given, is somebody's work: not hidden, and not what macOS adds."""
    # By hand: as paths, the names of an archive of 50,000 recordings would take seconds.
    return not any(part.startswith((".", "__MACOSX")) and part != "." for part in name.split("/"))


def _nearest(beside: tuple[str, ...], name: PurePosixPath) -> list[str]:
    """Of the sidecars of each name the one in the nearest folder above a recording."""
    near: dict[str, tuple[int, str]] = {}
    for file in map(PurePosixPath, beside):
        if file.parent in name.parents:
            depth = len(file.parts)
            near[file.name.lower()] = max(near.get(file.name.lower(), (0, "")), (depth, str(file)))
    return sorted(file for _, file in near.values())


def _content(batch: Batch, name: str) -> bytes | Rejection:
    """A sidecar's content; read once as long as it does not change."""
    state = (batch.path if batch.is_archive else batch.path / name).stat()
    return _read(_Unhashed(batch), batch.path, name, state.st_mtime_ns, state.st_size)


@dataclass(frozen=True)
class _Unhashed:
    """A batch that takes no part in the comparison of a cache's keys."""

    batch: Batch = field(compare=False)


@functools.lru_cache(maxsize=64)
def _read(of: _Unhashed, path: Path, name: str, changed: int, size: int) -> bytes | Rejection:
    if of.batch.kind == archives.STREAM:
        lost = Rejection("unreadable", "damaged in the archive")
        return next((content for file, content in archives.stream(path) if file == name), lost)
    with _opened(of.batch) as content:
        return content(name)


@contextmanager
def _opened(batch: Batch) -> Iterator[archives.Read]:
    if batch.kind == FOLDER:
        yield lambda name: _content_of_file(batch.path / name)
    else:
        yield from archives.reader(batch.path, batch.kind, batch.places)


def _content_of_file(path: Path) -> bytes | Rejection:
    try:
        return archives.too_large(path.name, path.stat().st_size) or path.read_bytes()
    except OSError as error:
        return Rejection("unreadable", str(error.strerror))
