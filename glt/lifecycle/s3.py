"""The object store. Endpoint and keys are those of every AWS tool (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from glt import settings
from glt.errors import GltError, wrap_errors

SCHEME = "s3://"
_ADDRESS = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]+)(?:/(?P<prefix>.*))?")
_SECONDS = 10
# Errors that mostly concern every object: the keys, the clock or the bucket.
OF_THE_STORE = frozenset(
    {
        *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"),
        *("RequestTimeTooSkewed", "AuthorizationHeaderMalformed", "NoSuchBucket", "AccountProblem"),
    }
)
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

    config = Config(
        connect_timeout=_SECONDS,
        read_timeout=60,
        retries={"max_attempts": 3, "mode": "standard"},
        response_checksum_validation="when_supported",
    )
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
    from botocore.parsers import ResponseParserError

    remedy = "check the bucket, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    try:
        with wrap_errors(description, remedy, Boto3Error, BotoCoreError, ClientError):
            return action()
    except (ResponseParserError, ValueError, OverflowError) as error:  # botocore's parsers raise the latter two
        raise no_store(description) from error


def no_store(description: str) -> GltError:
    """The error for an answer that is not an object store's."""
    address = settings.object_store() or "Amazon's address"
    return GltError(
        f"{description}: the answer of {address} is not that of an object store, but perhaps a network's login page "
        "or a proxy's; check AWS_ENDPOINT_URL and open the address in a browser"
    )


@contextmanager
def storable(path: Path) -> Iterator[None]:
    """Turn system errors on files that are written in the block into a GltError."""
    try:
        yield
    except OSError as error:
        raise GltError(
            f"{error.filename or path}: {error.strerror or error}; free space on the disk or correct the permissions"
        ) from error


def error_code(error: BaseException) -> str:
    """The code of an error that the store answered with, or an empty string for any other error."""
    answer = getattr(error, "response", None)
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else ""


def is_precondition_failure(error: BaseException) -> bool:
    """True if the store rejected a request because its condition does not hold or the object does not exist."""
    return error_code(error) in {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "404", "412"}
