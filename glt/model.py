"""The Global-local Motion Transformer (paper, Sec. 3.2), from top to bottom.

    tokens [S, P, K, 3] --embed--> z [S, J, D] --N blocks--> z [S, E] --head MLP--> F [S, E]

S frames of all clips of a batch, packed one clip after the other: time padding is never computed, except inside
the temporal attention, where it is masked. P persons, K tokens a person (its global translation, then K - 1 local
joints), J = P * K tokens a frame, D = heads * head_dim the width of a token, E = J * D the width of a frame.

The paper says D = 6; the authors' code shows that this is the width of one of the 8 heads (`head_dim`), so D = 48.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glt.recipe import ModelConfig

DIRECTIONS = 27  # C_delta: (-, no movement, +) on each of three axes


@dataclass(frozen=True)
class Frames:
    """Where each packed frame belongs; computed once a batch.

    Attributes:
        lengths: frames of each clip, [B].
        clip: clip of each frame, [S].
        time: place of each frame in its clip, [S].
        keys: True where a padded frame is real, [B, longest]; None if all clips are equally long.
        tokens: True where a token may be attended, [S, 1, 1, J]; None if every person is present throughout.
    """

    lengths: Tensor
    clip: Tensor
    time: Tensor
    keys: Tensor | None
    tokens: Tensor | None

    @staticmethod
    def of(present: Tensor, lengths: Sequence[int], joints: int) -> Frames:
        """From present [S, P] and the clip lengths; `joints` = K tokens a person."""
        device = present.device
        counts = torch.tensor(list(lengths), device=device)
        clip = torch.repeat_interleave(torch.arange(len(counts), device=device), counts)
        time = torch.arange(len(clip), device=device) - (counts.cumsum(0) - counts)[clip]
        longest = max(lengths)
        keys = None
        if min(lengths) < longest:
            keys = torch.arange(longest, device=device) < counts[:, None]
        tokens = None
        if not bool(present.all()):
            # A frame that shows nobody attends everywhere: a softmax over nothing is not a number.
            attended = present | ~present.any(dim=1, keepdim=True)
            tokens = attended.repeat_interleave(joints, dim=1)[:, None, None, :]
        return Frames(counts, clip, time, keys, tokens)


class SpatialAttention(nn.Module):
    """Attention among the J tokens of one frame: joint-joint, body-joint and person-person (Eq. 4-8)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, z: Tensor, frames: Frames) -> Tensor:
        """[S, J, D] -> [S, J, D]."""
        S, J, D = z.shape
        qkv = self.qkv(z).view(S, J, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)  # 3, S, h, J, d
        q, k, v = qkv.contiguous().unbind(0)
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=frames.tokens)  # S, h, J, d
        a = self.out(a.transpose(1, 2).reshape(S, J, D))
        return F.dropout(a, self.dropout, self.training)


