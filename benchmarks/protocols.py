"""The protocols on real recordings: every score that the README and docs/results.md show.

    make results RECORDINGS=folder

The folder holds nw-ucla/all_sqe.zip and sbu/sbu_kinect_interaction_clean.zip. A seed is one run of the whole graph, as
`make run` makes it, and stands in MLflow beside the others. It takes hours, and says how many first. Scores are
written to results/protocols/ when their run is done, and not made again while the recipe stays as it is; an
interrupted training goes on where it was. What is made on the way is in runs/protocols.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console

from benchmarks.hardware import ROOT, commit, hardware
from glt import artifact
from glt.analysis.scores import ensemble, fraction_key
from glt.lifecycle import registry, tracking
from glt.recipe import Recipe, load
from glt.training.classifier import accuracy
from pipelines import local

OUT = ROOT / "results" / "protocols"
ARCHIVES = {"nw-ucla": "nw-ucla/all_sqe.zip", "sbu": "sbu/sbu_kinect_interaction_clean.zip"}
SCORES = {"linear": "probe/", "knn": "knn/", "floor": "probe/untrained_"}  # task -> its keys in MLflow, but for the end


@dataclass(frozen=True)
class Run:
    """One seed of a recipe.

    Attributes:
        recipe: its name.
        seed: of pretraining, of classifiers and of the draw of labels.
        minutes: that it takes on 2 cores, about.
        fractions: labelled fractions of the semi-supervised protocol.
        fold: of a 5-fold protocol; 0 for others.
    """

    recipe: str
    seed: int
    minutes: float
    fractions: tuple[float, ...] = (0.05, 0.10)
    fold: int = 0

    @cached_property
    def settings(self) -> Recipe:
        """The recipe with this seed and fold."""
        whole = load(self.recipe)
        data = whole.data.model_copy(update={"fold": self.fold} if self.fold else {})
        changes = {"seed": self.seed, "seeds": (self.seed,), "fractions": self.fractions, "data": data}
        return whole.model_copy(update=changes)

    @property
    def sha256(self) -> str:
        """Of the recipe: scores of another one do not count."""
        return hashlib.sha256(self.settings.to_json().encode()).hexdigest()

    @property
    def files(self) -> dict[str, Path]:
        """Where its scores are kept, by task."""
        name = f"seed{self.seed}" + (f"-fold{self.fold}" if self.fold else "")
        tasks = [*SCORES, *(f"finetune-{fraction_key(fraction)}" for fraction in self.fractions)]
        return {task: OUT / self.recipe / f"{task}-{name}.json" for task in tasks}

    @property
    def done(self) -> bool:
        """Whether all its scores are there."""
        return all(_read(file).get("recipe_sha256") == self.sha256 for file in self.files.values())


RUNS = (
    *(Run("nw-ucla", seed, 20, fractions=(0.01, 0.05, 0.10)) for seed in range(5)),
    *(Run(name, seed, 17) for name in ("nw-ucla-deduplicated", "nw-ucla-bone", "nw-ucla-motion") for seed in range(5)),
    *(Run("sbu", seed, 8, fold=fold) for seed in range(5) for fold in range(1, 6)),
)
STREAMS = {"nw-ucla-3s": ("nw-ucla", "nw-ucla-bone", "nw-ucla-motion")}  # whose probes' probabilities are averaged


def main() -> None:
    """Say what is missing and how long it takes, then make it."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("recordings", type=Path)
    arguments.add_argument("--recipes", nargs="+", default=sorted({run.recipe for run in RUNS}))
    arguments.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    given = arguments.parse_args()
    os.environ.setdefault("GLT_HOME", str(ROOT / "runs" / "protocols"))
    chosen = [run for run in RUNS if run.recipe in given.recipes and run.seed in given.seeds]
    missing = [run for run in chosen if not run.done]
    hours = sum(run.minutes for run in missing) / 60
    console = Console()
    console.print(f"{len(chosen) - len(missing)} of {len(chosen)} runs are there; the others take {hours:.1f} h, about")
    for number, run in enumerate(missing, 1):
        where = f", fold {run.fold}" if run.fold else ""
        console.rule(f"run {number} of {len(missing)}: {run.recipe}, seed {run.seed}{where}")
        for task, row in measured(run, given.recordings / ARCHIVES[run.settings.data.dataset]):
            artifact.write_json(run.files[task], row)
    for name, streams in STREAMS.items():
        for seed in given.seeds:
            _average(name, [run for run in RUNS if run.recipe in streams and run.seed == seed])


def measured(run: Run, recordings: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run the graph; a row of results for each task."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / f"{run.recipe}.json"
        recipe.write_text(run.settings.to_json(), encoding="utf-8")
        parent = local.run(str(recordings), str(recipe))
    found = tracking.connect().get_run(parent).data
    metrics, tags, seconds = found.metrics, found.tags, _seconds(parent)
    common = {
        **_of(run),
        "data_version": tags["data.version"],
        "code_version": tags["code.version"],
        "model_version": tags["model.version"],
    }
    for task, key in SCORES.items():
        scores = {name: metrics.get(f"{key}{name}") for name in ("top1", "top1_clean", "val_top1")}
        scores["seconds"] = seconds["linear_probe"] + (0 if task == "floor" else seconds["pretrain"])
        yield task, {**common, **scores, "task": task, "labelled_fraction": 1.0}
    for fraction in run.fractions:
        key = fraction_key(fraction)
        scores = {name: metrics.get(f"finetune/{key}/{name}_mean") for name in ("top1", "top1_clean")}
        scores["seconds"] = seconds[f"finetune/{key}-seed{run.seed}"] + seconds["pretrain"]
        yield f"finetune-{key}", {**common, **scores, "task": "finetune", "labelled_fraction": fraction}


def _seconds(parent: str) -> dict[str, float]:
    """How long each step took, also one that was reused."""
    client = tracking.connect()
    runs = {run.data.tags[tracking.STEP]: run for run in tracking.children(client, parent)}
    for tag, value in client.get_run(parent).data.tags.items():
        if tag.startswith("step."):
            run = client.get_run(value)
            runs.setdefault(run.data.tags[tracking.STEP], run)
    return {step: round((run.info.end_time - run.info.start_time) / 1000, 1) for step, run in runs.items()}


def _average(name: str, runs: Sequence[Run]) -> None:
    """The streams together, where all of them are there, on the machine that made them."""
    rows = [_read(run.files["linear"]) for run in runs]
    if not all(run.done for run in runs):
        return
    tables = []
    for run, row in zip(runs, rows, strict=True):
        version = registry.version(run.settings.model_name, row["model_version"])
        if version is None or version.tags["recipe"] != run.recipe:
            return
        tables.append(pd.read_parquet(version.folder() / "predictions.parquet"))
    together = {
        **_of(runs[0]),
        **{"recipe": name, "streams": [run.recipe for run in runs], "task": "linear", "labelled_fraction": 1.0},
        **{"data_version": rows[0]["data_version"], "seconds": sum(row["seconds"] for row in rows)},
        **accuracy(ensemble(tables)),
    }
    artifact.write_json(OUT / name / f"linear-seed{runs[0].seed}.json", together)


def _of(run: Run) -> dict[str, Any]:
    """What is known of a run beforehand."""
    data = run.settings.data
    return {
        **{"dataset": data.dataset, "protocol": data.protocol, "recipe": run.recipe, "seed": run.seed},
        **({"fold": run.fold} if run.fold else {}),
        **{"recipe_sha256": run.sha256, "commit": commit(), "hardware": hardware(torch.get_num_threads())},
    }


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return found


if __name__ == "__main__":
    main()
