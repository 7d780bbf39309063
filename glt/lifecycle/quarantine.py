"""The quarantine of a landing bucket: for each rejected object, the reasons and a copy of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from glt.lifecycle import s3
from glt.lifecycle.sources.bucket import QUARANTINE, Object, key_of, list_entries, name_of


def list_quarantined(address: str, files: Collection[str]) -> set[tuple[str, str]]:
    """List the name and ETag of the objects below an address whose quarantine folder has one of these files.

    Raises:
        GltError: the bucket cannot be read.
    """
    bucket, prefix = s3.parts(address)
    objects = set()
    for entry in list_entries(bucket, f"{QUARANTINE}{prefix}"):
        folder, _, file = str(entry["Key"]).rpartition("/")
        if file in files:
            key, etag = folder.removeprefix(QUARANTINE).rsplit("/", 1)
            if name := name_of(prefix, key):
                objects.add((name, etag))
    return objects


def object_address(address: str, name: str) -> str:
    """The address of one object below an address."""
    bucket, prefix = s3.parts(address)
    return f"{s3.SCHEME}{bucket}/{key_of(prefix, name)}"


def store(address: str, rejected: Object, contents: Iterable[tuple[str, bytes | Path]]) -> str:
    """Upload files about a rejected object to ``quarantine/<key>/<ETag>/<name>``, in the order given.

    Files of the same name are replaced, so an interrupted call can be repeated.

    Args:
        address: ``s3://bucket/prefix`` of the landing.
        rejected: the object.
        contents: the name of each file below the object's quarantine folder, with its bytes or its path here.

    Returns:
        The address of the object's quarantine folder.

    Raises:
        GltError: the bucket cannot be written.
    """
    bucket, prefix = s3.parts(address)
    client, folder = s3.client(), f"{QUARANTINE}{key_of(prefix, rejected.name)}/{rejected.etag}"
    for name, content in contents:
        s3.call(partial(_upload, client, bucket, f"{folder}/{name}", content), f"recordings {address}")
    return f"{s3.SCHEME}{bucket}/{folder}"


def _upload(client: Any, bucket: str, key: str, content: bytes | Path) -> None:
    if isinstance(content, Path):
        client.upload_file(str(content), bucket, key)
    else:
        client.put_object(Bucket=bucket, Key=key, Body=content)