class TemporalAttention(nn.Module):
    """Attention among the frames of one clip, a frame being the E-vector of all its tokens (Eq. 9)."""

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, s: Tensor, frames: Frames) -> Tensor:
        """[S, E] -> [S, E]."""
        E = s.shape[1]
        B, T = len(frames.lengths), int(frames.lengths.max())
        qkv = self.qkv(s)
        if frames.keys is not None:
            padded = qkv.new_zeros(B * T, 3 * E)
            place = frames.clip * T + frames.time
            qkv = padded.index_copy(0, place, qkv)
        qkv = qkv.view(B, T, 3, self.heads, E // self.heads).permute(2, 0, 3, 1, 4)  # 3, B, h, T, d
        q, k, v = qkv.contiguous().unbind(0)
        mask = None if frames.keys is None else frames.keys[:, None, None, :]
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # B, h, T, d
        a = a.transpose(1, 2).reshape(B * T, E)
        if frames.keys is not None:
            a = a.index_select(0, place)
        return F.dropout(self.out(a), self.dropout, self.training)


class FeedForward(nn.Module):
    """Two-layer MLP of a block (Eq. 10)."""

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.up = nn.Linear(width, config.ff_ratio * width)
        self.down = nn.Linear(config.ff_ratio * width, width)

    def forward(self, z: Tensor) -> Tensor:
        """[S, E] -> [S, E]."""
        z = F.dropout(F.gelu(self.up(z)), self.dropout, self.training)
        return F.dropout(self.down(z), self.dropout, self.training)


class Block(nn.Module):
    """Spatial attention, temporal attention, feed-forward; each with a residual, each after a LayerNorm."""

    def __init__(self, config: ModelConfig, joints: int, drop_path: float) -> None:
        super().__init__()
        width = joints * config.width
        self.drop_path = drop_path
        self.norm_spatial = nn.LayerNorm(config.width)
        self.spatial = SpatialAttention(config)
        self.norm_temporal = nn.LayerNorm(width)
        self.temporal = TemporalAttention(config, width)
        self.norm_feed = nn.LayerNorm(width)
        self.feed = FeedForward(config, width)

    def forward(self, z: Tensor, position: Tensor, frames: Frames) -> Tensor:
        """[S, J, D], positional embedding M [S, J, D] -> [S, J, D].

        M is added before either attention: the paper's tight positional embedding.
        """
        z = z + position
        z = z + self._drop(self.spatial(self.norm_spatial(z), frames), frames)  # Eq. 4
        s = (z + position).flatten(1)  # S, E
        s = s + self._drop(self.temporal(self.norm_temporal(s), frames), frames)  # Eq. 9
        s = s + self._drop(self.feed(self.norm_feed(s)), frames)  # Eq. 10
        return s.view_as(z)

    def _drop(self, branch: Tensor, frames: Frames) -> Tensor:
        """Stochastic depth: the branch is left out for whole clips."""
        if not self.training or self.drop_path == 0:
            return branch
        keep = 1 - self.drop_path
        kept = torch.rand(len(frames.lengths), device=branch.device) < keep
        scale = (kept / keep)[frames.clip].view(-1, *[1] * (branch.dim() - 1))
        return branch * scale


class GLTransformer(nn.Module):
    """The encoder: motion tokens of packed clips -> motion representation F of every frame.

    Args:
        config: sizes and switches.
        persons: P.
        joints: K tokens a person, the global translation among them.
        dimensions: coordinates of a token (3).
    """

    def __init__(self, config: ModelConfig, persons: int, joints: int, dimensions: int = 3) -> None:
        super().__init__()
        self.config, self.persons, self.joints = config, persons, joints
        tokens = persons * joints
        self.width = tokens * config.width  # E
        self.embed_global = nn.Linear(dimensions, config.width)  # W_g, b_g of Eq. 1
        self.embed_local = nn.Linear(dimensions, config.width)  # W_r, b_r of Eq. 1
        tables = 1 if config.positional == "shared" else config.depth
        self.position = nn.ParameterList([nn.Parameter(positional_start(config, tokens)) for _ in range(tables)])
        drops = [config.drop_path * n / max(1, config.depth - 1) for n in range(config.depth)]
        self.blocks = nn.ModuleList([Block(config, tokens, drop) for drop in drops])
        self.head = nn.Sequential(  # Eq. 11; the LayerNorms are the authors'
            nn.LayerNorm(self.width),
            nn.Linear(self.width, self.width),
            nn.GELU(),
            nn.LayerNorm(self.width),
            nn.Linear(self.width, self.width),
            nn.GELU(),
            nn.LayerNorm(self.width),
        )

    def forward(self, tokens: Tensor, present: Tensor, lengths: Sequence[int]) -> Tensor:
        """Motion representation F.

        Args:
            tokens: [S, P, K, 3]; token 0 of a person is its global translation.
            present: [S, P] bool.
            lengths: frames of each clip; they sum to S, none above T_max.

        Returns:
            [S, E].
        """
        return self.layers(tokens, present, lengths)[-1]

    def layers(self, tokens: Tensor, present: Tensor, lengths: Sequence[int]) -> list[Tensor]:
        """The output of every block and, last, F; depth + 1 tensors [S, E]. Arguments as `forward`.

        Raises:
            ValueError: the shapes do not fit the model or a clip is longer than T_max.
        """
        if tokens.shape[1:3] != (self.persons, self.joints) or sum(lengths) != len(tokens):
            raise ValueError(f"tokens {tuple(tokens.shape)} with {sum(lengths)} frames in clips do not fit the model")
        if max(lengths) > self.config.frames:
            raise ValueError(f"a clip of {max(lengths)} frames is longer than T_max = {self.config.frames}")
        frames = Frames.of(present, lengths, self.joints)
        z = torch.cat([self.embed_global(tokens[:, :, :1]), self.embed_local(tokens[:, :, 1:])], dim=2)  # Eq. 1
        z = F.dropout(z.flatten(1, 2), self.config.dropout, self.training)  # S, J, D (Eq. 2-3)
        outputs = []
        # index_select, not [ ]: the gradient of indexing adds up in a random order when several threads do it.
        tables = [table.index_select(0, frames.time) for table in self.position]  # S, J, D each
        for number, block in enumerate(self.blocks):
            z = block(z, tables[number % len(tables)], frames)
            outputs.append(z.flatten(1))
        return [*outputs, self.head(outputs[-1])]


def positional_start(config: ModelConfig, tokens: int) -> Tensor:
    """What a positional table starts from, [T_max, J, D]: sines and cosines of time over a frame's E-vector, or zeros.

    From zeros all frames look alike to the temporal attention, and MPDP's loss stays at that of the class frequencies
    for many epochs (docs/results.md).
    """
    table = torch.zeros(config.frames, tokens * config.width)
    if config.positional_start == "sinusoidal":
        time = torch.arange(config.frames)[:, None]
        rate = 10_000.0 ** -(torch.arange(0, table.shape[1], 2) / table.shape[1])
        table[:, 0::2] = 0.3 * torch.sin(time * rate)
        table[:, 1::2] = 0.3 * torch.cos(time * rate)[:, : table.shape[1] // 2]
    return table.view(config.frames, tokens, config.width)


class DisplacementHeads(nn.Module):
    """MPDP's linear classifiers: direction and magnitude of every token over every interval (Eq. 12)."""

    def __init__(self, width: int, tokens: int, intervals: int, magnitude_classes: int) -> None:
        super().__init__()
        self.shape = (intervals, tokens)
        self.direction = nn.Linear(width, intervals * tokens * DIRECTIONS)
        self.magnitude = nn.Linear(width, intervals * tokens * magnitude_classes)

    def forward(self, representation: Tensor) -> tuple[Tensor, Tensor]:
        """F [S, E] -> logits [S, intervals, J, 27] and [S, intervals, J, C_sigma]."""
        direction = self.direction(representation).unflatten(1, (*self.shape, -1))
        magnitude = self.magnitude(representation).unflatten(1, (*self.shape, -1))
        return direction, magnitude
