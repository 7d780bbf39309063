"""A recipe's model: its modules, their parameters, and the FLOPs of a clip.

Everything stands on torch's `meta` device, so that a model of any size costs nothing.
"""

from __future__ import annotations

import torch
from rich.tree import Tree
from torch import nn

from glt.data.formats import FORMATS
from glt.data.layouts import Skeleton
from glt.data.skeleton_yaml import parse_skeleton
from glt.errors import GltError
from glt.model import DisplacementHeads, GLTransformer, SpatialAttention, TemporalAttention
from glt.recipe import Recipe

BACKWARD = 2  # of every product two in the backward pass: the gradients of either factor


class Pretraining(nn.Module):
    """The encoder and MPDP's classifiers of a recipe, without weights."""

    def __init__(self, recipe: Recipe) -> None:
        """P from the recipe, K from its format's layout."""
        super().__init__()
        joints = len(_layout(recipe).joints) - (recipe.motion.global_translation == "none")
        global_tokens = int(recipe.motion.global_translation == "separate")
        with torch.device("meta"):
            self.encoder = GLTransformer(recipe.model, recipe.data.persons, joints, global_tokens)
            self.classifiers = DisplacementHeads(
                self.encoder.width,
                self.encoder.persons * joints,
                len(recipe.motion.intervals),
                recipe.motion.magnitude_classes + (recipe.motion.absent == "own-class"),
            )


def _layout(recipe: Recipe) -> Skeleton:
    """The layout that the recipe's clips have."""
    if recipe.data.layout is not None:
        return parse_skeleton(recipe.data.layout)
    found = FORMATS[recipe.data.format].skeleton
    if found is None:
        raise GltError(
            f"recipe {recipe.name}: data.layout: {recipe.data.format} recordings bring their own; name it here"
        )
    return found


def parameters(module: nn.Module) -> int:
    """Number of trainable parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def forward_flops(model: Pretraining, frames: int) -> dict[str, int]:
    """FLOPs of the forward pass of one clip, by the dotted name of every module (``""`` is all).

    Counted are the matrix products, two FLOPs a multiply-add: those of the linear layers, and Q K^T and A V of either
    attention. Not counted: biases, softmax, LayerNorm, GELU, residuals, positions, the loss.
    """
    encoder = model.encoder
    tokens = encoder.persons * encoder.joints
    rows: dict[nn.Module, int] = {  # that a linear layer is applied to, where it is not one a frame
        encoder.embed_local: frames * encoder.persons * (encoder.joints - encoder.global_tokens),
    }
    if encoder.global_tokens:
        rows[encoder.embed_global] = frames * encoder.persons
    counts = dict.fromkeys((name for name, _ in model.named_modules()), 0)
    for name, module in model.named_modules():
        own = 0
        if isinstance(module, SpatialAttention):
            rows |= dict.fromkeys((module.qkv, module.out), frames * tokens)
            own = 4 * frames * tokens**2 * encoder.config.width
        elif isinstance(module, TemporalAttention):
            own = 4 * frames**2 * encoder.width
        elif isinstance(module, nn.Linear):
            own = 2 * rows.get(module, frames) * module.in_features * module.out_features
        parts = name.split(".") if name else []
        for depth in range(len(parts) + 1):
            counts[".".join(parts[:depth])] += own
    return counts


def training_flops(model: Pretraining, frames: int) -> int:
    """FLOPs of the forward and the backward pass of one clip: three times the forward pass (`forward_flops`)."""
    return (1 + BACKWARD) * forward_flops(model, frames)[""]


def tree(recipe: Recipe, frames: int = 0) -> Tree:
    """The module tree with parameters and FLOPs of a clip of T_max frames, and of `frames` frames if given.

    Raises:
        GltError: a clip of `frames` frames is not for this model.
    """
    longest = recipe.model.max_frames
    if not 0 <= frames <= longest:
        raise GltError(
            f"--frames {frames}: a clip has 1 to {longest} frames (model.max_frames of recipe {recipe.name})"
        )
    model = Pretraining(recipe)
    lengths = [longest, *([frames] if frames else [])]
    counts = forward_flops(model, longest)
    encoder = model.encoder
    top = Tree(
        f"{recipe.name}: T_max = {longest}, P = {encoder.persons}, K = {encoder.joints}, "
        f"D = {recipe.model.width}, E = {encoder.width}: {parameters(model):,} parameters"
    )
    _grow(top, model, "", counts)
    arithmetic = top.add("FLOPs of a clip: matrix products, a multiply-add being 2")
    for length in lengths:
        forward, both = forward_flops(model, length)[""], training_flops(model, length)
        arithmetic.add(f"{length} frames: forward {_flops(forward)}, forward and backward {_flops(both)}")
    return top


def _grow(branch: Tree, module: nn.Module, prefix: str, counts: dict[str, int]) -> None:
    for name, child in module.named_children():
        path = f"{prefix}.{name}" if prefix else name
        size = parameters(child)
        if not size and not counts[path]:
            continue  # an activation
        words = [name, type(child).__name__, f"{size:,}"]
        if isinstance(child, nn.Linear):
            words[1] += f" {child.in_features:,} -> {child.out_features:,}"
        if counts[path]:
            words.append(f"{_flops(counts[path])} forward")
        _grow(branch.add("  ".join(words)), child, path, counts)


def _flops(count: int) -> str:
    return f"{count / 1e9:.4g} GFLOP" if count >= 1e9 else f"{count / 1e6:.4g} MFLOP"
