"""Files that somebody delivered: which of them ingest would take, and the archive that those are packed into."""

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
class Refused:
    """A file of a delivery, or a recording in one, that ingest would not take.

    Attributes:
        file: its name in the delivered file; empty if that is refused as a whole.
        check: that it failed, one word.
        reason: for a person.
    """

    file: str
    check: str
    reason: str


@dataclass(frozen=True)
class Judged:
    """A delivered file, looked into.

    Attributes:
        name: of the file, below the folder of the delivery.
        taken: the recordings' files in it that give clips; the file's own last name if it is no archive.
        beside: the sidecars in it.
        clips: that they give.
        refused: what is not taken, and why.
        batch: what reads its contents; None if it is refused as a whole.
    """

    name: str
    taken: tuple[str, ...]
    beside: tuple[str, ...]
    clips: int
    refused: tuple[Refused, ...]
    batch: Batch | None


def is_sidecar(name: str, data: DataConfig) -> bool:
    """Whether a file says something of the recordings beside it instead of being one."""
    return name.rpartition("/")[2].lower() in FORMATS[data.format].sidecars


def judge(
    folder: Path, names: Iterable[str], beside: Iterable[str], data: DataConfig, reporter: Reporter
) -> Iterator[Judged]:
    """Read delivered files as ingest would, and say what it would take.

    Args:
        folder: where they lie.
        names: of the delivered files, below the folder: recordings and archives of recordings.
        beside: names of the sidecars of the loose ones, likewise; what else lies in the folder does not count.
        data: the format and the checks.
        reporter: hears of progress.
    """
    form, names = FORMATS[data.format], sorted(name for name in names if visible(name))
    packed = [name for name in names if archives.is_archive(name)]
    loose = [name for name in names if name.lower().endswith(form.suffixes) and name not in set(packed)]
    done = 0

    def tell(files: int) -> None:
        nonlocal done
        done += files
        reporter.progress("check", done, len(names))

    for name in sorted({*names} - {*packed, *loose}):
        reason = f"the format {data.format} reads {' or '.join(form.suffixes)}"
        yield _refused(name, "no-recording", reason)
        tell(1)
    batch = Batch(folder, tuple(loose), beside=tuple(sorted(beside)))
    for files in read_batch(batch, data):
        for file, found in files:
            yield _judged(file, batch.of((file,)), [(file, found)])
        tell(len(files))
    for name in packed:
        try:
            (archive,) = batches(folder / name, form.suffixes, form.sidecars)
        except GltError as error:
            yield _refused(name, "unreadable", str(error).split(": ", 1)[-1])
        else:
            yield _judged(name, archive, (file for files in read_batch(archive, data) for file in files))
        tell(1)


def _refused(name: str, check: str, reason: str) -> Judged:
    return Judged(name, (), (), 0, (Refused("", check, reason),), None)


def _judged(name: str, batch: Batch, files: Iterable[tuple[str, list[Recording | Rejection]]]) -> Judged:
    taken, refused, clips = [], [], 0
    for file, found in files:
        inside = file if batch.is_archive else ""
        rejections = [one for one in found if isinstance(one, Rejection)] or (
            [] if found else [Rejection("empty", "no recording in it")]
        )
        refused += [Refused(inside, one.check, one.reason) for one in rejections]
        if good := len(found) - len(rejections) if found else 0:
            taken.append(file)
            clips += good
    return Judged(name, tuple(sorted(taken)), batch.beside if batch.is_archive else (), clips, tuple(refused), batch)


def contents(judged: Judged, files: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of some files of a delivered one; those that cannot be read are left out."""
    if judged.batch is None:
        return
    for chunk in judged.batch.of(tuple(sorted(files))).chunks(1):
        for name, content in chunk.files():
            if not isinstance(content, Rejection):
                yield name, content


def pack(taken: Iterable[Judged], folder: Path, sidecars: Iterable[str], place: Path) -> None:
    """One zip of all that is taken, so that ingest reads from it what it would read from the delivered files.

    A loose file keeps its name, an archive becomes a folder of its name. Equal recordings give equal bytes.

    Args:
        taken: the delivered files.
        folder: where the sidecars lie.
        sidecars: names of those that belong to loose files.
        place: of the zip; it is not there until it is whole.
    """
    draft = place.with_name(f".{place.name}.draft")
    try:
        with zipfile.ZipFile(draft, "w") as archive:
            for name in sorted(sidecars):
                _add(archive, name, (folder / name).read_bytes())
            for judged in sorted(taken, key=lambda one: one.name):
                loose = judged.batch is not None and not judged.batch.is_archive
                for name, content in contents(judged, (*judged.taken, *judged.beside)):
                    _add(archive, name if loose else f"{judged.name}/{name}", content)
        with draft.open("rb") as stream:
            os.fsync(stream.fileno())
        draft.replace(place)
    finally:
        draft.unlink(missing_ok=True)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.external_attr = _READ
    archive.writestr(info, content, zipfile.ZIP_DEFLATED, 6)
