"""Sources of recordings: a folder, an archive, or one file. Each yields file names and bytes.

A folder may hold archives (one per delivered batch) and loose files. An archive is equivalent to the folder that it was
packed from.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePosixPath

from glt.data import archives
from glt.data.machine import raise_machine_failure
from glt.data.recording import Rejection
from glt.errors import GltError

FOLDER = "folder"


@dataclass(frozen=True)
class Batch:
    """Recordings that are read together.

    Attributes:
        path: the archive, or the folder that `names` are relative to.
        names: of the recordings, sorted, with forward slashes.
        kind: FOLDER, or the kind of archive.
        sidecar_names: names of the sidecars.
        members: offset and size in bytes of the members of a tar, by name.
    """

    path: Path
    names: tuple[str, ...]
    kind: str = FOLDER
    sidecar_names: tuple[str, ...] = ()
    members: Mapping[str, tuple[int, int]] = field(default_factory=dict, repr=False)

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
        wanted = (*names, *self.sidecar_names) if self.kind == archives.TAR else ()
        return replace(self, names=names, members={name: self.members[name] for name in wanted})

    def chunks(self, size: int) -> Iterator[Chunk]:
        """Split the batch into chunks that any process can read; a compressed tar in the order of its members."""
        if self.kind != archives.STREAM:
            for part in self.parts(size):
                yield Chunk(part)
            return
        wanted, sidecars = set(self.names), {}
        if self.sidecar_names:
            sidecars = {name: content for name, content in archives.stream(self.path) if name in self.sidecar_names}
        files = ((name, content) for name, content in archives.stream(self.path) if name in wanted)
        while contents := tuple(islice(files, size)):
            names = tuple(name for name, _ in contents)
            wanted.difference_update(names)
            yield Chunk(self.subset(names), contents, sidecars)
        if wanted:
            lost = Rejection("unreadable", "the archive is damaged or cut off before it")
            yield Chunk(self.subset(tuple(sorted(wanted))), tuple((name, lost) for name in sorted(wanted)), sidecars)

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


def batches(recordings: Path, suffixes: tuple[str, ...], sidecars: tuple[str, ...] = ()) -> list[Batch]:
    """Find the batches at a path: one per archive, and one of the loose files of a folder.

    Args:
        recordings: a folder, an archive, or one recording.
        suffixes: endings of the names of recordings, in lower case. Other and hidden files, and those that macOS adds,
            are ignored.
        sidecars: names of files that describe all recordings below their folder.

    Raises:
        GltError: no such path, an archive that cannot be read or trusted, or no file that ends with one of `suffixes`.
    """
    recordings = Path(recordings)
    if not recordings.exists():
        raise GltError(
            f"recordings {recordings}: no such file or folder; give a folder, an archive, or one {suffixes[0]} file"
        )
    nonempty = [batch for batch in _search(recordings, suffixes, sidecars) if batch.names]
    if not nonempty:
        raise GltError(
            f"recordings {recordings}: no file that ends with {' or '.join(suffixes)}; "
            "give other recordings or change data.format"
        )
    return nonempty


def _search(recordings: Path, suffixes: tuple[str, ...], sidecars: tuple[str, ...]) -> Iterator[Batch]:
    if recordings.is_dir():
        files = [file.relative_to(recordings).as_posix() for file in recordings.rglob("*") if file.is_file()]
        for name in sorted(files):
            if archives.is_archive(name) and visible(name):
                yield _archive(recordings / name, suffixes, sidecars)
        yield Batch(recordings, _select(files, suffixes), sidecar_names=_select(files, sidecars, whole=True))
    elif recordings.name.lower().endswith(suffixes) and not archives.is_archive(recordings.name):
        files = [file.name for file in recordings.parent.iterdir() if file.name.lower() in sidecars and file.is_file()]
        yield Batch(recordings.parent, (recordings.name,), sidecar_names=tuple(sorted(files)))
    else:
        yield _archive(recordings, suffixes, sidecars)


def _archive(path: Path, suffixes: tuple[str, ...], sidecars: tuple[str, ...]) -> Batch:
    kind, members = archives.members(path)
    names = list(members)
    return Batch(
        path,
        _select(names, suffixes),
        kind,
        _select(names, sidecars, whole=True),
        members if kind == archives.TAR else {},
    )


def _select(names: list[str], ends: tuple[str, ...], *, whole: bool = False) -> tuple[str, ...]:
    """The visible files whose name ends with one of `ends`, or, if `whole`, is one of them; sorted."""
    last = ((name, name.rpartition("/")[2].lower()) for name in names)
    return tuple(sorted(n for n, end in last if visible(n) and (end in ends if whole else end.endswith(ends))))


def visible(name: str) -> bool:
    """True unless a file, given by its relative path, is hidden or added by macOS."""
    # Split by hand: as paths, the names in an archive of 50,000 recordings would take seconds.
    return not any(part.startswith((".", "__MACOSX")) and part != "." for part in name.split("/"))


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
    state = (batch.path if batch.is_archive else batch.path / name).stat()
    return _read_cached(_Unhashed(batch), batch.path, name, state.st_mtime_ns, state.st_size)


@dataclass(frozen=True)
class _Unhashed:
    """A batch that is ignored when keys of a cache are compared."""

    batch: Batch = field(compare=False)


@functools.lru_cache(maxsize=64)
def _read_cached(of: _Unhashed, path: Path, name: str, modified: int, size: int) -> bytes | Rejection:
    if of.batch.kind == archives.STREAM:
        lost = Rejection("unreadable", "damaged in the archive")
        return next((content for file, content in archives.stream(path) if file == name), lost)
    with _open(of.batch) as read:
        return read(name)


@contextmanager
def _open(batch: Batch) -> Iterator[archives.Read]:
    if batch.kind == FOLDER:
        yield lambda name: _read_file(batch.path / name)
    else:
        yield from archives.reader(batch.path, batch.kind, batch.members)


def _read_file(path: Path) -> bytes | Rejection:
    try:
        return archives.too_large(path.name, path.stat().st_size) or path.read_bytes()
    except OSError as error:
        raise_machine_failure(error, path)
        return Rejection("unreadable", str(error.strerror))
