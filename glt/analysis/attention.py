"""Attention maps of an encoder: softmax(Q K^T / sqrt(d)) of Eq. 6, for Fig. 4, 5, A, B and C of the paper.

The model's fused attention never holds a map. Temporary forward hooks compute the maps again from the inputs of each
attention module and its weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glt.errors import GltError
from glt.model import GLTransformer, SpatialAttention, TemporalAttention
from glt.motion.packed import BatchLayout, Packed, length_order

SpatialHook = Callable[[int, Tensor], None]
TemporalHook = Callable[[int, list[Tensor]], None]


@dataclass(frozen=True)
class Maps:
    """The maps of a batch; rows are queries, and sum to one over the keys.

    Attributes:
        spatial: [blocks, S, heads, J, J]; zero at the tokens of absent persons (a frame that shows nobody attends
            everywhere).
        temporal: for each clip [blocks, heads, T, T].
    """

    spatial: Tensor
    temporal: tuple[Tensor, ...]


@dataclass(frozen=True)
class Averages:
    """Maps averaged over clips, on the CPU in double precision.

    Attributes:
        spatial: [blocks, heads, J, J]; the mean over all frames of all clips that show everybody: others would say who
            is absent, not who is attended. Zeros if there is no such frame.
        temporal: [blocks, heads, n, n]: the first n frames of the clips at least that long. Rows are not renormalised:
            what is missing to one went to later frames.
        distance: average attended frame distance [blocks, heads], frames: sum over k of a(q, k) |q - k|, averaged
            over the queries of a clip, then over all clips; all of a clip's keys count (Fig. 4 right).
        clips: how many were seen.
        long_clips: how many of them `temporal` is the mean of.
        whole_frames: how many frames `spatial` is the mean of.
    """

    spatial: Tensor
    temporal: Tensor
    distance: Tensor
    clips: int
    long_clips: int
    whole_frames: int


def spatial_map(attention: SpatialAttention, z: Tensor, mask: Tensor | None) -> Tensor:
    """The maps [S, heads, J, J] for the module's inputs: z [S, J, D] and an additive mask."""
    return _map(attention.qkv(z), attention.heads, mask)


def temporal_maps(attention: TemporalAttention, s: Tensor, layout: BatchLayout) -> list[Tensor]:
    """The map [heads, T, T] of each clip for the module's inputs: s [S, E] and the layout of the sorted clips."""
    clips = attention.qkv(s).split([length for clips, length in layout.groups for _ in range(clips)])
    return [_map(clip, attention.heads, None) for clip in clips]


def attention_maps(encoder: GLTransformer, batch: Packed) -> Maps:
    """All maps of a batch, from the encoder in evaluation mode."""
    blocks = encoder.config.depth
    spatial: list[Tensor] = [torch.empty(0)] * blocks
    temporal: list[list[Tensor]] = [[]] * blocks
    _, inverse = length_order(batch.lengths, batch.tokens.device)
    with _capture_maps(encoder, spatial.__setitem__, temporal.__setitem__):
        encoder(batch.tokens, batch.present, batch.lengths)
    clips = [torch.stack(clip) for clip in zip(*temporal, strict=True)]
    order = sorted(range(len(clips)), key=lambda clip: batch.lengths[clip])
    maps = torch.stack(spatial)
    return Maps(maps if inverse is None else maps[:, inverse], tuple(clips[order.index(n)] for n in range(len(clips))))


