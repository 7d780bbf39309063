"""The textbook GL-Transformer and MPDP step that `make bench` measures ours against, written from the paper.

Clips are padded to T_max; attention is matmul, additive mask, softmax, matmul; each interval has its own linear heads;
a numpy feeder augments and labels one clip at a time, in double precision and over the padded length; AdamW is torch's
plain one. It is what a careful reading of the paper gives, without waste: no loop over frames, joints or heads,
contiguous operands, whole-batch matmuls. The same weights give the same loss and gradients as ours (tests/benchmarks).

    tokens [B, T_max, P, K, 3] --embed--> z [B, T_max, J, D] --N blocks--> [B, T_max, E] --head MLP--> F [B, T_max, E]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glt.motion.displacement import Bins
from glt.recipe import ModelConfig, PretrainConfig

DIRECTIONS = 27


class Attention(nn.Module):
    """Multi-head attention among n rows (Eq. 5-8)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """[N, n, W]; `mask` [N, 1, 1, n] is added to the scores: -1e9 where a row may not be attended."""
        N, n, W = x.shape
        q, k, v = self.qkv(x).view(N, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4).contiguous().unbind(0)  # N, h, n, d
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)  # N, h, n, n
        if mask is not None:
            scores += mask
        a = scores.softmax(-1) @ v
        mixed: Tensor = self.dropout(self.out(a.transpose(1, 2).reshape(N, n, W)))
        return mixed


