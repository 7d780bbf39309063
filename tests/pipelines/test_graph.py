"""Compiled graphs: the origin of each task's inputs, and the settings of its pod."""

from __future__ import annotations

from typing import Any

import pytest
from kfp import dsl

from components import IMAGE
from pipelines.graphs import GRAPHS
from pipelines.profiles import PROFILES
from tests.pipelines.compiled import Graph, Group, compiled

TRAIN = {"pretrain", "finetune"}
CACHED = {"ingest", "disentangle", "pretrain", "linear-probe", "finetune"}
CLUSTER = sorted(name for name, profile in PROFILES.items() if profile.on_cluster)
VERSIONS = {"data_version": "STRING", "code_version": "STRING"}
STEP = {"recipe": "STRING", **VERSIONS}

COMPONENTS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "ingest": ({**STEP, "recordings": "STRING"}, {"clips": "Dataset", "metrics": "Metrics", "page": "HTML"}),
    "disentangle": ({**STEP, "clips": "Dataset"}, {"motions": "Dataset", "metrics": "Metrics"}),
    "pretrain": (
        {**STEP, "motions": "Dataset", "accelerator": "STRING", "nodes": "NUMBER_INTEGER = 1.0"},
        {"encoder": "Model", "metrics": "Metrics"},
    ),
    "linear-probe": (
        {**STEP, "motions": "Dataset", "encoder": "Model", "accelerator": "STRING"},
        {"classifier": "Model", "metrics": "Metrics", "confusion": "ClassificationMetrics"},
    ),
    "finetune": (
        {
            **STEP, "motions": "Dataset", "encoder": "Model", "accelerator": "STRING",
            "fraction": "NUMBER_DOUBLE", "seed": "NUMBER_INTEGER",
        },
        {"classifier": "Model", "metrics": "Metrics"},
    ),
    "gate": (
        {**STEP, "clips": "Dataset", "classifier": "Model", "accelerator": "STRING"},
        {"Output": "BOOLEAN", "verdict": "Artifact", "decision": "Markdown"},
    ),
    "report": (
        {
            **STEP, "clips": "Dataset", "motions": "Dataset", "encoder": "Model", "classifier": "Model",
            "finetuned": "Model[]", "verdict": "Artifact",
        },
        {"metrics": "Metrics", "page": "HTML"},
    ),
    "register": ({**STEP, "classifier": "Model", "verdict": "Artifact"}, {"Output": "STRING"}),
    "promote": ({**STEP, "version": "STRING", "verdict": "Artifact"}, {}),
    "finish": ({**STEP, "status": "TASK_FINAL_STATUS"}, {}),
    "check-for-new-data": (
        {"recordings": "STRING", "recipe": "STRING", "code_version": "STRING"},
        {"Output": "BOOLEAN", "recordings": "STRING", "recipe": "STRING", "data_version": "STRING"},
    ),
    "admit": ({**STEP, "clips": "Dataset"}, {}),
    "collect": ({"landing": "STRING", "recipe": "STRING", "into": "STRING"}, {"Output": "STRING"}),
    "compare-arms": (
        {**STEP, "encoders": "Model[]", "classifiers": "Model[]"},
        {"metrics": "Metrics", "table": "Markdown"},
    ),
}  # fmt: skip

TRIALS = "LIST = [{'fraction': 0.05, 'seed': 0.0}, {'fraction': 0.1, 'seed': 0.0}]"
PARAMETERS = {
    "training": {**STEP, "recordings": "STRING", "trials": TRIALS},
    "retraining": {"recordings": "STRING", "recipe": "STRING", "code_version": "STRING", "trials": TRIALS},
    "ablation": {**STEP, "recordings": "STRING", "arms": "LIST"},
    "collection": {"landing": "STRING", "recipe": "STRING", "into": "STRING"},
}


