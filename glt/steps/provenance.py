"""What an artifact was made from: written into its manifest by the step that makes it, read by the next."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glt import artifact
from glt.lifecycle.code_version import current_code_version
from glt.lifecycle.tracking import Versions
from glt.recipe import Recipe


def versions_of(info: Mapping[str, Any], data_version: str, code_version: str) -> Versions:
    """The versions a step works with: as told, else the data's from the artifact it reads and the code's own."""
    return Versions(data_version or info["data_version"], code_version or current_code_version())


def provenance(version: Versions, recipe: Recipe, run_id: str, **more: Any) -> dict[str, Any]:
    """The manifest's `info` of an artifact made by the MLflow run `run_id`."""
    return {
        "data_version": version.data,
        "code_version": version.code,
        "recipe": recipe.model_dump(mode="json"),
        "mlflow_run_id": run_id,
        **more,
    }


def made_by(folder: Path) -> str:
    """The id of the MLflow run that made an artifact."""
    return str(json.loads((Path(folder) / artifact.MANIFEST).read_text(encoding="utf-8"))["info"]["mlflow_run_id"])
