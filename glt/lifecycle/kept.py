"""Files that earlier steps have kept in MLflow, brought back."""

from __future__ import annotations

import tempfile
from pathlib import Path

from glt import artifact
from glt.lifecycle.tracking import STEP, children, connect, step_names
from glt.recipe import Recipe


def fetch_report(parent_id: str, place: Path) -> None:
    """Copy the report of a pipeline run to `place`."""
    import mlflow

    client = connect()
    (run, *_) = children(client, parent_id, f"and tags.`{STEP}` = 'report'")
    run_id = run.info.run_id
    (name,) = (file.path for file in client.list_artifacts(run_id, "report"))
    with tempfile.TemporaryDirectory() as folder:
        page = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name, dst_path=folder)
        artifact.write_bytes(place, Path(page).read_bytes())


def file_of_step(recipe: Recipe, data_version: str, step: str, path: str, folder: Path) -> Path | None:
    """A file that a finished step kept in its MLflow run, downloaded to `folder`; None if no run has it.

    Args:
        recipe: says the experiment.
        data_version: of the step's recordings.
        step: its name.
        path: of the file among the run's artifacts.
        folder: where it goes.
    """
    import mlflow

    client = connect()
    experiment = client.get_experiment_by_name(recipe.experiment)
    if experiment is None:
        return None
    finished = f"tags.`data.version` = '{data_version}' and attributes.status = 'FINISHED'"
    runs = (
        run
        for name in step_names(step)
        for run in client.search_runs(
            [experiment.experiment_id],
            f"tags.`{STEP}` = '{name}' and {finished}",
            order_by=["attributes.start_time DESC"],
        )
    )
    for run in runs:
        place = path.rpartition("/")[0] or None
        if any(file.path == path for file in client.list_artifacts(run.info.run_id, place)):
            found = mlflow.artifacts.download_artifacts(
                run_id=run.info.run_id, artifact_path=path, dst_path=str(folder)
            )
            return Path(found)
    return None
