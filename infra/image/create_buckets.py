"""Create the buckets that an S3 store does not hold yet: `create_buckets.py http://object-store:8333 mlflow ...`.

Credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Runs as the MLflow pod's first init container.
"""

import sys
from collections.abc import Sequence
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError


def create_buckets(store: Any, names: Sequence[str]) -> list[str]:
    """Create those of `names` that the S3 client `store` does not list, and return them."""
    there = {bucket["Name"] for bucket in store.list_buckets()["Buckets"]}
    missing = [name for name in names if name not in there]
    for name in missing:
        store.create_bucket(Bucket=name)
    return missing


def main(arguments: Sequence[str]) -> str | None:
    """Return None on success, else the message to end with (exit status 1)."""
    if len(arguments) < 2:
        return "usage: create_buckets.py ENDPOINT BUCKET..."
    endpoint, *names = arguments
    try:
        created = create_buckets(boto3.client("s3", endpoint_url=endpoint), names)
    except (BotoCoreError, ClientError, ValueError) as error:
        return f"cannot create the buckets at {endpoint}: {error}"
    print(f"buckets created: {', '.join(created) or 'none, all are there'}")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
