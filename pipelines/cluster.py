"""Runs and schedules on a Kubeflow Pipelines server, which KF_PIPELINES_ENDPOINT, _TOKEN and _NAMESPACE name."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import kfp
from kfp import compiler
from kfp_server_api import ApiException, V2beta1RecurringRun
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from urllib3.exceptions import HTTPError

from glt import yaml_text
from glt.errors import GltError, wrap_errors
from glt.lifecycle import sources
from glt.lifecycle.code_version import current_code_version
from glt.recipe import Section, load
from pipelines.graphs import GRAPHS

EXPERIMENT = "schedules"  # on the server; all recurring runs in it are ours
_OURS = re.compile(r"glt schedule (?P<digest>[0-9a-f]{16})")
_PAGE = 100  # recurring runs


def _six_fields(cron: str) -> str:
    if len(cron.split()) != 6:
        raise ValueError("cron: 6 fields, the first of them seconds, as `0 0 3 * * 1` for Mondays at three")
    return cron


class Schedule(Section):
    """A recurring run: one at a time, and starts that were missed meanwhile are not made up for."""

    graph: Literal["retraining", "collection"]
    cron: Annotated[str, AfterValidator(_six_fields)] = Field(
        description="seconds, minutes, hours, day, month, weekday"
    )
    parameters: dict[str, Any] = Field(description="of the graph; `code_version` is filled in")
    profile: Literal["gpu", "gpu-nodes", "cpu"] = "gpu"
    enabled: bool = True


@dataclass(frozen=True)
class Change:
    """A change of one schedule on the server, and its reason."""

    action: Literal["create", "replace", "delete"]
    name: str
    reason: str


def submit(graph: str, recordings: str, recipe: str, profile: str, nodes: int | None = None) -> str:
    """Start a run; returns its id.

    Args:
        graph: training or retraining.
        recordings: ``s3://bucket/prefix`` or ``dvc+<git repository>@<revision>``, which the cluster can reach.
        recipe: name, path or text of the recipe.
        profile: accelerator profile.
        nodes: number of machines that pretrain together; by default that of the profile.

    Raises:
        GltError: bad input, or the server refuses or does not answer.
    """
    settings = load(recipe)
    arguments: dict[str, Any] = {"recordings": recordings, "recipe": settings.to_json()}
    arguments["code_version"] = current_code_version()
    if nodes is not None:
        arguments["nodes"] = nodes
    if graph == "training":
        source = sources.resolve(recordings)
        arguments |= {"recordings": source.address, "data_version": source.version}
    client = _client()
    with tempfile.TemporaryDirectory() as folder:
        package = _compile(graph, profile, Path(folder))
        with _server_errors():
            experiment = client.create_experiment(settings.experiment).experiment_id
            run = client.run_pipeline(experiment, settings.name, package, params=arguments)
    return run.run_id


def read_schedules(file: Path) -> dict[str, Schedule]:
    """Schedules by name, from YAML.

    Raises:
        GltError: no such file, or a field is wrong.
    """
    values = yaml_text.load(yaml_text.read(file, f"schedules {file}"), f"schedules {file}")
    try:
        return TypeAdapter(dict[str, Schedule]).validate_python(values or {})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()[:8])
        raise GltError(f"schedules {file}: {problems}") from error


def reconcile(schedules: dict[str, Schedule], *, dry: bool) -> list[Change]:
    """Make the server's schedules those that are declared; recurring runs that others created are left alone.

    Args:
        schedules: by name.
        dry: change nothing on the server.

    Returns:
        The changes, in the order of the schedules' names.

    Raises:
        GltError: the server refuses or does not answer. Changes made until then stay; run again.
    """
    client = _client()
    with _server_errors():
        experiment = client.create_experiment(EXPERIMENT).experiment_id
    existing = {run.display_name: run for run in _recurring_runs(client, experiment)}
    code = current_code_version()
    changes = []
    with tempfile.TemporaryDirectory() as folder:
        for name in sorted({*existing, *schedules}):
            current = existing.get(name)
            desired = _Desired.of(schedules[name], code, Path(folder)) if name in schedules else None
            change = _change(name, desired, current)
            if change is not None:
                changes.append(change)
                if not dry:
                    with _server_errors():
                        _apply(client, experiment, name, desired, current)
    return changes


@dataclass(frozen=True)
class _Desired:
    """A declared schedule, with its compiled graph and the graph's arguments."""

    schedule: Schedule
    package: str
    arguments: dict[str, Any]

    @staticmethod
    def of(schedule: Schedule, code: str, folder: Path) -> _Desired:
        package = _compile(schedule.graph, schedule.profile, folder)
        inputs = set(GRAPHS[schedule.graph](schedule.profile).component_spec.inputs or ())
        unknown = sorted(schedule.parameters.keys() - inputs)
        if unknown:
            known = ", ".join(sorted(inputs))
            raise GltError(f"schedules: the graph {schedule.graph} has no parameter {unknown[0]}; it has {known}")
        filled_in = {"code_version": code} if "code_version" in inputs else {}
        return _Desired(schedule, package, {**filled_in, **schedule.parameters})

    @property
    def digest(self) -> str:
        text = Path(self.package).read_text(encoding="utf-8")
        graph = [line for line in text.splitlines() if not line.startswith("#")]  # KFP's comments vary by run
        state = [graph, self.arguments, self.schedule.cron, self.schedule.enabled]
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:16]


