"""Batches of clips. Order and augmentation depend on (seed, epoch) only, so a resumed run sees the same batches."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from glt.errors import GltError
from glt.motion.augment import augment, draw, fit, mask_tokens
from glt.motion.disentangle import Motions
from glt.motion.packed import Packed
from glt.randomness import RandomStream, generator
from glt.recipe import AugmentConfig, ModelConfig

ClipIds = NDArray[np.int64]


def shuffled(clip_ids: ClipIds, seed: int, epoch: int, batch: int) -> list[ClipIds]:
    """Shuffle clips into batches of at most `batch` clips, whose sizes differ by at most one."""
    order = generator(RandomStream.ORDER, seed, epoch).permutation(clip_ids)
    return np.array_split(order, math.ceil(len(order) / batch))


def training_batch(
    motions: Motions,
    clip_ids: ClipIds,
    config: AugmentConfig,
    seed: int,
    epoch: int,
    model: ModelConfig,
    device: torch.device,
) -> tuple[Packed, Packed]:
    """An augmented batch, for the targets, and the same with `config.mask` of its tokens set to zero, for the input."""
    draws = draw(config, seed, epoch, clip_ids.tolist())
    batch = motions.batch(clip_ids).to(device)
    whole = augment(batch, config, draws, model, motions.skeleton.up, motions.mirror)
    return whole, mask_tokens(whole, config.mask, draws)


def evaluation_batches(
    motions: Motions, clip_ids: ClipIds, model: ModelConfig, device: torch.device, batch: int = 64
) -> Iterator[Packed]:
    """Batches of clips in the given order, without augmentation, shortened to the model's T_max."""
    for start in range(0, len(clip_ids), batch):
        yield fit(motions.batch(clip_ids[start : start + batch]).to(device), model)


def device(accelerator: str) -> torch.device:
    """The device of an accelerator profile: ``cpu``, ``gpu``, or ``auto`` (a GPU if there is one).

    Raises:
        GltError: a GPU is asked for and none is visible.
    """
    if accelerator not in {"cpu", "gpu", "auto"}:
        raise GltError(f"accelerator {accelerator!r}: take cpu, gpu or auto")
    if accelerator == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if accelerator == "gpu":
        raise GltError("accelerator gpu: torch sees no GPU; install a CUDA build of torch, or take cpu or auto")
    return torch.device("cpu")
