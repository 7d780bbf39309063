"""DVC's content hashes, computed without DVC: a command that only hashes a folder does not import it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from glt import settings
from glt.data.hashes import FileHashes
from glt.errors import GltError


def content_md5(path: Path) -> str:
    """The MD5 of a file; of a folder, the MD5 of its listing followed by ``.dir``.

    Hashes of files that did not change are remembered in GLT_HOME.

    Raises:
        GltError: nothing is at `path`, or it cannot be read.
    """
    path, hashes = Path(path), FileHashes(settings.home() / "hashes.json", "md5")
    with readable():
        if path.is_dir():
            version = listing_md5((file.relative_to(path).as_posix(), hashes.of(file)) for file in list_files(path))
        else:
            version = hashes.of(path)
    with suppress(OSError):  # a GLT_HOME that cannot be written only costs time at the next call
        hashes.save()
    return version


@contextmanager
def readable() -> Iterator[None]:
    """Turn the system's errors on recordings that are read in the block into a GltError that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise GltError(f"recordings {error.filename}: no such file or folder") from error
    except OSError as error:
        raise GltError(f"recordings {error.filename}: cannot be read ({error.strerror})") from error


def listing_md5(files: Iterable[tuple[str, str]]) -> str:
    """DVC's hash of a folder, from the (path within it, MD5) of each file."""
    listing = [{"md5": md5, "relpath": name} for name, md5 in sorted(files)]
    return hashlib.md5(json.dumps(listing).encode(), usedforsecurity=False).hexdigest() + ".dir"


def file_md5(path: Path) -> str:
    """Hex MD5 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def list_files(folder: Path) -> list[Path]:
    """The files below a folder as DVC adds them, sorted: links to folders are not followed, `.dvcignore` applies."""
    folder = Path(folder)
    return sorted(_without_ignored(folder, [file for file in folder.rglob("*") if file.is_file()]))


def _without_ignored(folder: Path, files: list[Path]) -> list[Path]:
    """The files that no `.dvcignore` of the project excludes; DVC is imported only if there is a `.dvcignore`."""
    folder = folder.absolute()
    project = next((above for above in folder.parents if (above / ".dvc").is_dir()), None)
    if project is None:
        return files
    between = [above for above in folder.parents if above.is_relative_to(project)]
    if not any(_has_patterns(above / ".dvcignore") for above in between):
        return files
    from dvc.fs import LocalFileSystem
    from dvc.ignore import DvcIgnoreFilter

    ignore = DvcIgnoreFilter(LocalFileSystem(), str(project))
    kept = {Path(file) for file in ignore.find(ignore.fs, str(folder))}
    return [file for file in files if file.absolute() in kept]


def _has_patterns(file: Path) -> bool:
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any(line.strip() and not line.startswith("#") for line in lines)


def verify(path: Path, version: str, what: str) -> None:
    """Check that the content hash of `path` is `version`.

    Raises:
        GltError: it is not; `what` names the recordings in the message.
    """
    found = content_md5(path)
    if found != version:
        raise GltError(f"{what}: content is {found}, expected {version}; these are not the recordings that were pinned")
