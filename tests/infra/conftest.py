"""The documents of infra/k8s, put together as kustomize does, and the Secrets its script makes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "infra" / "k8s"
Document = dict[str, Any]


def assemble(folder: Path) -> list[Document]:
    """Our kustomizations only list files and set a namespace, so that a machine without kubectl can check them too."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(kustomization) == {"apiVersion", "kind", "namespace", "resources"}
    documents = [
        document for name in kustomization["resources"] for document in yaml.safe_load_all((folder / name).read_text())
    ]
    for document in documents:
        if document["kind"] != "Namespace":
            document["metadata"]["namespace"] = kustomization["namespace"]
    return documents


@pytest.fixture(scope="session")
def base() -> list[Document]:
    return assemble(K8S / "base")


@pytest.fixture(scope="session")
def pipelines() -> list[Document]:
    return assemble(K8S / "pipelines")


@pytest.fixture(scope="session")
def secrets() -> list[Document]:
    """What the operator makes: the output of infra/k8s/new_secrets.py, run as the README says."""
    done = subprocess.run([sys.executable, K8S / "new_secrets.py"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["items"]
