"""Where recordings lie: a folder, a zip, or one file. All of them give named bytes in sorted order.

A folder may hold archives (one a delivered batch) beside loose files. A zip equals the folder it came from: the digest
is one of names and contents. Nothing is unpacked to disk.
"""

from __future__ import annotations

import hashlib
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from glt.data.recording import Rejection
from glt.errors import GltError


@dataclass(frozen=True)
class Batch:
    """Some recordings that are read together.

    Attributes:
        path: the zip, or the folder that `names` start from.
        names: of the files, sorted, with forward slashes.
    """

    path: Path
    names: tuple[str, ...]

    def files(self) -> Iterator[tuple[str, bytes | Rejection]]:
        """(name, content) of each file; a Rejection in place of the content of one that cannot be read."""
        if self.path.is_dir():
            for name in self.names:
                yield name, _content_of_file(self.path / name)
        else:
            with _open_zip(self.path) as archive:
                for name in self.names:
                    yield name, _content_of_member(archive, name)

    def digest(self) -> str:
        """Hex SHA-256 over names and contents."""
        whole = hashlib.sha256()
        for name, content in self.files():
            part = b"unreadable" if isinstance(content, Rejection) else hashlib.sha256(content).hexdigest().encode()
            whole.update(name.encode("utf-8", "surrogateescape") + b"\0" + part + b"\n")
        return whole.hexdigest()

    def parts(self, size: int) -> Iterator[Batch]:
        """The batch in pieces of at most `size` files."""
        for start in range(0, len(self.names), size):
            yield Batch(self.path, self.names[start : start + size])


def batches(recordings: Path, suffixes: tuple[str, ...]) -> list[Batch]:
    """The batches at a path: each zip is one, the loose files of a folder are another.

    Args:
        recordings: a folder, a zip, or one recording.
        suffixes: how the names of recordings end, in lower case. Others, hidden ones and what macOS adds are skipped.

    Raises:
        GltError: no such path, an archive that cannot be read, or no file that ends with one of `suffixes`.
    """
    recordings = Path(recordings)
    if not recordings.exists():
        raise GltError(
            f"recordings {recordings}: no such file or folder; give a folder, a zip, or one {suffixes[0]} file"
        )
    found = [batch for batch in _search(recordings, suffixes) if batch.names]
    if not found:
        raise GltError(
            f"recordings {recordings}: no file that ends with {' or '.join(suffixes)}; "
            "give other recordings or change data.format"
        )
    return found


def _search(recordings: Path, suffixes: tuple[str, ...]) -> Iterator[Batch]:
    if recordings.is_dir():
        files = [file.relative_to(recordings).as_posix() for file in recordings.rglob("*") if file.is_file()]
        for name in sorted(files):
            if name.lower().endswith(".zip") and _visible(name):
                yield _zip_batch(recordings / name, suffixes)
        yield Batch(recordings, _chosen(files, suffixes))
    elif recordings.name.lower().endswith(suffixes):
        yield Batch(recordings.parent, (recordings.name,))
    else:
        yield _zip_batch(recordings, suffixes)


def _zip_batch(path: Path, suffixes: tuple[str, ...]) -> Batch:
    with _open_zip(path) as archive:
        encrypted = any(member.flag_bits & 1 for member in archive.infolist())
        names = archive.namelist()  # folders end with a slash, so no suffix chooses them
    if encrypted:
        raise GltError(f"recordings {path}: the archive is encrypted; make it again without a password")
    return Batch(path, _chosen(names, suffixes))


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, struct.error) as error:
        raise GltError(f"recordings {path}: not a readable zip archive ({error}); copy or download it again") from error


def _chosen(names: list[str], suffixes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({name for name in names if name.lower().endswith(suffixes) and _visible(name)}))


def _visible(name: str) -> bool:
    return not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)


def _content_of_file(path: Path) -> bytes | Rejection:
    try:
        return path.read_bytes()
    except OSError as error:
        return Rejection("unreadable", str(error.strerror))


def _content_of_member(archive: zipfile.ZipFile, name: str) -> bytes | Rejection:
    try:
        return archive.read(name)
    except Exception as error:  # damage shows in many ways: CRC, zlib, lzma, struct, codec, end of file, ...
        return Rejection("unreadable", f"damaged in the archive: {error}")
