"""Archives of recordings: zip and tar files, read in place. Nothing is unpacked to disk.

An archive with a link, a device or a member that points outside of it is an error; a member that is damaged or too
large is one rejected recording.
"""

from __future__ import annotations

import functools
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from lzma import LZMAError
from pathlib import Path

from glt.data.machine import raise_machine_failure
from glt.data.recording import Rejection
from glt.errors import GltError

ZIP, TAR, STREAM = "zip", "tar", "stream"  # a stream is a compressed tar, which can only be read from its beginning
LARGEST = 256 << 20  # bytes of a recording's file
LARGEST_PICKLE = 4 << 30  # bytes; a .pkl holds a whole data set
_RATIO, _RATIO_FROM = 200, 16 << 20  # text compresses 3 to 10 times; above this ratio and size it is a zip bomb
_MEMBERS = 5_000_000
_TAR_ENDS = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
_DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, OSError, EOFError, ValueError, RuntimeError, LookupError),
    *(zlib.error, LZMAError, struct.error, OverflowError, MemoryError),
)

Read = Callable[[str], "bytes | Rejection"]


def is_archive(name: str) -> bool:
    """True if the name has the ending of an archive."""
    return name.lower().endswith((".zip", *_TAR_ENDS))


def members(path: Path) -> tuple[str, dict[str, tuple[int, int]]]:
    """The kind of an archive, and the offset and size of its files by name (the offset is that in a TAR).

    Raises:
        GltError: not an archive, encrypted, or unsafe: a path that leads out of it, a link, a device, a name twice,
            or a decompression bomb.
    """
    name = path.name.lower()
    if name.endswith(_TAR_ENDS):
        return (TAR if name.endswith(".tar") else STREAM), _tar_members(path)
    return ZIP, _zip_members(path)


def reader(path: Path, kind: str, members: Mapping[str, tuple[int, int]]) -> Iterator[Read]:
    """Yield one function that reads a member of a ZIP or TAR; a generator, so that the archive is closed."""
    if kind == ZIP:
        state = path.stat()
        archive = _cached_zip(path, state.st_mtime_ns, state.st_size)
        yield lambda name: _zip_content(archive, name)
    else:
        with path.open("rb") as file:

            def content(name: str) -> bytes | Rejection:
                offset, size = members[name]
                file.seek(offset)
                data = file.read(size)
                return data if len(data) == size else Rejection("unreadable", "the archive is cut off")

            yield lambda name: too_large(name, members[name][1]) or content(name)


def stream(path: Path) -> Iterator[tuple[str, bytes | Rejection]]:
    """(name, content) of each file of a compressed tar, in its order, up to the first damage."""
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                if member.isfile():
                    yield member.name, too_large(member.name, member.size) or _tar_content(archive, member)
    except _DAMAGE as error:
        raise_machine_failure(error, path)
        return


def too_large(name: str, size: int) -> Rejection | None:
    """The rejection of a file of `size` bytes if that is too large, else None."""
    limit = LARGEST_PICKLE if name.lower().endswith(".pkl") else LARGEST
    return Rejection("too-large", f"{size} bytes, more than {limit >> 20} MiB") if size > limit else None


def _zip_members(path: Path) -> dict[str, tuple[int, int]]:
    with _open_zip(path) as archive:
        infos = archive.infolist()
    if any(info.flag_bits & 1 for info in infos):
        raise GltError(f"recordings {path}: the archive is encrypted; make it again without a password")
    links = [info.filename for info in infos if stat.S_ISLNK(info.external_attr >> 16)]
    files = [info for info in infos if not info.filename.endswith("/")]
    _check_members(path, [info.filename for info in files], links)
    return {info.filename: (info.header_offset, info.file_size) for info in files}


def _tar_members(path: Path) -> dict[str, tuple[int, int]]:
    members: dict[str, tuple[int, int]] = {}
    names: list[str] = []
    odd: list[str] = []
    total, limit = 0, _RATIO * path.stat().st_size + _RATIO_FROM
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                total += member.size
                if total > limit or len(names) > _MEMBERS:
                    raise GltError(
                        f"recordings {path}: unpacks to far more than an archive of its size can hold; not read"
                    )
                if member.isfile() and not member.issparse():
                    names.append(member.name)
                    members[member.name] = (member.offset_data, member.size)
                elif not member.isdir():
                    odd.append(member.name)
    except _DAMAGE as error:
        raise_machine_failure(error, path)
        raise GltError(f"recordings {path}: not a readable tar archive ({error}); copy or download it again") from error
    _check_members(path, names, odd)
    return members


def _check_members(path: Path, names: list[str], odd: list[str]) -> None:
    """Raise a GltError if the archive holds anything but distinct files below it; `odd` are its links and devices."""
    if odd:
        raise GltError(
            f"recordings {path}: member {odd[0]!r:.80} is a link or a device; pack the files "
            "themselves (tar --dereference)"
        )
    for name in names:
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or name[1:2] == ":":
            raise GltError(f"recordings {path}: member {name!r:.80} points out of the archive; pack it again without")
    if len(names) > _MEMBERS:
        raise GltError(f"recordings {path}: {len(names)} members, more than {_MEMBERS}; deliver several archives")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise GltError(
            f"recordings {path}: member {twice[0]!r:.80} is in it {Counter(names)[twice[0]]} times; pack it again"
        )


@functools.lru_cache(maxsize=1)
def _cached_zip(path: Path, modified: int, size: int) -> zipfile.ZipFile:
    """An archive that stays open for the next chunk, since reading its list of members takes longer than a chunk."""
    return _open_zip(path)


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise_machine_failure(error, path)
        raise GltError(f"recordings {path}: not a readable zip archive ({error}); copy or download it again") from error


def _zip_content(archive: zipfile.ZipFile, name: str) -> bytes | Rejection:
    try:
        info = archive.getinfo(name)
        if rejection := too_large(name, info.file_size):
            return rejection
        if info.file_size > _RATIO_FROM and info.file_size > _RATIO * info.compress_size:
            return Rejection("too-large", f"{info.compress_size} bytes that unpack to {info.file_size}: a bomb")
        return archive.read(info)
    except Exception as error:  # damage raises many kinds of errors: CRC, zlib, lzma, struct, codec, end of file, ...
        raise_machine_failure(error, archive.filename)
        return Rejection("unreadable", f"damaged in the archive: {error}")


def _tar_content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | Rejection:
    opened = archive.extractfile(member)
    content = opened.read() if opened is not None else b""
    return content if len(content) == member.size else Rejection("unreadable", "the archive is cut off")
