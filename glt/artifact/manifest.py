"""The manifest of an artifact: ``manifest.json``, written last.

An artifact may come from anywhere (an object store, a registry, a colleague), so a manifest is checked before it is
used: its size and depth, the types of its fields, and that its files are in the folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from glt.artifact.files import file_sha256, parse_json, read_bytes, sync_folder, write_json
from glt.errors import GltError

MANIFEST = "manifest.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Manifest:
    """A checked manifest.

    Attributes:
        kind: kind of the artifact.
        info: its inputs and settings.
        files: SHA-256 of each file, by its path in the folder.
    """

    kind: str
    info: dict[str, Any]
    files: dict[str, str]


def read_manifest(folder: Path, kind: str = "artifact") -> Manifest:
    """Read the manifest of an artifact of any kind.

    Args:
        folder: the artifact's folder.
        kind: the expected kind, for messages only.

    Raises:
        GltError: the manifest is missing or damaged.
    """
    file = Path(folder) / MANIFEST
    try:
        return _checked(parse_json(read_bytes(_inside(Path(folder), MANIFEST))))
    except (FileNotFoundError, NotADirectoryError):
        raise GltError(f"{folder}: not a finished {kind} folder (no {MANIFEST}); run the step that makes it") from None
    except OSError as error:
        raise GltError(f"{file}: cannot be read ({error.strerror}); correct its permissions") from error
    except ValueError as error:
        raise GltError(f"{file}: damaged ({error}); delete the folder and run its step again") from error


def artifact_file(folder: Path, name: str) -> Path:
    """The path of a regular file of an artifact.

    Raises:
        GltError: it is missing, not a regular file, or a link that leads out of the folder.
    """
    try:
        file = _inside(Path(folder), name)
        if not file.is_file():
            raise ValueError("not a regular file" if file.exists() else "missing")
    except (ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise GltError(f"{Path(folder) / name}: {reason}; delete {folder} and run its step again") from error
    return file


def seal(folder: Path, kind: str, info: Mapping[str, Any], known: Mapping[str, str] | None = None) -> None:
    """Write the manifest of the files in `folder` (last, atomically).

    Args:
        folder: the artifact's folder.
        kind: kind of the artifact.
        info: its inputs and settings; JSON values only.
        known: SHA-256 of files, by their path in the folder, that need not be read again.
    """
    hashes = dict(known or {})
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            sync_folder(path)
        elif path.is_file() and name not in (*hashes, MANIFEST):
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
            hashes[name] = file_sha256(path)
    write_json(folder / MANIFEST, {"kind": kind, "info": dict(info), "files": hashes})


def _inside(folder: Path, name: str) -> Path:
    """The path of a file in a folder; a ValueError if a link leads out of the folder."""
    root, real = os.path.realpath(folder), os.path.realpath(folder / name)
    if os.path.commonpath((root, real)) != root:
        raise ValueError("a link that leads out of the folder")
    return folder / name


def _checked(value: Any) -> Manifest:
    if not isinstance(value, dict) or value.keys() != {"kind", "info", "files"}:
        raise ValueError("not a manifest")
    kind, info, files = value["kind"], value["info"], value["files"]
    if not isinstance(kind, str) or not isinstance(info, dict) or not isinstance(files, dict):
        raise ValueError("not a manifest: a field of the wrong type")
    for name, digest in files.items():
        if not _is_path_below(name) or name == MANIFEST:
            raise ValueError(f"{name!r:.80} is not the path of a file in the folder")
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise ValueError(f"no SHA-256 for {name!r:.80}")
    return Manifest(kind, info, files)


def _is_path_below(name: str) -> bool:
    """True for a normalised relative path that stays in its folder."""
    parts = PurePosixPath(name).parts
    return name.isprintable() and "/".join(parts) == name and bool(parts) and ".." not in parts and parts[0] != "/"
