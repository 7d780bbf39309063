"""Single files: bounded reads of untrusted content, and atomic writes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from glt.artifact import drafts
from glt.errors import GltError, first_line, machine_failure

T = TypeVar("T")
JSON_BYTES = 16 << 20  # the largest JSON file that is read; a manifest of 100,000 files has 12 MB
_DEPTH = 100  # levels of JSON


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_bytes(path: Path, limit: int = JSON_BYTES) -> bytes:
    """The content of a regular file of at most `limit` bytes; never blocks on a pipe or device.

    Raises:
        ValueError: it is not a regular file, or is larger.
        OSError: it cannot be read.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as stream:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise ValueError("not a regular file")
        content = stream.read(limit + 1) if state.st_size <= limit else b""
        if state.st_size > limit or len(content) > limit:
            raise ValueError(f"larger than {limit >> 20} MiB")
        return content


def parse_json(content: bytes) -> Any:
    """The value of a JSON text of at most 100 levels.

    Raises:
        ValueError: it is not JSON, or deeper.
    """
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError(f"deeper than {_DEPTH} levels") from None
    level, depth = [value], 0
    while level:
        if depth >= _DEPTH:
            raise ValueError(f"deeper than {_DEPTH} levels")
        nested = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level, depth = [one for values in nested for one in values if isinstance(one, dict | list)], depth + 1
    return value


def read_json(path: Path, kind: type[T]) -> T:
    """The value of a JSON file in an artifact, a `dict` or a `list`.

    Raises:
        GltError: it is missing, too large, not JSON, or another type of value.
    """
    with reading(path):
        value = parse_json(read_bytes(path))
        if not isinstance(value, kind):
            raise ValueError(f"not a JSON {'object' if kind is dict else 'list'}")
        return value


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors from reading a file of an artifact, or from its content, into a GltError."""
    try:
        yield
    except GltError:
        raise
    except Exception as error:
        if machine_failure(error):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        if isinstance(error, KeyError):
            reason = f"no {reason}"
        raise GltError(
            f"{path}: damaged, or of another version of glt ({reason}); "
            f"delete {Path(path).parent} and run its step again"
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: temporary file in the same folder, fsync, rename, fsync the folder.

    Raises:
        OSError: names the file; the old file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    drafts.sweep(path.parent)
    try:
        _write(path, content)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # it may name the temporary file, or none


def _write(path: Path, content: bytes) -> None:
    with drafts.draft_file(path) as (handle, temporary):
        with os.fdopen(os.dup(handle), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~umask())
        os.replace(temporary, path)  # noqa: PTH105 - all renames go by `os`
    sync_folder(path.parent)


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


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def umask() -> int:
    """The umask of this process."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