class DropPath(nn.Module):
    """Stochastic depth: a branch is left out for whole clips."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, branch: Tensor) -> Tensor:
        """[B, ...]."""
        if not self.training or self.share == 0:
            return branch
        keep = 1 - self.share
        return branch * branch.new_empty(len(branch), *[1] * (branch.dim() - 1)).bernoulli_(keep).div_(keep)


class Block(nn.Module):
    """Spatial attention, temporal attention, feed-forward (Eq. 4, 9, 10)."""

    def __init__(self, config: ModelConfig, tokens: int, drop_path: float) -> None:
        super().__init__()
        D, E = config.width, tokens * config.width
        self.norm_spatial, self.spatial = nn.LayerNorm(D), Attention(D, config.heads, config.dropout)
        self.norm_temporal, self.temporal = nn.LayerNorm(E), Attention(E, config.heads, config.dropout)
        self.norm_feed = nn.LayerNorm(E)
        self.feed = nn.Sequential(
            *(nn.Linear(E, config.ff_ratio * E), nn.GELU(), nn.Dropout(config.dropout)),
            *(nn.Linear(config.ff_ratio * E, E), nn.Dropout(config.dropout)),
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, z: Tensor, position: Tensor, padding: Tensor, absent: Tensor | None) -> Tensor:
        """z [B, T, J, D], position [T, J, D], padding [B, 1, 1, T], absent [B * T, 1, 1, J]."""
        z = z + position
        z = z + self.drop_path(self.spatial(self.norm_spatial(z).flatten(0, 1), absent).view_as(z))
        s = (z + position).flatten(2)  # B, T, E
        s = s + self.drop_path(self.temporal(self.norm_temporal(s), padding))
        s = s + self.drop_path(self.feed(self.norm_feed(s)))
        encoded: Tensor = s.view_as(z)
        return encoded


class Encoder(nn.Module):
    """Padded motion tokens -> F (Eq. 1-11)."""

    def __init__(self, config: ModelConfig, persons: int, joints: int) -> None:
        super().__init__()
        J = persons * joints
        E = J * config.width
        self.config, self.joints, self.width = config, joints, E
        self.embed_global, self.embed_local = nn.Linear(3, config.width), nn.Linear(3, config.width)
        self.dropout = nn.Dropout(config.dropout)
        tables = 1 if config.tables == "shared" else config.depth
        self.position = nn.ParameterList(
            [nn.Parameter(torch.zeros(config.max_frames, J, config.width)) for _ in range(tables)]
        )
        drops = [config.drop_path * n / max(1, config.depth - 1) for n in range(config.depth)]
        self.blocks = nn.ModuleList([Block(config, J, drop) for drop in drops])
        self.head = nn.Sequential(
            *(nn.LayerNorm(E), nn.Linear(E, E), nn.GELU()),
            *(nn.LayerNorm(E), nn.Linear(E, E), nn.GELU(), nn.LayerNorm(E)),
        )

    def forward(self, tokens: Tensor, present: Tensor, lengths: Tensor) -> Tensor:
        """tokens [B, T_max, P, K, 3], present [B, T_max, P], lengths [B] -> [B, T_max, E]."""
        T = tokens.shape[1]
        real = torch.arange(T) < lengths[:, None]
        padding = -1e9 * ~real[:, None, None, :]
        shown = present | ~present.any(-1, keepdim=True)  # a frame that shows nobody attends everywhere
        absent = None
        if not bool(shown.all()):
            absent = -1e9 * ~shown.repeat_interleave(self.joints, dim=-1).flatten(0, 1)[:, None, None, :]
        z = torch.cat([self.embed_global(tokens[..., :1, :]), self.embed_local(tokens[..., 1:, :])], dim=-2)
        z = self.dropout(z.flatten(2, 3))  # B, T, J, D
        for index, block in enumerate(self.blocks):
            z = block(z, self.position[index % len(self.position)], padding, absent)
        encoded: Tensor = self.head(z.flatten(2))
        return encoded


class Model(nn.Module):
    """The encoder and, an interval each, MPDP's two linear classifiers (Eq. 12)."""

    def __init__(self, config: ModelConfig, persons: int, joints: int, bins: Bins) -> None:
        super().__init__()
        self.encoder = Encoder(config, persons, joints)
        self.shape = (persons, joints)
        E, J, I = self.encoder.width, persons * joints, len(bins.intervals)  # noqa: E741
        self.direction = nn.ModuleList([nn.Linear(E, J * DIRECTIONS) for _ in range(I)])
        self.magnitude = nn.ModuleList([nn.Linear(E, J * bins.classes) for _ in range(I)])

    def forward(self, tokens: Tensor, present: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, T_max, I, P, K, classes]; arguments as `Encoder.forward`."""
        F = self.encoder(tokens, present, lengths)
        direction, magnitude = (
            torch.stack([head(F).unflatten(-1, (*self.shape, -1)) for head in heads], dim=2)
            for heads in (self.direction, self.magnitude)
        )
        return direction, magnitude


@dataclass(frozen=True)
class Sample:
    """A clip as the model takes it, padded: tokens [T_max, P, K, 3], present [T_max, P], classes [T_max, I, P, K]."""

    tokens: NDArray[np.float32]
    present: NDArray[np.bool_]
    length: int
    direction: NDArray[np.int64]
    magnitude: NDArray[np.int64]
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class Batch:
    """Samples, stacked: B before every shape of `Sample`."""

    tokens: Tensor
    present: Tensor
    lengths: Tensor
    direction: Tensor
    magnitude: Tensor
    valid: Tensor


def feed(
    tokens: NDArray[np.float32],
    present: NDArray[np.bool_],
    stretch: float,
    turn: float,
    shear: NDArray[np.float64],
    bins: Bins,
    longest: int,
    up: int = 1,
) -> Sample:
    """One clip augmented (interpolated, turned, its local motion sheared) and labelled, as a data set's item.

    Args:
        tokens: [T, P, K, 3].
        present: [T, P].
        stretch: the new length is 1 + this times the old.
        turn: radians about the vertical axis `up`.
        shear: [3, 3].
        bins: displacement classes.
        longest: T_max.
        up: index of the vertical axis.
    """
    length = min(longest, max(1, round(len(tokens) * (1 + stretch))))
    if length != len(tokens):
        tokens, present = interpolate(tokens, present, length)
    a, b = (up + 1) % 3, (up + 2) % 3
    rotation = np.eye(3)
    rotation[a, a] = rotation[b, b] = np.cos(turn)
    rotation[b, a], rotation[a, b] = np.sin(turn), -np.sin(turn)
    padded = np.zeros((longest, *tokens.shape[1:]), np.float32)
    padded[:length, :, :1] = tokens[:, :, :1] @ rotation.T.astype(np.float32)
    padded[:length, :, 1:] = tokens[:, :, 1:] @ (shear @ rotation).T.astype(np.float32)
    seen = np.zeros((longest, present.shape[1]), bool)
    seen[:length] = present
    return Sample(padded, seen, length, *classes(padded, seen, bins))


def interpolate(
    tokens: NDArray[np.float32], present: NDArray[np.bool_], length: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A clip at a new length, linearly between half-pixel centres; half-seen persons are absent."""
    # In single precision as ours: whether a frame falls exactly on an old one decides who is present in it.
    ratio = np.float32(len(tokens)) / np.float32(length)
    position = (np.arange(length, dtype=np.float32) + np.float32(0.5)) * ratio - np.float32(0.5)
    position = position.clip(0, len(tokens) - 1)
    before = position.astype(np.int64)
    share = position - before
    after = before + (share > 0)
    seen = present[before] & present[after]
    mixed = tokens[before] + share[:, None, None, None] * (tokens[after] - tokens[before])
    return mixed * seen[:, :, None, None], seen


