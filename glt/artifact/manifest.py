"""The manifest of an artifact: ``manifest.json``, written last.

An artifact may come from anywhere (an object store, a registry, a colleague), so nothing in a manifest is believed
before it has been checked: its size and depth, the types of its fields, and that its files are in the folder.
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
    """A manifest that has been checked.

    Attributes:
        kind: of the artifact.
        info: what it was made from.
        files: SHA-256 of each file, by its path in the folder.
    """

    kind: str
    info: dict[str, Any]
    files: dict[str, str]


def read_manifest(folder: Path, kind: str = "artifact") -> Manifest:
    """The manifest of the artifact at `folder`, of whatever kind.

    Args:
        folder: of the artifact.
        kind: the kind that is expected, for messages.

    Raises:
        GltError: there is none, or it is damaged.
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
    """A regular file of an artifact.

    Raises:
        GltError: it is missing, something else, or outside of the folder, by a link.
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
    """Write the manifest over the files in `folder` (last, atomically).

    Args:
        folder: of the artifact.
        kind: what it is.
        info: what it was made from; JSON values only.
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
    """The path of a file below a folder; a ValueError if a link leads out of it."""
    root, real = os.path.realpath(folder), os.path.realpath(folder / name)
    if os.path.commonpath((root, real)) != root:
        raise ValueError("a link that leads out of the folder")
    return folder / name


def _checked(value: Any) -> Manifest:
    if not isinstance(value, dict) or value.keys() != {"kind", "info", "files"}:
        raise ValueError("not a manifest")
    kind, info, files = value["kind"], value["info"], value["files"]
    if not isinstance(kind, str) or not isinstance(info, dict) or not isinstance(files, dict):
        raise ValueError("not a manifest: fields of another type")
    for name, digest in files.items():
        if not _is_path_below(name) or name == MANIFEST:
            raise ValueError(f"the name {name!r:.80} is not that of a file in the folder")
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise ValueError(f"no SHA-256 for {name!r:.80}")
    return Manifest(kind, info, files)


def _is_path_below(name: str) -> bool:
    """True if the name is that of a file below a folder, in one way of writing only."""
    parts = PurePosixPath(name).parts
    return name.isprintable() and "/".join(parts) == name and bool(parts) and ".." not in parts and parts[0] != "/"
