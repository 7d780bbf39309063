"""Random changes of training clips (paper, Sec. 4.2), for a whole batch at once on its device.

What is drawn for a clip depends on (seed, epoch, clip) alone: neither on the batch it falls in nor on earlier draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glt.motion.packed import Packed, resample
from glt.randomness import Purpose, generator
from glt.recipe import AugmentConfig


@dataclass(frozen=True)
class Draws:
    """Random numbers of a batch: stretch [B], turn [B] (radians), shear [B, 3, 3], and a generator a clip for masks."""

    stretch: NDArray[np.float64]
    turn: NDArray[np.float64]
    shear: NDArray[np.float64]
    generators: tuple[np.random.Generator, ...]


def draw(config: AugmentConfig, seed: int, epoch: int, clips: Sequence[int]) -> Draws:
    """The random numbers of `clips` (their numbers in the data set) at `epoch`."""
    generators = tuple(generator(Purpose.AUGMENT, seed, epoch, int(clip)) for clip in clips)
    uniform = np.stack([g.uniform(-1, 1, 8) for g in generators])  # B, 8
    shear = np.tile(np.eye(3), (len(generators), 1, 1))
    shear[:, ~np.eye(3, dtype=bool)] = config.shear * uniform[:, 2:]
    return Draws(config.interpolate * uniform[:, 0], math.radians(config.yaw) * uniform[:, 1], shear, generators)


def augment(batch: Packed, config: AugmentConfig, draws: Draws, longest: int, up: int = 1) -> Packed:
    """Interpolate in time, turn about the vertical, shear the local motion; coordinates only, nothing masked.

    Args:
        batch: B clips.
        config: which changes are on.
        draws: from `draw`, for the same clips.
        longest: T_max; longer clips are resampled to it.
        up: index of the vertical axis.
    """
    lengths = tuple(
        min(longest, max(1, round(length * (1 + stretch))))
        for length, stretch in zip(batch.lengths, draws.stretch, strict=True)
    )
    batch = resample(batch, lengths)
    if config.yaw == config.shear == 0:
        return batch
    turn = torch.tensor(_rotations(draws.turn, up), dtype=batch.tokens.dtype, device=batch.tokens.device)
    shear = torch.tensor(draws.shear, dtype=batch.tokens.dtype, device=batch.tokens.device)
    clip = batch.clip()
    world = _transform(batch.tokens[:, :, :1], turn[clip])
    local = _transform(batch.tokens[:, :, 1:], (shear @ turn)[clip])
    return replace(batch, tokens=torch.cat([world, local], dim=2))


def fit(batch: Packed, longest: int) -> Packed:
    """Clips longer than T_max resampled to it, the others unchanged."""
    return resample(batch, tuple(min(length, longest) for length in batch.lengths))


def mask_tokens(batch: Packed, share: float, draws: Draws) -> Packed:
    """A share of the tokens set to zero, drawn anew in every frame (paper, supplement D)."""
    if share == 0:
        return batch
    _, persons, joints, _ = batch.tokens.shape
    kept = [
        g.random((length, persons, joints), dtype=np.float32) >= share
        for g, length in zip(draws.generators, batch.lengths, strict=True)
    ]
    keep = torch.from_numpy(np.concatenate(kept)).to(batch.tokens.device)
    return replace(batch, tokens=batch.tokens * keep[..., None])


def _rotations(angle: NDArray[np.float64], up: int) -> NDArray[np.float64]:
    """Rotation matrices [B, 3, 3] about axis `up`."""
    a, b = (up + 1) % 3, (up + 2) % 3
    matrix = np.zeros((len(angle), 3, 3))
    matrix[:, up, up] = 1
    matrix[:, a, a] = matrix[:, b, b] = np.cos(angle)
    matrix[:, a, b] = -np.sin(angle)
    matrix[:, b, a] = np.sin(angle)
    return matrix


def _transform(tokens: Tensor, matrix: Tensor) -> Tensor:
    """x' = R x for tokens [S, P, n, 3] and a matrix a frame [S, 3, 3]."""
    return torch.bmm(tokens.flatten(1, 2), matrix.transpose(1, 2)).view_as(tokens)