def training(recordings: str, recipe: str, data_version: str) -> dict[str, dict[str, str]]:
    """The origin of the inputs of a training's steps."""
    step = {"recipe": recipe, "data_version": data_version, "code_version": "code_version"}
    return {
        "ingest": {**step, "recordings": recordings},
        "disentangle": {**step, "clips": "ingest.clips"},
        "pretrain": {**step, "motions": "disentangle.motions", "accelerator": "accelerator", "nodes": "nodes"},
        "linear-probe": {
            **step, "motions": "disentangle.motions", "encoder": "pretrain.encoder", "accelerator": "'cpu'",
        },
        "finetune": {
            **step, "motions": "disentangle.motions", "encoder": "pretrain.encoder", "accelerator": "accelerator",
            "fraction": "trials[].fraction", "seed": "trials[].seed",
        },
        "gate": {**step, "clips": "ingest.clips", "classifier": "linear-probe.classifier", "accelerator": "'cpu'"},
        "report": {
            **step, "clips": "ingest.clips", "motions": "disentangle.motions", "encoder": "pretrain.encoder",
            "classifier": "linear-probe.classifier", "finetuned": "finetune.classifier[]", "verdict": "gate.verdict",
        },
        "register": {**step, "classifier": "linear-probe.classifier", "verdict": "gate.verdict"},
        "promote": {**step, "version": "register.Output", "verdict": "gate.verdict"},
    }  # fmt: skip


GIVEN = {"recipe": "recipe", "data_version": "data_version", "code_version": "code_version"}
NEWEST = {"recipe": "check-for-new-data.recipe", "data_version": "check-for-new-data.data_version"}
ARM = {**GIVEN, "recipe": "arms[].recipe"}
INPUTS = {
    "training": {
        **training("recordings", "recipe", "data_version"),
        "finish": {**GIVEN, "status": "status of run"},
    },
    "retraining": {
        **training("check-for-new-data.recordings", **NEWEST),
        "check-for-new-data": {"recordings": "recordings", "recipe": "recipe", "code_version": "code_version"},
        "admit": {**GIVEN, **NEWEST, "clips": "ingest.clips"},
        "finish": {**GIVEN, "data_version": "''", "status": "status of run"},
    },
    "ablation": {
        "ingest": {**GIVEN, "recordings": "recordings"},
        "disentangle": {**ARM, "clips": "ingest.clips"},
        "pretrain": {**ARM, "motions": "disentangle.motions", "accelerator": "accelerator"},
        "linear-probe": {
            **ARM, "motions": "disentangle.motions", "encoder": "pretrain.encoder", "accelerator": "'cpu'",
        },
        "compare-arms": {**GIVEN, "encoders": "pretrain.encoder[]", "classifiers": "linear-probe.classifier[]"},
        "finish": {**GIVEN, "status": "status of run"},
    },
    "collection": {"collect": {"landing": "landing", "recipe": "recipe", "into": "into"}},
}  # fmt: skip

# The groups around a task; those that are not listed lie in `run` alone (a retraining's: in `run` and `new-data`).
INSIDE: dict[str, dict[str, tuple[str, ...]]] = {
    "training": {"finetune": ("run", "labelled-fractions"), "promote": ("run", "better"), "finish": ()},
    "retraining": {
        "check-for-new-data": ("run",), "finish": (),
        "finetune": ("run", "new-data", "labelled-fractions"), "promote": ("run", "new-data", "better"),
    },
    "ablation": {"finish": (), **dict.fromkeys(("disentangle", "pretrain", "linear-probe"), ("run", "arms"))},
    "collection": {"collect": ()},
}  # fmt: skip
LOOP = Group("labelled-fractions", {"disentangle", "pretrain"}, items="trials", at_once=2)
BETTER = Group("better", {"gate", "register"}, condition="gate.Output == true")
NEW_DATA = Group("new-data", {"check-for-new-data"}, condition="check-for-new-data.Output == true")
RUN = Group("run", set())
GROUPS = {
    "training": [RUN, LOOP, BETTER],
    "retraining": [RUN, NEW_DATA, LOOP, BETTER],
    "ablation": [RUN, Group("arms", {"ingest"}, items="arms", at_once=2)],
    "collection": [],
}
AFTER = {"retraining": {"disentangle": {"admit"}}}  # beyond what gives a task its inputs

