"""The object store. Endpoint and keys are those of every AWS tool (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from glt import settings
from glt.errors import GltError, first_line

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


def asked(what: str, question: Callable[[], T]) -> T:
    """An answer of the store, or a GltError that says why there is none."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return question()
    except (Boto3Error, BotoCoreError, ClientError) as error:
        raise GltError(
            f"{what}: {first_line(error)}; check the bucket, AWS_ENDPOINT_URL, "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from error


def refused(error: BaseException) -> bool:
    """Whether the store said that a condition of the request does not hold, or that there is no such object."""
    code = getattr(error, "response", {}).get("Error", {}).get("Code")
    return code in {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "404"}
