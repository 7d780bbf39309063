"""A training step in other formats of matrix products, or on another device, against double precision on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.clips import pack
from benchmarks.training_step import Problem
from glt.model import GLTransformer
from glt.motion.displacement import targets
from glt.training.mpdp import Pretrainer, loss


@dataclass(frozen=True)
class Tolerance:
    """Bounds of a format: on the loss, as a share of it; on the norm of the gradients' difference, likewise."""

    loss: float
    gradient: float


# TF32 keeps 10 bits after the point of each factor, bfloat16 7; both add up in float32.
TOLERANCES = {
    "float32": Tolerance(1e-6, 1e-4),
    "tf32": Tolerance(1e-5, 2e-3),
    "bfloat16": Tolerance(1e-4, 2e-2),
}


def loss_and_gradient(
    problem: Problem,
    device: torch.device,
    dtype: torch.dtype,
    half: bool = False,
    within: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> tuple[float, Tensor]:
    """Loss and gradient of a training step without dropout.

    Args:
        problem: sizes and clips.
        device: that computes.
        dtype: of weights and tokens.
        half: matrix products in bfloat16.
        within: entered around the step.

    Returns:
        The loss, and all gradients in one vector on the CPU, in double precision.
    """
    torch.manual_seed(0)
    recordings = problem.recordings
    model = Pretrainer(GLTransformer(problem.model, recordings.persons, recordings.joints), problem.bins)
    model = model.to(dtype).to(device).eval()
    batch = pack(problem.clips).to(device)
    goal = targets(batch, problem.bins)
    with within():
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            direction, magnitude = model(batch.tokens.to(dtype), batch.present, batch.lengths)
        value = loss((direction.to(dtype), magnitude.to(dtype)), goal, problem.pretrain)
        torch.autograd.backward(value)
    gradients = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    return float(value.detach()), torch.cat(gradients).double().cpu()


def differences(mine: tuple[float, Tensor], exact: tuple[float, Tensor]) -> Tolerance:
    """The differences of `loss_and_gradient` from the exact result."""
    norm = float((mine[1] - exact[1]).norm() / exact[1].norm())
    return Tolerance(abs(mine[0] / exact[0] - 1), norm)
