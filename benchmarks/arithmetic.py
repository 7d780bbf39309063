"""Floating-point operations of a training step, and the rate of this machine's matrix product."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from glt.model import DIRECTIONS
from glt.recipe import ModelConfig


def forward_flops(config: ModelConfig, tokens: int, lengths: Sequence[int], classes: int = 0) -> int:
    """FLOPs of the matrix products in one forward pass over real frames; a multiply-add counts as two.

    Args:
        config: sizes.
        tokens: J, tokens of a frame.
        lengths: frames of each clip; padding and what is done to it do not count.
        classes: intervals x magnitude classes + intervals x 27 that the heads tell apart for every token; 0: no heads.
    """
    D = config.width
    E = tokens * D
    spatial = tokens * 4 * D * D + 2 * tokens * tokens * D
    dense = 4 * E * E + 2 * config.ff_ratio * E * E
    frame = tokens * 3 * D + config.depth * (spatial + dense) + 2 * E * E + E * tokens * classes
    attention = config.depth * 2 * E * sum(length * length for length in lengths)
    return 2 * (frame * sum(lengths) + attention)


def step_flops(config: ModelConfig, tokens: int, lengths: Sequence[int], intervals: int, magnitudes: int) -> int:
    """FLOPs of a training step: the forward pass, and twice as many for the gradients of inputs and weights."""
    return 3 * forward_flops(config, tokens, lengths, intervals * (DIRECTIONS + magnitudes))


class Gemm:
    """The machine's rate on the model's largest matrix product, in the three forms that a step has of it.

    frames x E times E x 3E forward, and the products for the gradients of input and weight.
    """

    def __init__(self, frames: int, width: int) -> None:
        """The best rate met is `rate`, in FLOP/s."""
        self.rate = 0.0
        self._flops = 2 * frames * width * 3 * width
        x, w, g = torch.randn(frames, width), torch.randn(3 * width, width), torch.randn(frames, 3 * width)
        self._forms = ((x, w.T), (g, w), (g.T, x))

    def step(self) -> None:
        """Measure each form three times, small ones over 20 ms."""
        for a, b in self._forms:
            out = torch.mm(a, b)
            repeats = max(1, round(0.02 * 100e9 / self._flops))
            for _ in range(3):
                started = time.perf_counter()
                for _ in range(repeats):
                    torch.mm(a, b, out=out)
                self.rate = max(self.rate, repeats * self._flops / (time.perf_counter() - started))
