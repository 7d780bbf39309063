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
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mlflow.entities import Run as MlflowRun
from rich.console import Console

from benchmarks.hardware import ROOT, commit, hardware
from experiments import by_hand
from experiments.record_run import seconds
from glt import artifact
from glt.analysis.scores import ensemble, fraction_key
from glt.errors import GltError
from glt.lifecycle import registry, tracking
from glt.motion.disentangle import Motions
from glt.recipe import ProbeConfig, Recipe, load
from glt.reporter import Silent
from glt.settings import home
from glt.steps import data, training
from glt.training.classifier import accuracy, load_classifier
from glt.training.encoder import build_encoder, save_encoder
from glt.training.probe import fit_probe
from pipelines import local

OUT = ROOT / "results" / "protocols"
ARCHIVES = {"nw-ucla": "nw-ucla/all_sqe.zip", "sbu": "sbu/sbu_kinect_interaction_clean.zip"}
SCORES = {"linear": "probe/", "knn": "knn/", "floor": "probe/untrained_"}  # task -> its keys in MLflow, but for the end
FLOORS = ("floor-raw", "floor-by-hand")  # of seed 0 only: nothing in them is drawn
CONTROLS = (*FLOORS, "linear-paper", "supervised")  # what is measured beside the graph


@dataclass(frozen=True)
class Run:
    """One seed of a recipe.

    Attributes:
        recipe: its name.
        seed: of pretraining, of classifiers and of the draw of labels.
        minutes: that it takes on 2 cores, about.
        fractions: labelled fractions of the semi-supervised protocol.
        fold: of a 5-fold protocol; 0 for others.
        controls: whether the paper's probe is fitted, too, an encoder trained on all labels from scratch, and the
            floors measured.
    """

    recipe: str
    seed: int
    minutes: float
    fractions: tuple[float, ...] = (0.05, 0.10)
    fold: int = 0
    controls: bool = False

    @cached_property
    def settings(self) -> Recipe:
        """The recipe with this seed and fold."""
        whole = load(self.recipe)
        fold = whole.data.model_copy(update={"fold": self.fold} if self.fold else {})
        changes = {"seed": self.seed, "seeds": (self.seed,), "fractions": self.fractions, "data": fold}
        return whole.model_copy(update=changes)

    @property
    def title(self) -> str:
        """The name of the run on the screen."""
        return f"{self.recipe}, seed {self.seed}" + (f", fold {self.fold}" if self.fold else "")

    @property
    def sha256(self) -> str:
        """Hash of the recipe; scores with another hash are computed again."""
        return sha256(self.settings)

    @property
    def files(self) -> dict[str, Path]:
        """The files of its scores, by task."""
        name = f"seed{self.seed}" + (f"-fold{self.fold}" if self.fold else "")
        tasks = [*SCORES, *(f"finetune-{fraction_key(fraction)}" for fraction in self.fractions)]
        if self.controls:
            tasks += [task for task in CONTROLS if self.seed == 0 or task not in FLOORS]
        return {task: OUT / self.recipe / f"{task}-{name}.json" for task in tasks}

    @property
    def missing(self) -> list[str]:
        """Tasks without scores, or with scores of another recipe."""
        return [task for task, file in self.files.items() if read(file).get("recipe_sha256") != self.sha256]


RUNS = (
    *(Run("nw-ucla", seed, 25, fractions=(0.01, 0.05, 0.10), controls=True) for seed in range(5)),
    *(Run(name, seed, 17) for name in ("nw-ucla-deduplicated", "nw-ucla-bone", "nw-ucla-motion") for seed in range(5)),
    *(Run("sbu", seed, 8, fold=fold) for seed in range(5) for fold in range(1, 6)),
)
STREAMS = {"nw-ucla-3s": ("nw-ucla", "nw-ucla-bone", "nw-ucla-motion")}  # whose probes' probabilities are averaged


def main() -> None:
    """Print which results are missing and how long they take, then compute them."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("recordings", type=Path)
    arguments.add_argument("--recipes", nargs="+", default=sorted({run.recipe for run in RUNS}))
    arguments.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    options = arguments.parse_args()
    os.environ.setdefault("GLT_HOME", str(ROOT / "runs" / "protocols"))
    chosen = [run for run in RUNS if run.recipe in options.recipes and run.seed in options.seeds]
    missing = [run for run in chosen if run.missing]
    hours = sum(run.minutes for run in missing) / 60
    console = Console()
    console.print(f"{len(chosen) - len(missing)} of {len(chosen)} runs are there; the others take {hours:.1f} h, about")
    for index, run in enumerate(missing, 1):
        console.rule(f"run {index} of {len(missing)}: {run.title}")
        if set(run.missing) - set(CONTROLS):
            for task, row in run_graph(run, options.recordings / ARCHIVES[run.settings.data.dataset]):
                artifact.write_json(run.files[task], row)
    for name, streams in STREAMS.items():
        for seed in options.seeds:
            _average_streams(name, [run for run in RUNS if run.recipe in streams and run.seed == seed])
    for run in missing:
        if tasks := [task for task in run.missing if task in CONTROLS]:
            console.rule(f"{run.title}: {', '.join(tasks)}")
            for task, row in measure_controls(run, options.recordings / ARCHIVES[run.settings.data.dataset], tasks):
                artifact.write_json(run.files[task], row)


def run_graph(run: Run, recordings: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run the graph; yields a row of results for each task."""
    parent = local.run(str(recordings), run.settings.to_json())
    result = tracking.connect().get_run(parent).data
    metrics, tags = result.metrics, result.tags
    durations = {step: seconds(run) for step, run in steps(parent).items()}
    common = {
        **_description(run),
        "data_version": tags["data.version"],
        "code_version": tags["code.version"],
        "model_version": tags["model.version"],
    }
    for task, key in SCORES.items():
        scores = {name: metrics.get(f"{key}{name}") for name in ("top1", "top1_clean", "val_top1")}
        scores["seconds"] = round(durations["linear_probe"] + (0 if task == "floor" else durations["pretrain"]), 1)
        yield task, {**common, **scores, "task": task, "labelled_fraction": 1.0}
    for fraction in run.fractions:
        key = fraction_key(fraction)
        scores = {name: metrics.get(f"finetune/{key}/{name}_mean") for name in ("top1", "top1_clean")}
        scores["seconds"] = round(durations[f"finetune/{key}-seed{run.seed}"] + durations["pretrain"], 1)
        yield f"finetune-{key}", {**common, **scores, "task": "finetune", "labelled_fraction": fraction}


