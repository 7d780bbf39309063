"""Rules on the pods of steps: retries, variables, Pod Security, volumes, resources, names, caching."""

from __future__ import annotations

import re

from glt.lifecycle.kubeflow import LEAST
from infra.local.manifests import pod
from tests.cluster.pods import (
    DNS_LABEL,
    FIELD_PATH,
    LABEL_KEY,
    LABEL_VALUE,
    LAUNCHER_PATHS,
    LAUNCHER_VOLUMES,
    PLATFORM_FIELDS,
    READ_BY_OTHERS,
    mounts,
    named,
    quantity,
    seconds,
    step_pod,
    variables,
)
from tests.cluster.rule import ARGO, COMPILER, DRIVER, KFP, KUBERNETES, Breaches, of_steps
from tests.pipelines.compiled import Graph, Task


@of_steps(
    "The least server that we submit to knows every field of the Kubernetes configuration: it refuses others",
    f"kubeflow/pipelines @ {LEAST} kubernetes_platform/proto/kubernetes_executor_config.proto; "
    f"{KFP} {COMPILER}/container.go, protojson.Unmarshal",
)
def platform_fields(graph: Graph, name: str, task: Task) -> Breaches:
    yield from sorted(set(graph.platform[name]) - PLATFORM_FIELDS)


@of_steps(
    "All attempts at full length and their pauses fit into backoff.maxDuration, which counts from the start of "
    "the first; what does not fit is stopped or not tried",
    f"{ARGO} workflow/controller/operator.go, processNodeRetries; {KFP} {COMPILER}/container.go",
)
def retry_window(graph: Graph, name: str, task: Task) -> Breaches:
    policy, timeout = task.spec.get("retryPolicy", {}), int(graph.platform[name].get("activeDeadlineSeconds", 0))
    retries, pause = policy.get("maxRetryCount", 0), seconds(policy.get("backoffDuration", "0s"))
    pauses = sum(pause * policy.get("backoffFactor", 2) ** attempt for attempt in range(retries))
    window = seconds(policy.get("backoffMaxDuration", "0s"))
    if retries and window < (retries + 1) * timeout + pauses:
        yield f"{retries + 1} attempts of {timeout} s and {pauses:g} s of pauses do not fit into {window:g} s"


@of_steps(
    "Pauses and window of retries are whole seconds, at least one: KFP passes the seconds alone, and none means 0",
    f"{KFP} {COMPILER}/container.go, getTaskRetryParametersWithValues",
)
def whole_seconds(graph: Graph, name: str, task: Task) -> Breaches:
    policy = task.spec.get("retryPolicy", {})
    for field in ("backoffDuration", "backoffMaxDuration"):
        if policy.get("maxRetryCount") and not (seconds(policy.get(field, "0s")) >= 1 and "." not in policy[field]):
            yield f"{field} {policy.get(field)}"


@of_steps(
    "Each attempt has a time limit",
    f"{KFP} {DRIVER}/k8s.go, extendPodSpecPatch",
)
def deadline(graph: Graph, name: str, task: Task) -> Breaches:
    if int(graph.platform[name].get("activeDeadlineSeconds", 0)) <= 0:
        yield "no time limit"


@of_steps(
    "A step is given no variable that the launcher in its container reads: with AWS_* it opens Kubeflow's "
    "artifact store as somebody else, and its MLflow plugin brings MLFLOW_* of its own",
    f"{KFP} backend/src/v2/objectstore/object_store.go, backend/src/common/plugins/mlflow/config.go",
)
def launcher_environment(graph: Graph, name: str, task: Task) -> Breaches:
    yield from (one.name for one in variables(graph, name) if READ_BY_OTHERS.fullmatch(one.name))


@of_steps(
    "No variable is given twice: the patch is merged by name, and one with value and valueFrom is refused",
    f"{KFP} {DRIVER}/driver.go, {DRIVER}/k8s.go; {ARGO} workflow/util/util.go, ApplyPodSpecPatch",
)
def one_source(graph: Graph, name: str, task: Task) -> Breaches:
    names = [one.name for one in variables(graph, name)]
    yield from (f"{one} is given twice" for one in sorted(set(names)) if names.count(one) > 1)


