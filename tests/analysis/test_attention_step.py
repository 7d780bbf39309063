"""`glt attention`, from artifacts to the folder of figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from glt import artifact
from glt.analysis.attention import average_maps
from glt.errors import GltError
from glt.model import GLTransformer
from glt.motion.disentangle import Motions
from glt.recipe import ModelConfig
from glt.steps.attention import attention
from glt.training.batches import evaluation_batches
from glt.training.encoder import load_encoder, save_encoder


def saved(folder: Path, joints: int = 6, **changes: object) -> Path:
    sizes = {"max_frames": 16, "head_dim": 2, "heads": 2, "depth": 2} | changes
    torch.manual_seed(len(folder.name))
    save_encoder(GLTransformer(ModelConfig.model_validate(sizes), 2, joints), [], folder, {})
    return folder


def test_figures_and_numbers(motions: Motions, tmp_path: Path) -> None:
    first, second = saved(tmp_path / "first"), saved(tmp_path / "second", depth=3, heads=3)
    out = tmp_path / "out"
    shown = attention(motions.path, first, out, against=second, clips=1000, frames=8, accelerator="cpu")
    artifact.open_artifact(out, "attention")
    for name in ("temporal", "spatial", "distance", "positional"):
        image = imread(out / f"{name}.png")
        assert min(image.shape[:2]) > 200
        assert image.std() > 0.05
    clip_ids = motions.clip_ids("test")
    batches = evaluation_batches(motions, clip_ids, ModelConfig(max_frames=16), torch.device("cpu"), len(clip_ids))
    expected = average_maps(load_encoder(first), batches, frames=8)
    with np.load(out / "attention.npz", allow_pickle=False) as arrays:
        for name in ("spatial", "temporal", "distance"):
            assert arrays[name] == pytest.approx(getattr(expected, name).numpy(), rel=1e-5, abs=1e-7)
        assert arrays["against_distance"].shape == (3, 3)
        assert arrays["against_temporal"].shape == (3, 3, 8, 8)
    told = json.loads((out / "attention.json").read_text())
    assert told["clips"] == len(clip_ids)
    assert told["temporal_clips"] == int((motions.index["length"][clip_ids] >= 8).sum())
    assert 0 < told["spatial_frames"] < int(motions.index["length"][clip_ids].sum())
    assert set(told["distance"]) == {"first", "second"}
    assert np.array(told["distance"]["first"]).mean(1) == pytest.approx(list(shown.values()))
    assert list(shown) == ["attended_distance/block_1", "attended_distance/block_2"]


def test_fewer_clips_evenly_chosen_and_a_table_a_block(motions: Motions, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one, two = saved(tmp_path / "same", tables="per-block"), saved(tmp_path / "other" / "same")
    attention(motions.path, one, tmp_path / "out", against=two, clips=3, frames=4)
    told = json.loads((tmp_path / "out" / "attention.json").read_text())
    assert told["clips"] == 3
    assert set(told["distance"]) == {str(one), str(two)}
    assert sorted(path.name for path in (tmp_path / "out").glob("positional*")) == [
        "positional-block1.png",
        "positional-block2.png",
    ]


@pytest.mark.parametrize(
    ("joints", "given", "says"),
    [
        (5, {}, "an encoder of 2 x 5 tokens, but .* has 2 x 6"),
        (6, {}, "has 30 frames; take more clips, or a smaller --frames"),
        (6, {"clips": 0}, "--clips 0 --frames 30: give numbers above 0"),
    ],
)
def test_what_cannot_be_drawn_is_reported(
    motions: Motions, tmp_path: Path, joints: int, given: dict[str, int], says: str
) -> None:
    encoder = saved(tmp_path / "encoder", joints)
    with pytest.raises(GltError, match=says):
        attention(motions.path, encoder, tmp_path / "out", **given)
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]
