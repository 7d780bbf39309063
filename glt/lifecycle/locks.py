"""One at a time: a lock that is free again when its holder ends, however it ends."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from glt import settings
from glt.errors import GltError
from glt.lifecycle import s3

_LOG = logging.getLogger(__name__)

EXPIRY = 120.0  # seconds after which a lock in a bucket is nobody's: longer than anything done under it
PATIENCE = 30.0  # seconds
_PAUSE = 0.5


@contextmanager
def of_this_machine(file: Path, what: str, patience: float = 0) -> Iterator[None]:
    """Hold the lock that a file stands for.

    Args:
        file: made if it is not there; it stays.
        what: is done under it, for the error.
        patience: seconds to wait for another process.

    Raises:
        GltError: another process of this machine holds it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + patience
    with file.open("w", encoding="utf-8") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise GltError(f"{what}: another process does that now ({file}); run again later") from None
                time.sleep(_PAUSE)
        yield


@contextmanager
def everywhere(name: str, what: str, patience: float = PATIENCE) -> Iterator[Callable[[], None]]:
    """Hold a lock of all machines that share GLT_LOCKS; without it, of this one.

    Args:
        name: of the lock.
        what: is done under it, for the error.
        patience: seconds to wait for another holder.

    Yields:
        What to call before each act that nobody else may do meanwhile: it raises a GltError when the lock has expired.

    Raises:
        GltError: another process holds it, or the bucket cannot be had.
    """
    address = settings.locks()
    if address:
        with _in_bucket(f"{address.rstrip('/')}/{name}", what, patience) as still:
            yield still
        return
    if not settings.is_local():
        _LOG.warning("%s is not set, so %s is locked on this machine only", settings.LOCKS, what)
    with of_this_machine(settings.home() / "locks" / name, what, patience):
        yield lambda: None


@contextmanager
def _in_bucket(address: str, what: str, patience: float) -> Iterator[Callable[[], None]]:
    """An object that is written only if it is not there, and taken over only as it was seen to have expired."""
    bucket, key = s3.parts(address)
    client = s3.client()
    owner = f"{socket.gethostname()}, process {os.getpid()}"
    body = json.dumps({"owner": owner, "what": what, "of": uuid.uuid4().hex}).encode()
    end, held, since = time.monotonic() + patience, "", 0.0
    while not held:
        since = time.monotonic()
        held = _put(client, bucket, key, body, {"IfNoneMatch": "*"}) or _take_over(client, bucket, key, body)
        if not held:
            if time.monotonic() >= end:
                raise GltError(
                    f"{what}: {_owner(client, bucket, key)} does that now ({address}); run again later, "
                    f"a lock whose holder was killed expires after {EXPIRY:g} s"
                )
            time.sleep(_PAUSE)

    def still() -> None:
        if time.monotonic() - since > EXPIRY / 2:
            raise GltError(f"{what}: took longer than the lock holds; nothing more was changed, run again")

    try:
        yield still
    finally:
        _conditional(address, lambda: client.delete_object(Bucket=bucket, Key=key, IfMatch=held))


def _put(client: Any, bucket: str, key: str, body: bytes, condition: dict[str, str]) -> str:
    """Write the lock if the condition holds; its ETag, or nothing."""
    address = f"s3://{bucket}/{key}"
    written = _conditional(address, lambda: client.put_object(Bucket=bucket, Key=key, Body=body, **condition))
    if not written:  # or it was written by the first of two tries, whose answer was lost
        there = _conditional(address, lambda: client.get_object(Bucket=bucket, Key=key))
        written = there if there and there["Body"].read() == body else None
    return str(written["ETag"]) if written else ""


def _take_over(client: Any, bucket: str, key: str, body: bytes) -> str:
    """Replace a lock that has expired, by the store's own clock, if it is still the same one."""
    seen = _conditional(f"s3://{bucket}/{key}", lambda: client.head_object(Bucket=bucket, Key=key))
    if not seen:
        return ""
    now = parsedate_to_datetime(seen["ResponseMetadata"]["HTTPHeaders"]["date"])
    if (now - seen["LastModified"]).total_seconds() <= EXPIRY:
        return ""
    return _put(client, bucket, key, body, {"IfMatch": str(seen["ETag"])})


def _owner(client: Any, bucket: str, key: str) -> str:
    found = _conditional(f"s3://{bucket}/{key}", lambda: client.get_object(Bucket=bucket, Key=key))
    return str(json.loads(found["Body"].read()).get("owner")) if found else "somebody"


def _conditional(address: str, question: Callable[[], Any]) -> Any:
    """An answer of the store, or None if the request's condition did not hold."""
    from botocore.exceptions import ClientError

    def answer() -> Any:
        try:
            return question()
        except ClientError as error:
            if s3.refused(error):
                return None
            raise

    return s3.asked(f"lock {address}", answer)
