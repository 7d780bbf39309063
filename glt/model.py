"""The Global-local Motion Transformer (paper, Sec. 3.2), from top to bottom.

    tokens [S, P, K, 3] --embed--> z [S, J, D] --N blocks--> z [S, J, D] --head MLP--> F [S, E]

Letters in shapes: B clips of a batch; T frames of a clip; S frames of all clips of a batch, packed one clip after the
other, so that padding in time is never computed; P persons; K tokens per person (the global translation, then K - 1
local joints); J = P * K tokens per frame; h heads of d = head_dim dimensions; D = h * d dimensions per token;
E = J * D dimensions per frame.

The paper gives D = 6. In the authors' code that is the dimension of one of 8 heads (`head_dim`), so D = 48.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glt import fused_attention, small_attention
from glt.accelerator import on_gpu
from glt.layers import drop_path, dropout, product_dtype, sinusoids, spatial_mask
from glt.motion.packed import BatchLayout, Padding, windows
from glt.recipe import ModelConfig

DIRECTIONS = 27  # C_delta: (-, no movement, +) on each of three axes


class Attention(nn.Module):
    """Multi-head self-attention among the rows of each of n sets: softmax(Q K^T / sqrt(d)) V, then W_H (Eq. 5-8)."""

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.heads, self.dropout, self.attention_dropout = config.heads, config.dropout, config.attention_dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def attend(self, qkv: Tensor, mask: Tensor | None = None) -> Tensor:
        """Queries, keys and values [n, rows, 3 W] -> outputs of all heads, side by side [n, rows, W].

        `mask` is added to the scores; it broadcasts to [n, h, rows, rows].
        """
        n, rows, width = qkv.shape
        qkv = qkv.view(n, rows, 3, self.heads, width // (3 * self.heads)).permute(2, 0, 3, 1, 4)  # 3, n, h, rows, d
        q, k, v = qkv.unbind(0)
        rate = self.attention_dropout if self.training else 0.0
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate)  # n, h, rows, d
        return a.transpose(1, 2).flatten(2)  # n, rows, W

    def _fused(self, x: Tensor, attend: Callable[..., Tensor], hidden: Padding | Tensor | None) -> Tensor:
        """The layer on a GPU: [..., W] -> [..., W] by `attend` of `glt.fused_attention`."""
        qkv = fused_attention.project(x, self.qkv, self.heads)
        rate = self.attention_dropout if self.training else 0.0
        a = attend(qkv, self.heads, self.out.in_features // self.heads, hidden, rate)
        return fused_attention.merge(a, self.out, self.heads)


class SpatialAttention(Attention):
    """Attention among the J tokens of a frame: joint to joint, body to joint, person to person (Eq. 4-8)."""

    def forward(self, z: Tensor, mask: Tensor | None) -> Tensor:
        """[S, J, D], mask from `spatial_mask` -> [S, J, D]."""
        if on_gpu(z.device):
            a = self._fused(z, fused_attention.attention, mask)
        else:
            a = self.out(self.attend(self.qkv(z), mask))
        return dropout(a, self.dropout, self.training)

    def attend(self, qkv: Tensor, mask: Tensor | None = None) -> Tensor:
        """As `Attention.attend`; on a CPU by `glt.small_attention`, which is faster for many small sets."""
        narrow = qkv.shape[2] < 3 * self.heads * small_attention.NARROW
        drops = self.training and self.attention_dropout > 0
        if qkv.device.type == "cpu" and narrow and not drops:
            return small_attention.attention(qkv, self.heads, mask)
        return super().attend(qkv, mask)


class TemporalAttention(Attention):
    """Attention among the frames of a clip; a frame is the E-vector of all its tokens (Eq. 9)."""

    def forward(self, s: Tensor, layout: BatchLayout) -> Tensor:
        """[S, E] -> [S, E]."""
        if layout.padding is not None:
            fused = self._fused(s, fused_attention.temporal_attention, layout.padding)
            return dropout(fused, self.dropout, self.training)
        # split, not slices: the gradient of a slice is a tensor of zeros as large as the whole.
        parts = self.qkv(s).split([clips * length for clips, length in layout.groups])  # clips * T, 3 E each
        groups = zip(parts, layout.groups, strict=True)
        a = [self.attend(part.unflatten(0, group)).flatten(0, 1) for part, group in groups]  # clips, T, 3 E -> ., E
        return dropout(self.out(torch.cat(a)), self.dropout, self.training)


class FeedForward(nn.Module):
    """Two-layer MLP of a block (Eq. 10)."""

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.up = nn.Linear(width, config.ff_ratio * width)
        self.down = nn.Linear(config.ff_ratio * width, width)

    def forward(self, s: Tensor) -> Tensor:
        """[S, E] -> [S, E]."""
        s = dropout(F.gelu(self.up(s)), self.dropout, self.training)
        return dropout(self.down(s), self.dropout, self.training)


class Block(nn.Module):
    """Spatial attention, temporal attention, MLP; each with a residual connection, each after a LayerNorm."""

    def __init__(self, config: ModelConfig, tokens: int, drop_path_rate: float) -> None:
        super().__init__()
        width = tokens * config.width
        self.drop_path = drop_path_rate
        self.norm_spatial = nn.LayerNorm(config.width)
        self.spatial = SpatialAttention(config, config.width)
        self.norm_temporal = nn.LayerNorm(width)
        self.temporal = TemporalAttention(config, width)
        self.norm_feed = nn.LayerNorm(width)
        self.feed = FeedForward(config, width)

    def forward(self, z: Tensor, position: Tensor | None, layout: BatchLayout, mask: Tensor | None) -> Tensor:
        """[S, J, D] -> [S, J, D].

        The positional embedding M [S, J, D] of each frame, if given, is added before both attentions: the paper's
        tight positional embedding.
        """
        if position is not None:
            z = z + position
        z = z + self._drop(self.spatial(self.norm_spatial(z), mask), layout)  # Eq. 4
        if position is not None:
            z = z + position
        s = z.flatten(1)  # S, E
        s = s + self._drop(self.temporal(self.norm_temporal(s), layout), layout)  # Eq. 9
        s = s + self._drop(self.feed(self.norm_feed(s)), layout)  # Eq. 10
        return s.view_as(z)  # S, J, D

    def _drop(self, branch: Tensor, layout: BatchLayout) -> Tensor:
        return drop_path(branch, self.drop_path, layout, self.training)


class GLTransformer(nn.Module):
    """The encoder: motion tokens of packed clips -> motion representation F of every frame.

    Args:
        config: sizes and switches.
        persons: P.
        joints: K, tokens per person, including the global translation.
        global_tokens: tokens per person that are global translations, 1 or 0; they come first.
        dimensions: coordinates of a token.
    """

    sinusoids: Tensor

    def __init__(
        self, config: ModelConfig, persons: int, joints: int, global_tokens: int = 1, dimensions: int = 3
    ) -> None:
        super().__init__()
        self.config, self.persons, self.joints, self.global_tokens = config, persons, joints, global_tokens
        tokens = persons * joints  # J
        self.width = tokens * config.width  # E
        if global_tokens:
            self.embed_global = nn.Linear(dimensions, config.width)  # W_g, b_g of Eq. 1
        self.embed_local = nn.Linear(dimensions, config.width)  # W_r, b_r of Eq. 1
        shape = (config.max_frames, tokens, config.width)  # T_max, J, D
        tables = {"sinusoidal": 0, "trainable": 1, "tight": config.depth if config.tables == "per-block" else 1}
        learned = range(tables[config.positional])
        self.position = nn.ParameterList([nn.Parameter(torch.zeros(shape)) for _ in learned])  # M
        if config.positional == "sinusoidal":  # the fixed table of Table 2
            table = sinusoids(shape[0], self.width).view(shape) + sinusoids(tokens, config.width)
            self.register_buffer("sinusoids", table.float(), persistent=False)
        rates = [config.drop_path * n / max(1, config.depth - 1) for n in range(config.depth)]
        self.blocks = nn.ModuleList([Block(config, tokens, rate) for rate in rates])
        self.head = nn.Sequential(  # Eq. 11; the LayerNorms are the authors'
            nn.LayerNorm(self.width),
            nn.Linear(self.width, self.width),
            nn.GELU(),
            nn.LayerNorm(self.width),
            nn.Linear(self.width, self.width),
            nn.GELU(),
            nn.LayerNorm(self.width),
        )
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Set what does not keep torch's initial values (linear: uniform in +-1 / sqrt(inputs); LayerNorm: identity).

        `embedding_gain` scales the embeddings' weights: coordinates in metres are small beside the bias. Positional
        tables start as sinusoids of time over the E dimensions of a frame: from zeros all frames look alike to the
        temporal attention, and MPDP's loss stays at the class frequencies for many epochs (docs/results.md).
        """
        for embed in (self.embed_global, self.embed_local) if self.global_tokens else (self.embed_local,):
            embed.weight.mul_(self.config.embedding_gain)
        if self.config.positional_start == "sinusoidal":
            for table in self.position:
                table.copy_(0.3 * sinusoids(len(table), self.width).view_as(table))  # T_max, E -> T_max, J, D

    def forward(self, tokens: Tensor, present: Tensor, lengths: Sequence[int]) -> Tensor:
        """Motion representation F [S, E]; arguments and errors as `layers`."""
        return self.layers(tokens, present, lengths)[-1]

    def layers(self, tokens: Tensor, present: Tensor, lengths: Sequence[int]) -> list[Tensor]:
        """The output of every block and, last, F: depth + 1 tensors [S, E].

        Args:
            tokens: [S, P, K, 3], metres; token 0 of a person is the global translation if `global_tokens` is 1.
            present: [S, P] bool.
            lengths: frames of each clip, [B]; they sum to S. With `longer: windows` a clip above T_max attends in time
                within parts of equal length.

        Raises:
            ValueError: the shapes do not fit the model, or a clip is longer than T_max.
        """
        config = self.config
        if tokens.shape[1:3] != (self.persons, self.joints) or sum(lengths) != len(tokens):
            raise ValueError(f"tokens {tuple(tokens.shape)} with {sum(lengths)} frames in clips do not fit the model")
        if config.longer == "windows":
            lengths = windows(lengths, config.max_frames)
        if max(lengths) > config.max_frames:
            raise ValueError(f"a clip of {max(lengths)} frames is longer than T_max = {config.max_frames}")
        layout = BatchLayout.of(lengths, tokens.device)
        tokens, present = layout.sort(tokens), layout.sort(present)
        mask = spatial_mask(present, self.joints, config, product_dtype(tokens))
        if mask is not None and on_gpu(tokens.device):
            mask = fused_attention.aligned(mask)
        z = dropout(self.embed(tokens), config.dropout, self.training)
        # index_select, not [ ]: the gradient of indexing adds up in a random order when several threads do it.
        tables = [table.index_select(0, layout.time) for table in self.position or [self.sinusoids]]  # S, J, D each
        tight = config.positional == "tight"
        if not tight:
            z = z + tables[0]
        outputs = []
        for index, block in enumerate(self.blocks):
            z = block(z, tables[index % len(tables)] if tight else None, layout, mask)
            outputs.append(z.flatten(1))  # S, E
        outputs.append(self.head(outputs[-1]))
        return [layout.unsort(output) for output in outputs]

    def embed(self, tokens: Tensor) -> Tensor:
        """Linear embedding of the global translations and of the local joints, in one sequence (Eq. 1-3).

        [S, P, K, 3] -> [S, J, D].
        """
        z: Tensor = self.embed_local(tokens[:, :, self.global_tokens :])
        if self.global_tokens:
            z = torch.cat([self.embed_global(tokens[:, :, :1]), z], dim=2)
        return z.flatten(1, 2)  # S, P, K, D -> S, J, D


class DisplacementHeads(nn.Module):
    """MPDP's linear classifiers: direction and magnitude of every token over every interval (Eq. 12)."""

    def __init__(self, width: int, tokens: int, intervals: int, magnitude_classes: int) -> None:
        super().__init__()
        self.shape = (intervals, tokens)
        self.direction = nn.Linear(width, intervals * tokens * DIRECTIONS)
        self.magnitude = nn.Linear(width, intervals * tokens * magnitude_classes)

    def forward(self, representation: Tensor) -> tuple[Tensor, Tensor]:
        """F [S, E] -> logits [S, intervals, J, 27] and [S, intervals, J, C_sigma]."""
        direction = self.direction(representation).unflatten(1, (*self.shape, -1))  # S, I J 27 -> S, I, J, 27
        magnitude = self.magnitude(representation).unflatten(1, (*self.shape, -1))  # S, I J C -> S, I, J, C
        return direction, magnitude