def measure_controls(run: Run, recordings: Path, tasks: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Measure baselines outside the graph; yields a row of results for each task."""
    if not tasks:
        return
    folder, text = home() / "controls" / f"{run.sha256[:12]}", run.settings.to_json()
    data.ingest(str(recordings), text, folder / "clips")
    data.disentangle(folder / "clips", text, folder / "motions")
    motions = Motions(folder / "motions")
    by_task = {
        "floor-raw": by_hand.raw_positions(run.settings.model.max_frames),
        "floor-by-hand": by_hand.pooled_statistics,
    }
    for task in tasks:
        started = time.perf_counter()
        if task == "supervised":
            scores = _supervised(run.settings, motions, folder)
        elif task == "linear-paper":
            scores = _paper_probe(run, motions)
        else:
            scores = by_hand.scores(motions, by_task[task])
        row = {"task": task, "labelled_fraction": 1.0, "seconds": round(time.perf_counter() - started, 1), **scores}
        yield task, {**_description(run), "data_version": motions.info["data_version"], **row}


def _paper_probe(run: Run, motions: Motions) -> dict[str, float]:
    """The paper's linear evaluation of the run's encoder: the mean of F over frames, Adam, nothing regularised."""
    row = read(run.files["linear"])
    version = registry.version(run.settings.model_name, row["model_version"])
    if version is None or version.tags["recipe"] != run.recipe:
        raise GltError(
            f"{run.files['linear']}: this machine does not have its model; delete the file to train it again"
        )
    paper = run.settings.model_copy(update={"probe": ProbeConfig()})
    encoder = load_classifier(version.folder())[0].encoder
    metrics = fit_probe(encoder, motions, paper, torch.device("cpu"), Silent()).metrics
    return {name: metrics[f"probe/{name}"] for name in ("top1", "top1_clean", "val_top1")}


def _supervised(recipe: Recipe, motions: Motions, folder: Path) -> dict[str, float]:
    """Fine-tuning on all labels from an untrained encoder, at the classifier's rate for all of it."""
    torch.manual_seed(recipe.seed)
    version = {"data_version": motions.info["data_version"]}
    save_encoder(build_encoder(recipe.model, motions), [], folder / "untrained", version)
    changes = {"encoder_lr": recipe.finetune.lr, "start": "random"}
    scratch = recipe.model_copy(update={"finetune": recipe.finetune.model_copy(update=changes)}).to_json()
    out = folder / "supervised"
    metrics = training.finetune(motions.path, folder / "untrained", scratch, 1.0, recipe.seed, out, accelerator="cpu")
    return {name: metrics[f"finetune/{name}"] for name in ("top1", "top1_clean")}


def steps(parent: str) -> dict[str, MlflowRun]:
    """The MLflow run of each step by its name, including reused steps."""
    client = tracking.connect()
    runs = {run.data.tags[tracking.STEP]: run for run in tracking.children(client, parent)}
    for tag, value in client.get_run(parent).data.tags.items():
        if tag.startswith("step."):
            run = client.get_run(value)
            runs.setdefault(run.data.tags[tracking.STEP], run)
    return runs


def _average_streams(name: str, runs: Sequence[Run]) -> None:
    """Average the predictions of the streams and store the scores, if all streams' models are on this machine."""
    rows = [read(run.files["linear"]) for run in runs]
    if not all(rows) or any("linear" in run.missing for run in runs):
        return
    tables = []
    for run, row in zip(runs, rows, strict=True):
        version = registry.version(run.settings.model_name, row["model_version"])
        if version is None or version.tags["recipe"] != run.recipe:
            return
        tables.append(pd.read_parquet(version.folder() / "predictions.parquet"))
    averaged = {
        **_description(runs[0]),
        **{"recipe": name, "streams": [run.recipe for run in runs], "task": "linear", "labelled_fraction": 1.0},
        **{"data_version": rows[0]["data_version"], "seconds": round(sum(row["seconds"] for row in rows), 1)},
        **accuracy(ensemble(tables)),
    }
    artifact.write_json(OUT / name / f"linear-seed{runs[0].seed}.json", averaged)


def _description(run: Run) -> dict[str, Any]:
    """The fields of a result row that are known before the run."""
    settings = run.settings.data
    return {
        **{"dataset": settings.dataset, "protocol": settings.protocol, "recipe": run.recipe, "seed": run.seed},
        **({"fold": run.fold} if run.fold else {}),
        **{"recipe_sha256": run.sha256, "commit": commit(), "hardware": hardware(torch.get_num_threads())},
    }


def sha256(recipe: Recipe) -> str:
    """Hash of the fields that a recipe sets; a new field at its default does not change it."""
    text = json.dumps(recipe.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read(file: Path) -> dict[str, Any]:
    """Read a row of results; empty if the file does not exist."""
    row: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return row


if __name__ == "__main__":
    main()
