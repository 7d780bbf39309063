"""The paper's ablations (glt/studies): every arm and seed in one graph, for hours on 2 cores.

    make ablations RECORDINGS=folder

The folder is that of `make results`; the sample set needs none. A study says first how long what is missing takes, and
is one run in MLflow. Scores are written to results/ablations/ when all arms are done, and not made again while an
arm's recipe stays as it is; an interrupted study goes on where it was. What is made on the way is in runs/protocols.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks import protocols
from benchmarks.hardware import ROOT, commit, hardware
from glt import artifact, study
from glt.lifecycle import recordings as pinned
from glt.lifecycle import tracking
from glt.recipe import Recipe
from glt.study import Study
from pipelines import local

OUT = ROOT / "results" / "ablations"
MINUTES = {"nw-ucla": 2.3, "sbu": 1.5, "sample": 1.0}  # an arm and seed, two at a time on 2 cores


def main() -> None:
    """Say what is missing and how long it takes, then make it."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("recordings", type=Path)
    arguments.add_argument("--studies", nargs="+", default=study.names())
    arguments.add_argument("--arms", nargs="+", default=[])
    arguments.add_argument("--seeds", nargs="+", type=int, default=[])
    given = arguments.parse_args()
    os.environ.setdefault("GLT_HOME", str(ROOT / "runs" / "protocols"))
    for name in given.studies:
        studied = study.load(name)
        arms = studied.recipes(seeds=tuple(given.seeds), arms=tuple(given.arms))
        missing = [
            arm for arm in arms if protocols.read(_file(name, arm)).get("recipe_sha256") != protocols.sha256(arm)
        ]
        hours = len(missing) * MINUTES[name] / 60
        Console().rule(
            f"{name}: {len(arms) - len(missing)} of {len(arms)} are there; the others take {hours:.1f} h, about"
        )
        if missing:
            for (arm, seed), row in measured(studied, _recordings(studied, given.recordings), missing):
                artifact.write_json(OUT / name / f"{arm}-seed{seed}.json", row)


def measured(
    studied: Study, recordings: Path, arms: Sequence[Recipe]
) -> Iterator[tuple[tuple[str, int], dict[str, Any]]]:
    """Run the graph; a row of results for each arm and seed."""
    parent = local.ablate(str(recordings), studied, arms)
    tags, steps = tracking.connect().get_run(parent).data.tags, protocols.steps(parent)
    threads = max(1, torch.get_num_threads() // min(2, len(arms)))
    for arm in arms:
        ran = [steps[f"{step}/{arm.arm}-seed{arm.seed}"] for step in ("pretrain", "linear_probe")]
        metrics = ran[-1].data.metrics
        scores = {name: metrics.get(f"probe/{name}") for name in ("top1", "top1_clean", "val_top1", "untrained_top1")}
        yield (
            (arm.arm, arm.seed),
            {
                **{"dataset": arm.data.dataset, "protocol": arm.data.protocol, "recipe": arm.name, "arm": arm.arm},
                **{"task": "linear", "labelled_fraction": 1.0, "seed": arm.seed, **scores},
                "seconds": round(sum(map(protocols.seconds, ran)), 1),
                **{"data_version": tags["data.version"], "code_version": tags["code.version"]},
                **{"recipe_sha256": protocols.sha256(arm), "commit": commit(), "hardware": hardware(threads)},
            },
        )


def _recordings(studied: Study, folder: Path) -> Path:
    """Where the recordings of a study are: in the folder given, or those that data.dvc pins."""
    archive = protocols.ARCHIVES.get(studied.base.data.dataset)
    return folder / archive if archive else pinned.prepare(ROOT)


def _file(name: str, arm: Recipe) -> Path:
    return OUT / name / f"{arm.arm}-seed{arm.seed}.json"


if __name__ == "__main__":
    main()
