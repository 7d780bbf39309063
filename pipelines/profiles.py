"""Accelerator profiles: the resources of each step, fixed when the graph is compiled.

A project adds its own, or changes ours, in infra/profiles.yaml.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from kfp import kubernetes
from kfp.dsl import PipelineTask
from pydantic import Field, TypeAdapter, ValidationError

from components import IMAGE
from glt import settings, yaml_text
from glt.errors import GltError
from glt.recipe.section import NAME, problems, suggestion
from pipelines.profile import Profile, Size

PROFILES = {
    "local": Profile(accelerator="cpu", retries=0, on_cluster=False),
    "cpu": Profile(accelerator="cpu", heavy=Size("8", "16Gi")),
    "gpu": Profile(accelerator="gpu", heavy=Size("8", "32Gi")),
    "gpu-nodes": Profile(accelerator="gpu", heavy=Size("8", "32Gi"), nodes=2),
}
FILE = Path("infra", "profiles.yaml")  # of the project in the working directory

GPU_RESOURCE = "nvidia.com/gpu"
GPU_NODE_LABEL = ("nvidia.com/gpu.present", "true")
SHARED_MEMORY = "8Gi"
CHECKPOINTS = "/tmp/glt/checkpoints"  # GLT_HOME of the image, and what a step keeps there
TRACKING, STORES = settings.TRACKING_URI, (settings.OBJECT_STORE, settings.REGION, settings.LOCKS)
REPORTED = (settings.MLFLOW_ADDRESS, settings.CPU_HOUR_PRICE, settings.GPU_HOUR_PRICE, settings.CURRENCY)
HOUR = 3600
PAUSE = 60  # seconds before a retry


def find(name: str) -> Profile:
    """A profile by name: ours, as infra/profiles.yaml changes it, or one of that file.

    Raises:
        GltError: there is none of that name, or the file is wrong.
    """
    known = PROFILES | _read(FILE.resolve())
    if name in known:
        return known[name]
    meant = suggestion(name, known)
    offered = ", ".join(one for one in known if known[one].on_cluster)
    raise GltError(
        f"accelerator profile {name!r:.80}: take one of {offered}, or add it to {FILE}"
        + (f"; {meant}" if meant else "")
    )


@cache
def _read(file: Path) -> dict[str, Profile]:
    """The profiles of a file, each with its own fields over those of the one of ours that it extends."""
    if not file.exists():
        return {}
    origin = f"profiles {FILE}"
    declared = yaml_text.load(yaml_text.read(file, origin), origin)
    try:
        entries = _ENTRIES.validate_python(declared or {})
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"][:1])) or "file"
        raise GltError(
            f"{origin}: {where}: not a profile; give a lower-case name with a section of fields "
            "(docs/operate.md#accelerator-profiles)"
        ) from error
    profiles = {}
    for name, fields in entries.items():
        ours = [one for one, profile in PROFILES.items() if profile.on_cluster]
        extended = fields.pop("extends", name)
        if name == "local" or extended not in ours:
            raise GltError(
                f"{origin}: {name}: extends: name the profile to start from, one of {', '.join(ours)}, "
                "which are glt's own"
            )
        if "on_cluster" in fields:
            raise GltError(
                f"{origin}: {name}: on_cluster: all profiles of this file are for a cluster; remove the line"
            )
        try:
            profiles[name] = Profile.model_validate(PROFILES[extended].model_dump() | fields)
        except ValidationError as error:
            raise GltError(f"{origin}: {name}: {problems(error, Profile, 'profile')}") from error
    return profiles


_ENTRIES = TypeAdapter(dict[Annotated[str, Field(pattern=NAME, max_length=40)], dict[str, Any]])


def set_light(task: PipelineTask, profile: Profile, *, cached: bool = True, hours: float = 1) -> PipelineTask:
    """Set the resources of a step that reads, writes or decides."""
    return _common(task, profile, profile.light, cached, hours)


def set_heavy(task: PipelineTask, profile: Profile, *, hours: float, cached: bool = True) -> PipelineTask:
    """Set the resources of a step that computes on a CPU, whatever the profile."""
    return _common(task, profile, profile.heavy, cached, hours)


def set_registering(task: PipelineTask, profile: Profile) -> PipelineTask:
    """Set the resources of the step that registers; no other step holds the key that signs models."""
    set_light(task, profile, cached=False)
    if profile.on_cluster:
        private = {settings.SIGNING_KEY: settings.SIGNING_KEY}
        kubernetes.use_secret_as_env(task, "glt-signing-key", private, optional=True)
    return task


def set_training(task: PipelineTask, profile: Profile, *, hours: float, nodes: int = 1) -> PipelineTask:
    """Set the resources of a step that trains: a GPU if the profile has one, and checkpoints that outlive its pod.

    With several `nodes` the step only waits for their TrainJob, so it gets the resources of a light step.
    """
    _common(task, profile, profile.heavy if nodes == 1 else profile.light, True, hours)
    if not profile.on_cluster:
        return task
    _limit(task, profile.retries + profile.interruptions, hours)
    kubernetes.mount_pvc(task, pvc_name="glt-checkpoints", mount_path=CHECKPOINTS)
    if nodes > 1 and profile.pod_labels:
        task.set_env_variable(settings.JOB_LABELS, json.dumps(profile.pod_labels, sort_keys=True))
    if profile.accelerator == "gpu" and nodes == 1:
        task.set_accelerator_type(GPU_RESOURCE).set_accelerator_limit(1)
        kubernetes.add_node_selector(task, *GPU_NODE_LABEL)
        kubernetes.add_toleration(task, key=GPU_RESOURCE, operator="Exists", effect="NoSchedule")
        kubernetes.empty_dir_mount(
            task, volume_name="shared-memory", mount_path="/dev/shm", medium="Memory", size_limit=SHARED_MEMORY
        )
    return task


def _common(task: PipelineTask, profile: Profile, size: Size, cached: bool, hours: float) -> PipelineTask:
    cpu, memory = size
    if not cached:
        task.set_caching_options(False)
    if not profile.on_cluster:
        return task
    task.set_display_name(task.name.replace("-", " ").capitalize())
    task.set_cpu_request(cpu).set_cpu_limit(cpu).set_memory_request(memory).set_memory_limit(memory)
    task.set_env_variable(settings.IMAGE, IMAGE)
    task.set_env_variable("OMP_NUM_THREADS", cpu)  # torch counts the node's cores, not the pod's
    _limit(task, profile.retries, hours)
    # The Pod Security Standard `restricted` asks for this; KFP 2.17 sets the rest (argocompiler/security_context.go).
    kubernetes.set_security_context(task, run_as_non_root=True)
    for key, value in profile.pod_labels.items():
        kubernetes.add_pod_label(task, key, value)
    if profile.pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(profile.pull_secrets))
    kubernetes.use_field_path_as_env(task, env_name=settings.RUN_ID, field_path="metadata.labels['pipeline/runid']")
    kubernetes.use_config_map_as_env(task, "glt-tracking", _variables(TRACKING))
    kubernetes.use_config_map_as_env(task, "glt-tracking", _variables(*STORES, *REPORTED), optional=True)
    kubernetes.use_secret_as_env(task, "glt-object-store", _variables("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
    account = _variables("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    kubernetes.use_secret_as_env(task, "glt-mlflow", account, optional=True)
    repository = _variables(settings.GIT_USER, settings.GIT_TOKEN, settings.GIT_HOST)
    kubernetes.use_secret_as_env(task, "glt-git", repository, optional=True)
    public = _variables(settings.VERIFYING_KEYS)
    kubernetes.use_config_map_as_env(task, "glt-verifying-keys", public, optional=True)
    return task


def _variables(*keys: str) -> dict[str, str]:
    """The variable that a pod has for each key of a Secret or ConfigMap: no name that Kubeflow's launcher reads."""
    return {key: settings.pod_variable(key) for key in keys}


def _limit(task: PipelineTask, retries: int, hours: float) -> None:
    """Limit each attempt to so many hours, and retry a failed one after a minute.

    `backoff_max_duration` becomes Argo's `retryStrategy.backoff.maxDuration`: not the longest pause, but a window since
    the start of the first attempt, after which no attempt starts and the running one is stopped. So it holds all
    attempts at their full length, their pauses, and as much again as one attempt for pods that wait for a node.
    """
    attempts, timeout = retries + 1, int(hours * HOUR)
    window = (attempts + 1) * timeout + retries * PAUSE
    kubernetes.set_timeout(task, timeout)
    task.set_retry(retries, backoff_duration=f"{PAUSE}s", backoff_factor=1, backoff_max_duration=f"{window}s")
