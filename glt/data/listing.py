"""Finds the recordings at a path, and accounts for every other file there.

A folder may hold archives (one per delivered batch) and loose files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from glt.data import archives
from glt.data.account import UnreadFile
from glt.data.archives import Members
from glt.data.folder import list_folder
from glt.data.machine import MachineFailure
from glt.data.sources import Batch
from glt.errors import GltError
from glt.text import clean

_SINGLE = (".gz", ".bz2", ".xz", ".zst", ".z", ".lzma", ".lz4")  # one compressed file
_OTHER_ARCHIVES = (".7z", ".rar", ".tar.zst", ".tzst", ".iso", ".dmg")

ListMembers = Callable[[Path], Members]


@dataclass
class Listing:
    """The files at a path.

    Attributes:
        batches: one per archive, and one of the loose files of a folder; each has at least one recording.
        rejected: archives that cannot be read, and members or files that should be recordings but are not read.
        left_out: files that are not recordings.
        unused: batches that have sidecars but no recordings.
    """

    batches: list[Batch] = field(default_factory=list)
    rejected: list[UnreadFile] = field(default_factory=list)
    left_out: list[UnreadFile] = field(default_factory=list)
    unused: list[Batch] = field(default_factory=list)


@dataclass(frozen=True)
class Names:
    """The names of files that a format reads.

    Attributes:
        suffixes: endings of the names of recordings, in lower case.
        sidecars: names of files that describe all recordings below their folder, in lower case.
    """

    suffixes: tuple[str, ...]
    sidecars: tuple[str, ...] = ()

    def is_sidecar(self, name: str) -> bool:
        """True if a file describes recordings."""
        return visible(name) and name.rpartition("/")[2].lower() in self.sidecars

    def is_recording(self, name: str) -> bool:
        """True if a file's name is that of a recording."""
        return visible(name) and name.lower().endswith(self.suffixes) and not archives.is_archive(name)

    def is_read(self, name: str) -> bool:
        """True if a file is read by its name, so that it is a loss if it cannot be."""
        return self.is_recording(name) or self.is_sidecar(name)

    def leave_out(self, name: str) -> UnreadFile:
        """The entry of a file that is not a recording, with the reason."""
        last = name.rpartition("/")[2].lower()
        if not visible(name):
            check, reason = "hidden", "hidden, or added by macOS"
        elif self.is_sidecar(name):
            check, reason = "sidecar", "describes the recordings beside it"
        elif archives.is_archive(name):
            check, reason = "nested", "an archive inside an archive is not read: unpack it, or deliver it on its own"
        elif last.endswith(_OTHER_ARCHIVES):
            check, reason = "archive", "this kind of archive is not read: pack the files as zip or tar"
        elif last.endswith(_SINGLE):
            check, reason = "compressed", "a single compressed file is not read: unpack it"
        else:
            check, reason = "ending", f"the format reads files that end with {' or '.join(self.suffixes)}"
        return UnreadFile(name, check, reason)


def list_recordings(
    recordings: Path, names: Names, list_members: ListMembers = archives.list_members, *, whole: bool = True
) -> Listing:
    """List the files at a path.

    Args:
        recordings: a folder, an archive, or one recording.
        names: names of recordings and sidecars.
        list_members: lists an archive.
        whole: raise an error if there is no recording.

    Raises:
        GltError: no such path, no recording there, or the path is an archive that cannot be read.
        MachineFailure: an input/output error.
    """
    recordings = Path(recordings)
    if not recordings.exists():
        raise GltError(
            f"recordings {recordings}: no such file or folder; "
            f"give a folder, an archive, or one {names.suffixes[0]} file"
        )
    if recordings.is_dir():
        listing = _folder(recordings, names, list_members)
    elif names.is_recording(clean(recordings.name)) and recordings.is_file():
        listing = _file(recordings, names)
    elif recordings.is_file():
        listing = _archive(recordings, names, list_members)
    else:
        raise GltError(f"recordings {recordings}: a pipe, socket or device; give a folder, an archive, or one file")
    if whole and not listing.batches:
        raise GltError(_nothing(recordings, listing, names))
    return listing


