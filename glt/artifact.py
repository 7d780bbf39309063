"""Artifact folders: atomic writes, manifests, verification.

A folder that a step makes (clips, motions, encoder, classifier, ...) is whole or it is not there: it is written
under a temporary name beside its place, its ``manifest.json`` is written last, and the folder is renamed into place.
The manifest names the kind of artifact, what it was made from, and the SHA-256 of every file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glt.errors import GltError

MANIFEST = "manifest.json"
_DRAFT_SUFFIX = 10  # characters that `tempfile` and we put around a name
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: temporary file in the same folder, fsync, rename, fsync the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys sorted, so that equal values give equal bytes."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """A JSON file's content, keys sorted."""
    return (json.dumps(value, sort_keys=True, indent=1) + "\n").encode()


def link(source: str, target: str) -> str:
    """Hard-link a file where the file system can, else copy it; for `shutil.copytree`."""
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
    return target


@contextmanager
def create(path: Path, kind: str, info: Mapping[str, Any], known: Mapping[str, str] | None = None) -> Iterator[Path]:
    """A folder to fill; on leaving the block it becomes the artifact at `path`, replacing one of the same kind.

    Args:
        path: final place of the folder.
        kind: what the artifact is (``clips``, ``motions``, ``encoder``, ...); `open_artifact` checks it.
        info: what it was made from; JSON values only. It is stored in the manifest.
        known: SHA-256 of files, by their path in the folder, that need not be read again (links to another artifact's).
            Both may be filled until the block ends.

    Nothing is left at `path` if the block raises (an artifact that was there before stays).

    Raises:
        GltError: the disk is full, or `path` holds anything else (`check_replaceable`).
    """
    check_replaceable(path, kind)
    path = real_path(path)
    with _explain_full_disk(path), _draft(path) as draft:
        yield draft
        seal(draft, kind, info, known or {})
        check_replaceable(path, kind)  # again: hours may have passed
        if path.exists():
            _replace(draft, path)
        else:
            draft.replace(path)
        _sync_folder(path.parent)


def check_replaceable(path: Path, kind: str) -> None:
    """Refuse a path at which an artifact would replace anything but a finished artifact of its kind or an empty folder.

    An artifact that somebody has put other files into is refused, too.

    Args:
        path: where an artifact is to be written.
        kind: its kind.

    Raises:
        GltError: names what is in the way and the remedy; nothing was changed.
    """
    path = Path(path)
    check_parents(path)
    if not path.exists():
        return
    try:
        obstacle = _obstacle(path, kind)
    except OSError as error:
        obstacle = f"cannot be read ({error.strerror})"
    if obstacle:
        raise GltError(f"{path}: {obstacle}, so it is not replaced; give another path, or move it away")


def check_parents(path: Path) -> None:
    """Refuse a path below something that is not a folder or cannot be written to, or that no file can have."""
    try:
        Path(path).resolve()
        (Path(path).parent / f"{Path(path).name}{' ' * _DRAFT_SUFFIX}").lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links that lead to each other
        reason = error.strerror if isinstance(error, OSError) else error
        raise GltError(f"{path}: not a valid path ({reason}); give another path") from error
    for parent in Path(path).absolute().parents:
        if parent.exists():
            if not parent.is_dir():
                raise GltError(f"{path}: {parent} is not a folder; give another path")
            if not os.access(parent, os.W_OK | os.X_OK):
                raise GltError(f"{path}: {parent} cannot be written to; give another path")
            return


def real_path(path: Path) -> Path:
    """The path itself, or the target of the symbolic link at it: what is written there leaves the link in place."""
    path = Path(path)
    return path.resolve() if path.is_symlink() else path


