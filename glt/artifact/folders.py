"""Artifact folders: create, replace, open, copy."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glt.artifact import drafts
from glt.artifact.files import file_sha256, link, sync_folder, umask
from glt.artifact.manifest import MANIFEST, artifact_file, read_manifest, seal
from glt.errors import GltError, system_errno

_REMEDIES = {
    errno.ENOSPC: "make room on its disk (or give it more inodes: df -i) and run the same again",
    errno.EDQUOT: "make room within the quota and run the same again",
    errno.EBUSY: "a volume is mounted there; give a folder in it",
    errno.EXDEV: "it is part of a container image; give another path",
}


@contextmanager
def create(path: Path, kind: str, info: Mapping[str, Any], known: Mapping[str, str] | None = None) -> Iterator[Path]:
    """A folder to fill; when the block ends, it becomes the artifact at `path`, replacing one of the same kind.

    At every instant the old artifact or the new one is at `path`, even if the process is killed. Drafts that killed
    processes left beside it are deleted.

    Args:
        path: target of the folder.
        kind: kind of the artifact (``clips``, ``motions``, ``encoder``, ...); `open_artifact` checks it.
        info: its inputs and settings, stored in the manifest; JSON values only.
        known: SHA-256 of files, by their path in the folder, that need not be read again (links to another artifact's).
            Both `info` and `known` may be filled until the block ends.

    Nothing is left at `path` if the block raises (an artifact that was there before stays).

    Raises:
        GltError: the disk is full, or `path` holds anything else (`check_replaceable`).
    """
    check_replaceable(path, kind)
    path = real_path(path)
    with _explain(path):
        drafts.sweep(path.parent)
        with drafts.draft(path) as draft:
            draft.folder.chmod(0o777 & ~umask())
            yield draft.folder
            seal(draft.folder, kind, info, known or {})
            check_replaceable(path, kind)  # again: hours may have passed
            draft.commit()
            sync_folder(path.parent)


def check_replaceable(path: Path, kind: str) -> None:
    """Refuse a path at which an artifact would replace anything but a finished artifact of its kind or an empty folder.

    An artifact with other files in it is refused, too.

    Args:
        path: where an artifact is to be written.
        kind: its kind.

    Raises:
        GltError: names the obstacle and the remedy; nothing was changed.
    """
    path = Path(path)
    check_parents(path)
    drafts.restore(real_path(path))
    if not path.exists():
        return
    try:
        obstacle = _obstacle(path, kind)
    except OSError as error:
        obstacle = f"cannot be read ({error.strerror})"
    if obstacle:
        raise GltError(f"{path}: {obstacle}, so it is not replaced; give another path, or move it away")


def check_parents(path: Path) -> None:
    """Refuse an invalid path, or one whose nearest existing parent is not a folder that can be written to.

    Raises:
        GltError: names the path, the reason and the remedy.
    """
    try:
        Path(path).resolve()
        (Path(path).parent / f"{Path(path).name}{' ' * drafts.SUFFIX}").lstat()
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
    """The path, or its target if it is a symbolic link, so that a write there keeps the link."""
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
        return f"contains the folder {folders.name!r}" if folders else ""
    if MANIFEST not in files:
        return f"holds {len(files)} files that are not glt's, such as {min(files)!r}"
    try:
        manifest = read_manifest(path)
    except GltError:
        return f"its {MANIFEST} is damaged"
    if manifest.kind != kind:
        return f"holds {manifest.kind!r}, another kind of artifact"
    foreign = sorted(set(files) - manifest.files.keys() - {MANIFEST})
    return f"holds {foreign[0]!r}, which is not part of the {kind}" if foreign else ""


def copy(source: Path, path: Path, kind: str) -> None:
    """Copy the artifact `source` to `path`, atomically; files are linked where the file system can.

    Raises:
        GltError: `source` is not a complete artifact of this kind.
    """
    with create(path, kind, open_artifact(source, kind), files(source)) as draft:
        shutil.copytree(source, draft, ignore=shutil.ignore_patterns(MANIFEST), copy_function=link, dirs_exist_ok=True)


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
        sha256: computes a file's hash; a caching function avoids reading unchanged files.
        only: names of the files that it may hold besides the manifest, each of them listed there; any if not given.

    Raises:
        GltError: no manifest (the folder was never finished), another kind, a file that is missing or changed, or one
            that does not belong there.
    """
    path = Path(path)
    if not os.path.lexists(path):
        drafts.restore(real_path(path))
    manifest = read_manifest(path, kind)
    if manifest.kind != kind:
        raise GltError(f"{path}: holds {manifest.kind!r}, expected {kind!r}")
    if only is not None:
        there = {file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir()} - {MANIFEST}
        if strange := sorted((there | manifest.files.keys()) - set(only)):
            raise GltError(f"{path / strange[0]}: does not belong to a {kind}; nothing of the folder was loaded")
        if unlisted := sorted(there - manifest.files.keys()):
            raise GltError(f"{path / unlisted[0]}: not listed in {MANIFEST}; delete {path} and run its step again")
    for name, digest in manifest.files.items():
        file = artifact_file(path, name)
        if verify and sha256(file) != digest:
            raise GltError(f"{file}: changed since it was written; delete {path} and run its step again")
    return manifest.info


def files(path: Path) -> dict[str, str]:
    """SHA-256 of each file of a finished artifact, by its path in the folder.

    Raises:
        GltError: it is not finished, or its manifest is damaged.
    """
    return read_manifest(path).files


def digest(path: Path) -> str:
    """Content hash of a finished artifact's files; independent of its path, time and run.

    Raises:
        GltError: it is not finished, or its manifest is damaged.
    """
    manifest = read_manifest(path)
    return hashlib.sha256(json.dumps([manifest.kind, manifest.files], sort_keys=True).encode()).hexdigest()


@contextmanager
def _explain(path: Path) -> Iterator[None]:
    """Turn a full disk, or a target that cannot be replaced, into a GltError with the remedy."""
    try:
        yield
    except OSError as error:
        code = system_errno(error)
        if code not in _REMEDIES:
            raise
        raise GltError(f"{path}: cannot be written ({os.strerror(code)}); {_REMEDIES[code]}") from error
