"""Run the training graph on this machine, through Kubeflow Pipelines' own local runner."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import uuid
import warnings
from pathlib import Path

import kfp.local
from rich.console import Console
from rich.table import Table

from glt.analysis.scores import fraction_key
from glt.errors import GltError
from glt.lifecycle import kept, registry, tracking, versions
from glt.lifecycle import recordings as pinned
from glt.recipe import Recipe, load, names
from pipelines.console import StepDisplay
from pipelines.training import training_pipeline


def run(recordings: str, recipe_name: str) -> str:
    """Ingest, train, measure, register and, where it is better, promote; end with a short table.

    Args:
        recordings: a path, ``s3://bucket/prefix`` or ``dvc+<git repository>@<revision>``; empty for what data.dvc pins.
        recipe_name: name of a recipe, or a path to a YAML file.

    Returns:
        The id of the parent run in MLflow, which holds all scores.

    Raises:
        GltError: bad input, the tracking server away, or a step that failed; says what and how to mend it.
    """
    recipe = load(recipe_name)
    screen = Console()
    if not recordings:
        recordings = str(pinned.prepare(Path.cwd()))
    recordings = versions.located(recordings)
    run_id = uuid.uuid4().hex
    trials = [{"fraction": fraction, "seed": seed} for fraction in recipe.fractions for seed in recipe.seeds]
    version = tracking.Versions(versions.data_version(recordings), versions.code_version())
    home = tracking.home()
    os.environ |= {
        "GLT_HOME": str(home),
        "GLT_RUN_ID": run_id,
        "GLT_CODE_VERSION": version.code,
        "GLT_TASKS_AT_ONCE": str(min(2, len(trials))),  # as many as the local runner takes
        "PYTHONUNBUFFERED": "1",
    }
    parent = tracking.parent(recipe, version)
    screen.print(f"[bold]{recipe.model_name}[/]  recipe {recipe.name}, data {version.data[:12]}, code {version.code}")

    log = home / "logs" / f"{run_id}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        _execute(
            home,
            log,
            recordings=recordings,
            recipe=recipe_name if recipe_name in names() else recipe.to_json(),
            data_version=version.data,
            code_version=version.code,
            trials=trials,
        )
    except RuntimeError as error:
        why = tracking.connect().get_run(parent).data.tags.get("error", str(error))
        raise GltError(f"{why}\nThe whole log: {log}") from error
    except KeyboardInterrupt:
        tracking.close(recipe, version, "KILLED", "stopped by hand")
        raise
    _summary(screen, recipe, parent, home / "reports" / f"{recipe.name}-{run_id[:8]}.html", time.monotonic() - started)
    return parent


def _execute(home: Path, log: Path, **arguments: object) -> None:
    warnings.filterwarnings("ignore", message=".*non-Python base image.*")
    kfp.local.init(
        kfp.local.SubprocessRunner(use_venv=False),
        pipeline_root=str(home / "pipelines"),
        enable_caching=True,
        cache_root=str(home / "cache"),
        raise_on_error=True,
    )
    root = logging.getLogger()
    with log.open("w", encoding="utf-8") as file, contextlib.redirect_stdout(StepDisplay(sys.stdout, file)) as display:
        handler = logging.StreamHandler(display)  # a reused step is said through the root logger alone
        root.addHandler(handler)
        level = root.level
        root.setLevel(logging.INFO)
        try:
            training_pipeline("local")(**arguments)
        finally:
            root.removeHandler(handler)
            root.setLevel(level)


def _summary(screen: Console, recipe: Recipe, parent: str, report: Path, seconds: float) -> None:
    """The short table at the end."""
    run = tracking.connect().get_run(parent).data
    kept.fetch_report(parent, report)
    version = run.tags["model.version"]
    table = Table(title=f"{recipe.model_name}, {seconds:.0f} s", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    scores = {
        "linear probe": "probe/top1",
        "  on clips without a twin in training": "probe/top1_clean",
        "  the same probe, untrained encoder": "probe/untrained_top1",
        "nearest neighbour": "knn/top1",
    }
    for fraction in recipe.fractions:
        scores[f"fine-tuned on {100 * fraction:g} % of the labels"] = f"finetune/{fraction_key(fraction)}/top1_mean"
    for title, key in scores.items():
        if key in run.metrics:
            table.add_row(title, f"{100 * run.metrics[key]:.1f} %")
    table.add_section()
    held = ", ".join(registry.aliases(recipe.model_name, version)) or "no alias"
    table.add_row("model", f"{recipe.model_name} version {version}: {held}")
    table.add_row("gate", run.tags["gate.reason"])
    table.add_row("report", str(report))
    table.add_row("MLflow UI", "make ui" if tracking.is_local() else tracking.store_uri())
    screen.print(table)
