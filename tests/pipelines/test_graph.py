"""What is compiled for a cluster: held to a golden file, and to the facts that outlive its renewal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler

from pipelines.graphs import GRAPHS
from pipelines.profiles import PROFILES

STEPS = {
    "ingest", "disentangle", "pretrain", "linear-probe", "finetune",
    "gate", "report", "register", "promote", "finish",
}  # fmt: skip
TRAIN = {"pretrain", "finetune"}
EVERY_TIME = {"gate", "report", "register", "promote", "finish"}
ABLATION = {"ingest", "disentangle", "pretrain", "linear-probe", "compare-arms", "finish"}


def compiled(folder: Path, profile: str, graph: str = "training") -> tuple[dict[str, Any], dict[str, Any]]:
    """The pipeline spec and the executors' Kubernetes settings."""
    path = folder / f"{graph}-{profile}.yaml"
    compiler.Compiler().compile(GRAPHS[graph](profile), str(path))
    documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    platform = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if len(documents) > 1 else {}
    return documents[0], {name.removeprefix("exec-"): settings for name, settings in platform.items()}


def tasks(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """All tasks of the graph, those inside loops and conditions too."""
    dags = [spec["root"], *spec["components"].values()]
    return {name: task for dag in dags for name, task in dag.get("dag", {}).get("tasks", {}).items()}


@pytest.fixture(scope="module")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    return compiled(tmp_path_factory.mktemp("graph"), "gpu")


@pytest.mark.parametrize("graph", GRAPHS)
def test_graph_is_the_golden_one(tmp_path: Path, graph: str) -> None:
    path, golden = tmp_path / f"{graph}.yaml", Path(__file__).parent / f"{graph}.golden.yaml"
    compiler.Compiler().compile(GRAPHS[graph]("gpu"), str(path))
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    body = "".join(line for line in lines if not line.startswith("#"))  # KFP's comments change with the hash seed
    if os.environ.get("GOLDEN") == "renew":
        golden.write_text(body, encoding="utf-8")
    assert body == golden.read_text(encoding="utf-8"), (
        "the compiled graph changed; if that is meant, run GOLDEN=renew make test and commit the golden file"
    )


def test_every_step_is_there_and_bounded(gpu: tuple[dict[str, Any], dict[str, Any]]) -> None:
    spec, platform = gpu
    executors = {n.removeprefix("exec-"): e["container"] for n, e in spec["deploymentSpec"]["executors"].items()}
    assert executors.keys() == STEPS
    for name, container in executors.items():
        resources = container["resources"]
        assert resources["resourceCpuLimit"] == resources["resourceCpuRequest"], name
        assert resources["resourceMemoryLimit"] == resources["resourceMemoryRequest"], name
        assert int(platform[name]["activeDeadlineSeconds"]) > 0, name
    for name in STEPS:
        assert tasks(spec)[name]["retryPolicy"]["maxRetryCount"] == (10 if name in TRAIN else 2), name


def test_gpu_is_asked_for_where_it_trains_and_nowhere_else(gpu: tuple[dict[str, Any], dict[str, Any]]) -> None:
    spec, platform = gpu
    for name in STEPS:
        resources = spec["deploymentSpec"]["executors"][f"exec-{name}"]["container"]["resources"]
        assert ("accelerator" in resources) == (name in TRAIN), name
        assert ("nodeSelector" in platform[name]) == (name in TRAIN), name
        assert ("tolerations" in platform[name]) == (name in TRAIN), name
        mounts = [mount["mountPath"] for mount in platform[name].get("emptyDirMounts", [])]
        assert mounts == (["/dev/shm"] if name in TRAIN else []), name


def test_cpu_profile_asks_for_no_gpu(tmp_path: Path) -> None:
    spec, platform = compiled(tmp_path, "cpu")
    executors = spec["deploymentSpec"]["executors"].values()
    assert not any("accelerator" in executor["container"]["resources"] for executor in executors)
    assert all("nodeSelector" not in settings for settings in platform.values())
    assert spec["root"]["inputDefinitions"]["parameters"]["accelerator"]["defaultValue"] == "cpu"


def test_a_step_that_waits_for_nodes_asks_for_no_gpu_of_its_own(tmp_path: Path) -> None:
    spec, platform = compiled(tmp_path, "gpu-nodes")
    container = spec["deploymentSpec"]["executors"]["exec-pretrain"]["container"]
    assert "accelerator" not in container["resources"]
    assert container["resources"]["resourceCpuLimit"] == PROFILES["gpu-nodes"].light[0]
    assert "nodeSelector" not in platform["pretrain"]
    assert platform["pretrain"]["pvcMount"] == platform["finetune"]["pvcMount"]
    assert {"name": "GLT_IMAGE", "value": container["image"]} in container["env"]  # what its nodes run
    assert "accelerator" in spec["deploymentSpec"]["executors"]["exec-finetune"]["container"]["resources"]
    assert spec["root"]["inputDefinitions"]["parameters"]["nodes"]["defaultValue"] == 2
    assert tasks(spec)["pretrain"]["inputs"]["parameters"]["nodes"]


@pytest.mark.parametrize("profile", ["cpu", "gpu", "gpu-nodes"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_the_retry_window_holds_every_attempt_at_its_full_length(tmp_path: Path, graph: str, profile: str) -> None:
    # Argo's maxDuration counts from the start of the first attempt and is the deadline of all later ones.
    spec, platform = compiled(tmp_path, profile, graph)
    retried = {name: task for name, task in tasks(spec).items() if name in platform}
    assert retried.keys() == platform.keys()
    for name, task in retried.items():
        policy = task["retryPolicy"]
        attempts, timeout = policy["maxRetryCount"] + 1, int(platform[name]["activeDeadlineSeconds"])
        pauses = policy["maxRetryCount"] * int(policy["backoffDuration"].removesuffix("s"))
        assert attempts > 1, name
        assert policy["backoffFactor"] == 1, name  # else the pauses add up to more
        assert int(policy["backoffMaxDuration"].removesuffix("s")) >= (attempts + 1) * timeout + pauses, name


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_decisions_are_never_cached(tmp_path: Path, profile: str) -> None:
    spec, _ = compiled(tmp_path, profile)
    found = tasks(spec)
    cached = {name for name in STEPS if found[name].get("cachingOptions", {}).get("enableCache")}
    assert cached == STEPS - EVERY_TIME


def test_every_step_knows_data_and_code_version(gpu: tuple[dict[str, Any], dict[str, Any]]) -> None:
    found = tasks(gpu[0])
    for name in STEPS:
        assert {"data_version", "code_version"} <= found[name]["inputs"]["parameters"].keys(), name
    assert not any("run_id" in parameter for name in STEPS for parameter in found[name]["inputs"]["parameters"])


def test_run_is_closed_whatever_happens(gpu: tuple[dict[str, Any], dict[str, Any]]) -> None:
    end = gpu[0]["root"]["dag"]["tasks"]["finish"]
    assert end["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"


def test_promotion_hangs_on_the_verdict(gpu: tuple[dict[str, Any], dict[str, Any]]) -> None:
    condition = next(t for n, t in tasks(gpu[0]).items() if n.startswith("condition"))
    assert "gate-Output'] == true" in condition["triggerPolicy"]["condition"]


def test_a_study_trains_its_arms_in_one_loop_and_compares_them_all(tmp_path: Path) -> None:
    spec, platform = compiled(tmp_path, "gpu", "ablation")
    assert {name.removeprefix("exec-") for name in spec["deploymentSpec"]["executors"]} == ABLATION
    found = tasks(spec)
    (loop,) = (task for task in found.values() if "parameterIterator" in task)
    assert loop["iteratorPolicy"]["parallelismLimit"] == 2
    inside = spec["components"][loop["componentRef"]["name"]]["dag"]["tasks"]
    assert inside.keys() == {"disentangle", "pretrain", "linear-probe"}
    assert {task["cachingOptions"].get("enableCache") for task in inside.values()} == {True}
    assert not found["compare-arms"].get("cachingOptions", {}).get("enableCache")
    asks = {name for name in ABLATION if "nodeSelector" in platform[name]}
    assert asks == {"pretrain"}
    end = spec["root"]["dag"]["tasks"]["finish"]
    assert end["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"


def test_a_retraining_checks_for_new_data_first_and_trains_only_on_new_data(tmp_path: Path) -> None:
    spec, platform = compiled(tmp_path, "gpu", "retraining")
    assert {name.removeprefix("exec-") for name in spec["deploymentSpec"]["executors"]} == STEPS | {
        "check-for-new-data",
        "admit",
    }
    found = tasks(spec)
    when = "check-for-new-data-Output'] == true"
    (condition,) = (task for task in found.values() if when in task.get("triggerPolicy", {}).get("condition", ""))
    inside = spec["components"][condition["componentRef"]["name"]]["dag"]["tasks"]
    assert STEPS - {"finetune", "promote", "finish"} <= inside.keys()
    assert "admit" in inside["disentangle"]["dependentTasks"]
    assert not inside["admit"].get("cachingOptions", {}).get("enableCache")
    assert not found["check-for-new-data"].get("cachingOptions", {}).get("enableCache")
    for name in ("ingest", "pretrain", "register"):  # their inputs are outputs of `check_for_new_data`
        given = inside[name]["inputs"]["parameters"]
        assert {given["recipe"]["componentInputParameter"], given["data_version"]["componentInputParameter"]} == {
            "pipelinechannel--check-for-new-data-recipe",
            "pipelinechannel--check-for-new-data-data_version",
        }
    assert {name for name in platform if "nodeSelector" in platform[name]} == TRAIN
    assert found["finish"]["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
