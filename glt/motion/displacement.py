"""Displacement classes: what MPDP predicts (paper, Eq. 13-14).

The displacement of a token over an interval of n frames is its position at t minus that at t - n. Its direction is one
of 27 classes (negative, no movement, positive on each axis; class = x + 3 y + 9 z), its magnitude one of C classes.
Where there is no frame t - n the displacement is zero (the paper's rule below Eq. 14).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glt.motion.packed import Packed
from glt.recipe import MotionConfig

_SAMPLE = 2_000_000  # displacements looked at for one quantile: enough for three digits


@dataclass(frozen=True)
class Bins:
    """Class boundaries, in metres, a row an interval; column 0 for the global translation, 1 for local joints.

    Attributes:
        intervals: frames.
        dead_zone: [intervals, 2]; a displacement on an axis of at most this is `no movement`.
        edges: [intervals, 2, C - 1]; a magnitude's class is the number of edges it reaches.
    """

    intervals: tuple[int, ...]
    dead_zone: NDArray[np.float32]
    edges: NDArray[np.float32]

    @property
    def classes(self) -> int:
        """C_sigma."""
        return int(self.edges.shape[2]) + 1

    def to_dict(self) -> dict[str, Any]:
        """JSON values; `from_dict` gives the same bins back, bit for bit."""
        return {
            "intervals": list(self.intervals),
            "dead_zone": self.dead_zone.tolist(),
            "edges": self.edges.tolist(),
        }

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Bins:
        """From `to_dict`."""
        return Bins(
            tuple(values["intervals"]),
            np.asarray(values["dead_zone"], np.float32),
            np.asarray(values["edges"], np.float32),
        )


@dataclass(frozen=True)
class Targets:
    """Classes of a batch: direction and magnitude int64 [S, intervals, P, K], valid bool [S, intervals, P]."""

    direction: Tensor
    magnitude: Tensor
    valid: Tensor


def displacement(batch: Packed, interval: int) -> tuple[Tensor, Tensor]:
    """Displacements [S, P, K, 3] over `interval` frames, and where both frames show the person, [S, P]."""
    counts = batch.counts
    frame = torch.arange(len(batch.tokens), device=counts.device)
    time = frame - (counts.cumsum(0) - counts)[batch.clip()]
    earlier = torch.where(time >= interval, frame - interval, frame)
    return batch.tokens - batch.tokens[earlier], batch.present & batch.present[earlier]


def targets(batch: Packed, bins: Bins) -> Targets:
    """Direction and magnitude classes of every token, frame and interval."""
    device = batch.tokens.device
    joints = batch.tokens.shape[2]
    kind = torch.ones(joints, dtype=torch.long, device=device)
    kind[0] = 0
    zone, edges = torch.from_numpy(bins.dead_zone).to(device), torch.from_numpy(bins.edges).to(device)
    direction, magnitude, valid = [], [], []
    for row, interval in enumerate(bins.intervals):
        moved, seen = displacement(batch, interval)
        still = zone[row][kind][:, None]  # K, 1
        sign = 1 + (moved > still).long() - (moved < -still).long()  # S, P, K, 3
        direction.append(sign[..., 0] + 3 * sign[..., 1] + 9 * sign[..., 2])
        distance = moved.square().sum(-1).sqrt()  # S, P, K
        world = torch.bucketize(distance[..., :1].contiguous(), edges[row, 0], right=True)
        local = torch.bucketize(distance[..., 1:].contiguous(), edges[row, 1], right=True)
        magnitude.append(torch.cat([world, local], dim=-1))
        valid.append(seen)
    return Targets(torch.stack(direction, 1), torch.stack(magnitude, 1), torch.stack(valid, 1))


def fit_bins(batch: Packed, config: MotionConfig) -> Bins:
    """Bins from the training split's displacements: equally filled magnitude classes and the dead zone's quantile.

    The first `interval` frames of a clip are left out: they have no displacement of their own.
    """
    if config.bins == "fixed":
        return _fixed(config.intervals)
    zones, edges = [], []
    shares = np.arange(1, config.magnitude_classes) / config.magnitude_classes
    counts = batch.counts
    time = torch.arange(len(batch.tokens)) - (counts.cumsum(0) - counts)[batch.clip()]
    for interval in config.intervals:
        moved, seen = displacement(batch, interval)
        moved = moved[seen & (time >= interval)[:, None]]  # n, K, 3
        zone_row, edge_row = [], []
        for tokens in (moved[:, :1], moved[:, 1:]):
            some = _some(tokens.reshape(-1, 3)).numpy()
            zone_row.append(np.quantile(np.abs(some), config.dead_zone) if len(some) and config.dead_zone else 0.0)
            distance = np.sqrt((some**2).sum(-1))
            edge_row.append(np.quantile(distance, shares) if len(some) else np.arange(1.0, config.magnitude_classes))
        zones.append(zone_row)
        edges.append(edge_row)
    return Bins(config.intervals, np.asarray(zones, np.float32), np.asarray(edges, np.float32))


def _some(values: Tensor) -> Tensor:
    """All rows, or _SAMPLE of them drawn at random: even steps would meet the same joint again and again."""
    if len(values) <= _SAMPLE:
        return values
    drawn = np.random.Generator(np.random.Philox(0)).integers(len(values), size=_SAMPLE)
    return values[torch.from_numpy(drawn)]


def _fixed(intervals: tuple[int, ...]) -> Bins:
    """The authors' bins: exactly zero, 13 steps of 1 cm, all above."""
    steps = np.concatenate([[np.nextafter(np.float32(0), np.float32(1))], np.arange(1, 14) * 0.01]).astype(np.float32)
    edges = np.broadcast_to(steps, (len(intervals), 2, len(steps))).copy()
    return Bins(intervals, np.zeros((len(intervals), 2), np.float32), edges)