def average_maps(encoder: GLTransformer, batches: Iterable[Packed], frames: int = 30) -> Averages:
    """Averages over the clips of all batches; one batch's maps of one block are in memory at a time.

    Args:
        encoder: evaluated in evaluation mode; its own mode is restored.
        batches: clips of any lengths.
        frames: n of `Averages.temporal`.

    Raises:
        GltError: no clip has n frames.
    """
    blocks, heads, tokens = encoder.config.depth, encoder.config.heads, encoder.persons * encoder.joints
    spatial, temporal, distance = (
        torch.zeros(blocks, heads, *shape, dtype=torch.float64) for shape in ((tokens, tokens), (frames, frames), ())
    )
    clips = long_clips = whole_frames = 0
    for batch in batches:
        order, _ = length_order(batch.lengths, batch.tokens.device)
        everybody = batch.present.all(dim=1) if order is None else batch.present.all(dim=1)[order]  # S
        whole_frames += int(everybody.sum())
        clips += len(batch.lengths)
        long_clips += sum(length >= frames for length in batch.lengths)

        def add_spatial(block: int, maps: Tensor, chosen: Tensor = everybody) -> None:
            spatial[block] += maps[chosen].sum(0, dtype=torch.float64).cpu()

        def add_temporal(block: int, maps: list[Tensor]) -> None:
            for clip in maps:
                distance[block] += attended_distance(clip).double().cpu()
                if clip.shape[-1] >= frames:
                    temporal[block] += clip[:, :frames, :frames].double().cpu()

        with _capture_maps(encoder, add_spatial, add_temporal):
            encoder(batch.tokens, batch.present, batch.lengths)
    if not long_clips:
        raise GltError(f"none of the {clips} clips has {frames} frames; take more clips, or a smaller --frames")
    spatial /= max(1, whole_frames)
    return Averages(spatial, temporal / long_clips, distance / clips, clips, long_clips, whole_frames)


def attended_distance(maps: Tensor) -> Tensor:
    """Temporal maps [..., T, T] -> mean distance in frames of the attended keys from their query, [...]."""
    time = torch.arange(maps.shape[-1], device=maps.device)
    away = (time[:, None] - time).abs().to(maps.dtype)
    mean: Tensor = (maps * away).sum(-1).mean(-1)
    return mean


def positional_similarity(table: Tensor, frame: int, token: int) -> Tensor:
    """Cosine similarity [T, J] of the vector of (frame, token) in a positional table [T, J, D] with all its vectors."""
    return F.cosine_similarity(table.detach(), table.detach()[frame, token], dim=-1)


def indicated_positions(persons: int, joints: int, frames: int) -> list[tuple[int, int]]:
    """(frame, token) pairs for the tiles of Fig. A, token by token.

    Frames early, in the middle and late; for every person, the global translation and the middle one of the joints.
    """
    tokens = [person * joints + joint for person in range(persons) for joint in sorted({0, joints // 2})]
    moments = sorted({frames // 6, frames // 2, frames - 1 - frames // 6})
    return [(frame, token) for token in tokens for frame in moments]


def _map(qkv: Tensor, heads: int, mask: Tensor | None) -> Tensor:
    """qkv [..., n, 3 W], laid out as 3 x heads x d -> softmax(Q K^T / sqrt(d)) [..., heads, n, n]."""
    q, k, _ = qkv.view(*qkv.shape[:-1], 3, heads, -1).movedim(-2, -4).unbind(-2)  # ..., h, n, d
    score = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if mask is not None:
        score = score + mask
    return score.softmax(-1)


@contextmanager
def _capture_maps(encoder: GLTransformer, spatial: SpatialHook, temporal: TemporalHook) -> Iterator[None]:
    """Within the context, without gradients and in evaluation mode, call back with the maps of every block."""

    def add_spatial(block: int, module: SpatialAttention, inputs: tuple[Tensor, Tensor | None], _: Any) -> None:
        spatial(block, spatial_map(module, *inputs))

    def add_temporal(block: int, module: TemporalAttention, inputs: tuple[Tensor, BatchLayout], _: Any) -> None:
        temporal(block, temporal_maps(module, *inputs))

    modes = [(module, module.training) for module in encoder.modules()]
    handles = []
    try:
        for kind, hook in ((SpatialAttention, add_spatial), (TemporalAttention, add_temporal)):
            modules = [module for module in encoder.modules() if isinstance(module, kind)]
            handles += [module.register_forward_hook(partial(hook, block)) for block, module in enumerate(modules)]
        encoder.eval()
        with torch.no_grad():
            yield
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