HOURS = {"ingest": 6, "disentangle": 6, "pretrain": 120, "linear-probe": 12, "finetune": 24, "gate": 12, "collect": 6}
LIGHT = {"ingest", "report", "register", "promote", "finish", "check-for-new-data", "admit", "collect", "compare-arms"}


@pytest.fixture(scope="module")
def gpu() -> Graph:
    return compiled("training", "gpu")


POD_NAMES = {
    "AWS_ACCESS_KEY_ID": "GLT_S3_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY": "GLT_S3_SECRET_ACCESS_KEY",
    "AWS_ENDPOINT_URL": "GLT_S3_ENDPOINT_URL", "AWS_DEFAULT_REGION": "GLT_S3_REGION",
    "MLFLOW_TRACKING_URI": "GLT_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME": "GLT_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD": "GLT_TRACKING_PASSWORD",
}  # fmt: skip

each_graph = pytest.mark.parametrize("graph", sorted(GRAPHS))


@each_graph
def test_a_graph_has_its_parameters(graph: str) -> None:
    for name, profile in PROFILES.items():
        found = compiled(graph, name)
        wanted = dict(PARAMETERS[graph])
        if graph != "collection":
            wanted["accelerator"] = f"STRING = {'cpu' if name in ('local', 'cpu') else 'gpu'}"
        if graph in ("training", "retraining"):
            wanted["nodes"] = f"NUMBER_INTEGER = {'2.0' if name == 'gpu-nodes' else '1.0'}"
        assert found.parameters == wanted, (graph, profile)
        assert found.spec["pipelineInfo"]["name"] == f"glt-{graph}"


@each_graph
def test_components_take_and_give_what_they_are_declared_to(graph: str) -> None:
    found = compiled(graph, "gpu")
    assert {name: found.component(name) for name in found.tasks} == {name: COMPONENTS[name] for name in INPUTS[graph]}


@each_graph
def test_a_cluster_shows_readable_step_names(graph: str) -> None:
    shown = {name: task.spec["taskInfo"]["name"] for name, task in compiled(graph, "gpu").tasks.items()}
    assert shown == {name: name.replace("-", " ").capitalize() for name in INPUTS[graph]}
    assert shown.get("check-for-new-data", "Check for new data") == "Check for new data"


@pytest.mark.parametrize("profile", sorted(PROFILES))
@each_graph
def test_every_input_comes_from_where_it_should(graph: str, profile: str) -> None:
    assert {name: task.inputs for name, task in compiled(graph, profile).tasks.items()} == INPUTS[graph]


@each_graph
def test_conditions_and_loops_hold_their_tasks(graph: str) -> None:
    found = compiled(graph, "gpu")
    assert sorted(found.groups.values(), key=str) == sorted(GROUPS[graph], key=str)
    usual = ("run", "new-data") if graph == "retraining" else ("run",)
    assert {name: task.inside for name, task in found.tasks.items()} == {
        name: INSIDE[graph].get(name, usual) for name in INPUTS[graph]
    }


@each_graph
def test_a_task_waits_for_what_gives_its_inputs(graph: str) -> None:
    found = compiled(graph, "gpu")
    for name, task in found.tasks.items():
        givers = {source.partition(".")[0] for source in task.inputs.values() if "." in source and "[]." not in source}
        beside = {
            next((one for one in [*found.tasks[giver].inside, giver] if one not in task.inside), giver)
            for giver in givers
            if found.tasks[giver].inside[: len(task.inside)] == task.inside
        }
        beside |= AFTER.get(graph, {}).get(name, set())
        assert task.after == (beside if name != "finish" else {"run"}), name


@each_graph
def test_the_last_step_runs_whatever_happened_before(graph: str) -> None:
    policies = {
        name: task.spec["triggerPolicy"]["strategy"]
        for name, task in compiled(graph, "gpu").tasks.items()
        if "triggerPolicy" in task.spec
    }
    assert policies == ({"finish": "ALL_UPSTREAM_TASKS_COMPLETED"} if graph != "collection" else {})


