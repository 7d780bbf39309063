"""Archives of recordings: zip and tar files, read in place. Nothing is unpacked to disk.

An archive that cannot be listed is an error. A member is not read, while the others are, if it is a link or a device,
leads out of the archive, is encrypted, damaged or too large, or has the name of an earlier one.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from glt.data import limits
from glt.data.account import UnreadFile
from glt.data.machine import raise_machine_failure
from glt.data.member_names import decode_name
from glt.data.recording import Rejection
from glt.errors import GltError, first_line
from glt.text import clean, decode

ZIP, TAR, STREAM = "zip", "tar", "stream"  # a stream is a compressed tar, which can only be read from its beginning
LARGEST = 256 << 20  # bytes of a recording's file
LARGEST_PICKLE = 4 << 30  # bytes; a .pkl holds a whole data set
_RATIO, _RATIO_FROM = 200, 16 << 20  # text compresses 3 to 10 times; above this ratio and size it is a zip bomb
_MEMBERS = 5_000_000
_TAIL, _BLOCK = 64 << 20, 1 << 20  # bytes after the end of a tar that are checked, in all and at a time
_ENCRYPTED, _UTF8 = 1, 0x800  # flags of a zip's member
_UNICODE_PATH = 0x7075  # an extra field of a zip's member
_TAR_ENDS = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
_ZIP_MEMBER, _ZIP_END = b"PK\3\4", b"PK\5\6"
_ZIP_END_SIZE, _ZIP_TAIL = 22, (64 << 10) + 22  # bytes of the end of a zip, without and with the longest comment
_COMPRESSIONS: Mapping[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}  # by a file's first bytes
_DAMAGED = "the archive is damaged: what follows its last readable member is lost; copy or download it again"
_DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, OSError, EOFError, ValueError, RuntimeError, LookupError),
    *(zlib.error, lzma.LZMAError, struct.error, OverflowError, MemoryError),
)

Read = Callable[[str], "bytes | Rejection"]


def is_archive(name: str) -> bool:
    """True if the name has the ending of an archive."""
    return name.lower().endswith((".zip", *_TAR_ENDS))


@dataclass
class Members:
    """The members of an archive.

    Attributes:
        kind: ZIP, TAR or STREAM.
        files: position and size in bytes of each file by its clean name. The position is the index in a ZIP or STREAM
            and the offset of the content in a TAR.
        unread: members that are not read.
        damage: the reason why members may be missing from these; empty if the list is complete.
    """

    kind: str
    files: dict[str, tuple[int, int]] = field(default_factory=dict)
    unread: list[UnreadFile] = field(default_factory=list)
    damage: str = ""

    def add(self, name: str, position: int, size: int, fault: tuple[str, str] | None = None) -> None:
        """Add a member by its clean name, without ``./``; one with a `fault` (check, reason) is not read."""
        if len(self.files) + len(self.unread) >= _MEMBERS:
            raise GltError(f"more than {_MEMBERS:,} members; deliver several archives")
        parts = name.replace("\\", "/").split("/")
        if len(name) > limits.PATH:
            fault = "name", f"a name of {len(name):,} characters, more than {limits.PATH:,}; give it a shorter one"
            name = f"{name[:100]}[...]{name[-100:]}"
        if fault is None and (parts[0] == "" or ".." in parts or name[1:2] == ":") and name:
            fault = "outside", "its path leads out of the archive; pack it again without `..`, drive or leading `/`"
        if fault is None:
            name = "/".join(part for part in name.split("/") if part not in ("", ".")) or name
        if fault is None and name in self.files:
            fault = "duplicate", "an earlier member of the archive has this name; pack it again"
        if fault is None:
            self.files[name] = position, size
        else:
            self.unread.append(UnreadFile(name, *fault))


def list_members(path: Path) -> Members:
    """List the members of an archive.

    Raises:
        GltError: not an archive, encrypted, damaged, too many members, or a decompression bomb.
        MachineFailure: an input/output error.
    """
    try:
        kind = _kind(path)
        return _zip_members(path) if kind == ZIP else _tar_members(path, kind)
    except (GltError, OSError) as error:
        raise_machine_failure(error, path)
        raise GltError(f"recordings {path}: {error}") from error


def reader(path: Path, kind: str, members: Mapping[str, tuple[int, int]]) -> Generator[Read, None, None]:
    """Yield one function that reads a member of a ZIP or TAR; a generator, so that the archive is closed."""
    if kind == ZIP:
        state = path.stat()
        archive = _cached_zip(path, state.st_mtime_ns, state.st_size)
        yield lambda name: _zip_content(archive, *members[name])
    else:
        with path.open("rb") as file:

            def content(name: str) -> bytes | Rejection:
                offset, size = members[name]
                file.seek(offset)
                data = file.read(size)
                return data if len(data) == size else Rejection("unreadable", "the archive is cut off")

            yield lambda name: too_large(name, members[name][1]) or content(name)


def stream(path: Path) -> Iterator[tuple[int, Callable[[], bytes | Rejection]]]:
    """Yield the index of each file of a compressed tar, and a function that reads it, up to the first damage.

    The function is valid until the next member is requested.
    """
    try:
        # tarfile's own streams end with the first part of a file that several processes have compressed.
        with _unpacked(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as archive:
            for index, member in enumerate(archive):
                if member.isfile():
                    yield index, functools.partial(_tar_content, archive, member)
    except _DAMAGE as error:
        raise_machine_failure(error, path)
        return


def too_large(name: str, size: int) -> Rejection | None:
    """The rejection of a file of `size` bytes if that is too large, else None."""
    limit = LARGEST_PICKLE if name.lower().endswith(".pkl") else LARGEST
    return Rejection("too-large", f"{size} bytes, more than {limit >> 20} MiB") if size > limit else None


def _zip_members(path: Path) -> Members:
    with _open_zip(path) as archive:
        infos = archive.infolist()
        begin = max(0, min((info.header_offset for info in infos), default=archive.start_dir))
    if infos and all(info.flag_bits & _ENCRYPTED for info in infos):
        raise GltError("the archive is encrypted; make it again without a password")
    total = sum(info.file_size for info in infos)
    if total > _RATIO * path.stat().st_size + _RATIO_FROM and _shares_content(infos):
        raise GltError("unpacks to far more than an archive of its size can hold; not read")
    members = Members(ZIP, damage=_zip_surroundings(path, begin))
    for index, info in enumerate(infos):
        name = _zip_name(info)
        fault = None
        if stat.S_ISLNK(info.external_attr >> 16):
            fault = "link", "a link; pack the file itself"
        elif info.flag_bits & _ENCRYPTED:
            fault = "encrypted", "encrypted; pack it again without a password"
        if not name.endswith("/"):
            members.add(name, index, info.file_size, fault)
    return members


def _zip_surroundings(path: Path, begin: int) -> str:
    """The reason why a zip whose first member is at `begin` may hold more members; empty if it may not.

    `zipfile` reads the last archive in a file, and ignores any before or after it.
    """
    with path.open("rb") as file:
        head = file.read(len(_ZIP_MEMBER))
        file.seek(max(0, begin - _ZIP_TAIL))
        before = file.read(begin - file.tell())
        file.seek(max(0, path.stat().st_size - _ZIP_TAIL))
        tail = file.read(_ZIP_TAIL)
    behind = tail[tail.rfind(_ZIP_END) + _ZIP_END_SIZE :]
    if (begin and head == _ZIP_MEMBER) or _ZIP_END in before or _ZIP_MEMBER in behind:
        return "the archive has another archive before or after it; unpack its parts, and pack them as one archive"
    return ""


def _shares_content(infos: list[zipfile.ZipInfo]) -> bool:
    """True if members overlap, as in a bomb: a small archive with many large files."""
    starts = sorted((info.header_offset, info.header_offset + info.compress_size) for info in infos)
    return any(end > start for (_, end), (start, _) in pairwise(starts))


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The clean name of a member, with forward slashes.

    A name without the flag for UTF-8 is in the encoding of the machine that packed it. Windows PowerShell 5 separates
    folders by backslashes.
    """
    stored = info.orig_filename.split("\0", 1)[0]
    if info.flag_bits & _UTF8:
        name = clean(stored)
    else:
        raw = stored.encode("cp437")
        name = _unicode_path(info.extra, raw) or decode_name(raw, "cp437")
    return name.replace("\\", "/")


