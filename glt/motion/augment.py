"""Augmentation of training clips (paper, Sec. 4.2), for a whole batch at once on its device.

The random numbers of a clip depend on (seed, epoch, clip) only, not on the batch it is in or on earlier draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glt.accelerator import send, upload
from glt.motion.packed import Packed, crop, frames, resample
from glt.randomness import RandomStream, uniform
from glt.recipe import AugmentConfig, ModelConfig

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Draws:
    """Random parameters of the augmentation of B clips.

    Attributes:
        stretch: relative change of duration, [B].
        turn: rotation about the vertical, radians, [B].
        shear: matrices R of x' = R x, [B, 3, 3].
        slope: rotation about the horizontal axis at the angle `slope_axis`, radians, [B] each.
        size: scale factor, [B].
        mirrored: whether left and right are exchanged, bool [B].
        start: start of the crop of a longer clip, as a share of the frames to be cut, [B].
        seed, epoch: that the above are drawn from.
        clip_ids: indices of the clips in the data set, int64 [B].
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
    clip_ids: Tensor


def draw(config: AugmentConfig, seed: int, epoch: int, clip_ids: Sequence[int]) -> Draws:
    """The parameters for these clips (indices in the data set) at `epoch`."""
    ids = torch.tensor(clip_ids)  # B
    drawn = uniform(RandomStream.AUGMENT, seed, epoch, ids[:, None], torch.arange(13)).double().numpy()  # B, 13
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
        clip_ids=ids,
    )


def augment(
    batch: Packed, config: AugmentConfig, draws: Draws, model: ModelConfig, up: int = 1, mirror: Sequence[int] = ()
) -> Packed:
    """Interpolate in time; mirror, rotate, tilt and scale; shear the local motion. Masking is `mask_tokens`.

    Args:
        batch: B clips.
        config: which augmentations are on, and their bounds.
        draws: from `draw`, for the same clips.
        model: T_max, and how clips above it are shortened.
        up: index of the vertical axis.
        mirror: for each token of a person, the index of its mirror image; see `Motions.mirror`.
    """
    lengths = tuple(
        max(1, round(length * (1 + stretch)))
        for length, stretch in zip(batch.lengths, draws.stretch.tolist(), strict=True)
    )
    batch = _limited(batch, lengths, model, draws.start.tolist())
    if config.yaw == config.shear == config.tilt == config.size == config.mirror == 0:
        return batch
    clip, device = frames(np.asarray(batch.lengths))[0], batch.tokens.device  # clip: S
    before = batch.tokens
    if draws.mirrored.any():
        swapped = upload(draws.mirrored[clip], device).view(-1, 1, 1, 1)
        before = torch.where(swapped, before.index_select(2, upload(np.asarray(mirror), device)), before)
    whole = _slopes(draws, up) @ _rotations(draws.turn, up) * draws.size[:, None, None]
    whole[draws.mirrored, :, (up + 2) % 3] *= -1  # the axis that `motion.yaw` lays the shoulders along
    local = draws.shear @ whole
    tokens = _transform(before, _matrices(local, clip, before))
    if batch.global_tokens and not (config.shear_global or config.shear == 0):
        tokens[:, :, :1] = _transform(before[:, :, :1], _matrices(whole, clip, before))
    return replace(batch, tokens=tokens)


def fit(batch: Packed, model: ModelConfig) -> Packed:
    """Clips shortened to what the model takes, without randomness: a crop takes the middle of a longer clip."""
    return _limited(batch, batch.lengths, model, [0.5] * len(batch.lengths))


def mask_tokens(batch: Packed, share: float, draws: Draws) -> Packed:
    """Set a share of the tokens to zero, drawn independently for every frame (paper, supplement D)."""
    if share == 0:
        return batch
    device = batch.tokens.device
    clip, time = frames(np.asarray(batch.lengths))
    token = torch.arange(batch.tokens.shape[1] * batch.tokens.shape[2], device=device)
    frame = upload(draws.clip_ids.numpy()[clip] * 2**32 + time, device)  # S
    drawn = uniform(RandomStream.MASK, draws.seed, draws.epoch, frame[:, None], token)  # S, J
    return replace(batch, tokens=batch.tokens * (drawn >= share).view(*batch.tokens.shape[:3], 1))


def _limited(batch: Packed, lengths: tuple[int, ...], model: ModelConfig, starts: Sequence[float]) -> Packed:
    """Resample the clips to these lengths [B], shortened to T_max unless the model attends in windows."""
    if model.speed == "fixed":
        return resample(batch, (model.max_frames,) * len(lengths))
    shorter = tuple(min(length, model.max_frames) for length in lengths)
    if model.longer == "resample":
        return resample(batch, shorter)
    batch = resample(batch, lengths)
    if model.longer == "windows":
        return batch
    first = [round(start * (n - short)) for start, n, short in zip(starts, lengths, shorter, strict=True)]
    return crop(batch, first, shorter)


def _rotations(angle: Floats, up: int) -> Floats:
    """Rotation matrices [B, 3, 3] about axis `up` by angles [B] in radians."""
    a, b = (up + 1) % 3, (up + 2) % 3
    matrix = np.zeros((len(angle), 3, 3))
    matrix[:, up, up] = 1
    matrix[:, a, a] = matrix[:, b, b] = np.cos(angle)
    matrix[:, a, b] = -np.sin(angle)
    matrix[:, b, a] = np.sin(angle)
    return matrix


def _slopes(draws: Draws, up: int) -> Floats:
    """Rotation matrices [B, 3, 3] by `slope` about the horizontal axis at angle `slope_axis`."""
    a = (up + 1) % 3
    there, back = _rotations(draws.slope_axis, up), _rotations(-draws.slope_axis, up)
    result: Floats = there @ _rotations(draws.slope, a) @ back
    return result


def _matrices(matrix: Floats, clip: NDArray[np.int64], tokens: Tensor) -> Tensor:
    """The matrices [B, 3, 3] of the clips that frames belong to, for tokens [S, ...]: [S, 3, 3]."""
    return send(torch.from_numpy(matrix[clip]).to(tokens.dtype), tokens.device)


def _transform(tokens: Tensor, matrix: Tensor) -> Tensor:
    """x' = R x for tokens [S, P, n, 3] and one matrix per frame [S, 3, 3]."""
    return torch.bmm(tokens.flatten(1, 2), matrix.transpose(1, 2)).view_as(tokens)  # S, P n, 3 -> S, P, n, 3