def classes(
    tokens: NDArray[np.float32], present: NDArray[np.bool_], bins: Bins
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Eq. 13-14 in double precision: direction and magnitude [T, I, P, K], and which persons' count, [T, I, P]."""
    position = tokens.astype(np.float64)
    rows: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]], list[NDArray[np.bool_]]] = ([], [], [])
    for row, interval in enumerate(bins.intervals):
        moved = np.zeros_like(position)
        moved[interval:] = position[interval:] - position[:-interval]
        zone = np.repeat(bins.dead_zone[row].astype(np.float64), (1, tokens.shape[2] - 1))[:, None]  # K, 1
        sign = 1 + (moved > zone).astype(np.int64) - (moved < -zone)
        distance = np.sqrt((moved**2).sum(-1))
        edges = bins.edges[row].astype(np.float64)
        parts = [np.digitize(distance[..., :1], edges[0]), np.digitize(distance[..., 1:], edges[1])]
        both = present.copy()
        both[interval:] &= present[:-interval]
        rows[0].append(sign @ np.array([1, 3, 9]))
        rows[1].append(np.concatenate(parts, axis=-1))
        rows[2].append(both)
    return np.stack(rows[0], 1), np.stack(rows[1], 1), np.stack(rows[2], 1)


def collate(samples: Sequence[Sample]) -> Batch:
    """The samples stacked."""
    stacked = [
        torch.from_numpy(np.stack([getattr(sample, name) for sample in samples]))
        for name in ("tokens", "present", "direction", "magnitude", "valid")
    ]
    return Batch(stacked[0], stacked[1], torch.tensor([sample.length for sample in samples]), *stacked[2:])


def loss(logits: tuple[Tensor, Tensor], batch: Batch, config: PretrainConfig) -> Tensor:
    """Eq. 15 with means for sums, the global translation's weighted by `lambda_global`."""
    entropy = nn.CrossEntropyLoss(reduction="sum")
    valid = batch.valid[..., None].expand_as(batch.direction)
    result = logits[0].new_zeros(())
    for scores, goal, factor in (
        (logits[0], batch.direction, config.lambda_direction),
        (logits[1], batch.magnitude, config.lambda_magnitude),
    ):
        for part, weight in ((slice(1, None), 1.0), (slice(0, 1), config.lambda_global)):
            chosen = valid[..., part]
            total = entropy(scores[..., part, :][chosen], goal[..., part][chosen])
            result = result + factor * weight * total / chosen.sum().clamp(min=1)
    return result


def rename_weights(weights: Mapping[str, Tensor], intervals: int) -> dict[str, Tensor]:
    """Rename and split our weights (or gradients) as the baseline names them."""
    state: dict[str, Tensor] = {}
    for name, value in weights.items():
        if name.startswith("heads."):
            _, kind, parameter = name.split(".")
            state |= {f"{kind}.{n}.{parameter}": part for n, part in enumerate(value.chunk(intervals))}
        else:
            state[name.replace(".feed.up.", ".feed.0.").replace(".feed.down.", ".feed.3.")] = value
    return state


def load(model: Model, weights: Mapping[str, Tensor]) -> None:
    """Load our weights, the state of a `glt.training.mpdp.Pretrainer`."""
    model.load_state_dict(rename_weights(weights, len(model.direction)))


def optimizer(model: nn.Module, config: PretrainConfig) -> torch.optim.Optimizer:
    """AdamW as torch gives it."""
    return torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
