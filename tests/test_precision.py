"""The formats of a GPU's matrix products, emulated: how far loss and gradients are from double precision.

The tolerances are those that docs/train.md states. TF32 keeps 10 bits after the point of each factor, bfloat16 7, and
both add up in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.clips import pack
from benchmarks.training_step import Problem
from glt.model import GLTransformer
from glt.motion.displacement import targets
from glt.training.mpdp import Pretrainer, loss

LOSS = {"tf32": 1e-5, "bfloat16": 1e-4}  # share of the loss
GRADIENT = {"tf32": 2e-3, "bfloat16": 2e-2}  # norm of the difference, as a share of the gradient's norm
PRODUCTS = {"mm", "addmm", "bmm", "_scaled_dot_product_flash_attention_for_cpu"}
PRODUCTS |= {"_scaled_dot_product_flash_attention_for_cpu_backward"}


def tf32(x: Tensor) -> Tensor:
    """The nearest numbers with 10 bits after the point, as a tensor core reads its factors."""
    return ((x.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


class Tf32(TorchDispatchMode):
    """Rounds the factors of matrix products within the block."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func.overloadpacket.__name__ in PRODUCTS:
            args = [tf32(x.contiguous()) if isinstance(x, Tensor) and x.dtype == torch.float32 else x for x in args]
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def problem() -> Problem:
    return Problem.of("nwucla", 48, [50, 17, 33])


def step(problem: Problem, dtype: torch.dtype, kind: str = "") -> tuple[float, Tensor]:
    """Loss and all gradients of a training step at the paper's size for NW-UCLA, without dropout."""
    torch.manual_seed(0)
    model = Pretrainer(GLTransformer(problem.model, 1, 20), problem.bins).to(dtype).eval()
    batch = pack(problem.clips)
    goal = targets(batch, problem.bins)
    tokens = batch.tokens.to(dtype)
    if kind == "tf32":
        with Tf32():  # type: ignore[no-untyped-call]
            value = loss(model(tokens, batch.present, batch.lengths), goal, problem.pretrain)
            torch.autograd.backward(value)
    else:
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bfloat16"):
            direction, magnitude = model(tokens, batch.present, batch.lengths)
        logits = (direction.to(dtype), magnitude.to(dtype))
        value = loss(logits, goal, problem.pretrain)
        torch.autograd.backward(value)
    parts = [parameter.grad.flatten().double() for parameter in model.parameters() if parameter.grad is not None]
    return float(value.detach()), torch.cat(parts)


@pytest.mark.parametrize("kind", ["tf32", "bfloat16"])
@pytest.mark.usefixtures("as_on_a_gpu")
def test_loss_and_gradients_stay_near_double_precision(problem: Problem, kind: str) -> None:
    exact, direction = step(problem, torch.float64)
    value, gradient = step(problem, torch.float32, kind)
    difference = float((gradient - direction).norm() / direction.norm())
    assert abs(value / exact - 1) < LOSS[kind]
    assert 1e-5 < difference < GRADIENT[kind]  # at least: rounded at all
    assert float(torch.nn.functional.cosine_similarity(gradient, direction, dim=0)) > 0.999


def test_the_emulation_rounds_to_the_nearest() -> None:
    x = torch.tensor([1.0, 1 + 2**-10, 1 + 2**-11, 1 + 2**-12, -3.14159265, 0.0])
    expected = torch.tensor([1.0, 1 + 2**-10, 1 + 2**-10, 1.0, -3.140625, 0.0])
    assert torch.equal(tf32(x), expected)
