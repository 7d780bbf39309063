"""Random streams that depend on what they are for, and on nothing drawn before: so any of them can be drawn again."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What is drawn; no two purposes share a stream."""

    AUGMENT = 1
    ORDER = 2
    LABELLED = 3


def generator(purpose: Purpose, seed: int, epoch: int = 0, number: int = 0) -> np.random.Generator:
    """The stream of a purpose, seed (below 2^32), epoch (below 2^32) and number (of a clip, a class; below 2^56)."""
    return np.random.Generator(np.random.Philox(key=[(seed << 32) + epoch, (int(purpose) << 56) + number]))
