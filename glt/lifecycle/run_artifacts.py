"""Download files that earlier steps logged to MLflow."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from glt import artifact
from glt.errors import GltError
from glt.lifecycle.step_run import PAGE_ENDING
from glt.lifecycle.tracking import STEP, children, connect, step_names, tagged_runs
from glt.recipe import Recipe

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

T = TypeVar("T")


def download_report(parent_id: str, out: Path) -> None:
    """Download the report of a pipeline run to the file `out`.

    Raises:
        GltError: it has none.
    """
    import mlflow

    client = connect()
    reports = [(run.info.run_id, page_in(client, run, "report")) for run in children(client, parent_id, "report")[:1]]
    if not reports or not reports[0][1]:
        raise GltError(f"MLflow run {parent_id} has no report; run its step `report` again")
    ((run_id, name),) = reports
    with tempfile.TemporaryDirectory() as folder:
        page = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name, dst_path=folder)
        artifact.write_bytes(out, Path(page).read_bytes())


def page_in(client: MlflowClient, run: Run, folder: str) -> str:
    """The path of the HTML page that a run logged in a folder; empty if there is none.

    Earlier versions logged pages without an ending, some beside JSON files. Of several the one with an ending counts:
    the run was tried again with this version.
    """
    names = [file.path for file in client.list_artifacts(run.info.run_id, folder) if not file.is_dir]
    pages = sorted((name for name in names if not PurePosixPath(name).suffix or name.endswith(PAGE_ENDING)), key=len)
    return pages[-1] if pages else ""


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
