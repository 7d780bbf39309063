"""Who may do what on the servers as the manifests set them up."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from glt.errors import GltError
from glt.lifecycle import locks, registry, tracking
from infra.local.stack import Stack
from tests.stack.models import promoted


def asked(stack: Stack, path: str, **headers: str) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{stack['mlflow'].port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_mlflow_answers_nobody_it_does_not_know(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    search = "/api/2.0/mlflow/experiments/search?max_results=1"
    host = f"localhost:{stack['mlflow'].port}"
    assert asked(stack, "/health") == 200
    assert asked(stack, search, Host=host) == 401
    assert asked(stack, search, Host="elsewhere.example.org") == 403
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "what it was last year")
    with pytest.raises(GltError, match="MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"):
        tracking.connect()


def test_an_account_reads_everything_and_changes_only_its_own(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = promoted(tmp_path, "read-only")
    admin = stack.secret("mlflow-accounts")["MLFLOW_PASSWORD_ADMIN"]
    made = {"username": "reader", "password": "reads-all-day"}
    request = urllib.request.Request(
        f"{stack.environment()['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/users/create",
        data=json.dumps(made).encode(),
        headers={"Content-Type": "application/json"},
    )
    passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
    passwords.add_password(None, request.full_url, "admin", admin, is_authenticated=True)
    urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(passwords)).open(request, timeout=60).close()
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", made["username"])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", made["password"])
    champion = registry.champion(name)
    assert champion is not None
    assert champion.folder().is_dir()
    with pytest.raises(MlflowException, match="Permission denied"):
        MlflowClient().set_registered_model_alias(name, "champion", "1")
    assert registry.champion(name) == champion


def client(stack: Stack, holder: str) -> Any:
    keys = stack.secret(holder)
    return boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url=stack.environment()["AWS_ENDPOINT_URL"],
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    )


@pytest.mark.parametrize(
    ("holder", "may"),
    {
        "landing-recorders": {("put", "landing")},
        "glt-object-store": {(what, where) for what in ("put", "get") for where in ("landing", "recordings")},
        "mlflow-object-store": {("put", "mlflow"), ("get", "mlflow")},
        "backup-object-store": {("get", "mlflow"), ("get", "recordings")},
    }.items(),
)
def test_keys_of_the_object_store_open_what_they_are_for(stack: Stack, holder: str, may: set[tuple[str, str]]) -> None:
    admin, key = client(stack, "object-store-admin"), client(stack, holder)
    for bucket in ("landing", "recordings", "mlflow"):
        admin.put_object(Bucket=bucket, Key="probe", Body=b"x")
        calls = {
            "put": lambda where=bucket: key.put_object(Bucket=where, Key=f"of-{holder}", Body=b"x"),
            "get": lambda where=bucket: key.get_object(Bucket=where, Key="probe"),
        }
        for what, call in calls.items():
            if (what, bucket) in may:
                call()
                continue
            with pytest.raises(ClientError, match="AccessDenied"):
                call()


LANDING = {"Bucket": "landing"}


def _allow_everybody() -> str:
    everybody = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::landing/*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [everybody]})


HARM: dict[str, tuple[str, dict[str, object]]] = {
    "delete": ("delete_object", {"Key": "delivered"}),
    "read": ("get_object", {"Key": "delivered"}),
    "list": ("list_objects_v2", {}),
    "make public": ("put_object_acl", {"Key": "delivered", "ACL": "public-read"}),
    "write a verdict": ("put_object", {"Key": "quarantine/lab/rejected.json", "Body": b"{}"}),
    "upload a verdict": ("create_multipart_upload", {"Key": "quarantine/lab/rejected.json"}),
    "copy a verdict": ("copy_object", {"Key": "quarantine/lab/rejected.json", "CopySource": "landing/delivered"}),
    "read by copying": ("copy_object", {"Key": "copied", "CopySource": "landing/delivered"}),
    "copy from elsewhere": ("copy_object", {"Key": "copied", "CopySource": "mlflow/probe"}),
    "let objects expire": (
        "put_bucket_lifecycle_configuration",
        {
            "LifecycleConfiguration": {
                "Rules": [{"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}]
            }
        },
    ),
    "stop versions": ("put_bucket_versioning", {"VersioningConfiguration": {"Status": "Suspended"}}),
    "open to web pages": (
        "put_bucket_cors",
        {"CORSConfiguration": {"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]}},
    ),
    "drop the policy": ("delete_bucket_policy", {}),
    "write a policy": ("put_bucket_policy", {"Policy": _allow_everybody()}),
    "delete the bucket": ("delete_bucket", {}),
}


@pytest.mark.parametrize("harm", HARM)
def test_recorders_cannot_harm_what_was_delivered(stack: Stack, harm: str) -> None:
    admin, recorders = client(stack, "object-store-admin"), client(stack, "landing-recorders")
    recorders.put_object(**LANDING, Key="delivered", Body=b"the recording")
    operation, arguments = HARM[harm]
    with pytest.raises(ClientError, match="AccessDenied"):
        getattr(recorders, operation)(**LANDING, **arguments)
    assert admin.get_object(**LANDING, Key="delivered")["Body"].read() == b"the recording"


def test_what_recorders_write_again_or_delete_in_bulk_stays(stack: Stack) -> None:
    admin, recorders = client(stack, "object-store-admin"), client(stack, "landing-recorders")
    first = recorders.put_object(**LANDING, Key="again", Body=b"the recording")["VersionId"]
    second = recorders.put_object(**LANDING, Key="again", Body=b"another")["VersionId"]
    versions = [{"Key": "again", "VersionId": version} for version in (first, second)]
    for objects in ([{"Key": "again"}], versions):
        answer = recorders.delete_objects(**LANDING, Delete={"Objects": objects})
        assert {error["Code"] for error in answer["Errors"]} == {"AccessDenied"}
        assert not answer.get("Deleted")
    with pytest.raises(ClientError, match="AccessDenied"):
        recorders.delete_object(**LANDING, Key="again", VersionId=first)
    for key in (f"again.versions/v_{first}", "again.versions", "again/below"):  # where SeaweedFS keeps versions
        recorders.put_object(**LANDING, Key=key, Body=b"in their place")
    assert admin.get_object(**LANDING, Key="again", VersionId=first)["Body"].read() == b"the recording"
    assert admin.get_object(**LANDING, Key="again")["Body"].read() == b"another"


def test_a_delivery_named_like_the_folder_of_verdicts_is_not_in_their_way(stack: Stack) -> None:
    recorders, pipelines = client(stack, "landing-recorders"), client(stack, "glt-object-store")
    for key in ("quarantine", "quarantine.versions/x"):
        recorders.put_object(**LANDING, Key=key, Body=b"a recording")
    pipelines.put_object(**LANDING, Key="quarantine/lab/verdict.json", Body=b"rejected")
    assert pipelines.get_object(**LANDING, Key="quarantine/lab/verdict.json")["Body"].read() == b"rejected"


def test_a_pods_keys_are_enough_for_the_lock_of_the_registry(stack: Stack) -> None:
    with locks.distributed_lock("of-a-test", "the first"), pytest.raises(GltError, match="the second"):
        with locks.distributed_lock("of-a-test", "the second", patience=1):
            pass
    with locks.distributed_lock("of-a-test", "the third", patience=0):
        pass
