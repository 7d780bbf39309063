"""Serving answers as the evaluation did, from nothing but joint positions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from glt.errors import GltError
from glt.motion.disentangle import Motions, write_motions
from glt.reporter import Silent
from glt.serving.model import Predictor
from glt.training.classifier import save_classifier
from glt.training.encoder import build_encoder
from glt.training.probe import fit_probe
from tests.conftest import LABELS, STICK, small_recipe, store


@pytest.fixture(scope="module", params=["none", "first-frame"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier artifact, with and without the turn of each clip."""
    place = tmp_path_factory.mktemp("serving")
    recipe = small_recipe(motion={"yaw": request.param, "intervals": [1, 3]}, probe={"epochs": 20, "pool": ["max"]})
    write_motions(store(), recipe, place / "motions", {}, Silent())  # type: ignore[arg-type]
    motions = Motions(place / "motions")
    result = fit_probe(build_encoder(recipe.model, motions), motions, recipe, torch.device("cpu"), Silent())
    tables = {"predictions": result.predictions, "validation": result.validation}
    save_classifier(result.model, motions, recipe, tables, result.metrics, place / "classifier", {})
    return place / "classifier"


def frames(*numbers: int) -> list[np.ndarray]:
    return [store().clips[number][0] for number in numbers]


def test_it_reproduces_the_predictions_of_the_evaluation(folder: Path) -> None:
    """Among the clips are ones longer than T_max and ones without a second person."""
    expected = pd.read_parquet(folder / "predictions.parquet")
    numbers = [store().index["name"].tolist().index(name) for name in expected["name"]]
    clips = frames(*numbers)
    assert max(map(len, clips)) > 16
    found = Predictor(folder).predict(clips, batch=5)
    assert found["label"].tolist() == expected["predicted"].tolist()
    assert list(found) == ["label", "confidence", *(f"p_{name}" for name in LABELS)]
    for column in found.columns[1:]:
        np.testing.assert_allclose(found[column], expected[column], atol=1e-5)


def test_it_says_what_it_expects(folder: Path) -> None:
    classifier = Predictor(folder)
    assert (classifier.classes, classifier.skeleton, classifier.persons) == (LABELS, STICK, 2)


def test_one_person_may_come_without_the_axis_and_as_plain_lists(folder: Path) -> None:
    clip = frames(1)[0].copy()
    clip[:, 1] = 0
    forms = [clip, clip[:, :1], clip[:, 0], clip[:, 0].tolist()]
    found = Predictor(folder).predict(forms)
    for row in range(1, len(forms)):
        assert found["label"][row] == found["label"][0]
        np.testing.assert_allclose(found["confidence"][row], found["confidence"][0], atol=1e-5)


def spoilt(what: str) -> object:
    clip = frames(1)[0].copy()
    if what == "a coordinate that is no number":
        clip[3, 0, 2, 1] = np.nan
    return {
        "joints": clip[:, :, :4],
        "planar": clip[..., :2],
        "persons": np.concatenate([clip, clip], axis=1),
        "no frame": clip[:0],
        "axes": clip[0, 0],
        "nobody": clip * 0,
        "ragged": [clip[0].tolist(), clip[1, :, :4].tolist()],
        "words": [["left", "right"]],
        "a coordinate that is no number": clip,
    }[what]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        *((shape, r"clip 1 is \[.*give \[frames, 1 to 2 persons, 6 joints of stick, 3\]") for shape in
          ("joints", "planar", "persons", "no frame", "axes")),
        ("nobody", "clip 1 shows nobody"),
        ("a coordinate that is no number", "clip 1 has coordinates that are not finite"),
        ("ragged", "clip 1"),
        ("words", "clip 1"),
    ],
)  # fmt: skip
def test_a_clip_it_cannot_read_is_named(folder: Path, what: str, words: str) -> None:
    with pytest.raises(GltError, match=words):
        Predictor(folder).predict([frames(1)[0], spoilt(what)])


def test_no_clip_is_an_error(folder: Path) -> None:
    with pytest.raises(GltError, match="no clip"):
        Predictor(folder).predict([])


def test_a_file_that_the_manifest_does_not_list_is_not_loaded(folder: Path, tmp_path: Path) -> None:
    """Else a manifest without files would verify any weights."""
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    content = json.loads((copy / "manifest.json").read_text())
    for files in ({}, {name: digest for name, digest in content["files"].items() if name != "model.safetensors"}):
        (copy / "manifest.json").write_text(json.dumps(content | {"files": files}))
        with pytest.raises(GltError, match=r"not listed in manifest\.json"):
            Predictor(copy)


def test_a_folder_that_is_not_whole_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(GltError, match="not a finished classifier folder"):
        Predictor(tmp_path)
