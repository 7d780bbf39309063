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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote_to_bytes

from glt import text
from glt.errors import GltError
from glt.lifecycle import s3
from glt.lifecycle.sources import object_cache
from glt.lifecycle.sources.object_cache import Fetched
from glt.lifecycle.sources.object_names import local_paths

QUARANTINE = "quarantine/"  # prefix within a bucket
_STALLED = 100  # pages without a new object, after which a listing counts as endless
_OBJECTS = "objects"  # folder of the cache
_LATER = 1000  # objects that may have arrived since an earlier listing


@dataclass(frozen=True)
class Object:
    """An object in a bucket.

    Attributes:
        key: its name in the bucket.
        name: its key without the prefix.
        size: in bytes.
        etag: changes with the content; not a hash that can be computed from it.
        modified: when it was written.
    """

    key: str
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
        place = cache(self.address, folder)
        fetched = download(self.address, self.objects, folder)
        for one in self.objects:
            if one.key in fetched.failed:
                reason = fetched.failed[one.key]
                bucket, _ = s3.parts(self.address)
                raise GltError(
                    f"recordings {s3.SCHEME}{bucket}/{text.printable(one.key)}: {reason}; start a new run, "
                    "or remove the object if this happens again"
                )
        paths = local_paths(one.name for one in self.objects)
        files = {paths[one.name]: fetched.files[one.key] for one in self.objects}
        object_cache.arrange(place / "files", files)
        object_cache.sweep(place / _OBJECTS, files.values())
        return place / "files"

    def without_later_objects(self, version: str) -> BucketSource:
        """The earlier listing that had a version, if all that happened since then is that objects arrived.

        If it cannot be told, this source itself.
        """
        rows = {one.key: _row(one) for one in self.objects}
        for later in sorted(self.objects, key=lambda one: (one.modified, one.key), reverse=True)[:_LATER]:
            del rows[later.key]
            if rows and _version(rows.values()) == version:
                return BucketSource(self.address, tuple(one for one in self.objects if one.key in rows))
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
        GltError: there is no such bucket, or it cannot be read.
    """
    bucket, prefix = s3.parts(address)
    objects = []
    for entry in list_entries(bucket, prefix):
        key, size = str(entry["Key"]), int(entry["Size"])
        name = name_of(prefix, key)
        if not name or (key.startswith(QUARANTINE) and not prefix.startswith(QUARANTINE)):
            continue
        if key.endswith("/") and not size:
            continue
        objects.append(Object(key, name, size, str(entry.get("ETag", "")).strip('"'), _utc(entry["LastModified"])))
    return sorted(objects, key=lambda one: (one.name, one.key))


def list_entries(bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """List the objects in a bucket whose key begins with `prefix`, as entries of S3's own listing.

    A byte of a key that is not UTF-8 is a surrogate (`surrogateescape`).

    Raises:
        GltError: the bucket cannot be read, the answer is not an object store's, or the listing has no end.
    """
    client, description = s3.client(), f"recordings {s3.SCHEME}{bucket}/{prefix}"
    client.meta.events.register_first("before-parse.s3.ListObjectsV2", functools.partial(_check_listing, description))
    # If the encoding is requested here, botocore leaves the keys encoded; else it replaces bytes that are not UTF-8.
    request = {"Bucket": bucket, "Prefix": prefix, "EncodingType": "url"}
    seen: set[str] = set()
    stalled = 0
    while True:
        page = s3.call(functools.partial(client.list_objects_v2, **request), description)
        before = len(seen)
        for entry in page.get("Contents", ()):
            if not entry.keys() >= {"Key", "Size", "LastModified"}:
                raise s3.no_store(description)
            key = _decode(entry["Key"]) if page.get("EncodingType") == "url" else str(entry["Key"])
            if key not in seen:
                seen.add(key)
                yield {**entry, "Key": key}
        token = page.get("NextContinuationToken")
        if not page.get("IsTruncated"):
            return
        stalled = stalled + 1 if len(seen) == before else 0
        if not token or token == request.get("ContinuationToken") or stalled > _STALLED:
            raise GltError(
                f"{description}: the listing has no end: the store promises more objects and does not name them; "
                "check AWS_ENDPOINT_URL"
            )
        request["ContinuationToken"] = token


def _check_listing(description: str, response_dict: dict[str, Any], **_: Any) -> None:
    """Raise a GltError if the answer is neither a listing nor an error of a store.

    botocore takes any XML for an empty listing, and has replaced any other answer by an error 500.
    """
    body = bytes(response_dict["body"])
    if response_dict["status_code"] in (200, 500) and b"ListBucketResult" not in body and b"<Error>" not in body:
        raise s3.no_store(description)


def _utc(time: dt.datetime) -> dt.datetime:
    """A time in UTC; the nearest that Python can express for one in the year 0 or 10000."""
    try:
        return time.astimezone(dt.UTC)
    except OverflowError:
        return (dt.datetime.min if time.year == dt.MINYEAR else dt.datetime.max).replace(tzinfo=dt.UTC)


def _decode(key: str) -> str:
    """A key of a listing in URL encoding."""
    return unquote_to_bytes(key.replace("+", " ")).decode("utf-8", "surrogateescape")


def name_of(prefix: str, key: str) -> str:
    """The name of an object relative to a prefix, which may be its whole key; empty if it is not below the prefix."""
    if key == prefix:
        return PurePosixPath(key).name
    return key.removeprefix(_joined(prefix, "")) if key.startswith(_joined(prefix, "")) else ""


def cache(address: str, folder: Path) -> Path:
    """The cache folder of an address, below `folder`."""
    return Path(folder) / hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def download(address: str, objects: Iterable[Object], folder: Path) -> Fetched:
    """Fetch listed objects into the cache folder of an address, below `folder`.

    Raises:
        GltError: the store is unreachable or rejects the keys, or this machine cannot store the files.
    """
    bucket, _ = s3.parts(address)
    return object_cache.fetch(bucket, objects, cache(address, folder) / _OBJECTS)


def _row(one: Object) -> str:
    return json.dumps([one.name, one.size, one.etag])


def _version(rows: Iterable[str]) -> str:
    listing = f"[{', '.join(rows)}]"
    return f"s3-{hashlib.sha256(listing.encode()).hexdigest()[:32]}"


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}{name}" if not prefix or prefix.endswith("/") else f"{prefix}/{name}"
