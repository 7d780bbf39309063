"""Random numbers that are the same on every processor and with every version of numpy: splitmix64, integers only.

Each stream is named by its key, so what is drawn from one stream does not depend on what was drawn from another.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class StableRandom:
    """A stream of random numbers; equal keys give equal streams."""

    def __init__(self, *key: int) -> None:
        state = np.zeros(1, np.uint64)
        for part in key:
            state = _mix(state + np.uint64(part) + _GOLDEN)
        self._state, self._count = state, 0

    def bits(self, *shape: int) -> NDArray[np.uint64]:
        """An array of 64 random bits per element."""
        size = int(np.prod(shape, dtype=np.int64))
        counter = np.arange(self._count + 1, self._count + size + 1, dtype=np.uint64)
        self._count += size
        return _mix(self._state + counter * _GOLDEN).reshape(shape)

    def uniform(self, low: float, high: float, *shape: int) -> Array:
        """An array of numbers uniform in [low, high)."""
        unit = (self.bits(*shape) >> np.uint64(11)).astype(np.float64) / 9007199254740992.0  # 2^53
        return low + (high - low) * unit

    def uniform_number(self, low: float, high: float) -> float:
        """One number, uniform in [low, high)."""
        return float(self.uniform(low, high, 1)[0])

    def integer(self, low: int, high: int) -> int:
        """One integer, low <= n < high."""
        return low + int(self.bits(1)[0]) % (high - low)

    def bernoulli(self, probability: float, *shape: int) -> NDArray[np.bool_]:
        """An array that is True with this probability."""
        return self.uniform(0, 1, *shape) < probability

    def coin(self, probability: float) -> bool:
        """True with this probability."""
        return bool(self.bernoulli(probability, 1)[0])

    def normal(self, *shape: int) -> Array:
        """An array of nearly normal numbers, mean 0 and variance 1: sums of four uniform numbers of 16 bits."""
        bits = self.bits(*shape)
        low = np.uint64(0xFFFF)
        parts = [((bits >> np.uint64(16 * n)) & low).astype(np.float64) for n in range(4)]
        total: Array = (parts[0] + parts[1]) + (parts[2] + parts[3])
        return (total - 131070.0) / 37837.22748  # 4 x 65535 / 2, and 65536 x sqrt(1 / 3)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
