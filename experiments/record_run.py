"""Write the scores of the newest finished run of a recipe to results/<name of the recipe>.json.

make run RECIPE=nw-ucla RECORDINGS=... && make record RECIPE=nw-ucla
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from mlflow.entities import Run

from benchmarks.hardware import ROOT, commit, hardware
from glt import artifact, recipe
from glt.errors import GltError
from glt.lifecycle import tracking
from glt.recipe import Recipe


def record(chosen: Recipe, results: Path) -> Path:
    """Write the file, from MLflow's parent run and its children; returns its path, which is in the folder `results`.

    Raises:
        GltError: no run of the recipe has finished.
    """
    client = tracking.connect()
    experiment = client.get_experiment_by_name(chosen.experiment)
    query = f"tags.recipe = '{chosen.name}' and attributes.status = 'FINISHED'"
    newest_first = ["attributes.start_time DESC"]
    runs = client.search_runs([experiment.experiment_id], query, order_by=newest_first) if experiment else []
    parent = next((run for run in runs if tracking.PARENT not in run.data.tags), None)
    if parent is None:
        raise GltError(f"no finished run of the recipe {chosen.name} in {chosen.experiment}; `make run` it first")
    tags = parent.data.tags
    steps = [run for run in runs if run.data.tags.get(tracking.PARENT) == parent.info.run_id]
    result: dict[str, Any] = {
        "metrics": parent.data.metrics,
        "gate": tags["gate.reason"],
        "seconds": {"run": seconds(parent), **{run.data.tags[tracking.STEP]: seconds(run) for run in steps}},
        "seed": chosen.seed,
        "recipe": chosen.model_dump(mode="json"),
        "data_version": tags["data.version"],
        "code_version": tags["code.version"],
        "commit": commit(),
        "hardware": hardware(torch.get_num_threads()),
    }
    path = results / f"{chosen.name}.json"
    artifact.write_json(path, result)
    return path


def seconds(run: Run) -> float:
    """The duration of a run in seconds."""
    milliseconds: int = run.info.end_time - run.info.start_time
    return round(milliseconds / 1000, 1)


def main() -> None:
    """Record the recipe that the command line names, by its name or by the path of its file."""
    try:
        print(record(recipe.load(sys.argv[1]), ROOT / "results"))
    except GltError as error:
        sys.exit(f"record: {error}")


if __name__ == "__main__":
    main()
