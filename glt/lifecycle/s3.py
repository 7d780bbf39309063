"""The object store. Endpoint and keys are those of every AWS tool (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from glt import settings
from glt.errors import GltError, wrap_errors

SCHEME = "s3://"
_ADDRESS = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]+)(?:/(?P<prefix>.*))?")
_SECONDS = 10
T = TypeVar("T")


def parts(address: str) -> tuple[str, str]:
    """Bucket and prefix of ``s3://bucket/prefix``.

    Raises:
        GltError: it is not written so.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise GltError(f"address {address!r}: write s3://bucket/prefix")
    return match["bucket"], match["prefix"] or ""


def client() -> Any:
    """A boto3 client that gives up after a few tries."""
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=_SECONDS, read_timeout=60, retries={"max_attempts": 3, "mode": "standard"})
    # A session of its own: the default one keeps the keys that it saw first.
    return boto3.session.Session().client("s3", region_name=settings.region(), config=config)


def call(action: Callable[[], T], description: str) -> T:
    """The result of a request to the store.

    Args:
        action: makes the request.
        description: what was attempted, for the error message.

    Raises:
        GltError: the request failed.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    remedy = "check the bucket, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    with wrap_errors(description, remedy, Boto3Error, BotoCoreError, ClientError):
        return action()


def is_precondition_failure(error: BaseException) -> bool:
    """True if the store rejected a request because its condition does not hold or the object does not exist."""
    code = getattr(error, "response", {}).get("Error", {}).get("Code")
    return code in {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "404", "412"}
