"""Runs and schedules on a Kubeflow Pipelines server, by registered versions of the graphs.

The environment says which server, and how to log in (glt.lifecycle.kubeflow).
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from kfp import compiler
from kfp_server_api import (
    RecurringRunMode,
    V2beta1CronSchedule,
    V2beta1PipelineVersionReference,
    V2beta1RecurringRun,
    V2beta1Run,
    V2beta1RuntimeConfig,
    V2beta1Trigger,
)
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from components import IMAGE
from glt import yaml_text
from glt.errors import GltError
from glt.lifecycle import sources
from glt.lifecycle.code_version import current_code_version
from glt.lifecycle.sources import address
from glt.recipe import Recipe, Section, load
from glt.recipe import study as studies
from glt.text import clean, is_clean
from pipelines import profiles
from pipelines.graphs import GRAPHS
from pipelines.parameters import check_size, scheduled
from pipelines.server import Server, plugins_input

_LOG = logging.getLogger(__name__)
EXPERIMENT = "schedules"  # on the server; all recurring runs in it are ours
_OURS = re.compile(r"glt schedule (?P<digest>[0-9a-f]{16})")
_SHORT = 12  # characters of the code version in the name of a pipeline's version


def _six_fields(cron: str) -> str:
    if len(cron.split()) != 6:
        raise ValueError("cron: 6 fields, the first of them seconds, as `0 0 3 * * 1` for Mondays at three")
    return cron


def _named(name: str) -> str:
    if not is_clean(name) or name != name.strip() or not 1 <= len(name) <= 100:
        raise ValueError("name a schedule with 1 to 100 characters on one line")
    return name


class Schedule(Section):
    """A recurring run: one at a time, and starts that were missed meanwhile are not made up for."""

    graph: Literal["retraining", "collection"]
    cron: Annotated[str, AfterValidator(_six_fields)] = Field(
        description="seconds, minutes, hours, day, month, weekday"
    )
    parameters: dict[str, Any] = Field(description="of the graph; `code_version` is filled in")
    profile: str = "gpu"
    enabled: bool = True


@dataclass(frozen=True)
class Change:
    """A change of one schedule on the server, and its reason."""

    action: Literal["create", "replace", "delete"]
    name: str
    reason: str


def submit(
    graph: str, recordings: str, recipe: str, profile: str, nodes: int | None = None, study: str = "sample"
) -> str:
    """Register the graph's version if it is new, and start a run of it; returns the run's id.

    Args:
        graph: training, retraining or ablation.
        recordings: ``s3://bucket/prefix`` or ``dvc+<git repository>@<revision>``, which the cluster can reach.
        recipe: name, path or text of the recipe; not of an ablation.
        profile: accelerator profile.
        nodes: number of machines that pretrain together; by default that of the profile.
        study: name or path of the study; of an ablation only.

    Raises:
        GltError: bad input, or the server is too old, refuses or does not answer.
    """
    if graph not in ("training", "retraining", "ablation"):
        raise GltError(f"graph {graph!r:.80}: submit training, retraining or ablation")
    settings, arms = _what(graph, recipe, study)
    arguments = {"recordings": recordings, "recipe": settings.to_json(), "code_version": current_code_version(), **arms}
    if nodes is not None:
        if graph == "ablation":
            raise GltError("nodes: an arm of a study is pretrained on one machine; leave it out")
        arguments["nodes"] = nodes
    if graph == "retraining":  # whose runs resolve the address themselves
        address.check_remote(recordings)
    else:
        source = sources.resolve(recordings)
        arguments |= {"recordings": source.address, "data_version": source.version}
    check_size(graph, arguments)
    with tempfile.TemporaryDirectory() as folder:
        package = _Package.of(graph, profile, Path(folder))
        server = Server()
        run = V2beta1Run(
            experiment_id=server.experiment(settings.experiment),
            display_name=settings.name,
            description=f"{graph} with recipe {settings.name}, profile {profile}",
            pipeline_version_reference=package.register(server),
            runtime_config=V2beta1RuntimeConfig(parameters=arguments),
            service_account=profiles.find(profile).service_account or None,
            plugins_input=plugins_input(settings.experiment),
        )
        run_id = server.start(run)
    _LOG.info("%s/#/runs/details/%s", server.address, run_id)
    return run_id


def _what(graph: str, recipe: str, study: str) -> tuple[Recipe, dict[str, Any]]:
    """The recipe of a run, and the parameters that only an ablation has."""
    if graph != "ablation":
        return load(recipe), {}
    chosen = studies.load(study)
    return chosen.base, {"arms": studies.items(chosen.recipes())}


def read_schedules(file: Path) -> dict[str, Schedule]:
    """Schedules by name, from YAML.

    Raises:
        GltError: no such file, or a field is wrong.
    """
    values = yaml_text.load(yaml_text.read(file, f"schedules {file}"), f"schedules {file}")
    try:
        return TypeAdapter(dict[Annotated[str, AfterValidator(_named)], Schedule]).validate_python(values or {})
    except ValidationError as error:
        named = [(clean(".".join(map(str, one["loc"])))[:100] or "file", one["msg"]) for one in error.errors()[:8]]
        problems = "; ".join(f"{field}: {message}" for field, message in named)
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
    code = current_code_version()
    changes: list[Change] = []
    with tempfile.TemporaryDirectory() as folder:
        wanted = {name: _Desired.of(name, schedule, code, Path(folder)) for name, schedule in schedules.items()}
        server = Server()
        experiment = server.find_experiment(EXPERIMENT) if dry else server.experiment(EXPERIMENT)
        existing: dict[str, V2beta1RecurringRun] = {}
        for run in filter(_is_ours, server.recurring_runs(experiment) if experiment else ()):
            name = run.display_name or ""
            if name not in existing:
                existing[name] = run
                continue
            changes.append(Change("delete", name, "it is there twice"))
            if not dry:
                server.delete_recurring_run(run.recurring_run_id)
        for name in sorted({*existing, *wanted}):
            current, desired = existing.get(name), wanted.get(name)
            change = _change(name, desired, current, server)
            if change is not None:
                changes.append(change)
                if not dry:
                    _apply(server, experiment, name, desired, current)
    return changes


@dataclass(frozen=True)
class _Package:
    """A compiled graph, and the version of its pipeline on the server.

    Attributes:
        graph: its name.
        profile: accelerator profile that it was compiled for.
        file: KFP's YAML.
    """

    graph: str
    profile: str
    file: Path

    @staticmethod
    def of(graph: str, profile: str, folder: Path) -> _Package:
        """Compile a graph, once per folder."""
        if not profiles.find(profile).on_cluster:
            raise GltError(
                f"accelerator profile {profile}: only for runs on this machine; take gpu, gpu-nodes, cpu or one of "
                f"{profiles.FILE}"
            )
        file = folder / f"{graph}-{profile}.yaml"
        if not file.exists():
            compiler.Compiler().compile(GRAPHS[graph](profile), str(file))
        return _Package(graph, profile, file)

    @property
    def lines(self) -> list[str]:
        """Its lines without KFP's comments, which vary by run."""
        return [line for line in self.file.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]

    @property
    def pipeline(self) -> str:
        """The name of its pipeline."""
        return f"glt-{self.graph}"

    @property
    def version(self) -> str:
        """The name of its version: the code's, the profile, and a hash of the content, which the image is part of."""
        code = re.sub(r"[^a-z0-9-]+", "-", current_code_version()[:_SHORT].lower()).strip("-")
        return f"{code}-{self.profile}-{_digest(self.lines)[:8]}"

    def register(self, server: Server) -> V2beta1PipelineVersionReference:
        """Its version on the server, uploaded if it is new."""
        about = f"glt's graph {self.graph}: one version per code version, profile and image"
        made_from = f"code {current_code_version()}" + (f", commit {commit}" if (commit := _commit()) else "")
        about_version = f"Graph {self.graph} for profile {self.profile}; {made_from}, image {IMAGE}"
        return server.register(self.pipeline, about, self.version, about_version[:500], self.file)


