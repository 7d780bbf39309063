"""Inspect delivered files with ingest's own reader and checks, and pack the accepted ones into one archive."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from glt.data import archives
from glt.data.formats import FORMATS
from glt.data.ingest import read_batch
from glt.data.recording import Recording, Rejection
from glt.data.sources import Batch, batches, visible
from glt.errors import GltError
from glt.recipe import DataConfig
from glt.reporter import Reporter

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time a zip can hold: equal recordings give equal archives
_READ = 0o644 << 16


@dataclass(frozen=True)
class RejectedFile:
    """A delivered file, or one recording in a delivered archive, that ingest would reject.

    Attributes:
        file: name inside the delivered archive; empty if the delivered file is rejected as a whole.
        check: the check that failed, one word.
        reason: what is wrong, for a person.
    """

    file: str
    check: str
    reason: str


@dataclass(frozen=True)
class InspectedFile:
    """A delivered file and what ingest would make of it.

    Attributes:
        name: path below the folder of the delivery.
        accepted: files inside that give clips; the file's own last name if it is not an archive.
        sidecars: sidecars inside the archive.
        clips: number of clips that it gives.
        rejected: what is rejected, and why.
        batch: reads its contents; None if it is rejected as a whole.
    """

    name: str
    accepted: tuple[str, ...]
    sidecars: tuple[str, ...]
    clips: int
    rejected: tuple[RejectedFile, ...]
    batch: Batch | None

    @property
    def is_loose(self) -> bool:
        """It is a single recording file, not an archive."""
        return self.batch is not None and not self.batch.is_archive


def is_sidecar(name: str, data: DataConfig) -> bool:
    """True if a file describes the recordings beside it (labels, layout) instead of being one."""
    return name.rpartition("/")[2].lower() in FORMATS[data.format].sidecars


def inspect(
    folder: Path, names: Iterable[str], sidecars: Iterable[str], data: DataConfig, reporter: Reporter
) -> Iterator[InspectedFile]:
    """Read delivered files as ingest would, and report what it would accept and reject.

    Args:
        folder: folder of the delivery.
        names: paths of the delivered files below `folder`: recordings and archives of recordings.
        sidecars: paths of the sidecars of the loose recordings; other files in the folder are ignored.
        data: the format and the checks.
        reporter: receives progress.
    """
    reader, names = FORMATS[data.format], sorted(name for name in names if visible(name))
    packed = [name for name in names if archives.is_archive(name)]
    loose = [name for name in names if name.lower().endswith(reader.suffixes) and name not in set(packed)]
    done = 0

    def advance(files: int) -> None:
        nonlocal done
        done += files
        reporter.progress("check", done, len(names))

    for name in sorted({*names} - {*packed, *loose}):
        reason = f"the format {data.format} reads {' or '.join(reader.suffixes)}"
        yield _reject(name, "no-recording", reason)
        advance(1)
    batch = Batch(folder, tuple(loose), sidecar_names=tuple(sorted(sidecars)))
    for files in read_batch(batch, data):
        for file, recordings in files:
            yield _inspect(file, batch.subset((file,)), [(file, recordings)])
        advance(len(files))
    for name in packed:
        try:
            (archive,) = batches(folder / name, reader.suffixes, reader.sidecars)
        except GltError as error:
            yield _reject(name, "unreadable", str(error).split(": ", 1)[-1])
        else:
            yield _inspect(name, archive, (file for files in read_batch(archive, data) for file in files))
        advance(1)


def _reject(name: str, check: str, reason: str) -> InspectedFile:
    return InspectedFile(name, (), (), 0, (RejectedFile("", check, reason),), None)


def _inspect(name: str, batch: Batch, files: Iterable[tuple[str, list[Recording | Rejection]]]) -> InspectedFile:
    accepted, rejected, clips = [], [], 0
    for file, recordings in files:
        inside = file if batch.is_archive else ""
        rejections = [one for one in recordings if isinstance(one, Rejection)]
        if not recordings:
            rejections = [Rejection("empty", "no recording in it")]
        rejected += [RejectedFile(inside, one.check, one.reason) for one in rejections]
        if good := sum(isinstance(one, Recording) for one in recordings):
            accepted.append(file)
            clips += good
    sidecars = batch.sidecar_names if batch.is_archive else ()
    return InspectedFile(name, tuple(sorted(accepted)), sidecars, clips, tuple(rejected), batch)


def contents(inspected: InspectedFile, files: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of some of the files in a delivered one; unreadable files are skipped."""
    if inspected.batch is None:
        return
    for chunk in inspected.batch.subset(tuple(sorted(files))).chunks(1):
        for name, content in chunk.files():
            if not isinstance(content, Rejection):
                yield name, content


def pack(accepted: Iterable[InspectedFile], folder: Path, sidecars: Iterable[str], out: Path) -> None:
    """Write one zip from which ingest reads the same clips as from the delivered files.

    A loose file keeps its name, an archive becomes a folder with its name. Equal recordings give equal bytes.

    Args:
        accepted: the delivered files.
        folder: folder of the sidecars.
        sidecars: paths of the sidecars of loose files.
        out: path of the zip; it appears only when complete.
    """
    draft = out.with_name(f".{out.name}.draft")
    try:
        with zipfile.ZipFile(draft, "w") as archive:
            for name in sorted(sidecars):
                _add(archive, name, (folder / name).read_bytes())
            for inspected in sorted(accepted, key=lambda one: one.name):
                for name, content in contents(inspected, (*inspected.accepted, *inspected.sidecars)):
                    _add(archive, name if inspected.is_loose else f"{inspected.name}/{name}", content)
        with draft.open("rb") as stream:
            os.fsync(stream.fileno())
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.external_attr = _READ
    archive.writestr(info, content, zipfile.ZIP_DEFLATED, 6)
