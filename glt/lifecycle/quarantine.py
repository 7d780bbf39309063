"""The quarantine of a landing bucket: for each rejected object, the reasons and a copy of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from glt import text
from glt.lifecycle import s3
from glt.lifecycle.sources.bucket import QUARANTINE, Object, list_entries

_HASHED = f"{QUARANTINE}by-hash/"  # for keys that would be too long or invalid as part of another key
_PART, _KEY = 200, 600  # bytes; S3 allows keys of 1,024
_ONE_REQUEST = 1 << 30  # bytes; S3 takes 5 GiB
_ETAG = re.compile(r"[0-9A-Za-z_.-]{1,80}")


def find(address: str, objects: Iterable[Object], files: Collection[str]) -> set[str]:
    """The keys of those objects below an address whose quarantine folder has one of these files.

    Raises:
        GltError: the bucket cannot be read.
    """
    bucket, prefix = s3.parts(address)
    folders = {_folder(one): one.key for one in objects}
    if not folders:
        return set()
    prefixes = dict.fromkeys(
        prefix for prefix in (f"{QUARANTINE}{prefix}", _HASHED) if any(name.startswith(prefix) for name in folders)
    )
    held = set()
    for prefix in prefixes:
        for entry in list_entries(bucket, prefix):
            folder, _, file = str(entry["Key"]).rpartition("/")
            if file in files and folder in folders:
                held.add(folders[folder])
    return held


def object_address(address: str, delivered: Object) -> str:
    """The address of an object below an address; bytes that are not UTF-8 are escaped."""
    bucket, _ = s3.parts(address)
    key = delivered.key
    return f"{s3.SCHEME}{bucket}/{key if _is_utf8(key) else text.clean(key)}"


def store(address: str, rejected: Object, name: str, content: bytes | Path) -> str:
    """Upload a file about a rejected object to ``quarantine/<key>/<ETag>/<name>``; one of the same name is replaced.

    A key that is too long or invalid as part of another key is replaced by ``by-hash/<hash>``.

    Args:
        address: ``s3://bucket/prefix`` of the landing.
        rejected: the object.
        name: of the file below the object's quarantine folder (see `file_name`).
        content: its bytes, or its path here.

    Returns:
        The address of the file.

    Raises:
        GltError: the bucket cannot be written.
    """
    bucket, _ = s3.parts(address)
    key = f"{_folder(rejected)}/{name}"
    s3.call(partial(_upload, s3.client(), bucket, key, content), f"recordings {address}: quarantine")
    return f"{s3.SCHEME}{bucket}/{key}"


def file_name(name: str) -> str:
    """A file's name, or path in its archive, as part of a key: unchanged if valid, else a hash with its ending."""
    if _is_plain(name, _PART):
        return name
    suffix = PurePosixPath(name).suffix
    return _hash(name) + (suffix if re.fullmatch(r"\.[0-9A-Za-z]{1,10}", suffix) else "")


def _folder(one: Object) -> str:
    etag = one.etag if _ETAG.fullmatch(one.etag) else _hash(one.etag)
    plain = _is_plain(one.key, _KEY) and not one.key.startswith(_HASHED.removeprefix(QUARANTINE))
    return f"{QUARANTINE}{one.key}/{etag}" if plain else f"{_HASHED}{_hash(one.key)}/{etag}"


def _is_plain(key: str, limit: int) -> bool:
    """True if every store accepts a key that contains this one."""
    return (
        len(key.encode("utf-8", "surrogatepass")) <= limit
        and text.is_clean(key)
        and "\\" not in key
        and all(part.strip(".") and len(part.encode()) <= _PART for part in key.split("/"))
    )


def _is_utf8(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _upload(client: Any, bucket: str, key: str, content: bytes | Path) -> None:
    if isinstance(content, Path) and content.stat().st_size > _ONE_REQUEST:
        client.upload_file(str(content), bucket, key)
    elif isinstance(content, Path):
        with content.open("rb") as stream:
            client.put_object(Bucket=bucket, Key=key, Body=stream)
    else:
        client.put_object(Bucket=bucket, Key=key, Body=content)
