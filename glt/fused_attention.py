"""Attention on a GPU, in few calls of torch's fused kernels (paper, Eq. 5-9).

These kernels take heads whose width is a multiple of 8. Other heads are padded with zeros in the weights, which are
smaller than the activations. Queries, keys and values then end in zeros, which change no product; the scale stays that
of the unpadded width.

Letters in shapes: n sets of rows attend to each other; h heads of d dimensions, padded to d'; S packed frames; N rows
after padding clips in time (`glt.motion.packed.Padding`).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glt.motion.packed import ALIGNED, Padding

MULTIPLE = 8  # of a head's dimensions
SETS = 2**16 - 1  # of one call: CUDA's limit on the size of a grid


def project(x: Tensor, linear: nn.Linear, heads: int) -> Tensor:
    """Queries, keys and values [..., 3 h d'] of x [..., W], by a linear layer from W to 3 h d."""
    width = linear.out_features // (3 * heads)
    extra = -width % MULTIPLE
    weight: Tensor = linear.weight
    bias: Tensor = linear.bias
    if extra:
        weight = F.pad(weight.view(3 * heads, width, -1), (0, 0, 0, extra)).flatten(0, 1)
        bias = F.pad(bias.view(3 * heads, width), (0, extra)).flatten()
    return F.linear(x, weight, bias)


def merge(a: Tensor, linear: nn.Linear, heads: int) -> Tensor:
    """The outputs of all heads [..., h d'] through a linear layer from h d dimensions."""
    width = linear.in_features // heads
    extra = -width % MULTIPLE
    weight: Tensor = linear.weight
    if extra:
        weight = F.pad(weight.view(-1, heads, width), (0, extra)).flatten(1)
    return F.linear(a, weight, linear.bias)


def attention(qkv: Tensor, heads: int, width: int, mask: Tensor | None, rate: float = 0.0) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V of every head, side by side.

    Args:
        qkv: [n, rows, 3 h d'], from `project`.
        heads: h.
        width: d.
        mask: added to the scores; broadcasts to [n, h, rows, rows].
        rate: of dropout.

    Returns:
        [n, rows, h d'].
    """
    parts = []
    for start in range(0, len(qkv), SETS):
        part = qkv[start : start + SETS] if len(qkv) > SETS else qkv
        hidden = mask[start : start + SETS] if mask is not None and len(mask) > SETS else mask
        q, k, v = part.view(*part.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)  # n, h, rows, d' each
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=hidden, dropout_p=rate, scale=width**-0.5)
        parts.append(a.transpose(1, 2).flatten(2))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def temporal_attention(qkv: Tensor, heads: int, width: int, padding: Padding, rate: float = 0.0) -> Tensor:
    """`attention` among the frames of each clip: [S, 3 h d'] -> [S, h d'].

    Padded frames are hidden as keys, and what they attend to is thrown away.
    """
    gather: Any = _Gather.apply
    padded = gather(qkv, padding.rows, padding.place, None)  # N, 3 h d'; the gradient of a padded row is zero
    sizes = [clips * length for clips, length in padding.buckets]
    biases = [None] * len(sizes) if padding.bias is None else torch.split(padding.bias.to(qkv.dtype), sizes)
    parts = []
    for part, bias, bucket in zip(torch.split(padded, sizes), biases, padding.buckets, strict=True):
        mask = None if bias is None else bias.view(bucket[0], 1, 1, bucket[1])
        parts.append(attention(part.view(*bucket, -1), heads, width, mask, rate).flatten(0, 1))
    hidden = None if padding.bias is None else padding.bias < 0
    return gather(torch.cat(parts), padding.place, padding.rows, hidden)  # type: ignore[no-any-return]


def aligned(mask: Tensor) -> Tensor:
    """The mask [..., J] in memory as fused kernels read it without copying it: rows start at multiples of ALIGNED."""
    return F.pad(mask, (0, -mask.shape[-1] % ALIGNED))[..., : mask.shape[-1]]


class _Gather(torch.autograd.Function):
    """Rows of x by their indices. Each row of x that counts is taken at one place, so its gradient is gathered, too.

    torch's own gradient would add up rows, in a random order on a GPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, place: Tensor, unused: Tensor | None) -> Tensor:
        """x [n, W] -> [len(index), W]; `place` [n]: where a row of x went; `unused` [n]: rows with a gradient of 0."""
        ctx.save_for_backward(place, unused)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        place, unused = ctx.saved_tensors
        rows = grads[0].index_select(0, place)
        if unused is not None:
            rows.masked_fill_(unused[:, None], 0)
        return rows, None, None, None
