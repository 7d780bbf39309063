"""Reads the manifests of infra/k8s."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).resolve().parents[1] / "k8s"
WORKLOADS = {"Deployment", "StatefulSet", "Job", "CronJob"}
Document = dict[str, Any]


def documents(*folders: str) -> list[Document]:
    """The documents of folders of infra/k8s, in the order of their kustomizations."""
    result: list[Document] = []
    for folder in folders:
        for name in yaml.safe_load((K8S / folder / "kustomization.yaml").read_text())["resources"]:
            result += yaml.safe_load_all((K8S / folder / name).read_text())
    return result


def pod(workload: Document) -> Document:
    """The pod's specification of a Deployment, StatefulSet, Job or CronJob."""
    specification = workload["spec"]
    specification = specification["jobTemplate"]["spec"] if "jobTemplate" in specification else specification
    return dict(specification["template"]["spec"])
