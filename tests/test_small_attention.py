"""Attention of many small sets against torch's own, and against differences for the gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from glt import small_attention
from glt.small_attention import attention

HEADS, J = 4, 5


def by_torch(qkv: Tensor, mask: Tensor | None) -> Tensor:
    q, k, v = qkv.view(*qkv.shape[:2], 3, HEADS, -1).permute(2, 0, 3, 1, 4).unbind(0)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def mask(kind: str, sets: int) -> Tensor | None:
    hidden = torch.rand(sets, 1, 1, J) < 0.4
    hidden[..., 0] = False
    if kind == "of pairs":
        hidden = ~torch.block_diag(torch.ones(2, 2), torch.ones(3, 3)).bool()[None, None]
    return None if kind == "none" else torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf)


@pytest.mark.parametrize("kind", ["none", "of sets", "of pairs"])
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("cached", [1, 500, 10**6], ids=["one set at a time", "some", "all"])
def test_it_is_attention(kind: str, width: int, cached: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_attention, "CACHED", cached)
    torch.manual_seed(0)
    qkv = torch.randn(23, J, 3 * HEADS * width, requires_grad=True)
    hiding, weight = mask(kind, 23), torch.randn(23, J, HEADS * width)
    results = []
    for attend in (lambda x: attention(x, HEADS, hiding), lambda x: by_torch(x, hiding)):
        result = attend(qkv)
        results += [result, *torch.autograd.grad((result * weight).sum(), qkv)]
    torch.testing.assert_close(results[0], results[2], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(results[1], results[3], rtol=1e-5, atol=1e-6)


def test_its_gradient_is_that_of_differences() -> None:
    torch.manual_seed(0)
    qkv = torch.randn(3, J, 3 * HEADS * 2, dtype=torch.float64, requires_grad=True)
    hiding = mask("of sets", 3).double()
    assert torch.autograd.gradcheck(lambda x: attention(x, HEADS, hiding), qkv)


def test_nothing_is_kept_of_the_scores() -> None:
    """What waits for the gradient grows with the tokens, not with their square."""
    kept = []
    qkv = torch.randn(50, 40, 3 * HEADS, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        attention(qkv, HEADS, None)
    assert 0 < sum(kept) <= 50 * 40 * 4 * HEADS
