"""The findings that `ingest` recorded on a data version, for later steps."""

from __future__ import annotations

from glt.data import findings
from glt.data.findings import Finding
from glt.lifecycle import run_artifacts
from glt.recipe import Recipe

FILE = "findings.json"  # below ``data/`` among the artifacts of ingest's MLflow run


def load_findings(recipe: Recipe, data_version: str) -> list[Finding] | None:
    """The findings of `ingest` on a data version; None if no run recorded them."""
    return run_artifacts.read_step_artifact(recipe, data_version, "ingest", f"data/{FILE}", findings.read)
