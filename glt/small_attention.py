"""Attention within many small sets, with narrow heads, on a CPU: the J tokens of every frame (paper, Eq. 5-7).

torch's fused attention calls a matrix product per set and head. With heads of 1 to 8 dimensions these calls cost far
more than their arithmetic, and more threads do not help. Here each product is one batched call for as many frames as
keep their scores in the cache, in the memory layout in which such calls are fastest: [.., d, J].

S frames, J tokens, W dimensions per token, h heads of d dimensions; s frames of one call.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

NARROW = 16  # dimensions per head, below which this is faster
CACHED = 2**18  # scores per call: a megabyte


def attention(qkv: Tensor, heads: int, mask: Tensor | None) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V of every head, side by side; the backward pass computes the scores again.

    Args:
        qkv: [S, J, 3 W], laid out as 3 x heads x d.
        heads: h.
        mask: added to the scores, [S or 1, 1, 1 or J, J]: zero or minus infinity; None adds nothing.

    Returns:
        [S, J, W].
    """
    result: Any = _SmallAttention.apply
    return result(qkv, heads, mask)  # type: ignore[no-any-return]


class _SmallAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, heads: int, mask: Tensor | None) -> Tensor:
        S, J, W = qkv.shape
        rows = qkv.view(S, J, 3, W // 3).permute(2, 0, 3, 1).contiguous().view(3, S, heads, -1, J)  # 3, S, h, d, J
        rows[0] *= rows.shape[3] ** -0.5
        q, k, v = rows
        out = torch.empty_like(q)
        for part in _parts(S, heads * J * J):
            p = _weights(q[part], k[part], mask, part)  # s h, J, J
            torch.bmm(_sets(v[part]), p.transpose(1, 2), out=_sets(out[part]))
        ctx.save_for_backward(rows, out, mask)
        return out.flatten(1, 2).transpose(1, 2).contiguous()  # S, J, W

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        rows, out, mask = ctx.saved_tensors
        q, k, v = rows
        S, h, d, J = q.shape
        wanted = grads[0].transpose(1, 2).contiguous().view(S, h, d, J)
        spread = (wanted * out).sum(2)[..., None]  # S, h, J, 1: sum over keys of p dp
        result = torch.empty_like(rows)
        for part in _parts(S, h * J * J):
            p = _weights(q[part], k[part], mask, part)
            g = _sets(wanted[part])
            torch.bmm(g, p, out=_sets(result[2, part]))
            ds = torch.bmm(g.transpose(1, 2), _sets(v[part]))  # dp
            ds -= _sets(spread[part])
            ds *= p
            torch.bmm(_sets(k[part]), ds.transpose(1, 2), out=_sets(result[0, part]))
            torch.bmm(_sets(q[part]), ds, out=_sets(result[1, part]))
        result[0] *= d**-0.5  # 3, S, h, d, J -> S, J, 3 W
        return result.view(3, S, h * d, J).permute(1, 3, 0, 2).reshape(S, J, -1), None, None


def _parts(sets: int, scores: int) -> Iterator[slice]:
    """Slices of as many sets as have CACHED scores together."""
    size = max(1, CACHED // scores)
    return (slice(start, start + size) for start in range(0, sets, size))


def _sets(x: Tensor) -> Tensor:
    """[s, h, ..] -> [s h, ..]."""
    return x.flatten(0, 1)


def _weights(q: Tensor, k: Tensor, mask: Tensor | None, part: slice) -> Tensor:
    """Attention weights of a slice of sets, queries in rows, keys in columns: [s, h, d, J] twice -> [s h, J, J]."""
    scores = torch.bmm(_sets(q).transpose(1, 2), _sets(k))
    if mask is not None:
        scores.view(*q.shape[:2], *scores.shape[1:]).add_(mask if len(mask) == 1 else mask[part])
    return scores.softmax(-1)
