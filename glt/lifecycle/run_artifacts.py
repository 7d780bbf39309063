"""Download files that earlier steps logged to MLflow."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from glt import artifact
from glt.lifecycle.tracking import STEP, children, connect, step_names, tagged_runs
from glt.recipe import Recipe

T = TypeVar("T")


def download_report(parent_id: str, out: Path) -> None:
    """Download the report of a pipeline run to the file `out`."""
    import mlflow

    client = connect()
    (run, *_) = children(client, parent_id, "report")
    run_id = run.info.run_id
    (name,) = (file.path for file in client.list_artifacts(run_id, "report"))
    with tempfile.TemporaryDirectory() as folder:
        page = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name, dst_path=folder)
        artifact.write_bytes(out, Path(page).read_bytes())


def read_step_artifact(recipe: Recipe, data_version: str, step: str, path: str, read: Callable[[Path], T]) -> T | None:
    """Read a file that a finished step logged: as `download_step_artifact`, into a folder that is deleted afterwards.

    Returns:
        The result of `read` on the download; None if no run has the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = download_step_artifact(recipe, data_version, step, path, Path(folder))
        return read(file) if file else None


def download_step_artifact(recipe: Recipe, data_version: str, step: str, path: str, folder: Path) -> Path | None:
    """Download a file that a finished step logged to its MLflow run, of the newest run that has it.

    Args:
        recipe: names the experiment.
        data_version: the data version of the run.
        step: name of the step.
        path: path of the file among the run's artifacts.
        folder: folder to download to.

    Returns:
        The path of the download; None if no run has the file.
    """
    import mlflow

    client = connect()
    experiment = client.get_experiment_by_name(recipe.experiment)
    if experiment is None:
        return None
    runs = (
        run
        for name in step_names(step)
        for run in tagged_runs(
            client,
            [experiment.experiment_id],
            {STEP: name, "data.version": data_version},
            "attributes.status = 'FINISHED'",
        )
    )
    for run in runs:
        parent = path.rpartition("/")[0] or None
        if any(file.path == path for file in client.list_artifacts(run.info.run_id, parent)):
            download = mlflow.artifacts.download_artifacts(
                run_id=run.info.run_id, artifact_path=path, dst_path=str(folder)
            )
            return Path(download)
    return None
