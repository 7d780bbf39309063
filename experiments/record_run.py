"""Write the scores of the newest finished run of a recipe to results/<recipe>.json.

make run RECIPE=nw-ucla RECORDINGS=... && make record RECIPE=nw-ucla
"""

from __future__ import annotations

import sys

import torch

from benchmarks.hardware import ROOT, commit, hardware
from glt import artifact, recipe
from glt.lifecycle import tracking


def main() -> None:
    """Take them from MLflow's parent run, and the seconds of the steps that it ran from its children."""
    chosen = recipe.load(sys.argv[1])
    client = tracking.connect()
    experiment = client.get_experiment_by_name(chosen.experiment)
    if experiment is None:
        sys.exit(f"no run of {chosen.experiment}; make run RECIPE={sys.argv[1]} first")
    query = f"tags.recipe = '{chosen.name}' and attributes.status = 'FINISHED'"
    runs = client.search_runs([experiment.experiment_id], query, order_by=["attributes.start_time DESC"])
    parent = next(run for run in runs if tracking.PARENT not in run.data.tags)
    tags = parent.data.tags
    seconds = {}
    for run in runs:
        if run.data.tags.get(tracking.PARENT) == parent.info.run_id:
            seconds[run.data.tags[tracking.STEP]] = round((run.info.end_time - run.info.start_time) / 1000, 1)
    result = {
        "metrics": parent.data.metrics,
        "gate": tags["gate.reason"],
        "seconds": {"run": round((parent.info.end_time - parent.info.start_time) / 1000, 1), **seconds},
        "seed": chosen.seed,
        "recipe": chosen.model_dump(mode="json"),
        "data_version": tags["data.version"],
        "code_version": tags["code.version"],
        "commit": commit(),
        "hardware": hardware(torch.get_num_threads()),
    }
    path = ROOT / "results" / f"{chosen.name}.json"
    artifact.write_json(path, result)
    print(path)


if __name__ == "__main__":
    main()