def _nothing(recordings: Path, listing: Listing, names: Names) -> str:
    if listing.rejected:
        first = listing.rejected[0]
        return (
            f"recordings {recordings}: nothing can be read: {len(listing.rejected)} rejected, "
            f"e.g. {first.name}: {first.reason}"
        )
    seen = [one for one in listing.left_out if one.check not in ("hidden", "ending", "sidecar")]
    why = f" ({seen[0].name}: {seen[0].reason})" if seen else ""
    return (
        f"recordings {recordings}: no file that ends with {' or '.join(names.suffixes)}{why}; "
        "give other recordings or change data.format"
    )


def _folder(recordings: Path, names: Names, list_members: ListMembers) -> Listing:
    found = list_folder(recordings)
    listing = Listing(rejected=found.rejected)
    for unread in found.left_out:
        missed = names.is_read(unread.name) or (archives.is_archive(unread.name) and visible(unread.name))
        (listing.rejected if missed else listing.left_out).append(unread)
    loose = []
    for name, path in found.files.items():
        if not (archives.is_archive(name) and visible(name)):
            loose.append(name)
            continue
        try:
            inside = _archive(recordings / path, names, list_members, f"{name}/")
        except MachineFailure:
            raise
        except GltError as error:
            listing.rejected.append(UnreadFile(name, "unreadable", str(error).split(": ", 1)[-1]))
        else:
            listing.batches += inside.batches
            listing.unused += inside.unused
            listing.rejected += inside.rejected
            listing.left_out += inside.left_out
    batch = _batch(recordings, loose, names, listing)
    paths = {name: found.files[name] for name in (*batch.names, *batch.sidecar_names) if found.files[name] != name}
    if batch.names or batch.sidecar_names:
        (listing.batches if batch.names else listing.unused).append(replace(batch, paths=paths))
    return listing


def _file(recording: Path, names: Names) -> Listing:
    """One recording, with the sidecars beside it."""
    listing = Listing()
    beside = [one.name for one in recording.parent.iterdir() if one.name.lower() in names.sidecars and one.is_file()]
    name = clean(recording.name)
    batch = _batch(recording.parent, [name, *beside], names, listing)
    listing.batches.append(replace(batch, paths={name: recording.name} if name != recording.name else {}))
    return listing


def _archive(path: Path, names: Names, list_members: ListMembers, prefix: str = "") -> Listing:
    """An archive; `prefix` is put before the names of members that are not read."""
    listing, members = Listing(), list_members(path)
    for member in members.unread:
        name = member.name.replace("\\", "/")
        (listing.rejected if names.is_read(name) else listing.left_out).append(member)
    if members.damage:
        listing.rejected.append(UnreadFile("", "unreadable", members.damage))
    if not (members.files or members.unread or members.damage):
        listing.left_out.append(UnreadFile("", "empty", "an archive without a file"))
    batch = _batch(path, members.files, names, listing)
    wanted = {*batch.names, *batch.sidecar_names}
    if wanted:
        inside = {name: place for name, place in members.files.items() if name in wanted}
        (listing.batches if batch.names else listing.unused).append(replace(batch, kind=members.kind, members=inside))
    own = prefix.removesuffix("/") or clean(path.name)
    listing.rejected = [replace(one, name=f"{prefix}{one.name}" if one.name else own) for one in listing.rejected]
    listing.left_out = [replace(one, name=f"{prefix}{one.name}" if one.name else own) for one in listing.left_out]
    return listing


def _batch(path: Path, files: Iterable[str], names: Names, listing: Listing) -> Batch:
    """The recordings and sidecars among files; the others, and the sidecars, are added to `listing.left_out`."""
    recordings: list[str] = []
    sidecars: dict[str, str] = {}  # by its name in lower case
    for name in sorted(files):
        folder, slash, last = name.rpartition("/")
        if names.is_sidecar(name) and (known := sidecars.setdefault(f"{folder}{slash}{last.lower()}", name)) != name:
            reason = f"{known} has the same name but for upper case: keep one of the two"
            listing.rejected.append(UnreadFile(name, "duplicate", reason))
        elif names.is_recording(name):
            recordings.append(name)
        else:
            listing.left_out.append(names.leave_out(name))
    return Batch(path, tuple(recordings), sidecar_names=tuple(sorted(sidecars.values())))


def visible(name: str) -> bool:
    """True unless a file, given by its relative path, is hidden or added by macOS."""
    # Split by hand: as paths, the names in an archive of 50,000 recordings would take seconds.
    return not any(part.startswith((".", "__MACOSX")) and part not in (".", "..") for part in name.split("/"))
