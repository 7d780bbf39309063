"""The paper's equations written a second time: dense, padded, slow, one loop an index. Shares no code with glt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PAD = 99.9  # what the padded frames hold: it must never matter
Parameters = Mapping[str, Tensor]


def pad(values: Tensor, lengths: Sequence[int], longest: int, filler: float | bool) -> Tensor:
    """[S, ...] -> [B, longest, ...]."""
    padded = values.new_full((len(lengths), longest, *values.shape[1:]), filler)
    start = 0
    for clip, length in enumerate(lengths):
        padded[clip, :length] = values[start : start + length]
        start += length
    return padded


@dataclass(frozen=True)
class Switches:
    """Sizes of the model, and what of it is on."""

    heads: int = 2
    depth: int = 2
    positional: str = "tight"
    person_attention: bool = True
    attend_absent: bool = False
    global_tokens: int = 1


def representation(
    weights: Parameters, switches: Switches, tokens: Tensor, present: Tensor, lengths: Sequence[int]
) -> list[Tensor]:
    """Eq. 1-11 for tokens [B, T, P, K, 3] and present [B, T, P]: F of every clip, its real frames only."""
    clips, frames, persons, joints, _ = tokens.shape
    heads, tight = switches.heads, switches.positional == "tight"
    result = []
    for b in range(clips):
        z = torch.stack([torch.stack(_embedded(weights, tokens[b, t], switches.global_tokens)) for t in range(frames)])
        real = (torch.arange(frames) < lengths[b])[None, :].expand(frames, frames)
        shown = [_shown(present[b, t], joints, switches) for t in range(frames)]
        if switches.positional == "trainable":
            z = z + weights["position.0"][:frames]
        if switches.positional == "sinusoidal":
            z = z + _waves(frames, persons * joints, z.shape[2]).float()  # as the model keeps them
        for n in range(switches.depth):
            name = f"blocks.{n}."
            table = weights.get(f"position.{n}", weights["position.0"])[:frames] if tight else torch.zeros_like(z)
            z = z + table
            hat = _normed(weights, name + "norm_spatial", z)
            z = z + torch.stack(
                [_attention(weights, name + "spatial", hat[t], heads, shown[t]) for t in range(frames)]
            )  # Eq. 4
            s = (z + table).reshape(frames, -1)
            s = s + _attention(weights, name + "temporal", _normed(weights, name + "norm_temporal", s), heads, real)
            hat = _normed(weights, name + "norm_feed", s)
            s = s + _linear(weights, name + "feed.down", _gelu(_linear(weights, name + "feed.up", hat)))  # Eq. 10
            z = s.reshape(frames, persons * joints, -1)
        f = _normed(weights, "head.0", z.reshape(frames, -1))
        f = _normed(weights, "head.3", _gelu(_linear(weights, "head.1", f)))
        f = _normed(weights, "head.6", _gelu(_linear(weights, "head.4", f)))  # Eq. 11
        result.append(f[: lengths[b]])
    return result


def classes(
    tokens: NDArray[np.float32],
    present: NDArray[np.bool_],
    intervals: Sequence[int],
    dead_zone: NDArray[np.float32],
    edges: NDArray[np.float32],
    global_tokens: int = 1,
    edge: str = "zero",
    absent: str = "left-out",
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Eq. 13-14 for one clip [T, P, K, 3]: direction and magnitude [T, I, P, K], and which of them count."""
    frames, persons, joints, _ = tokens.shape
    direction = np.zeros((frames, len(intervals), persons, joints), np.int64)
    magnitude = np.zeros_like(direction)
    valid = np.zeros(direction.shape, bool)
    for t, (i, n), p, k in product(range(frames), enumerate(intervals), range(persons), range(joints)):
        earlier = t - n if t >= n else 0 if edge == "first-frame" else t
        kind = 0 if k < global_tokens else 1
        moved = [float(tokens[t, p, k, axis] - tokens[earlier, p, k, axis]) for axis in range(3)]
        zone = float(dead_zone[i, kind])
        signs = [2 if x > zone else 0 if x < -zone else 1 for x in moved]
        direction[t, i, p, k] = signs[0] + 3 * signs[1] + 9 * signs[2]
        distance = math.sqrt(sum(x * x for x in moved))
        magnitude[t, i, p, k] = sum(distance >= float(edge) for edge in edges[i, kind])
        valid[t, i, p, k] = present[t, p] and present[earlier, p]
        if absent == "own-class" and not valid[t, i, p, k]:
            direction[t, i, p, k], magnitude[t, i, p, k], valid[t, i, p, k] = 13, edges.shape[2] + 1, True
    return direction, magnitude, valid


