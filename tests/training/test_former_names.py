"""Encoders and classifiers that were stored under former names are still read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from glt import artifact
from glt.motion.disentangle import Motions
from glt.serving.model import Predictor
from glt.training.classifier import ActionClassifier, save_classifier
from glt.training.encoder import build_encoder, encoder_config, load_encoder, save_encoder
from tests.conftest import small_recipe, store


def test_a_stored_encoder(motions: Motions, tmp_path: Path) -> None:
    encoder = build_encoder(small_recipe().model, motions)
    save_encoder(encoder, [], tmp_path / "new", {})
    _with_former_names(tmp_path / "new", tmp_path / "old", "encoder")
    again = load_encoder(tmp_path / "old")
    assert encoder_config(again) == encoder_config(encoder)
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), again.parameters(), strict=True))


def test_a_stored_classifier(motions: Motions, tmp_path: Path) -> None:
    recipe = small_recipe()
    model = ActionClassifier(build_encoder(recipe.model, motions), ("jump", "walk", "wave"), "head", ("mean",))
    save_classifier(model, motions, recipe, {}, {}, tmp_path / "new", {})
    _with_former_names(tmp_path / "new", tmp_path / "old", "classifier")
    clip, _ = store().clip(3)
    old, new = (Predictor(tmp_path / name).predict([clip]) for name in ("old", "new"))
    assert old.equals(new)


def _with_former_names(new: Path, old: Path, kind: str) -> None:
    """Copy an artifact; its configuration has `worlds` and `frames`, as it was written before they were renamed."""
    text = (new / "config.json").read_text(encoding="utf-8")
    former = text.replace('"global_tokens"', '"worlds"').replace('"max_frames"', '"frames"')
    assert len(former) < len(text)
    assert json.loads(former)
    with artifact.create(old, kind, {}) as folder:
        for file in new.iterdir():
            if file.name != "manifest.json":
                shutil.copy(file, folder)
        (folder / "config.json").write_text(former, encoding="utf-8")
