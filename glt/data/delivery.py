"""Inspect delivered files with ingest's own reader and checks, and pack the accepted ones into one archive."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from glt.data import archives
from glt.data.account import Account, UnreadFile, count_files
from glt.data.clips import problem
from glt.data.formats import FORMATS
from glt.data.ingest import NO_LOSS
from glt.data.layouts import Skeleton
from glt.data.listing import Listing, Names, list_recordings, visible
from glt.data.machine import MachineFailure
from glt.data.recording import Recording, Rejection
from glt.data.sources import Batch
from glt.data.workers import Readers
from glt.errors import GltError
from glt.recipe import DataConfig
from glt.reporter import Reporter
from glt.text import clean

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
        batch: reads its contents; None if it is rejected or left out as a whole.
        left_out: files that are not recordings; an empty name is that of the delivered file itself.
        account: counts of files; each member of an archive counts.
        layouts: layout of the clips of each accepted file.
    """

    name: str
    accepted: tuple[str, ...]
    sidecars: tuple[str, ...]
    clips: int
    rejected: tuple[RejectedFile, ...]
    batch: Batch | None
    left_out: tuple[RejectedFile, ...] = ()
    account: Account = field(default_factory=Account)
    layouts: Mapping[str, Skeleton] = field(default_factory=dict, repr=False)

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
        names: paths of the delivered files below `folder`: recordings, archives of recordings, and others.
        sidecars: paths of the sidecars of the loose recordings; other files in the folder are ignored.
        data: the format and the checks.
        reporter: receives progress.
    """
    form = FORMATS[data.format]
    kinds, given = Names(form.suffixes, form.sidecars), sorted(names)
    packed = [name for name in given if archives.is_archive(name) and visible(name)]
    loose = [name for name in given if kinds.is_recording(name)]
    done = 0

    def advance(files: int) -> None:
        nonlocal done
        done += files
        reporter.progress("check", done, len(given))

    for name in sorted({*given} - {*packed, *loose}):
        yield _unread(name, kinds.leave_out(name))
        advance(1)
    with Readers(data) as readers:
        batch = Batch(folder, tuple(loose), sidecar_names=tuple(sorted(sidecars)))
        for file, results in readers.read(batch):
            yield _inspect(file, batch.subset((file,)), [(file, results)])
            advance(1)
        for name in packed:
            try:
                listing = list_recordings(folder / name, kinds, readers.list_members, whole=False)
            except MachineFailure:
                raise
            except GltError as error:
                yield _reject(name, "unreadable", str(error).split(": ", 1)[-1])
            else:
                yield _inspect_archive(name, listing, readers)
            advance(1)


def _reject(name: str, check: str, reason: str) -> InspectedFile:
    return InspectedFile(name, (), (), 0, (RejectedFile("", check, reason),), None, account=Account(rejected=1))


def _unread(name: str, file: UnreadFile) -> InspectedFile:
    """A delivered file that is not read: left out if hidden, else rejected, since somebody delivered it."""
    if file.check != "hidden":
        return _reject(name, "no-recording", file.reason)
    left_out = (RejectedFile("", file.check, file.reason),)
    return InspectedFile(name, (), (), 0, (), None, left_out, Account(left_out=1))


def _inspect_archive(name: str, listing: Listing, readers: Readers) -> InspectedFile:
    """An archive: its recordings, and its other members."""
    own = clean(name.rpartition("/")[2])
    rejected, left_out = (
        tuple(RejectedFile("" if one.name == own else one.name, one.check, one.reason) for one in files)
        for files in (listing.rejected, listing.left_out)
    )
    unread = Account(rejected=len(rejected), left_out=len(left_out))
    if not listing.batches:
        reason = next((one.reason for one in listing.rejected), "no recording in it")
        nothing = Account() if unread.seen else Account(rejected=1)
        found = InspectedFile(name, (), (), 0, (RejectedFile("", "no-recording", reason),), None, account=nothing)
    else:
        (batch,) = listing.batches
        found = _inspect(name, batch, readers.read(batch))
    return replace(found, rejected=(*found.rejected, *rejected), left_out=left_out, account=found.account + unread)


def _inspect(name: str, batch: Batch, files: Iterable[tuple[str, Iterable[Recording | Rejection]]]) -> InspectedFile:
    accepted, rejected, clips = [], [], 0
    losses: list[tuple[str, bool]] = []
    layouts: dict[str, Skeleton] = {}
    for file, recordings in files:
        inside, good = file if batch.is_archive else "", 0
        for recording in recordings:
            if isinstance(recording, Recording) and (reason := problem(recording, file)):
                recording = Rejection("value", reason, name=recording.name)
            if isinstance(recording, Rejection):
                rejected.append(RejectedFile(inside, recording.check, clean(recording.reason)))
                losses.append((file, recording.check not in NO_LOSS))
            else:
                good += 1
                layouts.setdefault(file, recording.skeleton)
        if good:
            accepted.append(file)
            clips += good
    sidecars = batch.sidecar_names if batch.is_archive else ()
    account = count_files(batch.names, accepted, losses)
    found = tuple(sorted(accepted)), sidecars, clips, tuple(rejected), batch
    return InspectedFile(name, *found, account=account, layouts=layouts)


def contents(inspected: InspectedFile, files: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of some of the files in a delivered one; unreadable files are skipped."""
    if inspected.batch is None:
        return
    known = {*inspected.batch.names, *inspected.batch.sidecar_names}
    for chunk in inspected.batch.subset(tuple(sorted(known.intersection(files)))).chunks(1):
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