@dataclass(frozen=True)
class _Desired:
    """A declared schedule, with its compiled graph and the graph's arguments."""

    schedule: Schedule
    package: _Package
    arguments: dict[str, Any]

    @staticmethod
    def of(name: str, schedule: Schedule, code: str, folder: Path) -> _Desired:
        package = _Package.of(schedule.graph, schedule.profile, folder)
        inputs = GRAPHS[schedule.graph](schedule.profile).component_spec.inputs or {}
        graph = f"schedules: {name}: the graph {schedule.graph}"
        if unknown := sorted(schedule.parameters.keys() - set(inputs)):
            raise GltError(f"{graph} has no parameter {unknown[0]}; it has {', '.join(sorted(inputs))}")
        filled_in = {"code_version": code} if "code_version" in inputs else {}
        try:
            arguments = {**filled_in, **scheduled(schedule.parameters)}
        except GltError as error:
            raise GltError(f"schedules: {name}: {error}") from error
        if missing := sorted(key for key, value in inputs.items() if not value.optional and key not in arguments):
            raise GltError(f"{graph} needs the parameter {missing[0]}; add it under parameters")
        check_size(schedule.graph, arguments)
        return _Desired(schedule, package, arguments)

    @property
    def plugins_input(self) -> Mapping[str, object]:
        """The experiment of its runs in MLflow; a collection has none."""
        recipe = self.arguments.get("recipe")
        trains = self.schedule.graph != "collection" and isinstance(recipe, str)
        return plugins_input(load(recipe).experiment if trains and isinstance(recipe, str) else "")

    @property
    def mode(self) -> str:
        return RecurringRunMode.ENABLE if self.schedule.enabled else RecurringRunMode.DISABLE

    @property
    def digest(self) -> str:
        state = [self.package.lines, self.arguments, self.schedule.cron, self.schedule.enabled]
        return _digest([*state, self.plugins_input, self.service_account])[:16]

    @property
    def service_account(self) -> str:
        return profiles.find(self.schedule.profile).service_account


