"""The whole graph with the NTU recipe at the paper's full setting, for one epoch on few recordings.

    python -m experiments.ntu_run folder-of-raw-NTU-recordings

Runs the whole graph with the recipe ntu60-xsub-paper (48 dims per token, 300 frames, batches of 128), one epoch of
pretraining and of fine-tuning, on the raw recordings given and on the sample set, which has NTU's format and layout.
Writes results/ntu-run.json; takes a quarter of an hour on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path
from typing import Any

import torch

from benchmarks.hardware import ROOT, commit, hardware
from experiments import protocols
from experiments.record_run import seconds
from glt import artifact
from glt.lifecycle import recordings as pinned
from glt.lifecycle import tracking
from glt.recipe import Recipe, load, with_changes
from pipelines import local

OUT = ROOT / "results" / "ntu-run.json"
RECIPE = "ntu60-xsub-paper"
SHORT = {"pretrain": {"epochs": 1}, "finetune": {"epochs": 1}}


def main() -> None:
    """Run the graph on both sets; print and store the results."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("recordings", type=Path)
    options = arguments.parse_args()
    os.environ.setdefault("GLT_HOME", str(ROOT / "runs" / "ntu"))
    sources = {"raw": options.recordings, "sample": pinned.prepare(ROOT)}
    results = {name: run_graph(recordings, name) for name, recordings in sources.items()}
    common = {"recipe": RECIPE, "changes": SHORT, "commit": commit(), "hardware": hardware(torch.get_num_threads())}
    artifact.write_json(OUT, {**common, "recordings": results})
    print(json.dumps(results, indent=1))


def run_graph(recordings: Path, name: str) -> dict[str, Any]:
    """Run the graph on these recordings.

    Returns:
        Number of clips and optimiser steps, the loss beside that of uniform predictions, seconds per step of the graph,
        and the model version.
    """
    recipe = with_changes(load(RECIPE), {**SHORT, "data": {"dataset": f"ntu60-{name}"}}, RECIPE)
    parent = local.run(str(recordings), recipe.to_json())
    run = tracking.connect().get_run(parent).data
    steps = protocols.steps(parent)
    clips = int(steps["disentangle"].data.metrics["data/train"])
    return {
        "clips": int(run.metrics["data/clips"]),
        "train": clips,
        "steps": math.ceil(clips / recipe.pretrain.batch),
        "loss": run.metrics["pretrain/loss"],
        "loss_of_guessing": _uniform_loss(recipe),
        "seconds": {step: seconds(one) for step, one in sorted(steps.items())},
        "model_version": run.tags["model.version"],
    }


def _uniform_loss(recipe: Recipe) -> float:
    """The loss of equal probabilities for all classes of direction and magnitude, joints and global translation."""
    classes = recipe.motion.magnitude_classes + (1 if recipe.motion.absent == "own-class" else 0)
    return (math.log(27) + math.log(classes)) * (1 + recipe.pretrain.lambda_global)


if __name__ == "__main__":
    main()
