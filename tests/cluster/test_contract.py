"""Every graph, compiled for every profile of a cluster, keeps every rule; and each rule notices what breaks it."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from pipelines.graphs import GRAPHS
from pipelines.profile import Profile, Size
from pipelines.profiles import PROFILES
from tests.cluster.contract import RULES, Rule
from tests.pipelines.compiled import Document, Graph, compiled

# Ours, and one of infra/profiles.yaml that sets everything.
FULL = Profile(
    accelerator="gpu",
    light=Size("1", "512Mi"),
    heavy=Size("64", "500Gi"),
    retries=10,
    interruptions=100,
    nodes=8,
    queue="lab-queue",
    labels={"example.org/cost-centre": "motion_1.2", "team": ""},
    pull_secrets=("registry.lab", "other"),
    service_account="trainer",
)
CLUSTER = [*sorted(name for name, profile in PROFILES.items() if profile.on_cluster), "full"]
BY_ID = {rule.id: rule for rule in RULES}


@pytest.fixture(autouse=True, scope="module")
def full_profile() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROFILES, "full", FULL)
        yield


@pytest.mark.parametrize("rule", RULES, ids=BY_ID)
def test_every_graph_keeps_the_rule(rule: Rule) -> None:
    breaches = {
        f"{graph}, {profile}: {breach}"
        for graph in GRAPHS
        for profile in CLUSTER
        for breach in rule.check(compiled(graph, profile))
    }
    assert not breaches, rule.demand


def test_every_rule_says_where_it_was_read() -> None:
    assert len(BY_ID) == len(RULES)
    for rule in RULES:
        assert re.match(
            r"(kubeflow/pipelines|argoproj/argo-workflows|kubernetes/kubernetes) @ v?\d+\.\d+\.\d+ \S+", rule.source
        )
        assert re.search(r"\.(go|proto)\b", rule.source), rule.id


def retry(**policy: object) -> Callable[[Graph], None]:
    return lambda graph: graph.tasks["pretrain"].spec["retryPolicy"].update(policy)


def pretrain(**platform: object) -> Callable[[Graph], None]:
    return lambda graph: graph.platform["pretrain"].update(platform)


def environment(name: str, value: str = "x") -> Callable[[Graph], None]:
    return lambda graph: graph.containers["pretrain"]["env"].append({"name": name, "value": value})


def secret(name: str, key: str, variable: str, **more: object) -> Callable[[Graph], None]:
    entry = {"secretName": name, "keyToEnv": [{"secretKey": key, "envVar": variable}], **more}
    return lambda graph: graph.platform["pretrain"]["secretAsEnv"].append(entry)


def config_map(name: str, key: str, variable: str) -> Callable[[Graph], None]:
    entry = {"configMapName": name, "keyToEnv": [{"configMapKey": key, "envVar": variable}]}
    return lambda graph: graph.platform["pretrain"]["configMapAsEnv"].append(entry)


def mount(claim: str, path: str) -> Callable[[Graph], None]:
    return lambda graph: graph.platform["pretrain"]["pvcMount"].append({"constant": claim, "mountPath": path})


def memory(
    path: str = "/scratch", name: str = "scratch", size: str = "1Gi", medium: str = ""
) -> Callable[[Graph], None]:
    entry = {"volumeName": name, "mountPath": path, "sizeLimit": size, "medium": medium}
    return lambda graph: graph.platform["pretrain"]["emptyDirMounts"].append(entry)


def resource(**resources: object) -> Callable[[Graph], None]:
    return lambda graph: graph.containers["pretrain"]["resources"].update(resources)


def labels(**named: str) -> Callable[[Graph], None]:
    return pretrain(podMetadata={"labels": {key.replace("__", "/"): value for key, value in named.items()}})


def container(**fields: object) -> Callable[[Graph], None]:
    return lambda graph: graph.containers["pretrain"].update(fields)


def called(name: str) -> Callable[[Graph], None]:
    return lambda graph: graph.spec["pipelineInfo"].update(name=name)


def shown(name: str) -> Callable[[Graph], None]:
    return lambda graph: graph.tasks["pretrain"].spec["taskInfo"].update(name=name)


def default(text: str) -> Callable[[Graph], None]:
    return lambda graph: graph.spec["root"]["inputDefinitions"]["parameters"]["recordings"].update(defaultValue=text)


def finish(**fields: object) -> Callable[[Graph], None]:
    return lambda graph: graph.tasks.update(finish=replace(graph.tasks["finish"], **fields))  # type: ignore[arg-type]


def finish_input(name: str, origin: str) -> Callable[[Graph], None]:
    return lambda graph: graph.tasks["finish"].inputs.update({name: origin})


def without(holder: Callable[[Graph], Document], *names: str) -> Callable[[Graph], None]:
    return lambda graph: [holder(graph).pop(name) for name in names] and None


BREACHES: list[tuple[str, Callable[[Graph], None]]] = [
    ("retry-window", retry(backoffMaxDuration="600s")),
    ("retry-window", retry(maxRetryCount=20)),
    ("retry-window", retry(backoffFactor=3.0)),
    ("retry-window", pretrain(activeDeadlineSeconds="864000")),
    ("whole-seconds", retry(backoffDuration="0.5s")),
    ("whole-seconds", without(lambda graph: graph.tasks["pretrain"].spec["retryPolicy"], "backoffDuration")),
    ("deadline", without(lambda graph: graph.platform["pretrain"], "activeDeadlineSeconds")),
    ("launcher-environment", environment("AWS_REGION")),
    ("launcher-environment", environment("MLFLOW_RUN_ID")),
    ("launcher-environment", environment("https_proxy")),
    ("launcher-environment", environment("SSL_CERT_FILE")),
    ("launcher-environment", environment("HOME")),
    ("launcher-environment", secret("glt-object-store", "AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID")),
    ("launcher-environment", config_map("glt-tracking", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_URI")),
    ("launcher-environment", pretrain(fieldPathAsEnv=[{"name": "KFP_POD_NAME", "fieldPath": "metadata.name"}])),
    ("one-source", environment("GLT_RUN_ID")),
    ("one-source", secret("glt-git", "GLT_GIT_USER", "GLT_GIT_TOKEN", optional=True)),
    ("variable-names", environment("GLT-HOME")),
    ("variable-names", environment("1ST")),
    ("plain-values", environment("GLT_HOME", "{{workflow.name}}")),
    ("plain-values", environment("GLT_HOME", "$(GLT_IMAGE)")),
    ("field-paths", pretrain(fieldPathAsEnv=[{"name": "GLT_NODE", "fieldPath": "spec.hostname"}])),
    ("field-paths", pretrain(fieldPathAsEnv=[{"name": "GLT_A", "fieldPath": "metadata.labels['pipeline/run']"}])),
    ("known-objects", secret("glt-signing-key", "GLT_SIGNING_KEY", "GLT_SIGNING_KEY")),
    ("known-objects", secret("glt-git", "GLT_GIT_USER", "GLT_A", optional=False)),
    ("known-objects", secret("glt-mlflow", "MLFLOW_TRACKING_TOKEN", "GLT_A")),
    ("known-objects", config_map("glt-tracking", "AWS_DEFAULT_REGION", "GLT_A")),
    ("known-objects", config_map("glt-verifying-keys", "GLT_VERIFYING_KEYS", "GLT_A")),
    ("baseline", pretrain(securityContext={"privileged": True})),
    ("baseline", pretrain(securityContext={"capabilities": {"add": ["SYS_ADMIN"]}})),
    ("baseline", pretrain(securityContext={"runAsNonRoot": True, "fsGroup": 0})),
    ("restricted", without(lambda graph: graph.platform["pretrain"], "securityContext")),
    ("restricted", pretrain(securityContext={"runAsUser": "10001"})),
    ("restricted", pretrain(securityContext={"runAsNonRoot": True, "runAsUser": "0"})),
    ("volume-names", mount("glt-checkpoints", "/more")),
    ("volume-names", memory(name="s3-scratch")),
    ("volume-names", memory(name="Scratch")),
    ("mount-paths", mount("glt-more", "/")),
    ("mount-paths", mount("glt-more", "/tmp")),
    ("mount-paths", memory("/minio/bucket")),
    ("mount-paths", memory("/kfp-launcher")),
    ("writable-claims", mount("glt-more", "/more")),
    ("writable-claims", pretrain(pvcMount=[{"constant": "kfp", "mountPath": "/more"}])),
    ("shared-claims", mount("glt-more", "/more")),
    ("quantities", resource(resourceMemoryLimit="8Gi")),
    ("quantities", resource(resourceCpuRequest="8 cores")),
    ("quantities", resource(accelerator={"resourceType": "nvidia.com/gpu", "resourceCount": "0.5"})),
    ("quantities", memory(size="much")),
    ("quantities", memory(size="32Gi", medium="Memory")),
    ("pod-labels", labels(pipeline__runid="x")),
    ("pod-labels", labels(workflows="x" * 64)),
    ("pod-labels", labels(team="computer vision")),
    ("pod-labels", pretrain(podMetadata={"annotations": {"a b": "c"}})),
    ("pipeline-name", called("GLT-training")),
    ("pipeline-name", called("glt-" + "x" * 50)),
    ("step-names", shown("Disentangle")),
    ("step-names", shown("")),
    ("step-names", lambda graph: graph.tasks.update({"Pre train": graph.tasks.pop("pretrain")})),
    ("cache-keys", without(lambda graph: graph.tasks["pretrain"].inputs, "code_version")),
    (
        "cache-keys",
        lambda graph: (
            graph.tasks["promote"].spec["cachingOptions"].update(enableCache=True)
            or graph.tasks["promote"].inputs.clear()
        ),
    ),
    ("image-tags", container(image="glt")),
    ("image-tags", container(image="registry:5000/glt:latest")),
    ("exit-step", finish(after={"run", "pretrain"})),
    ("exit-step", finish(after=set())),
    ("exit-step", finish_input("version", "register.Output")),
    ("exit-step", finish_input("status", "status of pretrain")),
    ("exit-step", lambda graph: graph.tasks["finish"].spec["triggerPolicy"].clear()),
    ("exit-step", lambda graph: graph.tasks["report"].inputs.update(status="status of run")),
    ("argument-sizes", container(command=["x" * 70_000])),
    ("argument-sizes", lambda graph: graph.tasks["pretrain"].spec.update(inputs={"constant": "x" * 70_000})),
    ("platform-fields", pretrain(hostUsers=False)),
    ("platform-fields", pretrain(priorityClassName="high")),
    ("parameter-sizes", default("x" * 131_000)),
    (
        "least-server",
        lambda graph: graph.groups.update(
            better=replace(graph.groups["better"], items="trials"), run=replace(graph.groups["run"], items="trials")
        ),
    ),
    ("final-states", without(lambda graph: graph.tasks, "report", "register")),
    ("workflow-size", lambda graph: graph.spec.update(more="x" * 500_000)),
]


@pytest.mark.parametrize(
    ("rule", "breach"), BREACHES, ids=[f"{rule}-{index}" for index, (rule, _) in enumerate(BREACHES)]
)
def test_a_rule_notices_what_breaks_it(rule: str, breach: Callable[[Graph], None]) -> None:
    graph = copy.deepcopy(compiled("training", "gpu"))
    breach(graph)
    assert list(BY_ID[rule].check(graph))


def test_every_rule_is_broken_once() -> None:
    assert {rule for rule, _ in BREACHES} == set(BY_ID)
