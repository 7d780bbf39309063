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

from glt.motion.packed import Packed, crop, resample
from glt.randomness import RandomStream, uniform
from glt.recipe import AugmentConfig, ModelConfig

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Draws:
    """Random numbers of a batch of B clips.

    Attributes:
        stretch: change of length as a share of it, [B].
        turn: about the vertical, radians, [B].
        shear: x' = R x, [B, 3, 3].
        slope: about the horizontal axis that lies at the angle `slope_axis`, radians, [B] each.
        size: factor of all lengths, [B].
        mirrored: whether left and right change places, [B].
        start: where a part of a longer clip starts, as a share of the room there is, [B].
        seed, epoch, clips: what all of it comes from; clips [B] are numbers in the data set.
    """

    stretch: Floats
    turn: Floats
    shear: Floats
    slope: Floats
    slope_axis: Floats
    size: Floats
    mirrored: NDArray[np.bool_]
    start: Floats
    seed: int
    epoch: int
    clips: Tensor


def draw(config: AugmentConfig, seed: int, epoch: int, clips: Sequence[int]) -> Draws:
    """The random numbers of `clips` (their numbers in the data set) at `epoch`."""
    clip_ids = torch.tensor(clips)
    drawn = uniform(RandomStream.AUGMENT, seed, epoch, clip_ids[:, None], torch.arange(13)).double().numpy()  # B, 13
    signed = 2 * drawn - 1
    shear = np.tile(np.eye(3), (len(drawn), 1, 1))
    shear[:, ~np.eye(3, dtype=bool)] = config.shear * signed[:, 2:8]
    return Draws(
        stretch=config.interpolate * signed[:, 0],
        turn=math.radians(config.yaw) * signed[:, 1],
        shear=shear,
        slope=math.radians(config.tilt) * signed[:, 9],
        slope_axis=math.pi * signed[:, 10],
        size=1 + config.size * signed[:, 11],
        mirrored=drawn[:, 12] < config.mirror,
        start=drawn[:, 8],
        seed=seed,
        epoch=epoch,
        clips=clip_ids,
    )


def augment(
    batch: Packed, config: AugmentConfig, draws: Draws, model: ModelConfig, up: int = 1, mirror: Sequence[int] = ()
) -> Packed:
    """Interpolate in time; mirror, turn, tilt and scale; shear the local motion. Coordinates only, nothing masked.

    Args:
        batch: B clips.
        config: which changes are on.
        draws: from `draw`, for the same clips.
        model: T_max, and what becomes of clips that are longer.
        up: index of the vertical axis.
        mirror: for each of a person's tokens the one that takes its place where left and right change places.
    """
    lengths = tuple(
        max(1, round(length * (1 + stretch)))
        for length, stretch in zip(batch.lengths, draws.stretch.tolist(), strict=True)
    )
    batch = _limited(batch, lengths, model, draws.start.tolist())
    if config.yaw == config.shear == config.tilt == config.size == config.mirror == 0:
        return batch
    clip, device = batch.clip(), batch.tokens.device
    before = batch.tokens
    if draws.mirrored.any():
        swapped = torch.tensor(draws.mirrored, device=device)[clip].view(-1, 1, 1, 1)
        before = torch.where(swapped, before[:, :, list(mirror)], before)
    whole = _slopes(draws, up) @ _rotations(draws.turn, up) * draws.size[:, None, None]
    whole[draws.mirrored, :, (up + 2) % 3] *= -1  # the axis that `motion.yaw` lays the shoulders along
    local = draws.shear @ whole
    tokens = _transform(before, torch.tensor(local, dtype=before.dtype, device=device)[clip])
    if batch.global_tokens and not (config.shear_global or config.shear == 0):
        matrix = torch.tensor(whole, dtype=before.dtype, device=device)[clip]
        tokens[:, :, :1] = _transform(before[:, :, :1], matrix)
    return replace(batch, tokens=tokens)


def fit(batch: Packed, model: ModelConfig) -> Packed:
    """Clips as the model takes them when nothing is random: a part of a longer clip is its middle."""
    return _limited(batch, batch.lengths, model, [0.5] * len(batch.lengths))


def mask_tokens(batch: Packed, share: float, draws: Draws) -> Packed:
    """A share of the tokens set to zero, drawn anew in every frame (paper, supplement D)."""
    if share == 0:
        return batch
    device = batch.tokens.device
    clip, time = batch.frame_indices()
    token = torch.arange(batch.tokens.shape[1] * batch.tokens.shape[2], device=device)
    frame = draws.clips.to(device)[clip] * 2**32 + time  # S
    drawn = uniform(RandomStream.MASK, draws.seed, draws.epoch, frame[:, None], token)  # S, J
    return replace(batch, tokens=batch.tokens * (drawn >= share).view(*batch.tokens.shape[:3], 1))


def _limited(batch: Packed, lengths: tuple[int, ...], model: ModelConfig, starts: Sequence[float]) -> Packed:
    """The clips at these lengths, none above T_max unless the model attends in windows."""
    if model.speed == "fixed":
        return resample(batch, (model.max_frames,) * len(lengths))
    shorter = tuple(min(length, model.max_frames) for length in lengths)
    if model.longer == "resample":
        return resample(batch, shorter)
    batch = resample(batch, lengths)
    if model.longer == "windows":
        return batch
    first = [round(start * (n - kept)) for start, n, kept in zip(starts, lengths, shorter, strict=True)]
    return crop(batch, first, shorter)


def _rotations(angle: Floats, up: int) -> Floats:
    """Rotation matrices [B, 3, 3] about axis `up`."""
    a, b = (up + 1) % 3, (up + 2) % 3
    matrix = np.zeros((len(angle), 3, 3))
    matrix[:, up, up] = 1
    matrix[:, a, a] = matrix[:, b, b] = np.cos(angle)
    matrix[:, a, b] = -np.sin(angle)
    matrix[:, b, a] = np.sin(angle)
    return matrix


def _slopes(draws: Draws, up: int) -> Floats:
    """Rotation matrices [B, 3, 3] about horizontal axes: to the axis at `slope_axis`, about it, and back."""
    a = (up + 1) % 3
    there, back = _rotations(draws.slope_axis, up), _rotations(-draws.slope_axis, up)
    result: Floats = there @ _rotations(draws.slope, a) @ back
    return result


def _transform(tokens: Tensor, matrix: Tensor) -> Tensor:
    """x' = R x for tokens [S, P, n, 3] and a matrix a frame [S, 3, 3]."""
    return torch.bmm(tokens.flatten(1, 2), matrix.transpose(1, 2)).view_as(tokens)
