"""Recordings in a bucket, below ``s3://bucket/prefix``.

A prefix is a folder, or one object: ``s3://bucket/week-4`` does not include ``week-47``. Objects in the bucket's
quarantine are not recordings.

Objects that were fetched before, with the same size and ETag, are not fetched again, so a new batch costs only its own
bytes.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from glt import artifact
from glt.errors import GltError
from glt.lifecycle import dvc_hash, s3
from glt.reporter import ConsoleReporter

QUARANTINE = "quarantine/"  # prefix within a bucket
_PARALLEL = 8  # downloads
_SAVE_INTERVAL = 2.0  # seconds; a process that is killed fetches at most so much again
_FETCHED = "objects.json"  # size and ETag of what was fetched, beside the files
_LATER = 1000  # objects that may have arrived since an earlier listing


@dataclass(frozen=True)
class Object:
    """An object in a bucket.

    Attributes:
        name: its key without the prefix.
        size: in bytes.
        etag: the MD5 of its content, if it was uploaded in one part.
        modified: when it was written.
    """

    name: str
    size: int
    etag: str
    modified: dt.datetime


@dataclass(frozen=True)
class BucketSource:
    """The objects below an address when they were listed.

    Attributes:
        address: ``s3://bucket/prefix``.
        objects: by name.
    """

    address: str
    objects: tuple[Object, ...]

    @functools.cached_property
    def version(self) -> str:
        """A hash of names, sizes and ETags; it differs from DVC's hash of the same files."""
        return _version(map(_row, self.objects))

    def fetch(self, folder: Path) -> Path:
        """The objects as files in a folder below `folder` that belongs to this address and holds nothing else.

        Raises:
            GltError: an object was changed or deleted since it was listed, or cannot be downloaded.
        """
        files, names = download(self.address, self.objects, folder), {one.name for one in self.objects}
        for file in dvc_hash.list_files(files):
            if file.relative_to(files).as_posix() not in names:
                file.unlink()
        return files

    def without_later_objects(self, version: str) -> BucketSource:
        """The earlier listing that had a version, if all that happened since then is that objects arrived.

        If it cannot be told, this source itself.
        """
        rows = {one.name: _row(one) for one in self.objects}
        for later in sorted(self.objects, key=lambda one: (one.modified, one.name), reverse=True)[:_LATER]:
            del rows[later.name]
            if rows and _version(rows.values()) == version:
                return BucketSource(self.address, tuple(one for one in self.objects if one.name in rows))
        return self


def list_source(address: str, version: str = "") -> BucketSource:
    """List the objects below an address.

    Args:
        address: ``s3://bucket/prefix``.
        version: of an earlier listing; objects that arrived since then are left out, where that can be told.

    Raises:
        GltError: as `list_objects`, or there are none.
    """
    objects = list_objects(address)
    if not objects:
        raise GltError(f"recordings {address}: no objects there; check the bucket and the prefix")
    source = BucketSource(address, tuple(objects))
    return source if version in ("", source.version) else source.without_later_objects(version)


def list_objects(address: str) -> list[Object]:
    """The objects below an address, by name, without those that stand for folders; there may be none.

    Raises:
        GltError: there is no such bucket, it cannot be read, or an object's name is not valid for a file.
    """
    bucket, prefix = s3.parts(address)
    objects = []
    for entry in list_entries(bucket, prefix):
        key = str(entry["Key"])
        name = name_of(prefix, key)
        if not name or (key.startswith(QUARANTINE) and not prefix.startswith(QUARANTINE)):
            continue
        if ".." in PurePosixPath(name).parts or "\\" in name:
            raise GltError(f"recordings {address}: object {key!r:.80} points out of the folder; rename it")
        objects.append(Object(name, int(entry["Size"]), str(entry["ETag"]).strip('"'), entry["LastModified"]))
    names = {one.name for one in objects}
    for name in names:
        if above := names.intersection(str(parent) for parent in PurePosixPath(name).parents):
            raise GltError(f"recordings {address}: object {above.pop()!r:.80} is the folder of another; rename it")
    return sorted(objects, key=lambda one: one.name)


