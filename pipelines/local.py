"""Run a graph on this machine, through Kubeflow Pipelines' own local runner."""

from __future__ import annotations

import builtins
import contextlib
import logging
import os
import sys
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import kfp.local
from kfp.dsl.base_component import BaseComponent
from rich.console import Console
from rich.table import Table

from glt import settings
from glt.analysis import few_labels
from glt.analysis.scores import fraction_key
from glt.console import cell, console
from glt.errors import GltError, Interrupted
from glt.file_lock import file_lock
from glt.lifecycle import liveness, registry, run_artifacts, run_ends, sources, tracking
from glt.lifecycle import recordings as pinned
from glt.lifecycle.code_version import current_code_version
from glt.recipe import Recipe, flat, load, names
from glt.recipe import study as studies
from glt.recipe.study import Study
from pipelines.ablation import AT_ONCE, ablation_pipeline
from pipelines.console import ERROR, StepDisplay, plain
from pipelines.containers import docker_runner
from pipelines.processes import process_tasks
from pipelines.retraining import retraining_pipeline
from pipelines.reuse import Reuse, uncached_steps
from pipelines.training import training_pipeline

Runner = Literal["process", "docker"]
Steps = kfp.local.SubprocessRunner | kfp.local.DockerRunner


def run(recordings: str, recipe_name: str, runner: Runner = "process") -> str:
    """Ingest, train, evaluate, register and, if the gate passes, promote a model; print a short table at the end.

    Args:
        recordings: a path, ``s3://bucket/prefix`` or ``dvc+<git repository>@<revision>``; empty for what data.dvc pins.
        recipe_name: name of a recipe, a path to a YAML file, or a recipe's text.
        runner: whether each step runs in a process, or in a container with the image that `make image` builds.

    Returns:
        The id of the parent run in MLflow, which holds all scores.

    Raises:
        GltError: the input is not valid, the tracking server does not respond, or a step failed.
    """
    recipe = load(recipe_name)
    trials, chosen = _trials(recipe), _chosen(recipe_name, recipe)
    at_once = {"GLT_TASKS_AT_ONCE": str(min(2, len(trials)))}  # as many as the local runner takes
    screen, started = console(), time.monotonic()
    graph = training_pipeline("local")
    parent, run_id = _execute(screen, graph, recordings, recipe, chosen, at_once, runner, trials=trials)
    report = settings.home() / "reports" / f"{recipe.name}-{run_id[:8]}.html"
    _summary(screen, recipe, parent, report, time.monotonic() - started)
    return parent


def retrain(recordings: str, recipe_name: str) -> str:
    """As `run`, unless the champion was already trained on these recordings.

    Args:
        recordings: as for `run`; ``dvc+<git repository>@<branch>`` means the branch's newest commit.
        recipe_name: as for `run`; its section `retrain` sets what pretraining starts from.

    Returns:
        The id of the parent run in MLflow; its tag `retraining` holds the decision.

    Raises:
        GltError: as for `run`; or the recordings raise an alarm, or another retraining of this model is running here.
    """
    recipe = load(recipe_name)
    screen, started = console(), time.monotonic()
    with file_lock(settings.home() / "locks" / f"retraining-{recipe.model_name}", recipe.model_name):
        at_once = {"GLT_TASKS_AT_ONCE": str(min(2, len(_trials(recipe))))}
        graph, chosen = retraining_pipeline("local"), _chosen(recipe_name, recipe)
        parent, run_id = _execute(screen, graph, recordings, recipe, chosen, at_once, trials=_trials(recipe))
    tags = tracking.connect().get_run(parent).data.tags
    screen.print(cell(tags[tracking.RETRAINING]))
    if "model.version" in tags:
        report = settings.home() / "reports" / f"{recipe.name}-{run_id[:8]}.html"
        _summary(screen, recipe, parent, report, time.monotonic() - started)
    return parent


