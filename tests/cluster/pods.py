"""Pods that Kubeflow's backend makes of compiled steps, and the objects of our manifests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from infra.k8s.new_secrets import new_secrets
from infra.local.manifests import documents
from tests.pipelines.compiled import Document, Graph

LAUNCHER_VOLUMES = {
    "kfp-launcher": "/kfp-launcher", "gcs-scratch": "/gcs", "s3-scratch": "/s3", "minio-scratch": "/minio",
    "dot-local-scratch": "/.local", "dot-cache-scratch": "/.cache", "dot-config-scratch": "/.config",
}  # fmt: skip
LAUNCHER_PATHS = (*LAUNCHER_VOLUMES.values(), "/var/run/argo", "/tmp/kfp")

# Of the launcher, the Go runtime and its libraries (AWS SDK, HTTP, TLS, Kubernetes), Argo's executor, and the plugin.
READ_BY_OTHERS = re.compile(
    r"(AWS|MLFLOW|KFP|KUBERNETES|ML_PIPELINE|METADATA|PIPELINE|ARGO|V2|GRPC|GOOGLE|SSL_CERT|REQUESTS_CA)_.*"
    r"|GO[A-Z]+|KUBECONFIG|PUBLISH_LOGS|HOME|PATH|TMPDIR|(HTTPS?|NO|ALL)_PROXY",
    re.IGNORECASE,
)
QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti|)")
UNITS = {"": 1, "m": 1e-3, **{unit: 1000**power for power, unit in enumerate("kMGT", 1)}} | {
    f"{unit}i": 1024**power for power, unit in enumerate("KMGT", 1)
}

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
FIELD_PATH = re.compile(
    r"metadata\.(name|namespace|uid|(labels|annotations)\['[^']+'\])"
    r"|spec\.(nodeName|serviceAccountName)|status\.(host|pod)IPs?"
)
# Of KubernetesExecutorConfig, in kubernetes_platform/proto/kubernetes_executor_config.proto of 2.16.0 and 2.17.0.
PLATFORM_FIELDS = {
    "secretAsVolume", "secretAsEnv", "pvcMount", "nodeSelector", "podMetadata", "imagePullSecret",
    "imagePullPolicy", "configMapAsVolume", "configMapAsEnv", "activeDeadlineSeconds", "fieldPathAsEnv",
    "tolerations", "genericEphemeralVolume", "nodeAffinity", "podAffinity", "enabledSharedMemory",
    "emptyDirMounts", "securityContext",
}  # fmt: skip


@dataclass(frozen=True)
class Variable:
    """A variable of a step's container: its name and, of one that a Secret or ConfigMap gives, that object and key."""

    name: str
    value: str = ""
    kind: str = ""  # Secret or ConfigMap
    object: str = ""
    key: str = ""
    optional: bool = False


def variables(graph: Graph, task: str) -> Iterator[Variable]:
    """The variables of a step in the order in which the driver appends them (driver.go, k8s.go)."""
    platform = graph.platform.get(task, {})
    for entry in graph.containers[task].get("env", ()):
        yield Variable(entry["name"], entry.get("value", ""))
    for kind, field, key in (("Secret", "secretAsEnv", "secretKey"), ("ConfigMap", "configMapAsEnv", "configMapKey")):
        for source in platform.get(field, ()):
            named = source[field.replace("AsEnv", "Name")]
            for pair in source["keyToEnv"]:
                yield Variable(pair["envVar"], "", kind, named, pair[key], bool(source.get("optional")))
    for source in platform.get("fieldPathAsEnv", ()):
        yield Variable(source["name"], source["fieldPath"])


def step_pod(graph: Graph, task: str) -> Document:
    """The pod of a step as KFP's backend builds it: the fields that Pod Security looks at.

    Template (argocompiler/container.go, security_context.go) and the driver's patch of it (driver/k8s.go) together. The
    template's own pod security context replaces that of the workflow (workflow/controller/workflowpod.go), so
    runAsNonRoot is missing unless the step asks for it.
    """
    platform, seccomp = graph.platform.get(task, {}), {"type": "RuntimeDefault"}
    hardened = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "seccompProfile": seccomp}
    claims = [{"name": mount["constant"], "persistentVolumeClaim": {}} for mount in platform.get("pvcMount", ())]
    empty = [{"name": mount["volumeName"], "emptyDir": mount} for mount in platform.get("emptyDirMounts", ())]
    return {
        "securityContext": {"seccompProfile": seccomp},
        "initContainers": [{"name": "kfp-launcher", "securityContext": hardened | {"runAsNonRoot": True}}],
        "containers": [{"name": "main", "securityContext": hardened | platform.get("securityContext", {})}],
        "volumes": [{"name": name, "emptyDir": {}} for name in LAUNCHER_VOLUMES] + claims + empty,
    }


def mounts(graph: Graph, name: str) -> list[tuple[str, str]]:
    """(volume, path) of each volume that a step mounts itself."""
    platform = graph.platform[name]
    claims = [(mount["constant"], mount["mountPath"]) for mount in platform.get("pvcMount", ())]
    return claims + [(mount["volumeName"], mount["mountPath"]) for mount in platform.get("emptyDirMounts", ())]


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def quantity(text: str) -> float:
    match = QUANTITY.fullmatch(text)
    return float(match[1]) * UNITS[match[2]] if match else float("nan")


@cache
def manifests() -> list[Document]:
    """Objects in the namespace of the pipelines: our manifests and the Secrets that new_secrets.py makes."""
    made = new_secrets("glt", "kubeflow")["items"]
    return documents("pipelines") + [secret for secret in made if secret["metadata"]["namespace"] == "kubeflow"]


def named(kind: str) -> dict[str, Document]:
    return {one["metadata"]["name"]: one for one in manifests() if one["kind"] == kind}