def mpdp_loss(
    logits: tuple[Tensor, Tensor],
    goals: tuple[NDArray[np.int64], NDArray[np.int64]],
    valid: NDArray[np.bool_],
    factors: tuple[float, float],
    global_factor: float,
    global_tokens: int = 1,
    first_interval_only: bool = False,
) -> Tensor:
    """Eq. 15 with means for sums; logits [S, I, P, K, C], goals and valid [S, I, P, K]."""
    total = torch.zeros((), dtype=logits[0].dtype)
    for scores, goal, factor in zip(logits, goals, factors, strict=True):
        parts: dict[bool, list[Tensor]] = {True: [], False: []}
        for place in product(*map(range, goal.shape)):
            if valid[place]:
                row = scores[place]
                is_global = place[-1] < global_tokens and (place[1] == 0 or not first_interval_only)
                parts[is_global].append(torch.logsumexp(row, 0) - row[goal[place]])
        for is_global, entropies in parts.items():
            if entropies:
                total = total + factor * (global_factor if is_global else 1.0) * sum(entropies) / len(entropies)
    return total


def _embedded(weights: Parameters, frame: Tensor, global_tokens: int) -> list[Tensor]:
    """Eq. 1-3 for one frame [P, K, 3]: J tokens of width D, person by person, the global translation first."""
    persons, joints, _ = frame.shape
    return [
        _linear(weights, "embed_global" if k < global_tokens else "embed_local", frame[p, k])
        for p, k in product(range(persons), range(joints))
    ]


def _shown(present: Tensor, joints: int, switches: Switches) -> Tensor:
    """Which token (row) of a frame attends to which (column), [J, J]; everyone where nobody is seen."""
    persons = len(present)
    table = torch.zeros(persons, joints, persons, joints, dtype=torch.bool)
    for p, q in product(range(persons), range(persons)):
        seen = switches.attend_absent or bool(present[q]) or not bool(present.any())
        table[p, :, q] = seen if switches.person_attention else p == q
    return table.view(persons * joints, persons * joints)


def _waves(frames: int, tokens: int, width: int) -> Tensor:
    """Sines and cosines of the frame over the J * D numbers of a frame, plus those of the token over its D."""
    table = torch.zeros(frames, tokens, width, dtype=torch.float64)
    for t, j, d in product(range(frames), range(tokens), range(width)):
        for place, number, size in ((t, j * width + d, tokens * width), (j, d, width)):
            angle = place / 10_000 ** ((number - number % 2) / size)
            table[t, j, d] += math.sin(angle) if number % 2 == 0 else math.cos(angle)
    return table


def _attention(weights: Parameters, name: str, x: Tensor, heads: int, shown: Tensor) -> Tensor:
    """Eq. 5-8: row i of x [n, W] attends to the rows j of which shown[i, j]."""
    width = x.shape[1]
    d = width // heads
    qkv = _linear(weights, name + ".qkv", x)
    outputs = []
    for i in range(heads):
        q, k, v = (qkv[:, part * width + i * d : part * width + (i + 1) * d] for part in range(3))
        score = q @ k.T / math.sqrt(d)
        score = score.masked_fill(~shown, -math.inf)
        outputs.append(torch.softmax(score, dim=1) @ v)
    return _linear(weights, name + ".out", torch.cat(outputs, dim=1))


def _linear(weights: Parameters, name: str, x: Tensor) -> Tensor:
    return x @ weights[name + ".weight"].T + weights[name + ".bias"]


def _normed(weights: Parameters, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    deviation = torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-5)
    return centred / deviation * weights[name + ".weight"] + weights[name + ".bias"]


def _gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
