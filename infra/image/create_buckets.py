"""Create the buckets that an S3 store does not hold yet, and protect what recorders deliver.

    create_buckets.py http://object-store:8333 mlflow recordings landing --protect=landing

Credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Runs as the MLflow pod's first init container.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

# SeaweedFS names the identity `recorders` of its configuration so, whatever the account is.
RECORDERS = "arn:aws:iam::000000000000:user/recorders"
QUARANTINE = "quarantine/"  # as in glt/lifecycle/sources/bucket.py; this file runs without glt


def create_buckets(store: Any, names: Sequence[str]) -> list[str]:
    """Create those of `names` that the S3 client `store` does not list, and return them."""
    there = {bucket["Name"] for bucket in store.list_buckets()["Buckets"]}
    missing = [name for name in names if name not in there]
    for name in missing:
        store.create_bucket(Bucket=name)
    return missing


def protect(store: Any, bucket: str) -> None:
    """Let the identity `recorders` add objects to a bucket and nothing else.

    SeaweedFS' right `Write` includes deleting, and changing the bucket's life cycle, versioning and CORS. A policy
    takes these away, and the folder in which `glt collect` puts its verdicts; with versions, an object that is written
    again stays what it was.
    """
    store.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    store.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy(bucket)))


def policy(bucket: str) -> dict[str, Any]:
    """The bucket policy of `protect`."""

    def deny(actions: str | list[str], resource: str) -> dict[str, Any]:
        who = {"AWS": RECORDERS}
        return {"Effect": "Deny", "Principal": who, "Action": actions, "Resource": f"arn:aws:s3:::{resource}"}

    changes = ["s3:Delete*", "s3:Get*", "s3:PutObjectAcl", "s3:PutObject*Tagging", "s3:PutObjectVersion*"]
    locks = ["s3:PutObjectRetention", "s3:PutObjectLegalHold", "s3:Bypass*", "s3:RestoreObject"]
    statements = [
        deny("s3:*", bucket),
        deny([*changes, *locks], f"{bucket}/*"),
        deny("s3:*", f"{bucket}/{QUARANTINE}*"),
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def main(arguments: Sequence[str]) -> str | None:
    """Return None on success, else the message to end with (exit status 1)."""
    protected = [given.removeprefix("--protect=") for given in arguments if given.startswith("--protect=")]
    names = [given for given in arguments if not given.startswith("--protect=")]
    if len(names) < 2:
        return "usage: create_buckets.py ENDPOINT BUCKET..."
    endpoint, *buckets = names
    try:
        store = boto3.client("s3", endpoint_url=endpoint)
        created = create_buckets(store, buckets)
        for bucket in protected:
            protect(store, bucket)
    except (BotoCoreError, ClientError, ValueError) as error:
        return f"cannot create the buckets at {endpoint}: {error}"
    print(f"buckets created: {', '.join(created) or 'none, all are there'}")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
