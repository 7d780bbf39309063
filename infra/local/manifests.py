"""The manifests of infra/k8s, as they stand in their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).resolve().parents[1] / "k8s"
WORKLOADS = {"Deployment", "StatefulSet", "Job", "CronJob"}
Document = dict[str, Any]


def documents(*folders: str) -> list[Document]:
    """Those of folders of infra/k8s, in the order of their kustomizations."""
    found: list[Document] = []
    for folder in folders:
        place = K8S / folder
        for name in yaml.safe_load((place / "kustomization.yaml").read_text())["resources"]:
            found += yaml.safe_load_all((place / name).read_text())
    return found


def pod(workload: Document) -> Document:
    """The pod's specification of a Deployment, StatefulSet, Job or CronJob."""
    specification = workload["spec"]
    specification = specification["jobTemplate"]["spec"] if "jobTemplate" in specification else specification
    return dict(specification["template"]["spec"])
