"""Prediction reads recordings as the model was trained on: its frame rate, vertical axis and unit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from glt.data.clips import ClipStore
from glt.data.ingest import ingest
from glt.errors import GltError
from glt.lifecycle import registry
from glt.motion.disentangle import Motions, write_motions
from glt.reporter import Silent
from glt.serving.model import Predictor
from glt.steps.predict import predict
from glt.training.classifier import save_classifier
from glt.training.encoder import build_encoder
from glt.training.probe import fit_probe
from tests.conftest import small_recipe
from tests.steps.test_across_sets import own_format


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of recordings of a Kinect v1 at 30 frames a second."""
    place = tmp_path_factory.mktemp("predict")
    held = {"protocol": "column", "column": "subject", "test_values": [6, 7]}
    fields = {"dataset": "other", "format": "table", "layout": "kinect20", **held}
    recipe = small_recipe(data=fields, probe={"epochs": 20})
    own_format(place / "recordings")
    ingest(place / "recordings", recipe, place / "clips", {}, Silent(), place / "segments")
    write_motions(ClipStore(place / "clips"), recipe, place / "motions", {}, Silent())
    motions = Motions(place / "motions")
    probe = fit_probe(build_encoder(recipe.model, motions), motions, recipe, torch.device("cpu"), Silent())
    tables = {"predictions": probe.predictions, "validation": probe.validation}
    save_classifier(probe.model, motions, recipe, tables, probe.metrics, place / "classifier", {})
    return place / "classifier"


@pytest.fixture(autouse=True)
def _registered(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = SimpleNamespace(name="glt-other", version="1", folder=lambda: classifier)
    monkeypatch.setattr(registry, "find", lambda model: version)


def recordings(folder: Path, frames: np.ndarray, layout: str) -> str:
    folder.mkdir()
    (folder / "skeleton.yaml").write_text(layout)
    np.savez(folder / "take.npz", frames=frames)
    return str(folder)


FRAMES = np.random.default_rng(7).normal([0, 0.02, 0.06], 0.02, (40, 20, 3)).cumsum(axis=0).astype(np.float32)


@pytest.mark.fault("predict of recordings at another frame rate", "resampled to the model's rate")
def test_another_frame_rate_is_resampled_to_the_model_s(tmp_path: Path, classifier: Path) -> None:
    answers, _ = predict(recordings(tmp_path / "slow", FRAMES[::2], "layout: kinect20\nrate: 15\n"), "glt-other")
    at = np.minimum(np.arange(39) / 2, 19)
    resampled = np.stack([np.interp(at, np.arange(20), column) for column in FRAMES[::2].reshape(20, -1).T], axis=1)
    expected = Predictor(classifier).predict([resampled.reshape(39, 20, 3)])
    assert answers["label"].tolist() == expected["label"].tolist()
    np.testing.assert_allclose(answers["confidence"], expected["confidence"], atol=1e-4)


@pytest.mark.parametrize(
    ("layout", "reason"),
    [
        ("layout: kinect20\nup: z\n", r"`up` is z, but glt-other/1 was trained on y; correct `up` in skeleton\.yaml"),
        ("layout: kinect20\nunit: image height\n", r"`unit` is image height, but glt-other/1 was trained on m"),
    ],
)
@pytest.mark.fault("predict of recordings with another vertical axis or unit", "an error that names the field")
def test_another_axis_or_unit_is_an_error(layout: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(GltError, match=reason):
        predict(recordings(tmp_path / "odd", FRAMES, layout), "glt-other")


@pytest.mark.fault("predict of recordings that are all rejected", "the list that the error names is there to read")
def test_the_list_of_rejects_outlives_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLT_HOME", str(tmp_path / "home"))
    with pytest.raises(GltError, match=r"All are in .*home/reports/predict\.rejected\.csv") as caught:
        predict(recordings(tmp_path / "mm", 1000 * FRAMES, "layout: kinect20\n"), "glt-other")
    assert "`unit` in skeleton.yaml" in str(caught.value)
    assert "take.npz,range," in (tmp_path / "home" / "reports" / "predict.rejected.csv").read_text()


def test_files_in_other_coordinates_are_converted(tmp_path: Path) -> None:
    expected, _ = predict(recordings(tmp_path / "metres", FRAMES, "layout: kinect20\n"), "glt-other")
    layout = "layout: kinect20\nunit: mm\nup: -y\n"
    answers, _ = predict(recordings(tmp_path / "mm", 1000 * FRAMES * [1, -1, -1], layout), "glt-other")
    np.testing.assert_allclose(answers["confidence"], expected["confidence"], atol=1e-4)