def ablate(recordings: str, studied: Study, arms: Sequence[Recipe]) -> str:
    """Train and compare the arms of a study; end with a short table.

    Args:
        recordings: as for `run`.
        studied: has the recipe that the arms start from.
        arms: the recipe of each arm and seed, from `Study.recipes`.

    Returns:
        The id of the parent run in MLflow; the arms' scores are on the runs below it.

    Raises:
        GltError: as for `run`.
    """
    base, screen, started = studied.base, console(), time.monotonic()
    items = studies.items(arms)
    graph = ablation_pipeline("local")
    threads = {"OMP_NUM_THREADS": str(threads_of_an_arm(len(arms)))}
    parent, _ = _execute(screen, graph, recordings, base, base.to_json(), threads, arms=items)
    metrics = tracking.connect().get_run(parent).data.metrics
    table = Table(title=f"{studied.name}, {time.monotonic() - started:.0f} s", title_justify="left", box=None)
    for column in ("arm", "top-1", "without duplicates", "validation"):
        table.add_column(column)
    for arm in dict.fromkeys(arm.arm for arm in arms):
        keys = (f"arm/{arm}/{score}_mean" for score in ("top1", "top1_clean", "val_top1"))
        table.add_row(arm, *(f"{100 * metrics[key]:.1f} %" if key in metrics else "" for key in keys))
    screen.print(table)
    return parent


def _trials(recipe: Recipe) -> list[dict[str, float]]:
    return [{"fraction": fraction, "seed": seed} for fraction in recipe.fractions for seed in recipe.seeds]


def _chosen(recipe_name: str, recipe: Recipe) -> str:
    """The recipe as an argument of a graph: its name, or its text."""
    return recipe_name if recipe_name in names() else recipe.to_json()


def threads_of_an_arm(arms: int) -> int:
    """The number of threads that `ablate` gives to each arm."""
    return max(1, (os.cpu_count() or 1) // min(AT_ONCE, arms))


def _execute(
    screen: Console,
    graph: BaseComponent,
    recordings: str,
    recipe: Recipe,
    chosen: str,
    environment: Mapping[str, str],
    runner: Runner = "process",
    **more: object,
) -> tuple[str, str]:
    """Run a graph; returns the id of its MLflow run and its own.

    Args:
        screen: where progress is shown.
        graph: what runs.
        recordings: as for `run`.
        recipe: of the run.
        chosen: the recipe as an argument of the graph: its name, or its text.
        environment: additional environment variables of the steps.
        runner: as for `run`.
        more: arguments that only this graph takes.
    """
    if not recordings:
        recordings = str(pinned.prepare(Path.cwd()))
    source, run_id = sources.resolve(recordings), uuid.uuid4().hex
    version = tracking.Versions(source.version, current_code_version())
    home = settings.home()
    os.environ |= {
        settings.HOME: str(home),
        settings.RUN_ID: run_id,
        settings.CODE_VERSION: version.code,
        "PYTHONUNBUFFERED": "1",
        **environment,
    }
    log = home / "logs" / f"{run_id}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    arguments = {
        **{"recordings": source.address, "recipe": chosen},
        **{"data_version": version.data, "code_version": version.code},
    }
    in_processes = contextlib.nullcontext(kfp.local.SubprocessRunner(use_venv=False))
    in_runner = docker_runner(source.address, run_id) if runner == "docker" else in_processes
    with process_tasks() as ending, in_runner as steps:
        parent = tracking.parent(recipe, version)
        made_from = f"recipe {recipe.name}, data {version.data[:12]}, code {version.code}"
        screen.print(f"{recipe.model_name}  {made_from}")
        try:
            # Results made by a process do not show that the image works: containers do not reuse them.
            cache = home / ("cache-docker" if runner == "docker" else "cache")
            reuse = _reuse(cache, graph, recipe, version, source.address, more.get("arms"))
            if reuse.is_first:
                screen.print("no earlier run of this recipe: every step is run")
            inputs = {name: value for name, value in arguments.items() if name in _inputs(graph)}
            with liveness.alive(parent):
                _run_graph(graph, steps, cache, log, inputs | more, reuse)
        except (RuntimeError, KeyboardInterrupt) as error:
            if ending.signal is None:
                raise GltError(f"{_reason(parent, log, error)}; the whole log: {log}") from error
            ending.wait()
            run_ends.close(recipe, version, "KILLED", f"stopped by {ending.signal.name}")
            stopped = Interrupted(f"stopped by {ending.signal.name}; the same command resumes it")
            stopped.exit_code = 128 + ending.signal
            raise stopped from error
    return parent, run_id


