"""A cache of objects fetched from buckets: each is a file named by a hash of bucket, key and ETag.

So a key need not be a valid file name, and objects with other keys or contents are never confused.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glt import artifact
from glt.errors import GltError, first_line
from glt.lifecycle import s3
from glt.reporter import ConsoleReporter

if TYPE_CHECKING:
    from glt.lifecycle.sources.bucket import Object

_PARALLEL = 8  # downloads
_TRIES = 2  # of an object whose transfer breaks off
_SAVE_INTERVAL = 2.0  # seconds; a killed process fetches at most this much again
_CHUNK = 1 << 20
_PATIENCE, _SLOWEST = 300.0, 100_000  # a download may take so many seconds, plus its size at so many bytes per second
_INDEX = "objects.json"  # size and time of what was fetched
# Errors of this machine, not of an object.
_OF_THIS_MACHINE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE),
    errno.ENOMEM,
}


class Unfetchable(Exception):
    """One object cannot be fetched; the others may."""


@dataclass
class Fetched:
    """The outcome of `fetch`.

    Attributes:
        files: path of each object that was fetched, by its key.
        failed: reason for each object that was not, by its key.
    """

    files: dict[str, Path] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def fetch(bucket: str, objects: Iterable[Object], cache: Path) -> Fetched:
    """Fetch listed objects into a cache; those that are in it, unchanged, are not fetched again.

    Raises:
        GltError: the store is unreachable or rejects the keys, or this machine cannot store the files.
    """
    objects, cache = tuple(objects), Path(cache)
    client, result, reporter = s3.client(), Fetched(), ConsoleReporter()
    index, saved = _read_index(cache / _INDEX), time.monotonic()
    missing: dict[Path, Object] = {}
    for one in objects:
        file = cache / _name(client.meta.endpoint_url, bucket, one)
        if _is_here(file, one, index):
            result.files[one.key] = file
        else:
            missing[file] = one
    if not missing:
        return result
    with s3.storable(cache):
        cache.mkdir(parents=True, exist_ok=True)
    done = len(objects) - len(missing)
    with ThreadPoolExecutor(_PARALLEL) as pool:
        downloads = {
            pool.submit(_fetch, partial(_download, client, bucket, one.key, file, one), client, bucket, one): file
            for file, one in missing.items()
        }
        try:
            for future in as_completed(downloads):
                file = downloads[future]
                one = missing[file]
                try:
                    future.result()
                except Unfetchable as error:
                    result.failed[one.key] = str(error)
                else:
                    result.files[one.key] = file
                    index[file.name] = [one.size, file.stat().st_mtime_ns]
                done += 1
                reporter.progress("fetch", done, len(objects), f"{one.size >> 20} MiB" if one.size >> 20 else "")
                if time.monotonic() - saved > _SAVE_INTERVAL:
                    artifact.write_json(cache / _INDEX, index)
                    saved = time.monotonic()
        finally:
            pool.shutdown(cancel_futures=True)
            with s3.storable(cache):
                artifact.write_json(cache / _INDEX, index)
    return result


def arrange(folder: Path, files: Mapping[str, Path]) -> Path:
    """Make a folder hold exactly these files, by their paths in it; they are linked where the file system can."""
    with s3.storable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(folder.rglob("*"), reverse=True):
            source = files.get(file.relative_to(folder).as_posix())
            if file.is_dir() and not file.is_symlink():
                with suppress(OSError):  # not empty
                    file.rmdir()
            elif source is None or not _is_same(file, source):
                file.unlink()
        for name, source in files.items():
            target = folder / name
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                artifact.link(str(source), str(target))
    return folder


def sweep(cache: Path, files: Iterable[Path]) -> None:
    """Remove all files of a cache but these."""
    keep = {_INDEX, *(file.name for file in files)}
    for file in cache.iterdir():
        if file.name not in keep and not file.is_dir():
            file.unlink(missing_ok=True)


def _fetch(download: partial[None], client: Any, bucket: str, one: Object) -> None:
    """Download an object; an error of the whole store is a GltError, one of the object an `Unfetchable`."""
    for attempt in range(_TRIES):
        try:
            download()
            return
        except (GltError, Unfetchable):
            raise
        except OSError as error:
            if error.errno in _OF_THIS_MACHINE:
                with s3.storable(download.args[3]):
                    raise
            failure: Exception = error
        except Exception as error:
            failure = error
        if s3.error_code(failure) or attempt == _TRIES - 1:
            break
    if s3.error_code(failure) in {"", *s3.OF_THE_STORE}:  # does it concern the whole store, or only this object?
        s3.call(
            lambda: client.list_objects_v2(Bucket=bucket, MaxKeys=1),
            f"recordings {s3.SCHEME}{bucket}: {first_line(failure)}",
        )
    raise Unfetchable(_reason(failure)) from failure


def _reason(failure: Exception) -> str:
    if s3.is_precondition_failure(failure):
        return "changed or deleted since this run listed it"
    if s3.error_code(failure) == "InvalidObjectState":
        return f"it is in an archive tier (Glacier) and has to be restored first ({first_line(failure)})"
    return f"cannot be fetched: {first_line(failure)}"


def _download(client: Any, bucket: str, key: str, file: Path, listed: Object) -> None:
    """Fetch one object, completely or not at all.

    The store compares the ETag, botocore the checksum if the store has one, and this function the size.
    """
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=".draft.")
    try:
        with os.fdopen(handle, "wb") as stream:
            is_strong = listed.etag and not listed.etag.startswith("W/")  # others cannot be compared
            condition = {"IfMatch": f'"{listed.etag}"'} if is_strong else {}
            body = client.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED", **condition)["Body"]
            deadline = time.monotonic() + _PATIENCE + listed.size / _SLOWEST
            size = 0
            for chunk in body.iter_chunks(_CHUNK):
                stream.write(chunk)
                size += len(chunk)
                if size > listed.size:
                    break
                if time.monotonic() > deadline:
                    raise Unfetchable(f"cannot be fetched: {size} of {listed.size} bytes came in {_PATIENCE:.0f} s")
            stream.flush()
            os.fsync(stream.fileno())
        if size != listed.size:
            raise Unfetchable(f"damaged in transit: {size} bytes received, {listed.size} listed")
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _name(endpoint: str, bucket: str, one: Object) -> str:
    return hashlib.sha256(json.dumps([endpoint, bucket, one.key, one.etag, one.size]).encode()).hexdigest()


def _is_here(file: Path, listed: Object, index: Mapping[str, list[Any]]) -> bool:
    """True if an object was fetched as listed, and its file has not changed since."""
    try:
        state = file.stat()
    except OSError:
        return False
    return index.get(file.name) == [listed.size, state.st_mtime_ns] and state.st_size == listed.size


def _is_same(file: Path, source: Path) -> bool:
    """True if a file is a link to another, or a copy of it that `arrange` made."""
    here, there = file.stat(), source.stat()
    return file.samefile(source) or (here.st_size, here.st_mtime_ns) == (there.st_size, there.st_mtime_ns)


def _read_index(index: Path) -> dict[str, list[Any]]:
    try:
        known = json.loads(index.read_text(encoding="utf-8"))
        return {str(name): list(entry) for name, entry in known.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
