"""Runs and schedules on a Kubeflow Pipelines server, which KF_PIPELINES_ENDPOINT, _TOKEN and _NAMESPACE name."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import kfp
import yaml
from kfp import compiler
from kfp_server_api import ApiException, V2beta1RecurringRun
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from urllib3.exceptions import HTTPError

from glt.errors import GltError, wrap_errors
from glt.lifecycle import sources
from glt.lifecycle.code_version import current_code_version
from glt.recipe import Section, load
from pipelines.graphs import GRAPHS

EXPERIMENT = "schedules"  # on the server; its recurring runs are ours, and nobody else's
_OURS = re.compile(r"glt schedule (?P<digest>[0-9a-f]{16})")
_PAGE = 100
T = TypeVar("T")


def _six_fields(cron: str) -> str:
    if len(cron.split()) != 6:
        raise ValueError("cron: 6 fields, the first of them seconds, as `0 0 3 * * 1` for Mondays at three")
    return cron


class Schedule(Section):
    """A run that starts by itself.

    One at a time: while one runs no other starts, and what was missed meanwhile is not made up for.
    """

    graph: Literal["retraining", "collection"]
    cron: Annotated[str, AfterValidator(_six_fields)] = Field(
        description="seconds, minutes, hours, day, month, weekday"
    )
    parameters: dict[str, Any] = Field(description="of the graph; `code_version` is filled in")
    profile: Literal["gpu", "gpu-nodes", "cpu"] = "gpu"
    enabled: bool = True


@dataclass(frozen=True)
class Change:
    """What reconciling does to a schedule: create, replace or delete it, and why."""

    what: Literal["create", "replace", "delete"]
    name: str
    why: str


def submit(graph: str, recordings: str, recipe: str, profile: str, nodes: int | None = None) -> str:
    """Start a run; its id.

    Args:
        graph: training or retraining.
        recordings: ``s3://bucket/prefix`` or ``dvc+<git repository>@<revision>``, which the cluster can reach.
        recipe: name, path or text of the recipe.
        profile: accelerator profile.
        nodes: how many machines pretrain together; as the profile says if not given.

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
        package = _compiled(graph, profile, Path(folder))
        experiment = _call(lambda: client.create_experiment(settings.experiment)).experiment_id
        run = _call(lambda: client.run_pipeline(experiment, settings.name, package, params=arguments))
    return str(run.run_id)


def read_schedules(file: Path) -> dict[str, Schedule]:
    """Schedules by name, from YAML.

    Raises:
        GltError: no such file, or a field is wrong.
    """
    try:
        return TypeAdapter(dict[str, Schedule]).validate_python(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    except OSError as error:
        raise GltError(f"schedules {file}: {error.strerror}; give the path of a YAML file") from error
    except (ValidationError, yaml.YAMLError) as error:
        raise GltError(f"schedules {file}: {error}") from error


def reconcile(schedules: dict[str, Schedule], *, dry: bool) -> list[Change]:
    """Make the server's schedules those that are declared; recurring runs that others made are left alone.

    Args:
        schedules: by name.
        dry: only say what would be done.

    Raises:
        GltError: the server refuses or does not answer. What was done until then stays; run again.
    """
    client = _client()
    experiment = _call(lambda: client.create_experiment(EXPERIMENT)).experiment_id
    there = {run.display_name: run for run in _recurring(client, experiment)}
    code = current_code_version()
    changes = []
    with tempfile.TemporaryDirectory() as folder:
        for name in sorted({*there, *schedules}):
            held = there.get(name)
            wanted = _Wanted.of(schedules[name], code, Path(folder)) if name in schedules else None
            change = _change(name, wanted, held)
            if change is not None:
                changes.append(change)
                if not dry:
                    _make(client, experiment, name, wanted, held)
    return changes


@dataclass(frozen=True)
class _Wanted:
    """A schedule as the server shall have it."""

    schedule: Schedule
    package: str
    arguments: dict[str, Any]

    @staticmethod
    def of(schedule: Schedule, code: str, folder: Path) -> _Wanted:
        package = _compiled(schedule.graph, schedule.profile, folder)
        takes = set(GRAPHS[schedule.graph](schedule.profile).component_spec.inputs or ())
        unknown = sorted(schedule.parameters.keys() - takes)
        if unknown:
            has = ", ".join(sorted(takes))
            raise GltError(f"schedules: the graph {schedule.graph} has no parameter {unknown[0]}; it has {has}")
        given = {"code_version": code} if "code_version" in takes else {}
        return _Wanted(schedule, package, {**given, **schedule.parameters})

    @property
    def digest(self) -> str:
        text = Path(self.package).read_text(encoding="utf-8")
        graph = [line for line in text.splitlines() if not line.startswith("#")]  # KFP's comments vary by run
        state = [graph, self.arguments, self.schedule.cron, self.schedule.enabled]
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:16]


