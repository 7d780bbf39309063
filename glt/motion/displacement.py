"""Displacement classes: what MPDP predicts (paper, Eq. 13-14).

The displacement of a token over an interval of n frames is its position at t minus that at t - n. Its direction is one
of 27 classes (negative, no movement, positive on each axis; class = x + 3 y + 9 z), its magnitude one of C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glt.accelerator import upload
from glt.motion.packed import Packed
from glt.recipe import MotionConfig

_SAMPLE = 2_000_000  # displacements per quantile: enough for three digits


@dataclass(frozen=True)
class Bins:
    """Class boundaries in metres: one row per interval; column 0 for the global translation, 1 for joints.

    Attributes:
        intervals: frames.
        dead_zone: [intervals, 2]; a displacement along an axis of at most this counts as `no movement`.
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
        """As JSON values; `from_dict` restores the same bins exactly."""
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
        valid: where both frames of the interval show the person, bool [S, intervals, P].
        shown: tokens of joints that are not absent, bool [S, P, K]; other targets carry no loss.
        global_tokens: tokens per person that are global translations, 1 or 0.
    """

    direction: Tensor
    magnitude: Tensor
    valid: Tensor
    shown: Tensor
    global_tokens: int = 1


def shown(batch: Packed) -> Tensor:
    """Tokens that are a global translation or not zero in some frame of the clip, bool [S, P, K].

    The others belong to absent joints or persons.
    """
    clip, _ = batch.frame_indices()
    moving = (batch.tokens != 0).any(dim=-1)  # S, P, K
    frames = torch.zeros(len(batch.lengths), *moving.shape[1:], dtype=torch.int32, device=moving.device)
    seen = frames.index_add_(0, clip, moving.to(torch.int32)) > 0  # B, P, K
    seen[:, :, : batch.global_tokens] = True
    return seen.index_select(0, clip)


def displacement(batch: Packed, interval: int, edge: str = "zero") -> tuple[Tensor, Tensor]:
    """Displacements [S, P, K, 3] over `interval` frames, and where both frames show the person, [S, P]."""
    _, time = batch.frame_indices()
    moved = _moved(batch.tokens.movedim(0, -1), time, (interval,), edge)[0]
    return moved.movedim(-1, 0), batch.present & batch.present[_earlier(time, interval, edge)]


def _moved(tokens: Tensor, time: Tensor, intervals: Sequence[int], edge: str) -> Tensor:
    """Displacements [I, ..., S] over I intervals of tokens [..., S]; time [S] is the index of a frame in its clip."""
    moved = tokens.new_empty(len(intervals), *tokens.shape)
    for interval, result in zip(intervals, moved, strict=True):
        torch.sub(tokens[..., interval:], tokens[..., :-interval], out=result[..., interval:])
        result[..., :interval] = 0
        if edge == "zero":
            result *= (time >= interval).to(result.dtype)
        else:
            since = tokens[..., _earlier(time, interval, edge)]
            torch.where(time < interval, tokens - since, result, out=result)
    return moved


def _earlier(time: Tensor, interval: int, edge: str) -> Tensor:
    """Index of the earlier frame of each displacement, [S]: t - n; where there is none, t itself or the first frame."""
    without = time if edge == "first-frame" else torch.zeros_like(time)
    return torch.arange(len(time), device=time.device) - torch.where(time < interval, without, interval)


def targets(batch: Packed, bins: Bins) -> Targets:
    """Direction and magnitude classes of every token, frame and interval (Eq. 13-14)."""
    device, global_tokens = batch.tokens.device, batch.global_tokens
    kinds = [0] * global_tokens + [1] * (batch.tokens.shape[2] - global_tokens)
    zone = upload(bins.dead_zone[:, kinds], device)[:, None, None, :, None]  # I, 1, 1, K, 1
    bounds = upload(bins.edges[:, kinds], device)[:, None, :, None]  # I, 1, K, 1, n
    _, time = batch.frame_indices()
    axes = batch.tokens.permute(3, 1, 2, 0).contiguous()  # 3, P, K, S: frames last, so that all runs along long rows
    moved = _moved(axes, time, bins.intervals, bins.edge)  # I, 3, P, K, S
    sign = (moved > zone).view(torch.int8) - (moved < -zone).view(torch.int8)
    direction = _by_frame(13 + sign[:, 0] + 3 * sign[:, 1] + 9 * sign[:, 2])
    distance = moved.square_().sum(1).sqrt_()  # I, P, K, S
    reached = torch.zeros_like(sign[:, 0])
    for bound in bounds.unbind(-1):  # a few comparisons of whole rows: a third of a search's time
        reached += (distance >= bound).view(torch.int8)
    magnitude = _by_frame(reached)
    valid = torch.stack([batch.present & batch.present[_earlier(time, n, bins.edge)] for n in bins.intervals], dim=1)
    if bins.absent == "own-class":
        direction.masked_fill_(~valid[..., None], 13)
        magnitude.masked_fill_(~valid[..., None], bins.classes - 1)
        everything = torch.ones(batch.tokens.shape[:3], dtype=torch.bool, device=device)
        return Targets(direction, magnitude, torch.ones_like(valid), everything, global_tokens)
    return Targets(direction, magnitude, valid, shown(batch), global_tokens)


def _by_frame(classes: Tensor) -> Tensor:
    """[I, P, K, S] -> int64 [S, I, P, K], in one copy."""
    frames = classes.movedim(-1, 0)
    return torch.empty(frames.shape, dtype=torch.long, device=frames.device).copy_(frames)


def fit_bins(batch: Packed, config: MotionConfig) -> Bins:
    """Fit bins to the displacements of the training split: quantiles, so that magnitude classes are equally full.

    The first `interval` frames of a clip are left out: there is no frame t - n.
    """
    return fit_bins_in_parts(lambda: [batch], config)


def fit_bins_in_parts(parts: Callable[[], Iterable[Packed]], config: MotionConfig) -> Bins:
    """`fit_bins` for data that do not fit in memory: exactly the bins of all parts in one batch.

    Args:
        parts: returns the same batches on every call; is called several times.
        config: intervals, and the kind of bins.
    """
    if config.bins == "fixed":
        return _fixed(config)
    zones, edges = [], []
    shares = np.arange(1, config.magnitude_classes) / config.magnitude_classes
    for interval in config.intervals:
        zone_row, edge_row = [], []
        for sample in _sample(parts, interval, config.edge):
            zone_row.append(np.quantile(np.abs(sample), config.dead_zone) if len(sample) and config.dead_zone else 0.0)
            distance = np.sqrt((sample**2).sum(-1))
            edge_row.append(np.quantile(distance, shares) if len(sample) else np.arange(1.0, config.magnitude_classes))
        zones.append(zone_row)
        edges.append(edge_row)
    return Bins(
        config.intervals, np.asarray(zones, np.float32), np.asarray(edges, np.float32), config.edge, config.absent
    )


def _sample(parts: Callable[[], Iterable[Packed]], interval: int, edge: str) -> list[NDArray[np.float32]]:
    """Displacements [n, 3] of global translations and of joints: all of them, or a random sample of _SAMPLE.

    A regular stride would select the same joint again and again.
    """
    totals = np.zeros(2, np.int64)
    for batch in parts():
        totals += [int(counted.sum()) for counted in torch.split(_counted(batch, interval, edge), _kinds(batch), dim=2)]
    drawn = [
        np.arange(total)
        if total <= _SAMPLE
        else np.sort(np.random.Generator(np.random.Philox(0)).integers(total, size=_SAMPLE))
        for total in totals
    ]
    samples: list[list[NDArray[np.float32]]] = [[], []]
    first = np.zeros(2, np.int64)
    for batch in parts():
        pairs = (displacement(batch, interval, edge)[0], _counted(batch, interval, edge))
        kinds = (torch.split(tokens, _kinds(batch), dim=2) for tokens in pairs)
        for kind, (moved, counted) in enumerate(zip(*kinds, strict=True)):
            rows = moved[counted]  # n, 3
            low, high = np.searchsorted(drawn[kind], [first[kind], first[kind] + len(rows)])
            samples[kind].append(rows[torch.from_numpy(drawn[kind][low:high] - first[kind])].numpy())
            first[kind] += len(rows)
    return [np.concatenate(sample) for sample in samples]


def _counted(batch: Packed, interval: int, edge: str) -> Tensor:
    """Mask of the displacements to fit to, bool [S, P, K]: both frames exist and show the joint."""
    _, time = batch.frame_indices()
    persons = batch.present & batch.present[_earlier(time, interval, edge)] & (time >= interval)[:, None]
    return persons[:, :, None] & shown(batch)


def _kinds(batch: Packed) -> list[int]:
    """Number of tokens per person that are global translations, and of those that are not."""
    return [batch.global_tokens, batch.tokens.shape[2] - batch.global_tokens]


def _fixed(config: MotionConfig) -> Bins:
    """The authors' bins: exactly zero, 13 steps of 1 cm, and everything above."""
    steps = np.concatenate([[np.nextafter(np.float32(0), np.float32(1))], np.arange(1, 14) * 0.01]).astype(np.float32)
    rows = len(config.intervals)
    edges = np.broadcast_to(steps, (rows, 2, len(steps))).copy()
    return Bins(config.intervals, np.zeros((rows, 2), np.float32), edges, config.edge, config.absent)
