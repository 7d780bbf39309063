"""Random streams that depend on what they are for, and on nothing drawn before: so any of them can be drawn again."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What is drawn; no two purposes share a stream."""

    AUGMENT = 1
    ORDER = 2
    LABELLED = 3
    DROPOUT = 4


def generator(purpose: Purpose, seed: int, epoch: int = 0, number: int = 0) -> np.random.Generator:
    """The stream of a purpose, seed (below 2^32), epoch (below 2^32) and number (of a clip, a class; below 2^56)."""
    return np.random.Generator(np.random.Philox(key=[(seed << 32) + epoch, (int(purpose) << 56) + number]))


def seed_dropout(seed: int, epoch: int, step: int, rank: int = 0) -> None:
    """Begin a training step's dropout and drop path: torch's generators start anew, whatever was drawn before.

    Args:
        seed: of the training.
        epoch: from 0.
        step: within the epoch, from 0, below 2^40.
        rank: of the process, below 2^16; each drops other units of its own clips.
    """
    stream = generator(Purpose.DROPOUT, seed, epoch, (step << 16) + rank)
    torch.manual_seed(int(stream.integers(2**63)))
