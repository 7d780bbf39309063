"""Order and batches: what a protocol feeds the model; of (seed, epoch) alone, so a resumed run sees the same."""

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
    """The clips in a new order, in batches whose sizes differ by at most one clip and none above `batch`."""
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
    """An augmented batch twice: as it is, and with the tokens masked that `config` asks for."""
    draws = draw(config, seed, epoch, clip_ids.tolist())
    batch = motions.batch(clip_ids).to(device)
    whole = augment(batch, config, draws, model, motions.skeleton.up, motions.mirror)
    return whole, mask_tokens(whole, config.mask, draws)


def evaluation_batches(
    motions: Motions, clip_ids: ClipIds, model: ModelConfig, device: torch.device, batch: int = 64
) -> Iterator[Packed]:
    """The clips in the order given, unchanged but for what the model's T_max asks."""
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
