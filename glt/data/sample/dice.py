"""Random numbers that are the same on every processor and with every version of numpy: splitmix64, integers throughout.

A `Dice` is named by its key: what is drawn for one purpose does not depend on what was drawn for another.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Dice:
    """A stream of draws; equal keys give equal streams."""

    def __init__(self, *key: int) -> None:
        state = np.zeros(1, np.uint64)
        for part in key:
            state = _mix(state + np.uint64(part) + _GOLDEN)
        self._state, self._drawn = state, 0

    def bits(self, *shape: int) -> NDArray[np.uint64]:
        """64 random bits each."""
        count = int(np.prod(shape, dtype=np.int64))
        place = np.arange(self._drawn + 1, self._drawn + count + 1, dtype=np.uint64)
        self._drawn += count
        return _mix(self._state + place * _GOLDEN).reshape(shape)

    def between(self, low: float, high: float, *shape: int) -> Array:
        """Uniform in [low, high)."""
        share = (self.bits(*shape) >> np.uint64(11)).astype(np.float64) / 9007199254740992.0  # 2^53
        return low + (high - low) * share

    def number(self, low: float, high: float) -> float:
        """One number, uniform in [low, high)."""
        return float(self.between(low, high, 1)[0])

    def whole(self, low: int, high: int) -> int:
        """One whole number, low <= n < high."""
        return low + int(self.bits(1)[0]) % (high - low)

    def chance(self, share: float, *shape: int) -> NDArray[np.bool_]:
        """True in `share` of the draws."""
        return self.between(0, 1, *shape) < share

    def happens(self, share: float) -> bool:
        """One draw of `chance`."""
        return bool(self.chance(share, 1)[0])

    def bell(self, *shape: int) -> Array:
        """Mean 0, variance 1, nearly normal: the sum of four uniform numbers of 16 bits."""
        bits = self.bits(*shape)
        low = np.uint64(0xFFFF)
        parts = [((bits >> np.uint64(16 * n)) & low).astype(np.float64) for n in range(4)]
        total: Array = (parts[0] + parts[1]) + (parts[2] + parts[3])
        return (total - 131070.0) / 37837.22748  # 4 x 65535 / 2, and 65536 x sqrt(1 / 3)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