def _change(name: str, desired: _Desired | None, current: V2beta1RecurringRun | None) -> Change | None:
    if desired is None:
        return Change("delete", name, "it is no longer declared")
    if current is None:
        return Change("create", name, f"{desired.schedule.graph} at {desired.schedule.cron}")
    known = _OURS.match(current.description or "")
    if known and known["digest"] == desired.digest:
        return None
    cron = current.trigger.cron_schedule.cron if current.trigger and current.trigger.cron_schedule else "no cron"
    arguments = (current.runtime_config.parameters if current.runtime_config else None) or {}
    before = f"{cron}, {json.dumps(arguments, sort_keys=True)}"
    after = f"{desired.schedule.cron}, {json.dumps(desired.arguments, sort_keys=True)}"
    return Change("replace", name, f"{before} -> {after}" if before != after else "the graph has changed")


def _apply(
    client: kfp.Client, experiment: str, name: str, desired: _Desired | None, current: V2beta1RecurringRun | None
) -> None:
    if current is not None:
        client.delete_recurring_run(current.recurring_run_id)
    if desired is not None:
        client.create_recurring_run(
            experiment,
            name,
            description=f"glt schedule {desired.digest}: {desired.schedule.graph}, from infra/schedules.yaml",
            cron_expression=desired.schedule.cron,
            max_concurrency=1,
            no_catchup=True,
            params=desired.arguments,
            pipeline_package_path=desired.package,
            enabled=desired.schedule.enabled,
        )


def _recurring_runs(client: kfp.Client, experiment: str) -> Iterator[V2beta1RecurringRun]:
    """The recurring runs of our experiment that we created."""
    token = ""
    while True:
        with _server_errors():
            page = client.list_recurring_runs(token, page_size=_PAGE, experiment_id=experiment)
        yield from (run for run in page.recurring_runs or () if _OURS.match(run.description or ""))
        token = page.next_page_token or ""
        if not token:
            return


def _compile(graph: str, profile: str, folder: Path) -> str:
    path = folder / f"{graph}-{profile}.yaml"
    if not path.exists():
        compiler.Compiler().compile(GRAPHS[graph](profile), str(path))
    return str(path)


def _client() -> kfp.Client:
    endpoint = os.environ.get("KF_PIPELINES_ENDPOINT", "")
    if not endpoint:
        raise GltError("KF_PIPELINES_ENDPOINT: set it to the address of the Kubeflow Pipelines server")
    token = os.environ.get("KF_PIPELINES_TOKEN") or None
    namespace = os.environ.get("KF_PIPELINES_NAMESPACE", "kubeflow")
    with _server_errors():
        return kfp.Client(host=endpoint, existing_token=token, namespace=namespace)


def _server_errors() -> AbstractContextManager[None]:
    """Errors of the server's client become a GltError."""
    return wrap_errors(
        f"Kubeflow Pipelines at {os.environ['KF_PIPELINES_ENDPOINT']}",
        "check KF_PIPELINES_ENDPOINT, KF_PIPELINES_TOKEN and KF_PIPELINES_NAMESPACE",
        *(ApiException, HTTPError, RuntimeError),
    )
