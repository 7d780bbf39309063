"""Addresses of MLflow's pages: relative in notes, which MLflow shows itself; absolute in report files."""

from __future__ import annotations

from urllib.parse import quote, urlsplit, urlunsplit

from glt import settings

_TRAINING = "?workflowType=machine_learning"  # without, MLflow shows what it has for language models


def experiment_page(experiment_id: str) -> str:
    """The page with the runs of an experiment."""
    return f"#/experiments/{quote(experiment_id)}/runs{_TRAINING}"


def view_page(experiment_id: str, view: str) -> str:
    """The page with the runs of an experiment, by one of its saved views."""
    return f"{experiment_page(experiment_id)}&viewStateShareKey={quote(view)}"


def run_page(experiment_id: str, run_id: str) -> str:
    """The page of a run, from any page of MLflow."""
    return f"{_run(experiment_id, run_id)}{_TRAINING}"


def artifact_page(experiment_id: str, run_id: str, path: str) -> str:
    """The page that shows an artifact of a run."""
    return f"{_run(experiment_id, run_id)}/artifacts/{quote(path)}{_TRAINING}"


def model_page(name: str, version: str = "") -> str:
    """The page of a registered model, or of one of its versions."""
    page = f"#/models/{quote(name, safe='')}"
    return f"{page}/versions/{quote(version)}" if version else page


def absolute(page: str) -> str:
    """The address of one of these pages for a file that is read outside MLflow.

    Empty if no server is known: a local store has no address until somebody starts its user interface.
    """
    try:
        parts = urlsplit(settings.mlflow_address())
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https"):
        return ""
    server = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
    return f"{server}/{page}"


def _run(experiment_id: str, run_id: str) -> str:
    return f"#/experiments/{quote(experiment_id)}/runs/{quote(run_id)}"
