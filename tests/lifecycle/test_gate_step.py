"""The step `gate` knows the subjects of the clips, also for classifiers that do not store them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pandas as pd
import pytest
import torch
import yaml

from glt import artifact
from glt.data.clips import ClipStore
from glt.data.ingest import ingest
from glt.errors import GltError
from glt.lifecycle import tracking
from glt.lifecycle.gate import Verdict
from glt.motion.disentangle import Motions, write_motions
from glt.recipe import parse
from glt.reporter import Silent
from glt.steps import gate as step
from glt.steps import release
from glt.steps.gate import gate
from glt.training.classifier import save_classifier
from glt.training.encoder import build_encoder
from glt.training.probe import fit_probe
from tests.conftest import made_once
from tests.lifecycle.conftest import VERSIONS
from tests.steps.recordings import RECIPE, name, text, write

SUBJECTS = (1, 2, 4, 5)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of four training subjects, and a classifier of them."""

    def make(folder: Path) -> None:
        recipe, info = parse(RECIPE, "of the tests"), {"data_version": VERSIONS.data, "code_version": VERSIONS.code}
        frames = {(subject, action): 20 + subject + 10 * action for subject in (*SUBJECTS, 3) for action in (1, 2)}
        write(folder / "all.zip", {name(who, action=what): text(count) for (who, what), count in frames.items()})
        ingest(folder / "all.zip", recipe, folder / "clips", info, Silent(), folder / "segments")
        write_motions(ClipStore(folder / "clips"), recipe, folder / "motions", info, Silent())
        motions = Motions(folder / "motions")
        torch.manual_seed(0)
        probe = fit_probe(build_encoder(recipe.model, motions), motions, recipe, torch.device("cpu"), Silent())
        tables = {"predictions": probe.predictions, "validation": probe.validation}
        save_classifier(probe.model, motions, recipe, tables, probe.metrics, folder / "classifier", info)

    return made_once(tmp_path_factory, "gate-step", make)


def as_before_subjects(classifier: Path, place: Path) -> Path:
    """The classifier as an earlier version stored it."""
    with artifact.create(place, "classifier", artifact.open_artifact(classifier, "classifier")) as draft:
        for file in classifier.iterdir():
            if file.name == "validation.parquet":
                pd.read_parquet(file).drop(columns=["subject", "right", "untrained_right"]).to_parquet(
                    draft / file.name, index=False
                )
            elif file.name != "manifest.json":
                shutil.copyfile(file, draft / file.name)
    return place


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("test", ["subjects", "clips"])
def test_subjects_come_from_the_classifier_or_else_from_the_clips(
    home: Path, made: Path, tmp_path: Path, stored: bool, test: str
) -> None:
    classifier = made / "classifier" if stored else as_before_subjects(made / "classifier", tmp_path / "classifier")
    recipe: dict[str, Any] = {**RECIPE, "gate": {"test": test}}
    gate(made / "clips", classifier, yaml.safe_dump(recipe), tmp_path / "verdict.json", "cpu")
    verdict = Verdict.read(tmp_path / "verdict.json")
    assert (verdict.test, verdict.subjects) == (test, len(SUBJECTS) if test == "subjects" else 0)
    assert verdict.clips == 2 * len(SUBJECTS)

    answers = Path(mlflow.artifacts.download_artifacts(verdict.answers_uri, dst_path=str(tmp_path / "gate")))
    table = pd.read_csv(answers / "answers.csv")
    assert list(table) == ["name", "label", "predicted", "reference", "subject", "right", "reference_right"]
    assert table["subject"].tolist() == [int(clip[9:12]) for clip in table["name"]]
    assert json.loads((answers / "verdict.json").read_text())["subjects"] == verdict.subjects
    run = tracking.connect().get_run(verdict.answers_uri.split("/")[1])
    assert run.data.tags["gate.test"] == test
    assert run.data.metrics["gate/subjects"] == verdict.subjects


@pytest.mark.fault("labels that were corrected since the champion was validated", "it is judged by the new labels")
def test_a_champion_is_judged_by_the_labels_as_they_are_now(
    home: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = pd.read_parquet(made / "classifier" / "validation.parquet")
    corrected = stored.assign(label=stored["label"].iloc[::-1].to_numpy())
    monkeypatch.setattr(step, "load_classifier", lambda folder: (_ for _ in ()).throw(RuntimeError("probed again")))
    champion = SimpleNamespace(version="1")
    arguments = (made / "clips", parse(RECIPE, "of the tests"), VERSIONS, "cpu", Silent())
    same = step._champion_validation(champion, made / "classifier", stored, *arguments)  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(same, stored)
    with pytest.raises(RuntimeError, match="probed again"):
        step._champion_validation(champion, made / "classifier", corrected, *arguments)  # type: ignore[arg-type]


@pytest.mark.fault(
    "a verdict on another classifier is registered", "refused; the remedy is to run the gate on this one"
)
def test_a_verdict_belongs_to_its_classifier(home: Path, made: Path, tmp_path: Path) -> None:
    recipe = yaml.safe_dump(RECIPE)
    gate(made / "clips", made / "classifier", recipe, tmp_path / "verdict.json", "cpu")
    other = as_before_subjects(made / "classifier", tmp_path / "other")
    with pytest.raises(GltError, match=r"verdict\.json: a verdict on another classifier than .*other; run glt gate"):
        release.register(other, tmp_path / "verdict.json", recipe)
    assert release.register(made / "classifier", tmp_path / "verdict.json", recipe) == "1"
