"""Synthetic clips of real lengths: random walks, as long and as peopled as the clips of NW-UCLA and NTU RGB+D.

How long a step takes depends on the lengths of the clips, on how many persons they show, and not on how people move.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from glt.motion.packed import Packed

Clip = tuple[NDArray[np.float32], NDArray[np.bool_]]  # tokens [T, P, K, 3], present [T, P]

# Recordings of NW-UCLA by length, frames 1 to 49 and then 50 or more: counted over the 1,484 of all_sqe.zip.
NWUCLA_RECORDINGS = (
    *(2, 0, 0, 0, 0, 2, 0, 4, 2, 1, 26, 8, 13, 21, 11, 80, 26, 21, 26, 17, 183, 18, 23, 19, 21),
    *(89, 20, 32, 28, 20, 80, 22, 29, 17, 29, 47, 16, 20, 20, 18, 32, 12, 8, 13, 10, 25, 8, 6, 13, 346),
)


def nwucla_length(share: NDArray[np.float64]) -> NDArray[np.int64]:
    """The length, in frames, that this share of NW-UCLA's recordings stays below; above 50 counts as 50."""
    return 1 + np.searchsorted(np.cumsum(NWUCLA_RECORDINGS), share * sum(NWUCLA_RECORDINGS), side="right")


def ntu_length(share: NDArray[np.float64]) -> NDArray[np.int64]:
    """The same of NTU RGB+D, assumed from published statistics: log-normal, median 76, mean 84, within 30 to 300."""
    normal: NDArray[np.float64] = torch.special.ndtri(torch.from_numpy(share)).numpy()
    sigma = float(np.sqrt(2 * np.log(84 / 76)))
    lengths: NDArray[np.float64] = np.rint(76 * np.exp(sigma * normal))
    return np.clip(lengths, 30, 300).astype(np.int64)


@dataclass(frozen=True)
class Recordings:
    """A data set as far as speed goes.

    Attributes:
        title: for tables.
        persons: P.
        joints: K.
        max_frames: T_max.
        batch: clips of a training step.
        length: share of the clips -> the length they stay below.
        pairs: share of the clips that show two persons.
    """

    title: str
    persons: int
    joints: int
    max_frames: int
    batch: int
    length: Callable[[NDArray[np.float64]], NDArray[np.int64]]
    pairs: float

    def lengths(self, count: int, seed: int = 0) -> list[int]:
        """`count` lengths, one drawn from each of as many equal shares of the clips, so that few stand for all."""
        random = np.random.default_rng(seed)
        drawn = self.length((np.arange(count) + random.random(count)) / count)
        return [int(length) for length in random.permutation(drawn)]

    def clips(self, lengths: Sequence[int], seed: int = 0) -> list[Clip]:
        """Random walks of 1 cm a frame; the first of them show two persons, the others one, throughout."""
        random = np.random.default_rng(seed)
        result = []
        for index, length in enumerate(lengths):
            walk = random.normal(0, 0.01, (length, self.persons, self.joints, 3)).cumsum(0)
            present = np.ones((length, self.persons), bool)
            present[:, 1:] = index < round(self.pairs * len(lengths))
            result.append(((walk * present[..., None, None]).astype(np.float32), present))
        return result


RECORDINGS = {
    "ntu": Recordings("NTU", persons=2, joints=25, max_frames=300, batch=8, length=ntu_length, pairs=0.2),
    "nwucla": Recordings("NW-UCLA", persons=1, joints=20, max_frames=50, batch=128, length=nwucla_length, pairs=0.0),
}


def pack(clips: Sequence[Clip]) -> Packed:
    """A batch of them, as `glt.motion.disentangle.Motions.batch` makes it."""
    tokens = np.concatenate([tokens for tokens, _ in clips])
    present = np.concatenate([present for _, present in clips])
    return Packed(torch.from_numpy(tokens), torch.from_numpy(present), tuple(len(tokens) for tokens, _ in clips))
