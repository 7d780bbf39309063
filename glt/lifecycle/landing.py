"""The landing bucket: recordings below ``s3://bucket/prefix``, brought to this machine object by object.

A prefix is a folder, or one object: ``s3://bucket/week-4`` does not mean ``week-47`` as well. Objects in
the bucket's quarantine (`quarantine`) are not recordings.

Objects that are here already, with the same size and ETag, are not fetched again, so that a new batch costs its own
bytes. The endpoint and the keys are those of every AWS tool (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from glt import artifact
from glt.errors import GltError
from glt.lifecycle import s3
from glt.reporter import ConsoleReporter

QUARANTINE = "quarantine/"  # prefix of a bucket
_AT_ONCE = 8  # objects that are fetched
_NOTED = 2.0  # seconds between two notes of what has been fetched; a kill costs that much
_LISTING = "objects.json"  # what has been fetched, beside the files


@dataclass(frozen=True)
class Object:
    """An object below the prefix: its name from there, its size in bytes, its ETag (the MD5 of a small one), when."""

    name: str
    size: int
    etag: str
    modified: dt.datetime


def data_version(address: str) -> str:
    """A hash over names, sizes and ETags of the objects; it is not DVC's hash of the same files.

    Raises:
        GltError: as `listing`.
    """
    objects = [[found.name, found.size, found.etag] for found in listing(address)]
    return f"s3-{hashlib.sha256(json.dumps(objects).encode()).hexdigest()[:32]}"


def listing(address: str) -> list[Object]:
    """The objects below an address, by name; those that stand for folders are left out.

    Raises:
        GltError: no such bucket, no object, no keys, no answer, or a name that no file can have.
    """
    found = delivered(address)
    if not found:
        raise GltError(f"recordings {address}: no objects there; check the bucket and the prefix")
    return found


def delivered(address: str) -> list[Object]:
    """As `listing`, but there may be none yet."""
    bucket, prefix = s3.parts(address)
    found = []
    for entry in _entries(bucket, prefix, address):
        key = str(entry["Key"])
        name = _name(prefix, key)
        if not name or (key.startswith(QUARANTINE) and not prefix.startswith(QUARANTINE)):
            continue
        if ".." in PurePosixPath(name).parts or "\\" in name:
            raise GltError(f"recordings {address}: object {key!r:.80} points out of the folder; rename it")
        found.append(Object(name, int(entry["Size"]), str(entry["ETag"]).strip('"'), entry["LastModified"]))
    names = {one.name for one in found}
    for name in names:
        if above := names.intersection(str(parent) for parent in PurePosixPath(name).parents):
            raise GltError(f"recordings {address}: object {above.pop()!r:.80} is the folder of another; rename it")
    return sorted(found, key=lambda one: one.name)


def fetch(address: str, folder: Path) -> Path:
    """The objects as files in a folder below `folder` that belongs to this address; those that are gone are removed.

    Raises:
        GltError: as `listing`, or an object that changed or broke on its way.
    """
    objects = listing(address)
    files = download(address, objects, folder)
    names = {found.name for found in objects}
    for file in sorted(path for path in files.rglob("*") if path.is_file()):
        if file.relative_to(files).as_posix() not in names:
            file.unlink()
    return files


def download(address: str, objects: Iterable[Object], folder: Path) -> Path:
    """Some of the objects below an address, as files in the folder that `fetch` gives; others in it stay.

    Raises:
        GltError: as `fetch`.
    """
    bucket, prefix = s3.parts(address)
    place, objects = Path(folder) / hashlib.sha256(address.encode()).hexdigest()[:16], tuple(objects)
    files, notes = place / "files", place / _LISTING
    here, reporter, client = _here(notes), ConsoleReporter(), s3.client()
    missing = [found for found in objects if not _has(files, found, here)]
    noted, done = time.monotonic(), len(objects) - len(missing)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        fetched = {
            pool.submit(
                s3.call,
                partial(_download, client, bucket, _key(prefix, found.name), files / found.name, found),
                f"recordings {address}",
            ): found
            for found in missing
        }
        try:
            for future in as_completed(fetched):
                future.result()
                found = fetched[future]
                here[found.name] = [found.size, found.etag]
                done += 1
                reporter.progress("fetch", done, len(objects), f"{found.size >> 20} MiB" if found.size >> 20 else "")
                if time.monotonic() - noted > _NOTED:
                    artifact.write_json(notes, here)
                    noted = time.monotonic()
        finally:
            pool.shutdown(cancel_futures=True)
            artifact.write_json(notes, here)
    return files


def _has(files: Path, found: Object, here: Mapping[str, list[Any]]) -> bool:
    """Whether an object was fetched as it is, and its file not damaged since."""
    file = files / found.name
    return here.get(found.name) == [found.size, found.etag] and file.is_file() and file.stat().st_size == found.size


def quarantined(address: str, files: Collection[str]) -> set[tuple[str, str]]:
    """Name and ETag of the objects below an address whose quarantine folder has one of these files.

    Raises:
        GltError: the bucket cannot be read.
    """
    bucket, prefix = s3.parts(address)
    objects = set()
    for entry in _entries(bucket, f"{QUARANTINE}{prefix}", address):
        folder, _, file = str(entry["Key"]).rpartition("/")
        if file in files:
            key, etag = folder.removeprefix(QUARANTINE).rsplit("/", 1)
            if name := _name(prefix, key):
                objects.add((name, etag))
    return objects


def locate(address: str, name: str) -> str:
    """The address of one object below an address."""
    bucket, prefix = s3.parts(address)
    return f"{s3.SCHEME}{bucket}/{_key(prefix, name)}"


def quarantine(address: str, delivered: Object, contents: Iterable[tuple[str, bytes | Path]]) -> str:
    """Upload files about a rejected object to ``quarantine/<key>/<ETag>/<name>``, in the order given.

    Files of the same name are replaced, so an interrupted call can be repeated.

    Args:
        address: ``s3://bucket/prefix`` of the delivery.
        delivered: the rejected object.
        contents: the name of each file below the object's quarantine folder, with its bytes or its path here.

    Returns:
        The address of the object's quarantine folder.

    Raises:
        GltError: the bucket cannot be written.
    """
    bucket, prefix = s3.parts(address)
    client, folder = s3.client(), f"{QUARANTINE}{_key(prefix, delivered.name)}/{delivered.etag}"
    for name, content in contents:
        s3.call(partial(_upload, client, bucket, f"{folder}/{name}", content), f"recordings {address}")
    return f"{s3.SCHEME}{bucket}/{folder}"


def _entries(bucket: str, prefix: str, address: str) -> Iterator[dict[str, Any]]:
    """What S3 says of each object whose key begins with `prefix`."""
    pages = s3.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    complete = s3.call(lambda: list(pages), f"recordings {address}")
    return (entry for page in complete for entry in page.get("Contents", ()))


def _name(prefix: str, key: str) -> str:
    """The name of an object from a prefix, which may be the object itself; empty if it is not below, or a folder."""
    if key.endswith("/"):
        return ""
    if key == prefix:
        return PurePosixPath(key).name
    return key[len(prefix) :].lstrip("/") if key.startswith(_joined(prefix, "")) else ""


def _key(prefix: str, name: str) -> str:
    """The key of an object by its name below a prefix, which may be the object itself."""
    return prefix if PurePosixPath(prefix).name == name else _joined(prefix, name)


def _download(client: Any, bucket: str, key: str, file: Path, found: Object) -> None:
    """One object, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    os.close(handle)
    try:
        client.download_file(bucket, key, temporary)
        size = Path(temporary).stat().st_size
        with Path(temporary).open("rb") as stream:
            md5 = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            os.fsync(stream.fileno())
        if size != found.size or ("-" not in found.etag and md5 != found.etag):
            raise GltError(f"recordings s3://{bucket}/{key}: changed or broke on its way; run again")
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _upload(client: Any, bucket: str, key: str, content: bytes | Path) -> None:
    if isinstance(content, Path):
        client.upload_file(str(content), bucket, key)
    else:
        client.put_object(Bucket=bucket, Key=key, Body=content)


def _here(notes: Path) -> dict[str, list[Any]]:
    try:
        known = json.loads(notes.read_text(encoding="utf-8"))
        return {str(name): list(entry) for name, entry in known.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}{name}" if not prefix or prefix.endswith("/") else f"{prefix}/{name}"
