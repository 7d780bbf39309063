"""A run's artifacts, small, made by the real code from recordings that are drawn here."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from glt import artifact
from glt.data.clips import ClipStore
from glt.data.formats.nw_ucla import CLASSES
from glt.data.ingest import ingest
from glt.motion.disentangle import Motions, write_motions
from glt.recipe import Recipe, parse
from glt.reporter import Silent

HOSTILE = "<img src=x onerror=alert(1)>.json"
VERDICT = {
    "passed": True,
    "already": False,
    "reason": "better than the untrained encoder: <b>right</b> on 7 clips",
    "baseline": "untrained encoder",
    "clips": 20,
    "candidate_top1": 0.9,
    "reference_top1": 0.6,
    "only_candidate": 7,
    "only_reference": 1,
    "p_value": 0.035,
    "alpha": 0.05,
    "comparisons": 3,
    "checks": [
        {"name": "better", "passed": True, "message": "right on 7 clips"},
        {"name": "latency", "passed": False, "message": "19.0 ms a clip; 15.0 ms are <allowed>"},
    ],
}


@dataclass(frozen=True)
class Run:
    """What `write_report` needs."""

    recipe: Recipe
    clips: ClipStore
    motions: Motions
    encoder: Path
    classifier: Path
    finetunes: list[Path]

    def arguments(self, **changed: Any) -> dict[str, Any]:
        """Keyword arguments of `write_report`."""
        return {**self.__dict__, "verdict": VERDICT, "links": {}, **changed}


def recordings(path: Path, *, leak: bool = True) -> Path:
    """A zip of NW-UCLA-like recordings: 3 classes, 4 subjects, 3 views; a thirteenth test clip is a training clip."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for action in list(CLASSES)[:3]:
            for subject in range(1, 5):
                still = rng.normal(0, 0.4, (1, 20, 3)) + np.array([0, 0, 3])
                for view in (1, 2, 3):
                    walk = np.linspace(0, action * 0.2, 12 + view)[:, None, None] * np.array([1.0, 0, 0])
                    frames = np.round(still + walk + rng.normal(0, 0.02, (12 + view, 20, 3)), 4)
                    content = json.dumps({"label": list(CLASSES).index(action) + 1, "skeletons": frames.tolist()})
                    archive.writestr(f"a{action:02}_s{subject:02}_e00_v{view:02}.json", content)
                    if leak and action == list(CLASSES)[2] and (subject, view) == (4, 2):
                        archive.writestr(f"a{action:02}_s{subject:02}_e09_v03.json", content)
        archive.writestr(HOSTILE, "{}")
        archive.writestr("a01_s09_e00_v01.json", json.dumps({"label": 1, "skeletons": [[[float("nan")] * 3] * 20]}))
    return path


def make_run(folder: Path, recipe: Recipe, source: Path) -> Run:
    """Artifacts of a run on the recordings at `source`; answers are drawn, not learned."""
    versions = {"data_version": "d0", "code_version": "c0"}
    ingest(source, recipe, folder / "clips", versions, Silent(), folder / "segments")
    clips = ClipStore(folder / "clips")
    write_motions(clips, recipe, folder / "motions", {"data_version": "d0", "code_version": "c0"}, Silent())
    motions = Motions(folder / "motions")
    history = [
        {
            "epoch": epoch,
            "pretrain/loss": 5.0 / epoch,
            "pretrain/loss_direction": 3.0 / epoch,
            "pretrain/loss_magnitude": 2.0 / epoch,
            "pretrain/direction_top1/interval_1": 0.1 * epoch,
            "pretrain/direction_majority/interval_1": 0.2,
            "pretrain/direction_top1/interval_5": 0.15 * epoch,
            "pretrain/direction_majority/interval_5": 0.25,
        }
        for epoch in (1, 2, 3)
    ]
    info = {"data_version": "d0", "code_version": "c0", "mlflow_run_id": "r0"}
    with artifact.create(folder / "encoder", "encoder", info) as draft:
        artifact.write_json(draft / "history.json", history)
    test, train = (_answers(motions, split) for split in ("test", "train"))
    metrics = _metrics("probe/top1", test) | _metrics("knn/top1", test) | _metrics("probe/untrained_top1", test)
    with artifact.create(folder / "classifier", "classifier", info) as draft:
        test.to_parquet(draft / "predictions.parquet")
        train.assign(untrained=train["predicted"]).to_parquet(draft / "validation.parquet")
        artifact.write_json(draft / "metrics.json", metrics)
    finetunes = []
    for seed in (0, 1):
        finetunes.append(folder / f"finetune-{seed}")
        with artifact.create(finetunes[-1], "classifier", {"fraction": 0.05, "seed": seed}) as draft:
            artifact.write_json(draft / "metrics.json", {"top1": 0.5 + 0.1 * seed, "top1_clean": 0.4, "labelled": 3})
    return Run(recipe, clips, motions, folder / "encoder", folder / "classifier", finetunes)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    data = {"dataset": "tiny", "format": "nw-ucla", "protocol": "cross-view", "max_rejects": 1}
    recipe = parse({"name": "tiny", "data": data, "motion": {"yaw": "first-frame"}}, "test")
    return make_run(folder, recipe, recordings(folder / "recordings.zip"))


def _answers(motions: Motions, split: str) -> pd.DataFrame:
    """Right but for every fourth clip."""
    clip_ids = motions.clip_ids(split, labelled=True)
    labels = motions.labels(clip_ids)
    classes = np.unique(labels)
    other = classes[(np.searchsorted(classes, labels) + 1) % len(classes)]
    predicted = np.where(np.arange(len(clip_ids)) % 4 == 3, other, labels)
    rows = motions.index.iloc[clip_ids]
    return pd.DataFrame({"name": rows["name"], "label": labels, "predicted": predicted, "clean": rows["clean"]})


def _metrics(key: str, answers: pd.DataFrame) -> dict[str, float]:
    right = answers["label"] == answers["predicted"]
    return {key: float(right.mean()), f"{key}_clean": float(right[answers["clean"]].mean())}