def _obstacle(path: Path, kind: str) -> str:
    """The reason that an artifact of `kind` may not replace what is at `path`; empty if it may."""
    if not path.is_dir():
        return "is a file"
    if path.resolve() == Path.cwd():
        return "is the working directory"
    files = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_symlink() or not file.is_dir()]
    if not files:
        folders = next(path.iterdir(), None)
        return f"has the folder {folders.name!r} in it" if folders else ""
    if MANIFEST not in files:
        return f"holds {len(files)} files that are not glt's, such as {min(files)!r}"
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        manifest_kind, listed = manifest["kind"], set(manifest["files"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"its {MANIFEST} is damaged"
    if manifest_kind != kind:
        return f"holds {manifest_kind!r}, another kind of artifact"
    foreign = sorted(set(files) - listed - {MANIFEST})
    return f"holds {foreign[0]!r}, which is not part of the {kind}" if foreign else ""


def copy(source: Path, path: Path, kind: str) -> None:
    """The artifact `source` at `path`, too, which another machine may see: whole, or not there.

    Raises:
        GltError: `source` is no whole artifact of this kind.
    """
    with create(path, kind, open_artifact(source, kind), files(source)) as draft:
        shutil.copytree(source, draft, ignore=shutil.ignore_patterns(MANIFEST), copy_function=link, dirs_exist_ok=True)


def seal(folder: Path, kind: str, info: Mapping[str, Any], known: Mapping[str, str] | None = None) -> None:
    """Write the manifest over the files that stand in `folder` (last, atomically); `known` as in `create`."""
    hashes = dict(known or {})
    for file in sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST):
        name = file.relative_to(folder).as_posix()
        if name not in hashes:
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
            hashes[name] = file_sha256(file)
    write_json(folder / MANIFEST, {"kind": kind, "info": dict(info), "files": hashes})


def open_artifact(
    path: Path,
    kind: str,
    *,
    verify: bool = True,
    sha256: Callable[[Path], str] = file_sha256,
    only: Collection[str] | None = None,
) -> dict[str, Any]:
    """The manifest's `info` of the artifact at `path`.

    Args:
        path: the artifact's folder.
        kind: the kind it must be.
        verify: compare every file with its SHA-256 (names are always compared).
        sha256: gives a file's hash; one that remembers unchanged files spares reading them.
        only: names that its files may have, besides the manifest; it may hold anything if not given.

    Raises:
        GltError: no manifest (the folder was never finished), another kind, a file that is missing or changed, or one
            that does not belong there.
    """
    path = Path(path)
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise GltError(f"{path}: not a finished {kind} folder (no {MANIFEST}); run the step that makes it") from None
    except ValueError as error:
        raise GltError(f"{path / MANIFEST}: damaged ({error}); delete the folder and run its step again") from error
    if not isinstance(manifest, dict) or manifest.keys() != {"kind", "info", "files"}:
        raise GltError(f"{path / MANIFEST}: damaged (not a manifest); delete the folder and run its step again")
    if manifest["kind"] != kind:
        raise GltError(f"{path}: holds {manifest['kind']!r}, expected {kind!r}")
    if only is not None:
        there = {file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir()} - {MANIFEST}
        if strange := sorted((there | manifest["files"].keys()) - set(only)):
            raise GltError(f"{path / strange[0]}: does not belong to a {kind}; nothing of the folder was loaded")
    for name, digest in manifest["files"].items():
        file = path / name
        if not file.is_file():
            raise GltError(f"{file}: missing; delete {path} and run its step again")
        if verify and sha256(file) != digest:
            raise GltError(f"{file}: changed since it was written; delete {path} and run its step again")
    info: dict[str, Any] = manifest["info"]
    return info


def files(path: Path) -> dict[str, str]:
    """SHA-256 of each file of a finished artifact, by its path in the folder."""
    found: dict[str, str] = json.loads((Path(path) / MANIFEST).read_text(encoding="utf-8"))["files"]
    return found


def digest(path: Path) -> str:
    """Content hash of a finished artifact's files (not of where, when or by which run it was made)."""
    manifest = json.loads((Path(path) / MANIFEST).read_text(encoding="utf-8"))
    return hashlib.sha256(json.dumps([manifest["kind"], manifest["files"]], sort_keys=True).encode()).hexdigest()


@contextmanager
def _explain_full_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise GltError(
            f"{path}: cannot be written ({error.strerror}); make room on its disk and run the same again"
        ) from error


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """A folder under a temporary name beside `path`, which is deleted if the block raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        draft.chmod(0o777 & ~_umask())
        yield draft
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _replace(draft: Path, path: Path) -> None:
    """Put the folder `draft` in the place of what stands at `path`, which stays if that fails."""
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    old = aside / "replaced"
    try:
        path.replace(old)
        draft.replace(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.replace(path)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
