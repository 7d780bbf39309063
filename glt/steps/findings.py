"""The findings that `ingest` recorded on a data version, for later steps."""

from __future__ import annotations

import tempfile
from pathlib import Path

from glt.data import findings
from glt.data.findings import Finding
from glt.lifecycle import run_artifacts
from glt.recipe import Recipe

FILE = "findings.json"  # below ``data/`` among the artifacts of ingest's MLflow run


def load_findings(recipe: Recipe, data_version: str) -> list[Finding] | None:
    """The findings of `ingest` on a data version; None if no run recorded them."""
    with tempfile.TemporaryDirectory() as folder:
        file = run_artifacts.download_step_artifact(recipe, data_version, "ingest", f"data/{FILE}", Path(folder))
        return findings.read(file) if file else None