def _reason(parent: str, log: Path, error: BaseException) -> str:
    """The reason why a run failed: that stored by the exit step or, if it failed too, the first error in the log."""
    with contextlib.suppress(GltError):
        if stored := tracking.connect().get_run(parent).data.tags.get("error"):
            return stored
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    found = (line.strip().removeprefix(ERROR) for line in lines if line.strip().startswith(ERROR))
    return next(found, plain(str(error)))


def _inputs(graph: BaseComponent) -> set[str]:
    return set(graph.component_spec.inputs or ())


def _reuse(
    cache: Path, graph: BaseComponent, recipe: Recipe, version: tracking.Versions, recordings: str, arms: object
) -> Reuse:
    inputs = {
        **{"code": version.code, "data": version.data, "recordings": recordings},
        **{"recipe": flat(recipe.model_dump(mode="json")), "arms": arms},
    }
    return Reuse(cache / f"inputs-{graph.name}-{recipe.name}.json", inputs, uncached_steps(graph))


def _run_graph(
    graph: BaseComponent, steps: Steps, cache: Path, log: Path, arguments: Mapping[str, object], reuse: Reuse
) -> None:
    warnings.filterwarnings("ignore", message=".*non-Python base image.*")
    kfp.local.init(
        steps,
        pipeline_root=str(cache.parent / "pipelines"),
        enable_caching=True,
        cache_root=str(cache),
        raise_on_error=True,
    )
    root = logging.getLogger()
    with (
        log.open("w", encoding="utf-8") as file,
        contextlib.redirect_stdout(StepDisplay(sys.stdout, file, reuse)) as display,
    ):
        handler = logging.StreamHandler(display)  # a reused step is reported through the root logger alone
        before, level, print_function = root.handlers[:], root.level, builtins.print
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        try:
            graph(**arguments)
        finally:
            # The runner sets these for each task. Two tasks at once restore what the other one had set.
            root.handlers[:] = before
            root.setLevel(level)
            builtins.print = print_function


def _summary(screen: Console, recipe: Recipe, parent: str, report: Path, seconds: float) -> None:
    """The short table at the end."""
    run = tracking.connect().get_run(parent).data
    run_artifacts.download_report(parent, report)
    version = run.tags["model.version"]
    table = Table(title=f"{recipe.model_name}, {seconds:.0f} s", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    scores = {
        "linear probe": "probe/top1",
        "  on clips without a duplicate in training": "probe/top1_clean",
        "  the same probe, untrained encoder": "probe/untrained_top1",
        "nearest neighbour": "knn/top1",
    }
    for fraction in recipe.fractions:
        scores[f"fine-tuned on {100 * fraction:g} % of the labels"] = f"finetune/{fraction_key(fraction)}/top1_mean"
    for title, key in scores.items():
        if key in run.metrics:
            table.add_row(title, f"{100 * run.metrics[key]:.1f} %")
    if few_labels.TAG in run.tags:
        table.add_row("", cell(run.tags[few_labels.TAG]))
    table.add_section()
    held = ", ".join(registry.aliases(recipe.model_name, version)) or "no alias"
    table.add_row("model", f"{recipe.model_name} version {version}: {held}")
    table.add_row("gate", cell(run.tags["gate.reason"]))
    table.add_row("report", cell(report))
    table.add_row("MLflow UI", "make ui" if settings.is_local() else settings.store_uri())
    screen.print(table)