def _unicode_path(extra: bytes, raw: bytes) -> str:
    """The name in the extra field "Info-ZIP Unicode Path", if it belongs to this name; else an empty string."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        content, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and content[:1] == b"\1" and content[1:5] == struct.pack("<I", zlib.crc32(raw)):
            return decode(content[5:])
    return ""


def _kind(path: Path) -> str:
    """The kind of an archive, by its first bytes or, if these are not an archive's, by its ending."""
    with path.open("rb") as file:
        head = file.read(tarfile.BLOCKSIZE)
    if head.startswith(tuple(_COMPRESSIONS)):
        return STREAM
    if head[257:262] == b"ustar":
        return TAR
    if head.startswith((_ZIP_MEMBER, _ZIP_END)):
        return ZIP
    return TAR if path.name.lower().endswith(_TAR_ENDS) else ZIP


def _unpacked(path: Path) -> IO[bytes]:
    """A file's content, decompressed if it is compressed."""
    with path.open("rb") as file:
        head = file.read(6)
    opener = next((opener for start, opener in _COMPRESSIONS.items() if head.startswith(start)), open)
    content: IO[bytes] = opener(path, "rb")
    return content


def _tar_members(path: Path, kind: str) -> Members:
    members = Members(kind)
    total, limit = 0, _RATIO * path.stat().st_size + _RATIO_FROM
    try:
        with _unpacked(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as archive:
            for index, member in enumerate(archive):
                total += member.size
                if member.size < 0:
                    raise tarfile.ReadError("a member of negative size")
                if kind == STREAM and total > limit:
                    raise GltError("unpacks to far more than an archive of its size can hold; not read")
                fault = None
                if not member.isfile():
                    fault = "link", "a link or a device; pack the file itself (tar --dereference)"
                elif member.issparse():
                    fault = "sparse", "a sparse file; pack it again without --sparse"
                if not member.isdir():
                    name = decode_name(member.name.encode("utf-8", "surrogateescape"))
                    members.add(name, member.offset_data if members.kind == TAR else index, member.size, fault)
            members.damage = _tar_end(archive)
        if kind == TAR and not (members.files or members.unread) and path.stat().st_size > _BLOCK:
            members.damage = "the archive is empty, though it is large; download it again"
    except _DAMAGE as error:
        raise_machine_failure(error, path)
        if members.files:
            members.damage = _DAMAGED
            return members
        reason = first_line(error)
        raise GltError(f"not a readable tar archive ({reason}); copy or download it again") from error
    return members


def _tar_end(archive: tarfile.TarFile) -> str:
    """The reason why a listed archive may hold more members; empty if it ends properly.

    `tarfile` takes a damaged header for the end, and does not read past the end.
    """
    stream: IO[bytes] = archive.fileobj  # type: ignore[assignment]
    try:
        stream.seek(archive.offset)
        block = stream.read(tarfile.BLOCKSIZE)
        if block.strip(b"\0"):
            return _DAMAGED
        if not block:
            return "the archive is cut off: it has no end mark; copy or download it again"
        for number in range(_TAIL // _BLOCK):
            if not (block := stream.read(_BLOCK)) and number < 2:
                return ""
            if block.strip(b"\0"):
                return "the archive continues after its end mark; unpack its parts, and pack them as one archive"
    except _DAMAGE as error:
        raise_machine_failure(error, archive.name)
        return f"the archive cannot be read after its end mark ({first_line(error)}); download it again"
    return "the archive ends with megabytes of zeros, as an incomplete one does; download it again"


@functools.lru_cache(maxsize=1)
def _cached_zip(path: Path, modified: int, size: int) -> zipfile.ZipFile:
    """An archive that stays open for the next chunk, since reading its list of members takes longer than a chunk."""
    return _open_zip(path)


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise_machine_failure(error, path)
        raise GltError(f"not a readable zip archive ({first_line(error)}); copy or download it again") from error


def _zip_content(archive: zipfile.ZipFile, index: int, size: int) -> bytes | Rejection:
    try:
        info = archive.infolist()[index]
        if rejection := too_large(info.filename, info.file_size):
            return rejection
        if info.file_size > _RATIO_FROM and info.file_size > _RATIO * info.compress_size:
            return Rejection("too-large", f"{info.compress_size} bytes that unpack to {info.file_size}: a bomb")
        return archive.read(info)
    except Exception as error:  # damage raises many kinds of errors: CRC, zlib, lzma, struct, codec, end of file, ...
        raise_machine_failure(error, archive.filename)
        return Rejection("unreadable", f"damaged in the archive: {first_line(error)}")


def _tar_content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | Rejection:
    if rejection := too_large(member.name, member.size):
        return rejection
    try:
        opened = archive.extractfile(member)
        content = opened.read() if opened is not None else b""
    except _DAMAGE as error:
        raise_machine_failure(error, archive.name)
        return Rejection("unreadable", f"damaged in the archive: {first_line(error)}")
    return content if len(content) == member.size else Rejection("unreadable", "the archive is cut off")
