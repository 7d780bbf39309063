"""A lock across machines, kept in a bucket; it expires if its holder is killed."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any

from glt import settings
from glt.errors import GltError
from glt.file_lock import file_lock
from glt.lifecycle import s3

_LOG = logging.getLogger(__name__)

EXPIRY = 120.0  # seconds until a lock in a bucket expires; longer than anything done under it
PATIENCE = 30.0  # seconds
_PAUSE = 0.5  # seconds between two attempts

EnsureHeld = Callable[[], None]


@contextmanager
def distributed_lock(name: str, action: str, patience: float = PATIENCE) -> Iterator[EnsureHeld]:
    """Hold a lock across all machines that share GLT_LOCKS (``s3://bucket/prefix``); on this machine if it is not set.

    Args:
        name: name of the lock.
        action: what is done under the lock, for the error message.
        patience: seconds to wait for another holder.

    Yields:
        A function to call before each change: it raises a GltError if the lock may have expired.

    Raises:
        GltError: another process holds the lock, or the bucket is not available.
    """
    address = settings.locks()
    if address:
        with _object_lock(f"{address.rstrip('/')}/{name}", action, patience) as ensure_held:
            yield ensure_held
        return
    if not settings.is_local():
        _LOG.warning("%s is not set, so %s is locked on this machine only", settings.LOCKS, action)
    with file_lock(settings.home() / "locks" / name, action, patience):
        yield lambda: None


@contextmanager
def _object_lock(address: str, action: str, patience: float) -> Iterator[EnsureHeld]:
    """An object created only if it does not exist (If-None-Match), and taken over only if it has expired (If-Match)."""
    bucket, key = s3.parts(address)
    client = s3.client()
    owner = f"{socket.gethostname()}, process {os.getpid()}"
    body = json.dumps({"owner": owner, "what": action, "of": uuid.uuid4().hex}).encode()
    deadline, etag, acquired_at = time.monotonic() + patience, "", 0.0
    while not etag:
        acquired_at = time.monotonic()
        etag = _put(client, bucket, key, body, {"IfNoneMatch": "*"}) or _take_over(client, bucket, key, body)
        if not etag:
            if time.monotonic() >= deadline:
                raise GltError(
                    f"{action}: {_owner(client, bucket, key)} does that now ({address}); run again later, "
                    f"a lock whose holder was killed expires after {EXPIRY:g} s"
                )
            time.sleep(_PAUSE)

    def ensure_held() -> None:
        if time.monotonic() - acquired_at > EXPIRY / 2:
            raise GltError(f"{action}: took longer than the lock holds; nothing more was changed, run again")

    try:
        yield ensure_held
    finally:
        _call_conditionally(address, lambda: client.delete_object(Bucket=bucket, Key=key, IfMatch=etag))


def _put(client: Any, bucket: str, key: str, body: bytes, condition: dict[str, str]) -> str:
    """Write the lock if the condition holds; its ETag, or an empty string."""
    address = f"s3://{bucket}/{key}"
    written = _call_conditionally(address, lambda: client.put_object(Bucket=bucket, Key=key, Body=body, **condition))
    if not written:  # or the first of two attempts wrote it, and its response was lost
        current = _call_conditionally(address, lambda: client.get_object(Bucket=bucket, Key=key))
        written = current if current and current["Body"].read() == body else None
    return str(written["ETag"]) if written else ""


def _take_over(client: Any, bucket: str, key: str, body: bytes) -> str:
    """Replace the lock if it has expired by the store's own clock and is unchanged since; its ETag, or an empty string.

    Exactly one of several waiting processes succeeds.
    """
    current = _call_conditionally(f"s3://{bucket}/{key}", lambda: client.head_object(Bucket=bucket, Key=key))
    if not current:
        return ""
    now = parsedate_to_datetime(current["ResponseMetadata"]["HTTPHeaders"]["date"])
    if (now - current["LastModified"]).total_seconds() <= EXPIRY:
        return ""
    return _put(client, bucket, key, body, {"IfMatch": str(current["ETag"])})


def _owner(client: Any, bucket: str, key: str) -> str:
    current = _call_conditionally(f"s3://{bucket}/{key}", lambda: client.get_object(Bucket=bucket, Key=key))
    return str(json.loads(current["Body"].read()).get("owner")) if current else "somebody"


def _call_conditionally(address: str, action: Callable[[], Any]) -> Any:
    """The store's response, or None if the request's condition did not hold."""
    from botocore.exceptions import ClientError

    def attempt() -> Any:
        try:
            return action()
        except ClientError as error:
            if s3.is_precondition_failure(error):
                return None
            raise

    return s3.call(attempt, f"lock {address}")
