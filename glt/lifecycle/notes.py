"""Notes: the Markdown that MLflow shows on the pages of experiments and runs, with links between them.

A note that a person has edited stays as it is: a tag holds the digest of the note that was written last.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from glt.errors import first_line
from glt.lifecycle import links as pages
from glt.lifecycle.connection import connect
from glt.lifecycle.run_artifacts import page_in
from glt.lifecycle.tracking import STEP, children, step_names
from glt.text import markdown_text

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_LOG = logging.getLogger(__name__)

NOTE = "mlflow.note.content"
DIGEST = "glt.note"  # tag: digest of the note as it was written here
REPORT, DATA = "report", "data"  # folders of the pages among the artifacts of the steps `report` and `ingest`
MODEL, VERSION = "model.name", "model.version"  # tags of the parent run
LONGEST_LINKS = 800  # characters
_ORIGIN = "**Origin:**"  # begins the paragraph with the links of a version
_REPORTS = ("Report", "Data report")
_SCORES = {
    "probe/top1": "Linear probe",
    "probe/top1_clean": "Linear probe, clips without a duplicate in training",
    "probe/val_top1": "Validation, what the gate compares",
    "probe/untrained_top1": "Untrained encoder, same probe",
    "knn/top1": "Nearest neighbour",
}


def links(parent_id: str, ingest_run: str = "", model: str = "") -> dict[str, str]:
    """Links (title -> address) for a report on a run; empty if MLflow is a local file, which has no address.

    Args:
        parent_id: MLflow run of the pipeline run.
        ingest_run: MLflow run of the step that read the recordings, whose report is linked.
        model: name of the registered model.
    """
    client = connect()
    run = client.get_run(parent_id)
    found = {f"MLflow run {run.info.run_name}": pages.run_page(run.info.experiment_id, parent_id)}
    if page := ingest_run and _data_report(client, ingest_run):
        found["Data report"] = page
    if model:
        found[f"Registered model {model}"] = pages.model_page(model)
    return {title: address for title, page in found.items() if (address := pages.absolute(page))}


def describe_run(parent_id: str) -> None:
    """Write the note of a pipeline run: links, the gate's decision, scores. Its model version gets links back."""
    client = connect()
    run = client.get_run(parent_id)
    tags, metrics = run.data.tags, run.data.metrics
    # MLflow shows the first lines until somebody asks for more.
    found = _pages(client, run)
    lines = [_line(found), ""]
    lines += [markdown_text(tags["gate.reason"], 1000), ""] if "gate.reason" in tags else []
    rows = [f"| {title} | {100 * metrics[key]:.1f} % |" for key, title in _SCORES.items() if key in metrics]
    lines += ["| Top-1 accuracy | |", "| --- | --- |", *rows, ""] if rows else []
    write(client, run, "\n".join(lines).strip())
    _link_version(client, run, found)


def refresh(client: MlflowClient, parent_id: str) -> None:
    """Write the note of a run again, if it has one: steps that end at the same time miss each other's pages.

    No failure of MLflow stops the caller.
    """
    try:
        if DIGEST in client.get_run(parent_id).data.tags:
            describe_run(parent_id)
    except Exception as error:  # MLflow, requests and sqlalchemy each raise their own
        _LOG.debug("the note of run %s is not renewed: %s", parent_id, first_line(error))


def version_note(reason: str, links: str, card: str) -> str:
    """The description of a version of a model: the gate's reason, links (`describe_run` adds them), the model card."""
    return "\n\n".join((reason, links or _ORIGIN, card))


def links_of(note: str) -> str:
    """The paragraph with links in the description of a version; empty if it has none."""
    parts = note.split("\n\n", 2)
    return parts[1] if len(parts) == 3 and parts[1].startswith(_ORIGIN) else ""


def _link_version(client: MlflowClient, run: Run, found: Mapping[str, str]) -> None:
    """Link the version that a run registered with the run and its reports, unless a person has edited its note."""
    from mlflow.exceptions import MlflowException

    name, number = run.data.tags.get(MODEL, ""), run.data.tags.get(VERSION, "")
    if not name or not number:
        return
    try:
        version = client.get_model_version(name, number)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return
    if (version.tags or {}).get("parent.run") not in (None, run.info.run_id):  # an earlier run registered it
        return
    description = version.description or ""
    if links_of(description):
        reason, _, card = description.split("\n\n", 2)
        here = {"MLflow run": pages.run_page(run.info.experiment_id, run.info.run_id)}
        here |= {title: page for title, page in found.items() if title in _REPORTS}
        links = f"{_ORIGIN} {_line(here)}"
        if len(links) <= LONGEST_LINKS:
            client.update_model_version(name, number, version_note(reason, links, card))


def _line(found: Mapping[str, str]) -> str:
    return " · ".join(f"[{title}]({page})" for title, page in found.items())


def write(client: MlflowClient, run: Run, note: str) -> None:
    """Set the note of a run, unless a person has edited it."""
    if tags := edited(run.data.tags, note):
        for name, value in tags.items():
            client.set_tag(run.info.run_id, name, value)


def edited(tags: Mapping[str, str], note: str) -> dict[str, str]:
    """The tags that set a note; none if a person has edited the note in `tags`, or if it is the same."""
    before = tags.get(NOTE, "")
    if before and (before == note or _digest(before) != tags.get(DIGEST)):
        return {}
    return {NOTE: note, DIGEST: _digest(note)}


def _pages(client: MlflowClient, run: Run) -> dict[str, str]:
    """Pages to link from the note of a run, by title."""
    tags, experiment = run.data.tags, run.info.experiment_id
    found = {}
    for title, reporting in (("Report", "report"), ("Comparison of the arms", "compare_arms")):
        for step in children(client, run.info.run_id, reporting)[:1]:
            if name := page_in(client, step, REPORT):
                found[title] = pages.artifact_page(experiment, step.info.run_id, name)
    ingests = [tags["step.ingest"]] if "step.ingest" in tags else []
    ingests += [step.info.run_id for name in step_names("ingest") for step in children(client, run.info.run_id, name)]
    if page := next(filter(None, (_data_report(client, run_id) for run_id in ingests)), ""):
        found["Data report"] = page
    if model := tags.get(MODEL):
        title = f"Model {markdown_text(model)} version {markdown_text(tags.get(VERSION, ''))}"
        found[title] = pages.model_page(model, tags.get(VERSION, ""))
    return found


def _data_report(client: MlflowClient, run_id: str) -> str:
    """The page that shows the data report of a step; empty if the run was deleted, or has none."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return ""
    name = page_in(client, run, DATA) if STEP in run.data.tags else ""
    return pages.artifact_page(run.info.experiment_id, run_id, name) if name else ""


def _digest(note: str) -> str:
    return hashlib.sha256(note.encode()).hexdigest()[:16]
