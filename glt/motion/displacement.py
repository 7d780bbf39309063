"""Displacement classes: what MPDP predicts (paper, Eq. 13-14).

The displacement of a token over an interval of n frames is its position at t minus that at t - n. Its direction is one
of 27 classes (negative, no movement, positive on each axis; class = x + 3 y + 9 z), its magnitude one of C classes.
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
    """Class boundaries, in metres, a row an interval; column 0 for the global translation, 1 for joints.

    Attributes:
        intervals: frames.
        dead_zone: [intervals, 2]; a displacement on an axis of at most this is `no movement`.
        edges: [intervals, 2, n]; a magnitude's class is the number of edges it reaches.
        edge: displacement where there is no frame t - n; see `MotionConfig.edge`.
        absent: targets of an absent person; see `MotionConfig.absent`.
    """

    intervals: tuple[int, ...]
    dead_zone: NDArray[np.float32]
    edges: NDArray[np.float32]
    edge: str = "zero"
    absent: str = "left-out"

    @property
    def classes(self) -> int:
        """C_sigma."""
        return int(self.edges.shape[2]) + 1 + (self.absent == "own-class")

    def to_dict(self) -> dict[str, Any]:
        """JSON values; `from_dict` gives the same bins back, bit for bit."""
        return {
            "intervals": list(self.intervals),
            "dead_zone": self.dead_zone.tolist(),
            "edges": self.edges.tolist(),
            "edge": self.edge,
            "absent": self.absent,
        }

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Bins:
        """From `to_dict`."""
        return Bins(
            tuple(values["intervals"]),
            np.asarray(values["dead_zone"], np.float32),
            np.asarray(values["edges"], np.float32),
            values["edge"],
            values["absent"],
        )


@dataclass(frozen=True)
class Targets:
    """Classes of a batch.

    Attributes:
        direction, magnitude: int64 [S, intervals, P, K].
        valid: which carry loss, bool [S, intervals, P].
        worlds: tokens a person that are global translations, 0 or 1.
    """

    direction: Tensor
    magnitude: Tensor
    valid: Tensor
    worlds: int = 1


def displacement(batch: Packed, interval: int, edge: str = "zero") -> tuple[Tensor, Tensor]:
    """Displacements [S, P, K, 3] over `interval` frames, and where both frames show the person, [S, P]."""
    _, time = batch.places()
    return _displacement(batch, interval, edge, time)


def _displacement(batch: Packed, interval: int, edge: str, time: Tensor) -> tuple[Tensor, Tensor]:
    back = time.clamp(max=interval) if edge == "first-frame" else torch.where(time >= interval, interval, 0)
    earlier = torch.arange(len(time), device=time.device) - back
    rows = batch.tokens.flatten(1)
    moved = (rows - rows.index_select(0, earlier)).view_as(batch.tokens)
    return moved, batch.present & batch.present[earlier]


def targets(batch: Packed, bins: Bins) -> Targets:
    """Direction and magnitude classes of every token, frame and interval."""
    device, worlds = batch.tokens.device, batch.worlds
    shape = (len(batch.tokens), len(bins.intervals), *batch.tokens.shape[1:3])
    direction = torch.empty(shape, dtype=torch.long, device=device)
    magnitude = torch.empty(shape, dtype=torch.long, device=device)
    valid = torch.empty(shape[:3], dtype=torch.bool, device=device)
    zone = torch.from_numpy(bins.dead_zone).to(device)
    edges = torch.from_numpy(bins.edges).to(device)
    kinds = torch.tensor([0] * worlds + [1] * (shape[3] - worlds), device=device)
    _, time = batch.places()
    for row, interval in enumerate(bins.intervals):
        moved, seen = _displacement(batch, interval, bins.edge, time)
        still = zone[row][kinds][:, None]  # K, 1
        sign = (moved > still).to(torch.int8) - (moved < -still).to(torch.int8)  # S, P, K, 3
        direction[:, row] = 13 + sign[..., 0] + 3 * sign[..., 1] + 9 * sign[..., 2]
        distance = moved.square().sum(-1).sqrt()  # S, P, K
        for kind, part in ((0, slice(0, worlds)), (1, slice(worlds, None))):
            magnitude[:, row, :, part] = torch.bucketize(distance[..., part].contiguous(), edges[row, kind], right=True)
        valid[:, row] = seen
    if bins.absent == "own-class":
        direction.masked_fill_(~valid[..., None], 13)
        magnitude.masked_fill_(~valid[..., None], bins.classes - 1)
        valid = torch.ones_like(valid)
    return Targets(direction, magnitude, valid, worlds)


def fit_bins(batch: Packed, config: MotionConfig) -> Bins:
    """Bins from the training split's displacements: equally filled magnitude classes and the dead zone's quantile.

    The first `interval` frames of a clip are left out: they have no displacement of their own.
    """
    if config.bins == "fixed":
        return _fixed(config)
    zones, edges = [], []
    shares = np.arange(1, config.magnitude_classes) / config.magnitude_classes
    _, time = batch.places()
    for interval in config.intervals:
        moved, seen = _displacement(batch, interval, config.edge, time)
        moved = moved[seen & (time >= interval)[:, None]]  # n, K, 3
        zone_row, edge_row = [], []
        for tokens in (moved[:, : batch.worlds], moved[:, batch.worlds :]):
            some = _some(tokens.reshape(-1, 3)).numpy()
            zone_row.append(np.quantile(np.abs(some), config.dead_zone) if len(some) and config.dead_zone else 0.0)
            distance = np.sqrt((some**2).sum(-1))
            edge_row.append(np.quantile(distance, shares) if len(some) else np.arange(1.0, config.magnitude_classes))
        zones.append(zone_row)
        edges.append(edge_row)
    return Bins(
        config.intervals, np.asarray(zones, np.float32), np.asarray(edges, np.float32), config.edge, config.absent
    )


def _some(values: Tensor) -> Tensor:
    """All rows, or _SAMPLE of them drawn at random: even steps would meet the same joint again and again."""
    if len(values) <= _SAMPLE:
        return values
    drawn = np.random.Generator(np.random.Philox(0)).integers(len(values), size=_SAMPLE)
    return values[torch.from_numpy(drawn)]


def _fixed(config: MotionConfig) -> Bins:
    """The authors' bins: exactly zero, 13 steps of 1 cm, all above."""
    steps = np.concatenate([[np.nextafter(np.float32(0), np.float32(1))], np.arange(1, 14) * 0.01]).astype(np.float32)
    rows = len(config.intervals)
    edges = np.broadcast_to(steps, (rows, 2, len(steps))).copy()
    return Bins(config.intervals, np.zeros((rows, 2), np.float32), edges, config.edge, config.absent)