def _change(name: str, desired: _Desired | None, current: V2beta1RecurringRun | None, server: Server) -> Change | None:
    if desired is None:
        return Change("delete", name, "it is no longer declared")
    if current is None:
        return Change("create", name, f"{desired.schedule.graph} at {desired.schedule.cron}")
    if current.mode in (RecurringRunMode.ENABLE, RecurringRunMode.DISABLE) and current.mode != desired.mode:
        now, then = ("off", "on") if desired.schedule.enabled else ("on", "off")
        return Change("replace", name, f"it is switched {now} on the server -> {then}")
    known = _OURS.match(current.description or "")
    if known and known["digest"] == desired.digest:
        registered = server.find_version(desired.package.pipeline, desired.package.version)
        if registered is not None and registered == current.pipeline_version_reference:
            return None
        return Change("replace", name, "the version of the pipeline that it runs is no longer on the server")
    cron = current.trigger.cron_schedule.cron if current.trigger and current.trigger.cron_schedule else "no cron"
    arguments = (current.runtime_config.parameters if current.runtime_config else None) or {}
    before = f"{cron}, {json.dumps(arguments, sort_keys=True)}"
    after = f"{desired.schedule.cron}, {json.dumps(desired.arguments, sort_keys=True)}"
    return Change("replace", name, f"{before} -> {after}" if before != after else "the graph has changed")


def _apply(
    server: Server, experiment: str, name: str, desired: _Desired | None, current: V2beta1RecurringRun | None
) -> None:
    """Make one change; the old schedule goes last, so that one that the server refuses takes nothing away."""
    if desired is not None:
        server.create_recurring_run(
            V2beta1RecurringRun(
                experiment_id=experiment,
                display_name=name,
                description=f"glt schedule {desired.digest}: {desired.schedule.graph}, from infra/schedules.yaml",
                trigger=V2beta1Trigger(cron_schedule=V2beta1CronSchedule(cron=desired.schedule.cron)),
                max_concurrency="1",
                no_catchup=True,
                mode=desired.mode,
                pipeline_version_reference=desired.package.register(server),
                runtime_config=V2beta1RuntimeConfig(parameters=desired.arguments),
                service_account=desired.service_account or None,
                plugins_input=desired.plugins_input,
            )
        )
    if current is not None:
        server.delete_recurring_run(current.recurring_run_id)


def _is_ours(run: V2beta1RecurringRun) -> bool:
    return _OURS.match(run.description or "") is not None


def _digest(state: Iterable[object]) -> str:
    return hashlib.sha256(json.dumps(list(state), sort_keys=True).encode()).hexdigest()


def _commit() -> str:
    """The commit of the checkout that these sources lie in, `-dirty` if something is not committed; or nothing."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parents[1]),
        "describe",
        "--always",
        "--abbrev=12",
        "--exclude=*",
        "--dirty",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