@pytest.mark.parametrize("profile", sorted(PROFILES))
@each_graph
def test_decisions_are_never_cached(graph: str, profile: str) -> None:
    found = compiled(graph, profile)
    assert {name for name, task in found.tasks.items() if task.cached} == CACHED & found.tasks.keys()


def test_what_varies_by_run_is_no_input(gpu: Graph) -> None:
    assert not any("run_id" in name for task in gpu.tasks.values() for name in task.inputs)


@pytest.mark.parametrize("profile", CLUSTER)
@each_graph
def test_a_failed_step_is_tried_again_and_a_training_whenever_it_loses_its_pod(graph: str, profile: str) -> None:
    found = compiled(graph, profile)
    for name, task in found.tasks.items():
        policy = task.spec["retryPolicy"]
        assert policy["maxRetryCount"] == (10 if name in TRAIN else 2), name
        # Argo's maxDuration counts from the start of the first attempt and is the deadline of all later ones.
        assert policy["backoffFactor"] == 1, name  # else the pauses add up to more
        assert policy["backoffDuration"] == "60s", name
        attempts, timeout = policy["maxRetryCount"] + 1, int(found.platform[name]["activeDeadlineSeconds"])
        window = int(policy["backoffMaxDuration"].removesuffix("s"))
        assert window >= (attempts + 1) * timeout + policy["maxRetryCount"] * 60, name


@pytest.mark.parametrize("profile", CLUSTER)
@each_graph
def test_every_step_has_its_time_and_size(graph: str, profile: str) -> None:
    found = compiled(graph, profile)
    assert found.containers.keys() == found.platform.keys() == INPUTS[graph].keys()
    for name, container in found.containers.items():
        waits = profile == "gpu-nodes" and name == "pretrain" and graph != "ablation"
        cpu, memory = ("1", "4Gi") if name in LIGHT or waits else ("8", "16Gi" if profile == "cpu" else "32Gi")
        resources = container["resources"]
        assert (resources["resourceCpuRequest"], resources["resourceCpuLimit"]) == (cpu, cpu), name
        assert (resources["resourceMemoryRequest"], resources["resourceMemoryLimit"]) == (memory, memory), name
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        assert environment == {"GLT_IMAGE": IMAGE, "OMP_NUM_THREADS": cpu}, name
        assert int(found.platform[name]["activeDeadlineSeconds"]) == HOURS.get(name, 1) * 3600, name


@each_graph
def test_a_step_is_its_function_in_the_image_and_installs_nothing(graph: str) -> None:
    for name, container in compiled(graph, "gpu").containers.items():
        function = name.replace("-", "_")
        assert container["image"] == IMAGE
        assert container["args"] == ["--executor_input", "{{$}}", "--function_to_execute", function]
        *command, source = container["command"]
        assert f"def {function}(" in source
        assert "executor_main" in command[-1]
        assert "pip" not in " ".join(command)


@pytest.mark.parametrize("profile", CLUSTER)
@each_graph
def test_a_gpu_is_asked_for_where_it_trains_and_nowhere_else(graph: str, profile: str) -> None:
    found = compiled(graph, profile)
    asks = TRAIN if profile != "cpu" else set()
    if profile == "gpu-nodes" and graph != "ablation":
        asks = {"finetune"}  # pretrain waits for its nodes
    for name in found.tasks:
        resources, platform = found.containers[name]["resources"], found.platform[name]
        if name in asks:
            accelerator = resources["accelerator"]
            assert (accelerator["resourceType"], accelerator["resourceCount"]) == ("nvidia.com/gpu", "1"), name
            assert platform["nodeSelector"]["labels"] == {"nvidia.com/gpu.present": "true"}, name
            (toleration,) = platform["tolerations"]
            wanted: dict[str, str] = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
            assert toleration == wanted, name
            (mount,) = platform["emptyDirMounts"]
            assert mount == {
                "volumeName": "shared-memory", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "8Gi",
            }, name  # fmt: skip
        else:
            assert "accelerator" not in resources, name
            assert not {"nodeSelector", "tolerations", "emptyDirMounts"} & platform.keys(), name


