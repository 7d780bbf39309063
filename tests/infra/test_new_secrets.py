"""infra/k8s/new_secrets.py: valid Secrets, new credentials at each run, no identity with rights it does not need."""

import json
import subprocess
import sys

import kubernetes_validate

from .conftest import K8S, Document


def by_name(secrets: list[Document]) -> dict[str, dict[str, str]]:
    return {document["metadata"]["name"]: document["stringData"] for document in secrets}


def test_documents_are_valid_secrets(secrets: list[Document]) -> None:
    assert secrets
    for document in secrets:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_the_object_store_knows_exactly_the_keys_handed_out(secrets: list[Document]) -> None:
    made = by_name(secrets)
    identities = {
        entry["name"]: entry for entry in json.loads(made["object-store-identities"]["identities.json"])["identities"]
    }
    holders = {"admin": "object-store-admin", "mlflow": "mlflow-object-store", "pipelines": "glt-object-store"}
    holders |= {"recorders": "landing-recorders", "backup": "backup-object-store"}
    assert set(identities) == set(holders)
    for name, holder in holders.items():
        (key,) = identities[name]["credentials"]
        assert made[holder] == {"AWS_ACCESS_KEY_ID": key["accessKey"], "AWS_SECRET_ACCESS_KEY": key["secretKey"]}


def test_nobody_but_the_admin_reaches_a_bucket_that_is_not_theirs(secrets: list[Document]) -> None:
    identities = json.loads(by_name(secrets)["object-store-identities"]["identities.json"])["identities"]
    reached = {entry["name"]: {action.partition(":")[2] for action in entry["actions"]} for entry in identities}
    assert reached == {
        **{"admin": {""}, "mlflow": {"mlflow"}, "pipelines": {"recordings", "landing"}, "recorders": {"landing"}},
        "backup": {"mlflow", "recordings"},
    }
    (recorders,) = (entry for entry in identities if entry["name"] == "recorders")
    assert recorders["actions"] == ["Write:landing"]
    (backup,) = (entry for entry in identities if entry["name"] == "backup")
    assert {action.partition(":")[0] for action in backup["actions"]} == {"Read", "List"}


def test_each_run_makes_new_credentials_in_the_namespaces_asked_for(secrets: list[Document]) -> None:
    command = [sys.executable, K8S / "new_secrets.py", "--namespace", "tracking", "--pipelines-namespace", "team"]
    others = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["items"]
    assert {document["metadata"]["namespace"] for document in others} == {"tracking", "team"}
    account = {"pipelines"}  # its name is no secret
    values = {value for data in by_name(secrets).values() for value in data.values()} - account
    assert values.isdisjoint(value for data in by_name(others).values() for value in data.values())
