"""Counter-based random numbers: each depends on its stream, seed, epoch and index only, never on earlier draws."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class RandomStream(IntEnum):
    """Independent streams, one for each use."""

    AUGMENT = 1
    ORDER = 2
    MASK = 4
    DROPOUT = 5


def generator(stream: RandomStream, seed: int, epoch: int = 0, index: int = 0) -> np.random.Generator:
    """A NumPy generator for seed and epoch (below 2^32 each) and index (below 2^56; of a clip, a class, a step)."""
    return np.random.Generator(np.random.Philox(key=[(seed << 32) + epoch, (int(stream) << 56) + index]))


def seed_dropout(seed: int, epoch: int, step: int, rank: int = 0) -> None:
    """Seed torch's generators for the dropout and stochastic depth of one training step.

    Args:
        seed: of the training, below 2^32.
        epoch: from 0, below 2^32.
        step: within the epoch, from 0, below 2^40.
        rank: of the process, below 2^16; processes drop different units.
    """
    random = generator(RandomStream.DROPOUT, seed, epoch, (step << 16) + rank)
    torch.manual_seed(int(random.integers(2**63)))


def uniform(stream: RandomStream, seed: int, epoch: int, *indices: Tensor) -> Tensor:
    """Uniform float32 numbers in [0, 1), one for each tuple of indices.

    Args:
        stream: which use.
        seed: below 2^32.
        epoch: below 2^32.
        indices: int64 tensors that broadcast against each other: of the clip, the frame, ...

    The mixing function of SplitMix64 (Steele, Lea and Flood, 2014) over a counter: a few tensor operations per batch.

    Returns:
        Of the broadcast shape, on the device of the indices.
    """
    start = int(generator(stream, seed, epoch).integers(-(2**63), 2**63))
    first, *others = indices
    bits = _mix((first * _ODD) ^ _wrapped(start + _GOLDEN))
    for index in others:
        bits = _mix((bits + _GOLDEN) ^ (index * _ODD))
    return ((bits >> 40) & 0xFFFFFF).float() * 2.0**-24


_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15
_ODD = -4417276706812531889  # 0xC2B2AE3D27D4EB4F
_FIRST = -4658895280553007687  # 0xBF58476D1CE4E5B9
_SECOND = -7723592293110705685  # 0x94D049BB133111EB


def _wrapped(value: int) -> int:
    """An integer as 64 bits hold it, as tensors do."""
    return (value + 2**63) % 2**64 - 2**63


def _mix(bits: Tensor) -> Tensor:
    """Finaliser of SplitMix64; integers wrap around, masks make the shifts logical."""
    bits = (bits ^ ((bits >> 30) & (2**34 - 1))) * _FIRST
    bits = (bits ^ ((bits >> 27) & (2**37 - 1))) * _SECOND
    return bits ^ ((bits >> 31) & (2**33 - 1))
