"""Random numbers that depend on what they are for, and on nothing drawn before: so any of them can be drawn again."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class RandomStream(IntEnum):
    """What is drawn; no two streams share a stream."""

    AUGMENT = 1
    ORDER = 2
    MASK = 4
    DROPOUT = 5


def generator(stream: RandomStream, seed: int, epoch: int = 0, number: int = 0) -> np.random.Generator:
    """The stream of a stream, seed (below 2^32), epoch (below 2^32) and number (of a clip, a class; below 2^56)."""
    return np.random.Generator(np.random.Philox(key=[(seed << 32) + epoch, (int(stream) << 56) + number]))


def seed_dropout(seed: int, epoch: int, step: int, rank: int = 0) -> None:
    """Begin a training step's dropout and drop path: torch's generators start anew, whatever was drawn before.

    Args:
        seed: of the training.
        epoch: from 0.
        step: within the epoch, from 0, below 2^40.
        rank: of the process, below 2^16; each drops other units of its own clips.
    """
    stream = generator(RandomStream.DROPOUT, seed, epoch, (step << 16) + rank)
    torch.manual_seed(int(stream.integers(2**63)))


def uniform(stream: RandomStream, seed: int, epoch: int, *places: Tensor) -> Tensor:
    """Float32 numbers in [0, 1), one for each place, on the places' device.

    Args:
        stream: what they are for.
        seed: below 2^32.
        epoch: below 2^32.
        places: int64, broadcast against each other; what a number belongs to: its clip, its frame, ...

    SplitMix64's mixing (Steele, Lea and Flood, 2014) over a counter: a whole batch in a few tensor operations.
    """
    bits = torch.tensor(generator(stream, seed, epoch).integers(-(2**63), 2**63), device=places[0].device)
    for place in places:
        bits = _mix((bits + _GOLDEN) ^ (place * _ODD))
    return ((bits >> 40) & 0xFFFFFF).float() * 2.0**-24


_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15
_ODD = -4417276706812531889  # 0xC2B2AE3D27D4EB4F
_FIRST = -4658895280553007687  # 0xBF58476D1CE4E5B9
_SECOND = -7723592293110705685  # 0x94D049BB133111EB


def _mix(bits: Tensor) -> Tensor:
    """SplitMix64's finaliser; integers wrap, shifts are made logical by the mask."""
    bits = (bits ^ ((bits >> 30) & (2**34 - 1))) * _FIRST
    bits = (bits ^ ((bits >> 27) & (2**37 - 1))) * _SECOND
    return bits ^ ((bits >> 31) & (2**33 - 1))
