"""Rules on whole runs: names, sizes, loops, the exit step, the states at the end."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from packaging.version import Version

from glt import recipe
from glt.errors import GltError
from glt.lifecycle import tracking
from glt.lifecycle.kubeflow import LEAST
from glt.recipe import study
from glt.steps.finish import outcome
from pipelines import parameters
from tests.cluster.pods import DNS_LABEL
from tests.cluster.rule import ARGO, COMPILER, DRIVER, KFP, Breaches, of_graphs, of_steps
from tests.pipelines.compiled import Graph, Task

ARGUMENT = 131_072  # bytes of one argument of a program: Linux' MAX_ARG_STRLEN
FOLDER = Path(recipe.__file__).parents[1]
# MLMD's, in which a good run may end, and those of the local runner. A run may also arrive as RUNNING: its state is
# computed anew only when a launcher ends.
GOOD_ENDS = ("COMPLETE", "CACHED", "RUNNING", "SUCCEEDED")
BAD_ENDS = ("FAILED",)
ALL_STATES = (
    *GOOD_ENDS,
    *BAD_ENDS,
    "UNKNOWN",
    "NEW",
    "CANCELED",
    "CANCELLED",
    "SKIPPED",
    "LAST_KNOWN_STATE_UNSPECIFIED",
)


@of_graphs(
    "The pipeline's name, with what KFP and Argo add to it, is a label's value of at most 63 characters",
    f"{KFP} {COMPILER}/argo.go, GenerateName; backend/src/crd/controller/scheduledworkflow/util",
)
def pipeline_name(graph: Graph) -> Breaches:
    name = graph.spec["pipelineInfo"]["name"]
    if not DNS_LABEL.fullmatch(name) or len(name) > 63 - len("-12345-1234567890"):
        yield f"pipeline {name}"


@of_graphs(
    "The exit step gets the status of its one predecessor, and nothing that a failed step would have made",
    f"{KFP} {DRIVER}/resolve.go, TaskFinalStatus; {COMPILER}/dag.go, exit hooks",
)
def exit_step(graph: Graph) -> Breaches:
    for name, task in graph.tasks.items():
        if "triggerPolicy" not in task.spec or task.inside:
            continue
        statuses = [one for one in task.inputs.values() if one.startswith("status of ")]
        if len(task.after) != 1 or statuses != [f"status of {next(iter(task.after), '')}"]:
            yield f"{name}: the status is that of its one predecessor, not of {', '.join(statuses) or 'nothing'}"
        outputs = [one for one in task.inputs.values() if "." in one.partition("'")[0] and one not in statuses]
        yield from (f"{name}: {one} may not exist" for one in outputs)
        if task.spec["triggerPolicy"].get("strategy") != "ALL_UPSTREAM_TASKS_COMPLETED":
            yield f"{name}: does not run after a failure"
    for name, task in graph.tasks.items():
        if any(one.startswith("status of ") for one in task.inputs.values()) and task.inside:
            yield f"{name}: only the exit step of a run gets a status"


@of_steps(
    "What the driver is given as one argument stays below half of 131,072 bytes, the other half for its inputs",
    f"{KFP} {COMPILER}/container.go, addContainerDriverTemplate; {ARGO} cmd/argoexec/commands/emissary.go",
)
def argument_sizes(graph: Graph, name: str, task: Task) -> Breaches:
    parts: dict[str, Any] = {
        "component": graph.spec["components"][task.spec["componentRef"]["name"]],
        "container": graph.containers[name],
        "kubernetes_config": graph.platform[name],
        "task": task.spec,
    }
    for part, content in parts.items():
        if (size := len(json.dumps(content).encode())) > ARGUMENT // 2:
            yield f"{part} has {size} bytes"


@of_graphs(
    "The Workflow fits into etcd with the states of its steps: at most 500 kB as compiled",
    f"{ARGO} workflow/packer/packer.go; {KFP} {COMPILER}/argo.go",
)
def workflow_size(graph: Graph) -> Breaches:
    size = len(json.dumps([graph.spec, graph.platform]).encode())
    if size > 500_000:
        yield f"{size} bytes"


@cache
def submitted() -> dict[str, dict[str, dict[str, Any]]]:
    """The parameters of our studies and recipes, by the parameter that a graph has for them."""
    studies = {file.stem: study.load(file.stem) for file in (FOLDER / "studies").glob("*.yaml")}
    recipes = {file.stem: recipe.load(file.stem) for file in (FOLDER / "recipes").glob("*.yaml")}
    return {
        "arms": {
            name: {"arms": study.items(one.recipes()), "recipe": one.base.to_json()} for name, one in studies.items()
        },
        "recipe": {name: {"recipe": one.to_json()} for name, one in recipes.items()},
    }


@of_graphs(
    "All parameters of a run are one argument of the driver, and what a loop collects is one of the launcher: with any "
    "study or recipe of ours both stay below 131,072 bytes, and what is larger is refused before it is submitted",
    f"{KFP} {COMPILER}/dag.go, {DRIVER}/driver.go, backend/src/v2/metadata/client.go; "
    f"{ARGO} cmd/argoexec/commands/emissary.go",
)
def parameter_sizes(graph: Graph) -> Breaches:
    given = graph.spec["root"]["inputDefinitions"]["parameters"]
    defaults = {name: one.get("defaultValue", "") for name, one in given.items()}
    for name, values in submitted()["arms" if "arms" in given else "recipe"].items():
        try:
            parameters.check_size(graph.spec["pipelineInfo"]["name"], defaults | values)
        except GltError as error:
            yield f"{name}: {error}"
    if max(parameters.LIMIT, *(_collected(graph, task) for task in graph.tasks.values())) > ARGUMENT - 10_000:
        yield f"a limit of {parameters.LIMIT} bytes leaves nothing for what KFP adds"


def _collected(graph: Graph, task: Task) -> int:
    """Bytes of the artifacts that a step collects from as many items as may be submitted."""
    items = "arms" if "arms" in graph.parameters else "trials"
    most = parameters.LIMIT // (parameters.COLLECTED[items] * parameters.ARTIFACT)
    name, root = graph.spec["pipelineInfo"]["name"], "s3://mlpipeline-of-a-team/private-artifacts/kubeflow-user-name"
    where = {"accessKeyKey": "accesskey", "disableSSL": "true", "endpoint": "seaweedfs.kubeflow:9000"}
    where |= {
        "fromEnv": "false",
        "region": "minio",
        "secretKeyKey": "secretkey",
        "secretName": "mlpipeline-minio-artifact",
    }
    uri = f"{root}/v2/artifacts/{name}/{uuid4()}/{task.name}/{uuid4()}/classifier"
    store = json.dumps({"Provider": "minio", "Params": where})
    metadata = {"display_name": "classifier", "store_session_info": store}
    artifact = {"name": "9" * 10, "type": {"schemaTitle": "system.Model"}, "uri": uri, "metadata": metadata}
    return most * len(json.dumps(artifact)) * sum(origin.endswith("[]") for origin in task.inputs.values())


@of_graphs(
    "A loop inside an exit handler needs a server of 2.16.0, and so does runAsNonRoot; older ones are refused",
    f"{KFP} {DRIVER}/dag.go (kubeflow/pipelines#12390, #13321), {DRIVER}/k8s.go (#12832)",
)
def least_server(graph: Graph) -> Breaches:
    for name, group in graph.groups.items():
        around = {outer for task in graph.tasks.values() if name in task.inside for outer in task.inside}
        if group.items and "run" in around and Version("2.16.0") > LEAST:
            yield f"the loop {name} fails on {LEAST}"
        if group.items and sum(bool(graph.groups[outer].items) for outer in around if outer in graph.groups) > 1:
            yield f"the loop {name} is inside or around another one, which nobody has looked at"


@of_graphs(
    "A run whose steps all finished ends as FINISHED, unless Kubeflow Pipelines reports FAILED; a run without its last "
    "steps never ends as FINISHED",
    f"{KFP} {DRIVER}/resolve.go, TaskFinalStatus; third_party/ml-metadata/ml_metadata/proto/metadata_store.proto",
)
def final_states(graph: Graph) -> Breaches:
    if "finish" not in graph.tasks:
        return
    names = [name.replace("-", "_") for name in graph.tasks if name != "finish"]
    runs = [_run(name, index) for index, name in enumerate(names)]
    for state in ALL_STATES:
        ended = outcome(state, runs, {})[0]
        if ended != ("FAILED" if state in BAD_ENDS else "FINISHED"):
            yield f"{state} with all steps: {ended}"
        if outcome(state, [_run("ingest", 0)], {})[0] == "FINISHED":
            yield f"{state} after the first step: FINISHED"


def _run(step: str, time: int) -> Any:
    """A finished MLflow run of a step."""
    data = SimpleNamespace(tags={tracking.STEP: step}, metrics={"gate/passed": 1.0})
    return SimpleNamespace(info=SimpleNamespace(status="FINISHED", start_time=time), data=data)
