"""The formats of a GPU's matrix products, emulated: how far loss and gradients are from double precision.

The tolerances are those that docs/train.md states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.parity import TOLERANCES, differences, loss_and_gradient
from benchmarks.training_step import Problem

CPU = torch.device("cpu")
PRODUCTS = {"mm", "addmm", "bmm", "_scaled_dot_product_flash_attention_for_cpu"}
PRODUCTS |= {"_scaled_dot_product_flash_attention_for_cpu_backward"}


def tf32(x: Tensor) -> Tensor:
    """The nearest numbers with 10 bits after the point, as a tensor core reads its factors."""
    return ((x.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


class Tf32(TorchDispatchMode):  # type: ignore[no-untyped-call]
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


@pytest.mark.usefixtures("as_on_a_gpu")
def test_loss_and_gradients_stay_near_double_precision(problem: Problem) -> None:
    """At the paper's size for NW-UCLA."""
    exact = loss_and_gradient(problem, CPU, torch.float64)
    found = {
        "float32": loss_and_gradient(problem, CPU, torch.float32),
        "tf32": loss_and_gradient(problem, CPU, torch.float32, within=Tf32),
        "bfloat16": loss_and_gradient(problem, CPU, torch.float32, half=True),
    }
    off = {kind: differences(one, exact) for kind, one in found.items()}
    for kind, bound in TOLERANCES.items():
        assert off[kind].loss < bound.loss, kind
        assert off[kind].gradient < bound.gradient, kind
    assert off["float32"].gradient < off["tf32"].gradient / 5  # it rounds at all
    assert off["tf32"].gradient < off["bfloat16"].gradient / 5


def test_the_emulation_rounds_to_the_nearest() -> None:
    x = torch.tensor([1.0, 1 + 2**-10, 1 + 2**-11, 1 + 2**-12, -3.14159265, 0.0])
    expected = torch.tensor([1.0, 1 + 2**-10, 1 + 2**-10, 1.0, -3.140625, 0.0])
    assert torch.equal(tf32(x), expected)
