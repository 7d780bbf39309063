"""Page of an experiment in MLflow: its kind, a note, and a saved view of the runs table with the scores first.

MLflow's table begins with no metrics at all, and lists the chosen ones in alphabetical order. What it offers is a saved
view, a tag of the experiment that its menu "Views" lists (mlflow/server/js of MLflow 3.17, savedViews).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from glt.lifecycle import links
from glt.text import markdown_text

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

KIND = {"mlflow.experimentKind": "custom_model_development"}  # else its UI hides the runs
VIEW = "glt-scores"
SCORES = (  # in the order of the view
    "probe/top1",
    "probe/top1_clean",
    "probe/val_top1",
    "probe/untrained_top1",
    "finetune/05pct/top1_mean",
    "finetune/10pct/top1_mean",
    "knn/top1",
    "cost/cpu_hours",
    "cost/gpu_hours",
)
_TAG = f"mlflow.sharedViewState.{VIEW}"
_NOTE = "mlflow.note.content"
_CREATED = 1_796_000_000_000  # milliseconds; the view is the same for every run
_CHANGED = "glt.page"  # tag: version of this page that was set last; what people change afterwards stays
_VERSION = "1"


def ensure(client: MlflowClient, experiment: Experiment) -> None:
    """Set note and view, once per experiment and version of this page; a note that is there stays."""
    tags = experiment.tags
    if tags.get(_CHANGED) == _VERSION:
        return
    if not tags.get(_NOTE):
        client.set_experiment_tag(experiment.experiment_id, _NOTE, note(experiment.name, experiment.experiment_id))
    client.set_experiment_tag(experiment.experiment_id, _TAG, view())
    client.set_experiment_tag(experiment.experiment_id, _CHANGED, _VERSION)


def note(name: str, experiment_id: str) -> str:
    """The note on an experiment, in Markdown."""
    return (
        f"Runs on the data set and protocol {markdown_text(name)}: one per pipeline run, with its steps below it.\n\n"
        f"- [Runs with their scores]({links.view_page(experiment_id, VIEW)}): also in the menu *Views* of the table\n"
        f"- [Registered model]({links.model_page(f'glt-{name}')}): the versions, each with its model card\n\n"
        "`probe/top1` is linear evaluation on all test clips, `probe/top1_clean` without those that are also in the "
        "training set, `probe/val_top1` what the gate compares."
    )


def view() -> str:
    """The saved view as MLflow stores it: the scores of pipeline runs, the newest run first."""
    columns = [f"metrics.`{name}`" for name in SCORES]
    state = {
        "searchFilter": "",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "selectedColumns": [*columns, "attributes.`Models`", "attributes.`Dataset`"],
        "columnOrder": columns,
        "runListHidden": False,
        "viewMaximized": False,
    }
    return json.dumps({"name": "Scores", "createdAt": _CREATED, "updatedAt": _CREATED, "state": json.dumps(state)})