def list_entries(bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """List the objects in a bucket whose key begins with `prefix`, as entries of S3's own listing.

    Raises:
        GltError: the bucket cannot be read.
    """
    pages = s3.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    listed = s3.call(lambda: list(pages), f"recordings {s3.SCHEME}{bucket}/{prefix}")
    return (entry for page in listed for entry in page.get("Contents", ()))


def name_of(prefix: str, key: str) -> str:
    """The name of an object relative to a prefix, which may be its key; empty if it is not below it, or a folder."""
    if key.endswith("/"):
        return ""
    if key == prefix:
        return PurePosixPath(key).name
    return key[len(prefix) :].lstrip("/") if key.startswith(_joined(prefix, "")) else ""


def key_of(prefix: str, name: str) -> str:
    """The key of an object by its name relative to a prefix, which may be the key itself."""
    return prefix if PurePosixPath(prefix).name == name else _joined(prefix, name)


def download(address: str, objects: Iterable[Object], folder: Path) -> Path:
    """Fetch listed objects into the folder below `folder` that belongs to an address; other files there stay.

    Raises:
        GltError: an object was changed or deleted since it was listed, or cannot be downloaded.
    """
    bucket, prefix = s3.parts(address)
    place, objects = Path(folder) / hashlib.sha256(address.encode()).hexdigest()[:16], tuple(objects)
    files, index = place / "files", place / _FETCHED
    fetched, reporter = _read_index(index), ConsoleReporter()
    missing = {key_of(prefix, one.name): one for one in objects if not _is_here(files, one, fetched)}
    client = _client({key: one.etag for key, one in missing.items()})
    saved, done = time.monotonic(), len(objects) - len(missing)
    with ThreadPoolExecutor(_PARALLEL) as pool:
        downloads = {
            pool.submit(
                s3.call, partial(_download, client, bucket, key, files / one.name, one), f"recordings {address}"
            ): one
            for key, one in missing.items()
        }
        try:
            for future in as_completed(downloads):
                future.result()
                one = downloads[future]
                fetched[one.name] = [one.size, one.etag]
                done += 1
                reporter.progress("fetch", done, len(objects), f"{one.size >> 20} MiB" if one.size >> 20 else "")
                if time.monotonic() - saved > _SAVE_INTERVAL:
                    artifact.write_json(index, fetched)
                    saved = time.monotonic()
        finally:
            pool.shutdown(cancel_futures=True)
            artifact.write_json(index, fetched)
    return files


def _client(etags: Mapping[str, str]) -> Any:
    """A client whose reads of these keys fail unless the object still has its ETag.

    `download_file` has no such option of its own.
    """
    client = s3.client()

    def require_etag(params: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {**params, "IfMatch": f'"{etags[params["Key"]]}"'}

    for operation in ("HeadObject", "GetObject"):
        client.meta.events.register(f"provide-client-params.s3.{operation}", require_etag)
    return client


def _download(client: Any, bucket: str, key: str, file: Path, listed: Object) -> None:
    """Fetch one object, as a whole or not at all."""
    from s3transfer.exceptions import S3DownloadFailedError

    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    os.close(handle)
    try:
        try:
            client.download_file(bucket, key, temporary)
        except Exception as error:
            if s3.is_precondition_failure(error) or isinstance(error, S3DownloadFailedError):
                raise GltError(
                    f"recordings s3://{bucket}/{key}: changed or deleted since this run listed it; start a new run"
                ) from error
            raise
        with Path(temporary).open("rb") as stream:
            os.fsync(stream.fileno())
        md5 = dvc_hash.file_md5(Path(temporary))
        if Path(temporary).stat().st_size != listed.size or ("-" not in listed.etag and md5 != listed.etag):
            raise GltError(f"recordings s3://{bucket}/{key}: damaged on its way; run again")
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _is_here(files: Path, listed: Object, fetched: Mapping[str, list[Any]]) -> bool:
    """True if an object was fetched as it was listed, and its file still has that size."""
    file = files / listed.name
    same = fetched.get(listed.name) == [listed.size, listed.etag]
    return same and file.is_file() and file.stat().st_size == listed.size


def _read_index(index: Path) -> dict[str, list[Any]]:
    try:
        known = json.loads(index.read_text(encoding="utf-8"))
        return {str(name): list(entry) for name, entry in known.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _row(one: Object) -> str:
    return json.dumps([one.name, one.size, one.etag])


def _version(rows: Iterable[str]) -> str:
    listing = f"[{', '.join(rows)}]"
    return f"s3-{hashlib.sha256(listing.encode()).hexdigest()[:32]}"


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}{name}" if not prefix or prefix.endswith("/") else f"{prefix}/{name}"
