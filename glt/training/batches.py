"""Batches of clips. Order and augmentation depend on (seed, epoch) only, so a resumed run sees the same batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from glt.accelerator import on_gpu
from glt.motion.augment import Draws, augment, draw, fit, mask_tokens
from glt.motion.disentangle import Motions
from glt.motion.packed import Packed
from glt.randomness import RandomStream, generator
from glt.recipe import AugmentConfig, ModelConfig, Recipe
from glt.training.distributed import World

ClipIds = NDArray[np.int64]


def shuffled(clip_ids: ClipIds, seed: int, epoch: int, batch: int) -> list[ClipIds]:
    """Shuffle clips into batches of at most `batch` clips, whose sizes differ by at most one."""
    order = generator(RandomStream.ORDER, seed, epoch).permutation(clip_ids)
    return np.array_split(order, math.ceil(len(order) / batch))


@dataclass(frozen=True)
class LoadedBatch:
    """Clips as they are stored, in this process's memory, and the random parameters of their augmentation."""

    clips: Packed
    draws: Draws

    @staticmethod
    def of(motions: Motions, clip_ids: ClipIds, config: AugmentConfig, seed: int, epoch: int) -> LoadedBatch:
        """The clips with these indices."""
        return LoadedBatch(motions.batch(clip_ids), draw(config, seed, epoch, clip_ids.tolist()))

    def augmented(
        self, motions: Motions, config: AugmentConfig, model: ModelConfig, device: torch.device
    ) -> tuple[Packed, Packed]:
        """The augmented batch, for the targets, and the same with `config.mask` of its tokens zero, for the input."""
        whole = augment(self.clips.to(device), config, self.draws, model, motions.skeleton.up, motions.mirror)
        return whole, mask_tokens(whole, config.mask, self.draws)


def training_batch(
    motions: Motions,
    clip_ids: ClipIds,
    config: AugmentConfig,
    seed: int,
    epoch: int,
    model: ModelConfig,
    device: torch.device,
) -> tuple[Packed, Packed]:
    """An augmented batch on `device`; see `LoadedBatch.augmented`."""
    return LoadedBatch.of(motions, clip_ids, config, seed, epoch).augmented(motions, config, model, device)


@dataclass(frozen=True)
class Share:
    """The part of a batch that a process trains on.

    Attributes:
        loaded: its clips.
        carries_loss: False if there are fewer clips than processes, and this one only joins in.
    """

    loaded: LoadedBatch
    carries_loss: bool


class PretrainingFeed:
    """The batches of a pretraining, or this process's share of them.

    `batches` gives the clips of each batch of an epoch, of all processes; `steps` is their number. For a GPU the next
    batch is read into pinned memory by a thread while the GPU works on the one before.
    """

    def __init__(self, motions: Motions, recipe: Recipe, world: World) -> None:
        self._motions, self._recipe, self._world = motions, recipe, world
        clip_ids, seed, batch = motions.clip_ids("train"), recipe.seed, recipe.pretrain.batch
        self.steps = math.ceil(len(clip_ids) / batch)  # of an epoch
        self.batches: Callable[[int], list[ClipIds]] = lru_cache(maxsize=2)(
            lambda epoch: shuffled(clip_ids, seed, epoch, batch)
        )
        self._reader = ThreadPoolExecutor(1, "batches") if on_gpu(world.device) else None
        self._next: tuple[tuple[int, int], Future[Share]] | None = None

    def close(self) -> None:
        """End the thread that reads."""
        if self._reader is not None:
            self._reader.shutdown(cancel_futures=True)

    def share(self, epoch: int, step: int) -> Share:
        """This process's share of a batch."""
        if self._reader is None:
            return self._load(epoch, step)
        if self._next is None or self._next[0] != (epoch, step):
            self._next = (epoch, step), self._reader.submit(self._load, epoch, step)
        share = self._next[1].result()
        following = (epoch, step + 1) if step + 1 < len(self.batches(epoch)) else (epoch + 1, 0)
        more = following[0] < self._recipe.pretrain.epochs
        self._next = (following, self._reader.submit(self._load, *following)) if more else None
        return share

    def _load(self, epoch: int, step: int) -> Share:
        chosen, recipe, device = self.batches(epoch)[step], self._recipe, self._world.device
        lengths = self._motions.index["length"].to_numpy()[chosen].clip(max=recipe.model.max_frames)
        share = chosen[self._world.share(lengths.tolist())]
        clip_ids = share if len(share) else chosen[:1]
        loaded = LoadedBatch.of(self._motions, clip_ids, recipe.pretrain.augment, recipe.seed, epoch)
        return Share(replace(loaded, clips=loaded.clips.pinned(device)), carries_loss=len(share) > 0)


def evaluation_batches(
    motions: Motions, clip_ids: ClipIds, model: ModelConfig, device: torch.device, batch: int = 64
) -> Iterator[Packed]:
    """Batches of clips in the given order, without augmentation, shortened to the model's T_max."""
    for start in range(0, len(clip_ids), batch):
        yield fit(motions.batch(clip_ids[start : start + batch]).to(device), model)
