"""The origin of an artifact, which a step writes into its manifest and the next step reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glt import artifact
from glt.lifecycle.code_version import current_code_version
from glt.lifecycle.tracking import Versions
from glt.recipe import Recipe


def versions_of(info: Mapping[str, Any], data_version: str, code_version: str) -> Versions:
    """The versions of a step: as given, else the data version of its input artifact and the version of this code."""
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


def producing_run(folder: Path) -> str:
    """The id of the MLflow run that made an artifact."""
    with artifact.reading(Path(folder) / artifact.MANIFEST):
        return str(artifact.read_manifest(folder).info["mlflow_run_id"])
