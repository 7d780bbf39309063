"""The landing bucket: recordings below ``s3://bucket/prefix``, brought to this machine object by object.

A prefix is a folder, or one object: ``s3://bucket/week-4`` does not mean ``week-47`` as well.

Objects that are here already, with the same size and ETag, are not fetched again, so that a new batch costs its own
bytes. The endpoint and the keys are those of every AWS tool (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from glt import artifact
from glt.errors import GltError
from glt.reporter import ConsoleReporter

SCHEME = "s3://"
_ADDRESS = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]+)(?:/(?P<prefix>.*))?")
_LISTING = "objects.json"  # what has been fetched, beside the files
_SECONDS = 10


@dataclass(frozen=True)
class Object:
    """An object below the prefix: its name from there, its size in bytes, and its ETag (the MD5 of a small one)."""

    name: str
    size: int
    etag: str


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
        GltError: no such bucket, no object, no keys, no answer, or a name that points out of the folder.
    """
    bucket, prefix = _parts(address)
    pages = _asked(
        address, lambda: list(_client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix))
    )
    found = []
    for entry in (entry for page in pages for entry in page.get("Contents", ())):
        key = str(entry["Key"])
        if key != prefix and not key.startswith(_joined(prefix, "")):
            continue
        name = PurePosixPath(key).name if key == prefix else key[len(prefix) :].lstrip("/")
        if name.endswith("/") or not name:
            continue
        if ".." in PurePosixPath(name).parts or "\\" in name:
            raise GltError(f"recordings {address}: object {key!r:.80} points out of the folder; rename it")
        found.append(Object(name, int(entry["Size"]), str(entry["ETag"]).strip('"')))
    if not found:
        raise GltError(f"recordings {address}: no objects there; check the bucket and the prefix")
    return sorted(found, key=lambda one: one.name)


def fetch(address: str, folder: Path) -> Path:
    """The objects as files in a folder below `folder` that belongs to this address; those that are gone are removed.

    Raises:
        GltError: as `listing`, or an object that changed or broke on its way.
    """
    bucket, prefix = _parts(address)
    place = Path(folder) / hashlib.sha256(address.encode()).hexdigest()[:16]
    files, notes = place / "files", place / _LISTING
    objects = listing(address)
    here = _here(notes)
    reporter, done, total = ConsoleReporter(), 0, sum(found.size for found in objects)
    client = _client()
    for found in objects:
        file = files / found.name
        if here.get(found.name) != [found.size, found.etag] or not file.is_file() or file.stat().st_size != found.size:
            key = prefix if PurePosixPath(prefix).name == found.name else _joined(prefix, found.name)
            _asked(address, lambda key=key, file=file, found=found: _download(client, bucket, key, file, found))
            here[found.name] = [found.size, found.etag]
            artifact.write_json(notes, here)
        done += found.size
        reporter.progress("fetch", done >> 20, max(total >> 20, 1), "MiB")
    names = {found.name for found in objects}
    for file in sorted(path for path in files.rglob("*") if path.is_file()):
        if file.relative_to(files).as_posix() not in names:
            file.unlink()
    return files


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


def _here(notes: Path) -> dict[str, list[Any]]:
    try:
        known = json.loads(notes.read_text(encoding="utf-8"))
        return {str(name): list(entry) for name, entry in known.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _parts(address: str) -> tuple[str, str]:
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise GltError(f"recordings {address!r}: write s3://bucket/prefix")
    return match["bucket"], match["prefix"] or ""


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}{name}" if not prefix or prefix.endswith("/") else f"{prefix}/{name}"


def _client() -> Any:
    import boto3
    from botocore.config import Config

    settings = Config(connect_timeout=_SECONDS, read_timeout=60, retries={"max_attempts": 3, "mode": "standard"})
    # A session of its own: the default one keeps the keys that it saw first.
    return boto3.session.Session().client(
        "s3", region_name=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"), config=settings
    )


def _asked(address: str, question: Any) -> Any:
    """An answer of the store, or why there is none."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return question()
    except (Boto3Error, BotoCoreError, ClientError) as error:
        raise GltError(
            f"recordings {address}: {str(error).splitlines()[0][:200]}; check the bucket, AWS_ENDPOINT_URL, "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from error
