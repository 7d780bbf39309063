"""The documents of infra/k8s, put together as kustomize does, and the Secrets its script makes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from infra.local.manifests import Document, documents

ROOT = Path(__file__).parents[2]
K8S = ROOT / "infra" / "k8s"
CLUSTER_WIDE = {"Namespace", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}


def assemble(folder: str) -> list[Document]:
    """Our plain kustomizations only list files and set a namespace, so a machine without kubectl can check them too."""
    kustomization = yaml.safe_load((K8S / folder / "kustomization.yaml").read_text())
    assert set(kustomization) == {"apiVersion", "kind", "namespace", "resources"}
    found = documents(folder)
    for document in found:
        if document["kind"] not in CLUSTER_WIDE:
            document["metadata"]["namespace"] = kustomization["namespace"]
    return found


def kustomize(folder: Path) -> list[Document]:
    """The documents that kubectl renders from a folder."""
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


def render(folder: str) -> list[Document]:
    """The documents of a folder of infra/k8s, as every version of kubectl renders them."""
    rendered = kustomize(K8S / folder)
    for document in rendered:
        if document["kind"] in CLUSTER_WIDE - {"Namespace"}:
            document["metadata"].pop("namespace", None)  # older kubectl sets it; the API server drops it
    return rendered


def documented_overlay(marker: str, folder: Path) -> list[Document]:
    """The documents of the overlay `gpu` with the entries of docs/cluster.md that hold `marker`."""
    text = (ROOT / "docs" / "cluster.md").read_text()
    (entries,) = (one for one in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if marker in one)
    above = os.path.relpath(K8S / "overlays" / "gpu", folder)
    kustomization = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": [above]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization | yaml.safe_load(entries)))
    return kustomize(folder)


@pytest.fixture(scope="session")
def base() -> list[Document]:
    return assemble("base") + assemble("restore")


@pytest.fixture(scope="session")
def pipelines() -> list[Document]:
    return assemble("pipelines")


@pytest.fixture(scope="session")
def secrets() -> list[Document]:
    """What the operator makes: the output of infra/k8s/new_secrets.py, run as the README says."""
    done = subprocess.run([sys.executable, K8S / "new_secrets.py"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["items"]