@pytest.mark.parametrize("profile", CLUSTER)
@each_graph
def test_every_pod_reaches_the_servers_and_knows_its_run(graph: str, profile: str) -> None:
    """Names of Secrets and ConfigMaps, which of them may be missing, and the variables that the pod has of them."""

    def secret(name: str, *keys: str, optional: bool) -> dict[str, Any]:
        pairs = [{"secretKey": key, "envVar": POD_NAMES.get(key, key)} for key in keys]
        parameter = {"runtimeValue": {"constant": name}}
        return {"secretName": name, "secretNameParameter": parameter, "keyToEnv": pairs, "optional": optional}

    def config_map(*keys: str, optional: bool, name: str = "glt-tracking") -> dict[str, Any]:
        pairs = [{"configMapKey": key, "envVar": POD_NAMES.get(key, key)} for key in keys]
        parameter = {"runtimeValue": {"constant": name}}
        return {
            "configMapName": name, "configMapNameParameter": parameter, "keyToEnv": pairs, "optional": optional,
        }  # fmt: skip

    signing = secret("glt-signing-key", "GLT_SIGNING_KEY", optional=True)

    for name, platform in compiled(graph, profile).platform.items():
        assert platform["fieldPathAsEnv"] == [{"name": "GLT_RUN_ID", "fieldPath": "metadata.labels['pipeline/runid']"}]
        assert platform["secretAsEnv"] == [
            secret("glt-object-store", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", optional=False),
            secret("glt-mlflow", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", optional=True),
            secret("glt-git", "GLT_GIT_USER", "GLT_GIT_TOKEN", "GLT_GIT_HOST", optional=True),
            *([signing] if name == "register" else []),  # no other step can sign a model
        ], name
        assert platform["configMapAsEnv"] == [
            config_map("MLFLOW_TRACKING_URI", optional=False),
            config_map(
                *("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "GLT_LOCKS"),
                *("GLT_MLFLOW_ADDRESS", "GLT_CPU_HOUR_PRICE", "GLT_GPU_HOUR_PRICE", "GLT_CURRENCY"),
                optional=True,
            ),
            config_map("GLT_VERIFYING_KEYS", optional=True, name="glt-verifying-keys"),
        ], name
        mounts = [(mount["constant"], mount["mountPath"]) for mount in platform.get("pvcMount", ())]
        assert mounts == ([("glt-checkpoints", "/tmp/glt/checkpoints")] if name in TRAIN else []), name
        assert platform["securityContext"] == {"runAsNonRoot": True}, name
        known = {"activeDeadlineSeconds", "fieldPathAsEnv", "secretAsEnv", "configMapAsEnv", "pvcMount"}
        known |= {"securityContext"}
        assert platform.keys() <= known | {"nodeSelector", "tolerations", "emptyDirMounts"}, name


@each_graph
def test_a_laptop_is_asked_for_nothing_of_a_cluster(graph: str) -> None:
    found = compiled(graph, "local")
    assert not found.platform
    assert not any("resources" in container or "env" in container for container in found.containers.values())
    assert not any(task.spec.get("retryPolicy", {}).get("maxRetryCount") for task in found.tasks.values())


def test_kfp_still_learns_which_setter_was_called() -> None:
    """tests/conftest.py answers for `inspect.stack`, which KFP asks."""

    @dsl.pipeline(name="outer")
    def outer():  # no annotation: KFP reads it, and it is text in this module
        imported = dsl.importer(artifact_uri="s3://bucket/object", artifact_class=dsl.Dataset)
        with pytest.raises(ValueError, match=r"^set_cpu_limit can only be used on single-step components"):
            imported.set_cpu_limit("1")

    assert outer.component_spec is not None