@of_steps(
    "Variables are C identifiers: older API servers refuse others",
    f"{KUBERNETES} pkg/apis/core/validation/validation.go, ValidateEnv",
)
def variable_names(graph: Graph, name: str, task: Task) -> Breaches:
    yield from (one.name for one in variables(graph, name) if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", one.name))


@of_steps(
    "Values hold no {{...}} and no $(...): Argo and the kubelet would replace them",
    f"{ARGO} util/template/replace.go; {KUBERNETES} pkg/kubelet/kubelet_pods.go, makeEnvironmentVariables",
)
def plain_values(graph: Graph, name: str, task: Task) -> Breaches:
    yield from (one.name for one in variables(graph, name) if "{{" in one.value or "$(" in one.value)


@of_steps(
    "A variable names a pod field that Kubernetes allows, and a label that KFP sets",
    f"{KUBERNETES} pkg/apis/core/validation/validation.go; {KFP} backend/src/common/util/consts.go",
)
def field_paths(graph: Graph, name: str, task: Task) -> Breaches:
    for source in graph.platform[name].get("fieldPathAsEnv", ()):
        path = source["fieldPath"]
        if not FIELD_PATH.fullmatch(path):
            yield path
        elif "labels" in path and path != "metadata.labels['pipeline/runid']":
            yield f"{path}: KFP does not set this label"


@of_steps(
    "A key of a Secret or ConfigMap that our manifests do not make is optional; else the pod never starts",
    f"{KFP} {DRIVER}/k8s.go, extendPodSpecPatch: optional is passed as it is given",
)
def known_objects(graph: Graph, name: str, task: Task) -> Breaches:
    for one in variables(graph, name):
        made = named(one.kind).get(one.object, {}) if one.kind else {}
        if one.kind and not one.optional and one.key not in made.get("data", made.get("stringData", {})):
            yield f"{one.name}: nobody makes key {one.key} of {one.kind} {one.object}, and it is not optional"


@of_steps(
    "Pod Security `baseline`, which Kubeflow's own namespace enforces",
    f"{KFP} {COMPILER}/security_context.go, {DRIVER}/k8s.go",
)
def baseline(graph: Graph, name: str, task: Task) -> Breaches:
    specification = step_pod(graph, name)
    for container in specification["initContainers"] + specification["containers"]:
        context = container["securityContext"]
        if context.get("privileged") or context.get("capabilities", {}).get("add"):
            yield f"{container['name']} is privileged"
    for volume in specification["volumes"]:
        if "hostPath" in volume:
            yield f"volume {volume['name']} is a path of the node"
    if unknown := set(graph.platform[name].get("securityContext", {})) - {"runAsUser", "runAsGroup", "runAsNonRoot"}:
        yield f"KFP passes no {', '.join(sorted(unknown))}"


@of_steps(
    "Pod Security `restricted`: the step asks for runAsNonRoot, which KFP leaves out for the main container",
    f"{KFP} {COMPILER}/security_context.go, applySecurityContextToExecutorTemplate",
)
def restricted(graph: Graph, name: str, task: Task) -> Breaches:
    specification = step_pod(graph, name)
    for container in specification["initContainers"] + specification["containers"]:
        context = specification["securityContext"] | container["securityContext"]
        if context.get("runAsNonRoot") is not True:
            yield f"{container['name']}: runAsNonRoot is not set"
        if int(context.get("runAsUser", 1)) == 0:
            yield f"{container['name']}: runs as root"
        if context.get("allowPrivilegeEscalation") is not False or context["capabilities"] != {"drop": ["ALL"]}:
            yield f"{container['name']}: privileges"
        if context["seccompProfile"]["type"] not in ("RuntimeDefault", "Localhost"):
            yield f"{container['name']}: no seccomp profile"


@of_steps(
    "Volumes of a pod have different names; a claim's volume is called as the claim, so it is mounted once",
    f"{KFP} {DRIVER}/k8s.go, makeVolumeMountPatch; {COMPILER}/container.go",
)
def volume_names(graph: Graph, name: str, task: Task) -> Breaches:
    taken = [*LAUNCHER_VOLUMES, *(volume for volume, _ in mounts(graph, name))]
    yield from (f"volume {one} stands twice" for one in sorted(set(taken)) if taken.count(one) > 1)
    yield from (f"volume {one}" for one in taken if not DNS_LABEL.fullmatch(one))


@of_steps(
    "No mount hides a folder that the launcher or Argo's executor uses",
    f"{KFP} {COMPILER}/container.go, backend/src/v2/component/constants.go",
)
def mount_paths(graph: Graph, name: str, task: Task) -> Breaches:
    for _, path in mounts(graph, name):
        for other in LAUNCHER_PATHS:
            if path == "/tmp" or f"{path}/".startswith(f"{other}/") or other.startswith(f"{path.rstrip('/')}/"):
                yield f"{path} hides {other}"


@of_steps(
    "A Job of ours gives each claim to group 0: KFP has no fsGroup",
    f"{KFP} kubernetes_platform/proto/kubernetes_executor_config.proto, SecurityContext",
)
def writable_claims(graph: Graph, name: str, task: Task) -> Breaches:
    for mount in graph.platform[name].get("pvcMount", ()):
        claim = mount["constant"]
        prepared = named("Job").get(claim)
        if claim not in named("PersistentVolumeClaim"):
            yield f"{claim}: no such claim"
        elif prepared is None or pod(prepared)["securityContext"].get("fsGroup") != 0:
            yield f"{claim}: no Job gives it to group 0"


@of_steps(
    "A claim takes many writers: fine-tunings of a run, and runs, mount it on several nodes at once",
    f"{KFP} {DRIVER}/k8s.go, makeVolumeMountPatch",
)
def shared_claims(graph: Graph, name: str, task: Task) -> Breaches:
    for mount in graph.platform[name].get("pvcMount", ()):
        modes = named("PersistentVolumeClaim").get(mount["constant"], {"spec": {"accessModes": []}})["spec"][
            "accessModes"
        ]
        if "ReadWriteMany" not in modes:
            yield f"{mount['constant']} is mounted by pods on several nodes, and is {', '.join(modes) or 'missing'}"


@of_steps(
    "Requests and limits are quantities, the former not above the latter; a volume in memory is below the "
    "limit; the driver panics at an invalid sizeLimit",
    f"{KFP} {DRIVER}/driver.go, getPodResource; {DRIVER}/k8s.go, MustParse",
)
def quantities(graph: Graph, name: str, task: Task) -> Breaches:
    resources = graph.containers[name].get("resources", {})
    for kind in ("Cpu", "Memory"):
        least, most = (str(resources.get(f"resource{kind}{bound}", "")) for bound in ("Request", "Limit"))
        if not quantity(least) <= quantity(most):
            yield f"{kind.lower()} from {least or 'nothing'} to {most or 'nothing'}"
    accelerator = resources.get("accelerator")
    if accelerator and not re.fullmatch("[1-9][0-9]*", str(accelerator.get("resourceCount"))):
        yield f"{accelerator.get('resourceCount')} of {accelerator.get('resourceType')}"
    memory = quantity(str(resources.get("resourceMemoryLimit", "")))
    for mount in graph.platform[name].get("emptyDirMounts", ()):
        if not quantity(mount.get("sizeLimit", "")) < (memory if mount.get("medium") == "Memory" else float("inf")):
            yield f"volume {mount['volumeName']} of {mount.get('sizeLimit')}"


@of_steps(
    "Labels and annotations of steps are valid and not KFP's or Argo's own",
    f"{KFP} {COMPILER}/container.go, extendPodMetadata; backend/src/common/util/consts.go",
)
def pod_labels(graph: Graph, name: str, task: Task) -> Breaches:
    metadata = graph.platform[name].get("podMetadata", {})
    for key, value in metadata.get("labels", {}).items():
        if not (LABEL_KEY.fullmatch(key) and LABEL_VALUE.fullmatch(str(value))):
            yield f"label {key}={value}"
        if key.startswith(("pipeline/", "pipelines.kubeflow.org/", "workflows.argoproj.io/")):
            yield f"label {key} is KFP's own"
    yield from (f"annotation {key}" for key in metadata.get("annotations", {}) if not LABEL_KEY.fullmatch(key))


@of_steps(
    "Names of steps are DNS labels and differ, and so do their display names",
    f"{KFP} {COMPILER}/dag.go; backend/src/v2/metadata/client.go",
)
def step_names(graph: Graph, name: str, task: Task) -> Breaches:
    shown = [other.spec["taskInfo"]["name"] for other in graph.tasks.values()]
    if not DNS_LABEL.fullmatch(name):
        yield "not a DNS label"
    if not task.spec["taskInfo"]["name"] or shown.count(task.spec["taskInfo"]["name"]) > 1:
        yield f"shown as {task.spec['taskInfo']['name']!r}, as another step is"


@of_steps(
    "A cached step takes the versions of data and code: variables, Secrets and resources are not in its key",
    f"{KFP} backend/src/v2/cacheutils/cache.go, GenerateCacheKey",
)
def cache_keys(graph: Graph, name: str, task: Task) -> Breaches:
    if task.cached and (missing := {"data_version", "code_version"} - set(task.inputs)):
        yield f"is cached without {', '.join(sorted(missing))}"


@of_steps(
    "Images have a tag or digest: the cache key holds the image's name, not what it contains",
    f"{KFP} backend/src/v2/cacheutils/cache.go, GenerateCacheKey",
)
def image_tags(graph: Graph, name: str, task: Task) -> Breaches:
    image = graph.containers[name]["image"]
    if not re.search(r"@sha256:[0-9a-f]{64}$|:(?!latest$)[\w.-]+$", image):
        yield f"image {image} has no tag"
