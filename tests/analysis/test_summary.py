"""Parameters against the digest of the authors' code; FLOPs against torch's own counter, and the paper's sizes."""

from __future__ import annotations

import io
import re

import pytest
import torch
from rich.console import Console
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from glt import recipe, small_attention
from glt.analysis.summary import Pretraining, forward_flops, parameters, training_flops, tree
from glt.errors import GltError
from glt.model import DisplacementHeads, GLTransformer
from glt.recipe import ModelConfig, Recipe


def sizes(name: str, tables: str = "per-block") -> Recipe:
    """The authors' model: D = 48, 16 magnitude classes."""
    ntu = name == "ntu"
    data = {"dataset": name, "format": name, "protocol": "xsub" if ntu else "cross-view", "persons": 2 if ntu else 1}
    model = {"max_frames": 300 if ntu else 50, "tables": tables}
    return recipe.parse({"name": name, "data": data, "motion": {"magnitude_classes": 16}, "model": model}, "test")


@pytest.mark.parametrize(
    ("name", "tables", "total"),
    [
        ("nw-ucla", "per-block", 34_094_100),
        ("nw-ucla", "shared", 33_950_100),
        ("ntu", "per-block", 214_369_650),
        ("ntu", "shared", 212_209_650),
    ],
)
def test_parameters(name: str, tables: str, total: int) -> None:
    model = Pretraining(sizes(name, tables))
    assert parameters(model) == total
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "frames", "gflop"),
    [("ntu", 300, 395.8), ("ntu", 84, 108.7), ("nw-ucla", 50, 10.53), ("nw-ucla", 35, 7.34)],
)
def test_flops_of_the_papers_sizes(name: str, frames: int, gflop: float) -> None:
    """Counted on the authors' code, forward and backward."""
    assert training_flops(Pretraining(sizes(name)), frames) / 1e9 == pytest.approx(gflop, rel=0.002)


@pytest.mark.parametrize("frames", [1, 5, 8])
def test_flops_are_what_torch_counts(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On attention written out: the counter does not know the CPU's fused one, and ours computes scores twice."""
    monkeypatch.setattr(small_attention, "NARROW", 0)
    small = {"max_frames": 8, "head_dim": 3, "heads": 2, "depth": 2, "dropout": 0, "drop_path": 0}
    motion = {"intervals": [1, 3], "magnitude_classes": 4}
    fields = sizes("ntu").model_dump(mode="json") | {"model": small, "motion": motion}
    model = Pretraining(recipe.parse(fields, "test"))
    encoder = GLTransformer(ModelConfig.model_validate(small), persons=2, joints=25)
    heads = DisplacementHeads(encoder.width, 50, intervals=2, magnitude_classes=4)
    tokens, present = torch.randn(frames, 2, 25, 3), torch.ones(frames, 2, dtype=torch.bool)
    tokens.requires_grad_()  # or torch spares the embedding the gradient of its input
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        direction, magnitude = heads(encoder(tokens, present, (frames,)))
        forward = counter.get_total_flops()
        by_module = {name: sum(count.values()) for name, count in counter.get_flop_counts().items()}
        (direction.sum() + magnitude.sum()).backward()
    counted = forward_flops(model, frames)
    assert counted[""] == forward
    assert counter.get_total_flops() == training_flops(model, frames)
    for name, theirs in (("encoder", "GLTransformer"), ("classifiers", "DisplacementHeads")):
        assert counted[name] == by_module[theirs]
    for block in ("0", "1"):
        for part in ("spatial", "spatial.qkv", "temporal", "temporal.out", "feed", "feed.up"):
            assert counted[f"encoder.blocks.{block}.{part}"] == by_module[f"GLTransformer.blocks.{block}.{part}"], part


def print_summary(name: str, frames: int = 0) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(tree(recipe.load(name), frames), highlight=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_has_a_tree(name: str) -> None:
    text = print_summary(name, frames=20)
    model = Pretraining(recipe.load(name))
    assert f"{parameters(model):,} parameters" in text
    for path, module in model.named_modules():
        if path and parameters(module):
            assert re.search(rf"{path.split('.')[-1]}  {type(module).__name__}.* {parameters(module):,}", text), path
    assert "20 frames: forward" in text
    assert f"{recipe.load(name).model.max_frames} frames: forward" in text


@pytest.mark.parametrize("frames", [-1, 33])
def test_a_length_the_model_does_not_take_is_reported(frames: int) -> None:
    with pytest.raises(GltError, match=r"a clip has 1 to 32 frames \(model.max_frames of recipe sample\)"):
        tree(recipe.load("sample"), frames)
