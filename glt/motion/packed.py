"""A batch of motion clips, packed: the frames of one clip after those of the other, no padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """Attributes:
    tokens: float32 [S, P, K, 3]; of each person its global translation, if it is apart, then the joints; metres.
    present: bool [S, P]; tokens of an absent person are zero.
    lengths: frames of each clip, [B]; they sum to S.
    global_tokens: tokens a person that are global translations: 1, or 0 if none is apart.
    """

    tokens: Tensor
    present: Tensor
    lengths: tuple[int, ...]
    global_tokens: int = 1

    @property
    def counts(self) -> Tensor:
        """Lengths as a tensor [B] on the tokens' device."""
        return torch.tensor(self.lengths, device=self.tokens.device)

    def clip(self) -> Tensor:
        """Clip of each frame, [S]."""
        return self.frame_indices()[0]

    def frame_indices(self) -> tuple[Tensor, Tensor]:
        """Clip of each frame and its place in that clip, [S] each."""
        return frame_indices(self.lengths, self.tokens.device)

    def to(self, device: torch.device) -> Packed:
        """The same batch on `device`."""
        return replace(self, tokens=self.tokens.to(device), present=self.present.to(device))


def frame_indices(lengths: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Clip of each packed frame and its place in that clip, int64 [S] each."""
    counts = torch.tensor(lengths, device=device)
    total = sum(lengths)
    clip = torch.repeat_interleave(torch.arange(len(lengths), device=device), counts, output_size=total)
    return clip, torch.arange(total, device=device) - (counts.cumsum(0) - counts)[clip]


def resample(batch: Packed, lengths: tuple[int, ...]) -> Packed:
    """Every clip at a new length, by linear interpolation in time between half-pixel centres.

    A frame between one that shows a person and one that does not shows nobody. Equal lengths change nothing.
    """
    if lengths == batch.lengths:
        return batch
    device = batch.tokens.device
    clip, time = frame_indices(lengths, device)
    old, new = batch.counts, torch.tensor(lengths, device=device)
    last = (old - 1)[clip]
    place = ((time + 0.5) * (old / new)[clip] - 0.5).clamp(min=0).minimum(last)
    place = torch.where((old == new)[clip], time, place)
    before = place.long()
    share = place - before
    start = (old.cumsum(0) - old)[clip]
    first, second = start + before, start + before + (share > 0)
    present = batch.present[first] & batch.present[second]  # S', P
    rows = batch.tokens.flatten(1)
    mixed = torch.lerp(rows.index_select(0, first), rows.index_select(0, second), share[:, None])
    tokens = mixed.view(-1, *batch.tokens.shape[1:])
    return replace(batch, tokens=_shown(tokens, present), present=present, lengths=lengths)


def crop(batch: Packed, starts: Sequence[int], lengths: tuple[int, ...]) -> Packed:
    """Of every clip the `lengths` frames from `starts` on; global translation still counts from the clip's start."""
    if lengths == batch.lengths:
        return batch
    clip, time = frame_indices(lengths, batch.tokens.device)
    counts = batch.counts
    offset = counts.cumsum(0) - counts + torch.tensor(starts, device=counts.device)
    rows = offset[clip] + time
    return replace(batch, tokens=batch.tokens[rows], present=batch.present[rows], lengths=lengths)


def _shown(tokens: Tensor, present: Tensor) -> Tensor:
    """The tokens, those of absent persons zero."""
    return tokens.masked_fill(~present[:, :, None, None], 0)
