"""The Global-local Motion Transformer (paper, Sec. 3.2), from top to bottom.

    tokens [S, P, K, 3] --embed--> z [S, J, D] --N blocks--> z [S, E] --head MLP--> F [S, E]

S frames of all clips of a batch, packed one clip after the other: time padding is never computed. P persons, K tokens a
person (its global translation, then K - 1 local joints), J = P * K tokens a frame, D = heads * head_dim the width of a
token, E = J * D the width of a frame.

The paper says D = 6; the authors' code shows that this is the width of one of the 8 heads (`head_dim`), so D = 48.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glt import small_attention
from glt.motion.packed import frame_indices
from glt.recipe import ModelConfig

DIRECTIONS = 27  # C_delta: (-, no movement, +) on each of three axes


@dataclass(frozen=True)
class Frames:
    """Where each packed frame belongs; computed once a batch. The model sorts clips by length, so that equally long
    ones stand together and attend in time as one dense batch, without padding.

    Attributes:
        clips: B.
        clip: clip of each frame, [S].
        time: place of each frame in its clip, [S].
        groups: (clips, frames of each) of equally long clips, in the order they stand.
        tokens: what is added to the scores of a token (row) for another (column), [S or 1, 1, 1 or J, J]: zero, or
            minus infinity if it may not attend to it; None if all may.
    """

    clips: int
    clip: Tensor
    time: Tensor
    groups: tuple[tuple[int, int], ...]
    tokens: Tensor | None

    @staticmethod
    def of(lengths: Sequence[int], tokens: Tensor | None, device: torch.device) -> Frames:
        """From clip lengths in ascending order and the token mask."""
        clip, time = frame_indices(lengths, device)
        groups = tuple((clips, length) for length, clips in sorted(Counter(lengths).items()))
        return Frames(len(lengths), clip, time, groups, tokens)


class Attention(nn.Module):
    """Multi-head self-attention (Eq. 5-8) among the rows of each of n sets: softmax(Q K^T / sqrt(d)) V, then W_H."""

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.heads, self.dropout, self.attention_dropout = config.heads, config.dropout, config.attention_dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def split(self, qkv: Tensor) -> Tensor:
        """[n, rows, 3 W] -> queries, keys and values of each head, [3, n, h, rows, d]."""
        n, rows, width = qkv.shape
        return qkv.view(n, rows, 3, self.heads, width // (3 * self.heads)).permute(2, 0, 3, 1, 4)

    def attend(self, qkv: Tensor, mask: Tensor | None = None) -> Tensor:
        """[n, rows, 3 W] -> [n, rows, W]."""
        q, k, v = self.split(qkv).unbind(0)
        dropped = self.attention_dropout if self.training else 0.0
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropped)  # n, h, rows, d
        return a.transpose(1, 2).flatten(2)


class SpatialAttention(Attention):
    """Attention among the J tokens of one frame: joint-joint, body-joint and person-person (Eq. 4-8)."""

    def attend(self, qkv: Tensor, mask: Tensor | None = None) -> Tensor:
        """As `Attention.attend`; on a CPU by the faster way that these many small sets allow."""
        narrow = qkv.shape[2] < 3 * self.heads * small_attention.NARROW
        drops = self.training and self.attention_dropout > 0
        if qkv.device.type == "cpu" and narrow and not drops:
            return small_attention.attention(qkv, self.heads, mask)
        return super().attend(qkv, mask)

    def forward(self, z: Tensor, frames: Frames) -> Tensor:
        """[S, J, D] -> [S, J, D]."""
        a = self.out(self.attend(self.qkv(z), frames.tokens))
        return dropout(a, self.dropout, self.training)


class TemporalAttention(Attention):
    """Attention among the frames of one clip, a frame being the E-vector of all its tokens (Eq. 9)."""

    def forward(self, s: Tensor, frames: Frames) -> Tensor:
        """[S, E] -> [S, E]."""
        # split, not slices: the gradient of a slice is a whole tensor of zeros around it.
        parts = self.qkv(s).split([clips * length for clips, length in frames.groups])
        groups = zip(parts, frames.groups, strict=True)
        a = [self.attend(part.unflatten(0, group)).flatten(0, 1) for part, group in groups]
        return dropout(self.out(torch.cat(a)), self.dropout, self.training)


class FeedForward(nn.Module):
    """Two-layer MLP of a block (Eq. 10)."""

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.up = nn.Linear(width, config.ff_ratio * width)
        self.down = nn.Linear(config.ff_ratio * width, width)

    def forward(self, z: Tensor) -> Tensor:
        """[S, E] -> [S, E]."""
        z = dropout(F.gelu(self.up(z)), self.dropout, self.training)
        return dropout(self.down(z), self.dropout, self.training)


class Block(nn.Module):
    """Spatial attention, temporal attention, feed-forward; each with a residual, each after a LayerNorm."""

    def __init__(self, config: ModelConfig, joints: int, drop_path: float) -> None:
        super().__init__()
        width = joints * config.width
        self.drop_path = drop_path
        self.norm_spatial = nn.LayerNorm(config.width)
        self.spatial = SpatialAttention(config, config.width)
        self.norm_temporal = nn.LayerNorm(width)
        self.temporal = TemporalAttention(config, width)
        self.norm_feed = nn.LayerNorm(width)
        self.feed = FeedForward(config, width)

    def forward(self, z: Tensor, position: Tensor | None, frames: Frames) -> Tensor:
        """[S, J, D], positional embedding M [S, J, D] -> [S, J, D].

        M, if given, is added before either attention: the paper's tight positional embedding.
        """
        if position is not None:
            z = z + position
        z = z + self._drop(self.spatial(self.norm_spatial(z), frames), frames)  # Eq. 4
        if position is not None:
            z = z + position
        s = z.flatten(1)  # S, E
        s = s + self._drop(self.temporal(self.norm_temporal(s), frames), frames)  # Eq. 9
        s = s + self._drop(self.feed(self.norm_feed(s)), frames)  # Eq. 10
        return s.view_as(z)

    def _drop(self, branch: Tensor, frames: Frames) -> Tensor:
        """Stochastic depth: the branch is left out for whole clips."""
        if not self.training or self.drop_path == 0:
            return branch
        keep = 1 - self.drop_path
        kept = torch.rand(frames.clips, device=branch.device) < keep
        scale = (kept / keep)[frames.clip].view(-1, *[1] * (branch.dim() - 1))
        return branch * scale


class GLTransformer(nn.Module):
    """The encoder: motion tokens of packed clips -> motion representation F of every frame.

    Args:
        config: sizes and switches.
        persons: P.
        joints: K tokens a person, the global translation among them.
        global_tokens: tokens a person that are global translations, 1 or 0; they come first.
        dimensions: coordinates of a token (3).
    """

    waves: Tensor

    def __init__(
        self, config: ModelConfig, persons: int, joints: int, global_tokens: int = 1, dimensions: int = 3
    ) -> None:
        super().__init__()
        self.config, self.persons, self.joints, self.global_tokens = config, persons, joints, global_tokens
        tokens = persons * joints
        self.width = tokens * config.width  # E
        if global_tokens:
            self.embed_global = nn.Linear(dimensions, config.width)  # W_g, b_g of Eq. 1
        self.embed_local = nn.Linear(dimensions, config.width)  # W_r, b_r of Eq. 1
        for embed in (self.embed_global, self.embed_local) if global_tokens else (self.embed_local,):
            embed.weight.data.mul_(config.embedding_gain)
        tables = config.depth if config.tables == "per-block" else 1
        self.position = nn.ParameterList([nn.Parameter(positional_start(config, tokens)) for _ in range(tables)])
        if config.positional == "sinusoidal":
            self.position = nn.ParameterList()
            self.register_buffer("waves", sinusoidal(config, tokens), persistent=False)
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
            lengths: frames of each clip; they sum to S. One above T_max is refused, or (`longer: windows`) attends in
                time within equal parts.

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
        if self.config.longer == "windows":
            lengths = windows(lengths, self.config.max_frames)
        if max(lengths) > self.config.max_frames:
            raise ValueError(f"a clip of {max(lengths)} frames is longer than T_max = {self.config.max_frames}")
        order, back = sorting(lengths, tokens.device)
        if order is not None:
            tokens, present, lengths = tokens[order], present[order], sorted(lengths)
        frames = Frames.of(lengths, self._mask(present, tokens.dtype), tokens.device)
        embedded = [self.embed_global(tokens[:, :, :1])] if self.global_tokens else []
        z = torch.cat([*embedded, self.embed_local(tokens[:, :, self.global_tokens :])], dim=2)  # Eq. 1
        z = dropout(z.flatten(1, 2), self.config.dropout, self.training)  # S, J, D (Eq. 2-3)
        # index_select, not [ ]: the gradient of indexing adds up in a random order when several threads do it.
        tables = [table.index_select(0, frames.time) for table in self.position or [self.waves]]  # S, J, D each
        tight = self.config.positional == "tight"
        if not tight:
            z = z + tables[0]
        outputs = []
        for number, block in enumerate(self.blocks):
            z = block(z, tables[number % len(tables)] if tight else None, frames)
            outputs.append(z.flatten(1))
        outputs.append(self.head(outputs[-1]))
        return outputs if back is None else [output.index_select(0, back) for output in outputs]

    def _mask(self, present: Tensor, dtype: torch.dtype) -> Tensor | None:
        """`Frames.tokens`, from present [S, P]."""
        if self.persons == 1:
            return None
        if not self.config.person_attention:
            person = torch.arange(self.persons, device=present.device).repeat_interleave(self.joints)
            return _hiding(person[:, None] != person, dtype)[None, None]  # 1, 1, J, J
        if self.config.attend_absent:
            return None
        # A frame that shows nobody attends everywhere: a softmax over nothing is not a number.
        seen = present | ~present.any(dim=1, keepdim=True)
        return _hiding(~seen, dtype).repeat_interleave(self.joints, dim=1)[:, None, None, :]  # S, 1, 1, J


def _hiding(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """Minus infinity where True, else zero."""
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill(hidden, float("-inf"))


def dropout(x: Tensor, share: float, training: bool) -> Tensor:
    """`torch.nn.functional.dropout`; on a CPU in less than half the time, from 16 random bits a number."""
    if not training or share == 0 or x.device.type != "cpu":
        return F.dropout(x, share, training)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = words.view(torch.int16)[: x.numel()].view(x.shape) >= round(share * 2**16) - 2**15
    return x * kept.to(x.dtype).mul_(1 / (1 - share))


def windows(lengths: Sequence[int], longest: int) -> list[int]:
    """Clips above `longest` frames as parts whose lengths differ by at most one; the others as they are."""
    parts = []
    for length in lengths:
        count = -(-length // longest)
        parts += [(length + part) // count for part in range(count)]
    return parts


def sorting(lengths: Sequence[int], device: torch.device) -> tuple[Tensor | None, Tensor | None]:
    """The frames in the order that sorts clips by length, and the way back, [S] each; None if they are sorted."""
    order = sorted(range(len(lengths)), key=lambda clip: lengths[clip])
    if order == list(range(len(lengths))):
        return None, None
    frames = torch.split(torch.arange(sum(lengths)), list(lengths))
    there = torch.cat([frames[clip] for clip in order])
    back = torch.empty_like(there)
    back[there] = torch.arange(len(there))
    return there.to(device, non_blocking=True), back.to(device, non_blocking=True)


def sinusoidal(config: ModelConfig, tokens: int) -> Tensor:
    """The fixed table of Table 2, [T_max, J, D]: waves of time over a frame's E-vector plus waves of joints over D."""
    time = _waves(config.max_frames, tokens * config.width).view(config.max_frames, tokens, config.width)
    return (time + _waves(tokens, config.width)).float()


def positional_start(config: ModelConfig, tokens: int) -> Tensor:
    """What a learned table starts from, [T_max, J, D]: sines and cosines of time over a frame's E-vector, or zeros.

    From zeros all frames look alike to the temporal attention, and MPDP's loss stays at that of the class frequencies
    for many epochs (docs/results.md).
    """
    if config.positional_start == "zeros":
        return torch.zeros(config.max_frames, tokens, config.width)
    waves = _waves(config.max_frames, tokens * config.width).view(config.max_frames, tokens, config.width)
    return (0.3 * waves).float()


def _waves(places: int, width: int) -> Tensor:
    """Sines and cosines of a place, of falling rate (Vaswani et al., 2017), float64 [places, width]."""
    rate = 10_000.0 ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = torch.arange(places)[:, None] * rate
    return torch.stack([torch.sin(angle), torch.cos(angle)], dim=2).flatten(1)[:, :width]


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
