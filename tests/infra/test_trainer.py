"""infra/k8s/trainer: the runtime and the rights with which `pretrain` trains on several nodes."""

from __future__ import annotations

import json
import shutil
from typing import Any

import celpy
import kubernetes_validate
import pytest
import yaml
from kfp import compiler
from kubeflow.trainer.backends.container.runtime_loader import get_training_runtime_from_sources
from kubeflow.trainer.backends.kubernetes.utils import get_runtime_trainer
from kubeflow_trainer_api import models

from glt.lifecycle import jobs
from glt.steps import launch
from pipelines.graphs import GRAPHS
from pipelines.profiles import CHECKPOINTS, PROFILES, SHARED_MEMORY

from .conftest import K8S, ROOT, Document, assemble, render

FOLDER = K8S / "trainer"


@pytest.fixture(scope="module")
def documents() -> dict[str, Document]:
    return {document["kind"]: document for document in assemble("trainer")}


@pytest.fixture(scope="module")
def runtime(documents: dict[str, Document]) -> models.TrainerV1alpha1TrainingRuntime:
    return models.TrainerV1alpha1TrainingRuntime.from_dict(documents["TrainingRuntime"])


@pytest.fixture(scope="module")
def pod(documents: dict[str, Document]) -> Document:
    (job,) = documents["TrainingRuntime"]["spec"]["template"]["spec"]["replicatedJobs"]
    return job["template"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """The container of the step `pretrain` and its pod's settings, as compiled for one GPU."""
    path = tmp_path_factory.mktemp("graph") / "training.yaml"
    compiler.Compiler().compile(GRAPHS["training"]("gpu"), str(path))
    spec, platform = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    container = spec["deploymentSpec"]["executors"]["exec-pretrain"]["container"]
    return container, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-pretrain"]


def test_every_field_of_the_runtime_is_one_that_trainer_knows(
    documents: dict[str, Document], runtime: models.TrainerV1alpha1TrainingRuntime
) -> None:
    assert runtime.to_dict() == documents["TrainingRuntime"]


def test_the_pod_and_the_rights_match_the_schemas_strictly(documents: dict[str, Document], pod: Document) -> None:
    whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "node"}, "spec": pod}
    for document in (whole, *(document for kind, document in documents.items() if kind != "TrainingRuntime")):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    broken = json.loads(json.dumps(whole))
    broken["spec"]["containers"][0]["resource"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_renders_what_the_tests_assemble(documents: dict[str, Document]) -> None:
    assert {document["kind"]: document for document in render("trainer")} == documents


def test_the_sdk_reads_the_runtime_as_one_for_torch(runtime: models.TrainerV1alpha1TrainingRuntime) -> None:
    found = get_training_runtime_from_sources(jobs.RUNTIME, [(FOLDER / "runtime.yaml").as_uri()])
    assert (found.name, found.trainer.framework, found.trainer.image) == ("glt", "torch", "glt:0.1.0")
    spec = runtime.spec
    trainer = get_runtime_trainer("torch", spec.template.spec.replicated_jobs, spec.ml_policy)
    assert "torchrun" in trainer.command[-1]
    assert (trainer.device, trainer.device_count) == ("gpu", "2")  # 2 nodes of 1


def test_a_node_has_what_the_pod_of_the_step_has(pod: Document, step: tuple[dict[str, Any], dict[str, Any]]) -> None:
    (node,), (container, settings) = pod["containers"], step
    assert node["image"] == container["image"]
    given = {(kind, one[kind]["name"]) for one in node["envFrom"] for kind in one}
    wanted = {("secretRef", one["secretName"]) for one in settings["secretAsEnv"]}
    wanted |= {("configMapRef", one["configMapName"]) for one in settings["configMapAsEnv"]}
    assert wanted <= given
    # What the step knows by other means, it tells its nodes.
    fields = {one["name"] for one in settings["fieldPathAsEnv"]}
    assert fields <= set(launch.SHARED)

    size = {"cpu": PROFILES["gpu"].heavy[0], "memory": PROFILES["gpu"].heavy[1], "nvidia.com/gpu": "1"}
    assert node["resources"] == {"requests": size, "limits": size}
    assert pod["nodeSelector"] == settings["nodeSelector"]["labels"]
    assert [one["key"] for one in pod["tolerations"]] == [one["key"] for one in settings["tolerations"]]

    volumes = {one["name"]: one for one in pod["volumes"]}
    mounts = {one["mountPath"]: volumes[one["name"]] for one in node["volumeMounts"]}
    (claim,) = settings["pvcMount"]
    assert claim["mountPath"] == CHECKPOINTS
    assert mounts[CHECKPOINTS]["persistentVolumeClaim"] == {"claimName": claim["constant"]}
    assert mounts["/dev/shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": SHARED_MEMORY}
    assert mounts["/tmp"]["emptyDir"]
    assert node["workingDir"] == "/tmp"  # where the SDK writes its script; the rest is read-only


def _admits(policy: Document, user: str, spec: dict[str, Any]) -> bool:
    """Evaluate the policy as the API server does: all match conditions, then all validations, in CEL."""
    given = celpy.json_to_cel({"object": {"spec": spec}, "request": {"userInfo": {"username": user}}})

    def holds(expression: str) -> bool:
        environment = celpy.Environment()
        return bool(environment.program(environment.compile(expression)).evaluate(given))

    if not all(holds(condition["expression"]) for condition in policy["spec"]["matchConditions"]):
        return True
    return all(holds(validation["expression"]) for validation in policy["spec"]["validations"])


RUNNER = "system:serviceaccount:kubeflow:pipeline-runner"
SECRET = {"secretKeyRef": {"name": "somebody-elses", "key": "password"}}
VOLUMES = [{"name": "x", "secret": {"secretName": "somebody-elses"}}]


def _patch(pod: dict[str, Any]) -> list[dict[str, Any]]:
    job = {"name": "node", "template": {"spec": {"template": {"spec": pod}}}}
    return [{"manager": "x", "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [job]}}}}]


@pytest.mark.parametrize(
    "change",
    [
        {"runtimePatches": _patch({"volumes": VOLUMES})},
        {"runtimePatches": _patch({"serviceAccountName": "admin"})},
        {"initializer": {"dataset": {"secretRef": {"name": "somebody-elses"}}}},
        {"trainer": {"env": [{"name": "PLAIN", "value": "1"}, {"name": "X", "valueFrom": SECRET}]}},
        {"runtimeRef": {"name": "another", "apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime"}},
        {"runtimeRef": {"name": "glt", "apiGroup": "trainer.kubeflow.org", "kind": "ClusterTrainingRuntime"}},
    ],
    ids=["volume", "service account", "initializer", "variable", "another runtime", "a cluster's runtime"],
)
def test_a_job_of_a_pipeline_reaches_no_secret_beside_the_runtimes(
    documents: dict[str, Document], change: dict[str, Any]
) -> None:
    policy = documents["ValidatingAdmissionPolicy"]
    ours: dict[str, Any] = {
        "runtimeRef": {"name": jobs.RUNTIME, "apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime"},
        "trainer": {"image": "glt:0.1.0", "numNodes": 2, "command": ["bash"], "env": [{"name": "X", "value": "1"}]},
    }
    models.TrainerV1alpha1TrainJobSpec.from_dict(ours | change)  # fields that Trainer knows
    assert _admits(policy, RUNNER, ours)
    assert not _admits(policy, RUNNER, ours | change)
    assert not _admits(policy, "system:serviceaccount:team-a:default-editor", ours | change)
    assert _admits(policy, "kubernetes-admin", ours | change)
    assert documents["ValidatingAdmissionPolicyBinding"]["spec"]["policyName"] == policy["metadata"]["name"]


def test_a_job_is_not_tried_again_beside_its_step_and_ends_with_it(
    documents: dict[str, Document], pod: Document, step: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    (job,) = documents["TrainingRuntime"]["spec"]["template"]["spec"]["replicatedJobs"]
    assert job["template"]["spec"]["backoffLimit"] == 0
    assert pod["restartPolicy"] == "Never"
    assert str(job["template"]["spec"]["activeDeadlineSeconds"]) == str(step[1]["activeDeadlineSeconds"])


def test_a_node_holds_no_privilege(pod: Document) -> None:
    assert pod["automountServiceAccountToken"] is False
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    user = next(
        line
        for line in (ROOT / "infra/image/Containerfile").read_text(encoding="utf-8").splitlines()
        if "USER 1" in line
    )
    assert f"USER {security['runAsUser']}:{security['runAsGroup']}" == user  # as who the step writes to the volume
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    (node,) = pod["containers"]
    assert node["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_step_may_make_jobs_and_read_their_logs_and_no_more(documents: dict[str, Document]) -> None:
    rights = {
        (group, resource, verb)
        for rule in documents["Role"]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    trainer = "trainer.kubeflow.org"
    assert rights == {
        *((trainer, "trainjobs", verb) for verb in ("create", "get", "list", "watch", "delete")),
        *((trainer, "trainingruntimes", verb) for verb in ("get", "list")),
        *(("", "pods", verb) for verb in ("get", "list", "watch")),
        ("", "pods/log", "get"),
    }
    binding = documents["RoleBinding"]
    assert binding["roleRef"]["name"] == documents["Role"]["metadata"]["name"]
    assert {one["name"] for one in binding["subjects"]} == {"pipeline-runner", "default-editor"}
    assert {one["namespace"] for one in binding["subjects"]} == {binding["metadata"]["namespace"]}


def test_the_pipelines_folder_does_not_need_trainer() -> None:
    assert not any("trainer.kubeflow.org" in document["apiVersion"] for document in assemble("pipelines"))
