"""The arms of a study, when all are trained: their scores side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from glt import artifact, recipe
from glt.analysis import arms
from glt.lifecycle import notes, tracking
from glt.outputs import csv_bytes
from glt.recipe import Recipe
from glt.steps.provenance import producing_run


def compare_arms(
    encoders: Sequence[Path], classifiers: Sequence[Path], settings: str, data_version: str, code_version: str
) -> tuple[dict[str, float], str]:
    """A table and a picture of all arms, on the parent run in MLflow, and which runs made them, reused ones too.

    Args:
        encoders: the ``encoder`` artifact of each arm and seed.
        classifiers: and its ``classifier``, in the same order.
        settings: name, path or text of the recipe that every arm starts from.
        data_version: DVC md5 of the recordings.
        code_version: hash of the source tree.

    Returns:
        ``arm/<arm>/<score>_mean`` and ``_sd``; and the table in Markdown, accuracies in per cent.

    Raises:
        GltError: an artifact is not whole.
    """
    base, version = recipe.load(settings), tracking.Versions(data_version, code_version)
    recipes, trained = zip(*map(_read, classifiers), strict=True)
    table = arms.table(trained)
    with tracking.step(base, version, "compare_arms") as run, tempfile.TemporaryDirectory() as folder:
        run.figure(arms.picture(trained), "arms.png")
        file = Path(folder) / "arms.csv"
        file.write_bytes(csv_bytes(table))
        run.file(file)
        page = Path(folder) / "study.html"
        arms.write_page(page, base.name, trained, notes.links(run.parent_id))
        run.page(page, notes.REPORT, "study")
        # The parent of a run that reused every other step has no dataset yet.
        run.dataset(base.data.dataset, version.data, f"runs:/{producing_run(classifiers[0])}", "training")
        metrics = {
            f"arm/{row['arm']}/{name}": float(value)
            for row in table.to_dict("records")
            for name, value in row.items()
            if name not in ("arm", "seeds") and pd.notna(value)
        }
        run.metrics(metrics)
        origins = {
            f"step.{step}/{arm.trained_arm}": producing_run(artifact_folder)
            for step, folders in (("pretrain", encoders), ("linear_probe", classifiers))
            for arm, artifact_folder in zip(recipes, folders, strict=True)
        }
        tracking.log_on_parent(base, version, metrics, origins)
        notes.describe_run(run.parent_id)
    return metrics, _markdown(table)


def _read(folder: Path) -> tuple[Recipe, arms.TrainedArm]:
    arm = recipe.parse(artifact.open_artifact(folder, "classifier")["recipe"], str(folder))
    metrics = artifact.read_json(Path(folder) / "metrics.json", dict)
    return arm, arms.TrainedArm(arm.arm, arm.seed, metrics)


def _markdown(table: pd.DataFrame) -> str:
    scores = [name.removesuffix("_mean") for name in map(str, table) if name.endswith("_mean")]
    lines = [f"| {' | '.join(['arm', 'seeds', *scores])} |", "| --- " * (len(scores) + 2) + "|"]
    for row in table.to_dict("records"):
        cells = [
            f"{100 * row[f'{score}_mean']:.1f}"
            + (f" ± {100 * row[f'{score}_sd']:.1f}" if pd.notna(row[f"{score}_sd"]) else "")
            for score in scores
        ]
        lines.append(f"| {row['arm']} | {row['seeds']} | {' | '.join(cells)} |")
    return "\n".join(lines)
