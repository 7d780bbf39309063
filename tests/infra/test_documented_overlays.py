"""Entries that docs/cluster.md offers for an overlay of one's own, rendered by kubectl."""

from __future__ import annotations

from pathlib import Path

from infra.local.manifests import WORKLOADS, pod
from pipelines.profiles import REPORTED

from .conftest import documented_overlay
from .test_base import by_name, needs_kubectl

pytestmark = needs_kubectl


def test_each_pod_of_our_images_pulls_with_the_secret_of_a_private_registry(tmp_path: Path) -> None:
    documents = documented_overlay("imagePullSecrets", tmp_path)
    pods = [pod(document) for document in documents if document["kind"] in WORKLOADS]
    ours = [one for one in pods if any(each["image"].startswith("glt") for each in one["containers"])]
    assert len(ours) == 2
    for one in pods:
        assert one.get("imagePullSecrets", []) == ([{"name": "registry"}] if one in ours else [])


def test_the_address_of_mlflow_for_browsers_joins_the_others_that_steps_read(tmp_path: Path) -> None:
    tracking = by_name(documented_overlay("GLT_MLFLOW_ADDRESS", tmp_path), "ConfigMap")["glt-tracking"]
    assert tracking["data"].keys() == {"GLT_MLFLOW_ADDRESS", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "GLT_LOCKS"}
    assert "GLT_MLFLOW_ADDRESS" in REPORTED
