"""The paper's ablations (glt/studies): every arm and seed in one graph, for hours on 2 cores.

    python -m experiments.ablations folder     # as the second half of make results

The folder is that of experiments/protocols.py; the sample set needs none. A study says first how long what is missing
takes, and is one run in MLflow. Scores are written to results/ablations/ when all arms are done, and not made again
while an arm's recipe stays as it is; an interrupted study goes on where it was. What is made on the way is in
runs/protocols.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.hardware import ROOT, commit, hardware
from experiments import protocols
from experiments.record_run import seconds
from glt import artifact
from glt.analysis.arms import TrainedArm
from glt.lifecycle import recordings as pinned
from glt.lifecycle import tracking
from glt.recipe import Recipe, study
from glt.recipe.study import Study
from pipelines import local

OUT = ROOT / "results" / "ablations"
MINUTES = {"nw-ucla": 2.3, "sbu": 1.5, "sample": 2.0}  # an arm and seed, two at a time on 2 cores
FOLDS = {"sbu": (1, 2, 3, 4, 5)}  # of a study; a graph each, as each has a test split of its own


def main() -> None:
    """Print which results are missing and how long they take, then compute them."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("recordings", type=Path)
    arguments.add_argument("--studies", nargs="+", default=study.names())
    arguments.add_argument("--arms", nargs="+", default=[])
    arguments.add_argument("--seeds", nargs="+", type=int, default=[])
    options = arguments.parse_args()
    os.environ.setdefault("GLT_HOME", str(ROOT / "runs" / "protocols"))
    for name in options.studies:
        for fold in FOLDS.get(name, (0,)):
            selected = _with_fold(study.load(name), fold)
            arms = selected.recipes(seeds=tuple(options.seeds), arms=tuple(options.arms))
            missing = [arm for arm in arms if not _is_done(name, arm, fold)]
            hours = len(missing) * MINUTES[name] / 60
            title = f"{name}{f', fold {fold}' if fold else ''}"
            Console().rule(f"{title}: {len(missing)} of {len(arms)} are missing, they take {hours:.1f} h, about")
            if missing:
                for arm, row in run_study(selected, _recordings(selected, options.recordings), missing):
                    artifact.write_json(_file(name, arm, fold), {**row, **({"fold": fold} if fold else {})})


def run_study(chosen: Study, recordings: Path, arms: Sequence[Recipe]) -> Iterator[tuple[Recipe, dict[str, Any]]]:
    """Run the graph; yields each arm and seed with its row of results."""
    parent = local.ablate(str(recordings), chosen, arms)
    tags, steps = tracking.connect().get_run(parent).data.tags, protocols.steps(parent)
    threads = local.threads_of_an_arm(len(arms))
    for arm in arms:
        runs = [steps[f"{step}/{arm.trained_arm}"] for step in ("pretrain", "linear_probe")]
        scores = TrainedArm(arm.arm, arm.seed, runs[-1].data.metrics).scores
        yield (
            arm,
            {
                **{"dataset": arm.data.dataset, "protocol": arm.data.protocol, "recipe": arm.name, "arm": arm.arm},
                **{"task": "linear", "labelled_fraction": 1.0, "seed": arm.seed, **scores},
                "seconds": round(sum(map(seconds, runs)), 1),
                **{"data_version": tags["data.version"], "code_version": tags["code.version"]},
                **{"recipe_sha256": protocols.sha256(arm), "commit": commit(), "hardware": hardware(threads)},
            },
        )


def _with_fold(base: Study, fold: int) -> Study:
    """The study on a fold; 0 leaves the recipe's."""
    return base.model_copy(update={"changes": {"data": {"fold": fold}}}) if fold else base


def _is_done(name: str, arm: Recipe, fold: int) -> bool:
    return protocols.read(_file(name, arm, fold)).get("recipe_sha256") == protocols.sha256(arm)


def _recordings(chosen: Study, folder: Path) -> Path:
    """The path of a study's recordings: an archive in `folder`, or what data.dvc pins."""
    archive = protocols.ARCHIVES.get(chosen.base.data.dataset)
    return folder / archive if archive else pinned.prepare(ROOT)


def _file(name: str, arm: Recipe, fold: int) -> Path:
    return OUT / name / f"{arm.trained_arm}{f'-fold{fold}' if fold else ''}.json"


if __name__ == "__main__":
    main()