def _change(name: str, wanted: _Wanted | None, held: V2beta1RecurringRun | None) -> Change | None:
    if wanted is None:
        return Change("delete", name, "it is declared no more")
    if held is None:
        return Change("create", name, f"{wanted.schedule.graph} at {wanted.schedule.cron}")
    known = _OURS.match(held.description or "")
    if known and known["digest"] == wanted.digest:
        return None
    cron = held.trigger.cron_schedule.cron if held.trigger and held.trigger.cron_schedule else "no cron"
    arguments = (held.runtime_config.parameters if held.runtime_config else None) or {}
    before = f"{cron}, {json.dumps(arguments, sort_keys=True)}"
    after = f"{wanted.schedule.cron}, {json.dumps(wanted.arguments, sort_keys=True)}"
    return Change("replace", name, f"{before} -> {after}" if before != after else "the graph has changed")


def _make(
    client: kfp.Client, experiment: str, name: str, wanted: _Wanted | None, held: V2beta1RecurringRun | None
) -> None:
    if held is not None:
        _call(lambda: client.delete_recurring_run(held.recurring_run_id))
    if wanted is None:
        return
    _call(
        lambda: client.create_recurring_run(
            experiment,
            name,
            description=f"glt schedule {wanted.digest}: {wanted.schedule.graph}, from infra/schedules.yaml",
            cron_expression=wanted.schedule.cron,
            max_concurrency=1,
            no_catchup=True,
            params=wanted.arguments,
            pipeline_package_path=wanted.package,
            enabled=wanted.schedule.enabled,
        )
    )


def _recurring(client: kfp.Client, experiment: str) -> Iterator[V2beta1RecurringRun]:
    """The recurring runs of our experiment that we made."""
    token = ""
    while True:
        page = _call(partial(client.list_recurring_runs, token, page_size=_PAGE, experiment_id=experiment))
        yield from (run for run in page.recurring_runs or () if _OURS.match(run.description or ""))
        token = page.next_page_token or ""
        if not token:
            return


def _compiled(graph: str, profile: str, folder: Path) -> str:
    place = folder / f"{graph}-{profile}.yaml"
    if not place.exists():
        compiler.Compiler().compile(GRAPHS[graph](profile), str(place))
    return str(place)


def _client() -> kfp.Client:
    endpoint = os.environ.get("KF_PIPELINES_ENDPOINT", "")
    if not endpoint:
        raise GltError("KF_PIPELINES_ENDPOINT: set it to the address of the Kubeflow Pipelines server")
    token = os.environ.get("KF_PIPELINES_TOKEN") or None
    namespace = os.environ.get("KF_PIPELINES_NAMESPACE", "kubeflow")
    return _call(lambda: kfp.Client(host=endpoint, existing_token=token, namespace=namespace))


def _call(action: Callable[[], T]) -> T:
    """The result of a request to the server.

    Raises:
        GltError: the server rejects the request or does not respond.
    """
    description = f"Kubeflow Pipelines at {os.environ['KF_PIPELINES_ENDPOINT']}"
    remedy = "check KF_PIPELINES_ENDPOINT, KF_PIPELINES_TOKEN and KF_PIPELINES_NAMESPACE"
    with wrap_errors(description, remedy, ApiException, HTTPError, RuntimeError):
        return action()
