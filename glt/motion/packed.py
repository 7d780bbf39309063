"""A batch of motion clips, packed: the frames of one clip after those of the other, no padding."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """Attributes:
    tokens: float32 [S, P, K, 3]; of each person its global translation, then K - 1 local joints; metres.
    present: bool [S, P]; tokens of an absent person are zero.
    lengths: frames of each clip, [B]; they sum to S.
    """

    tokens: Tensor
    present: Tensor
    lengths: tuple[int, ...]

    @property
    def counts(self) -> Tensor:
        """Lengths as a tensor [B] on the tokens' device."""
        return torch.tensor(self.lengths, device=self.tokens.device)

    def clip(self) -> Tensor:
        """Clip of each frame, [S]."""
        counts = self.counts
        return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)

    def to(self, device: torch.device) -> Packed:
        """The same batch on `device`."""
        return replace(self, tokens=self.tokens.to(device), present=self.present.to(device))


def resample(batch: Packed, lengths: tuple[int, ...]) -> Packed:
    """Every clip at a new length, by linear interpolation in time between half-pixel centres.

    A frame between one that shows a person and one that does not shows nobody. Equal lengths change nothing.
    """
    if lengths == batch.lengths:
        return batch
    device = batch.tokens.device
    old, new = batch.counts, torch.tensor(lengths, device=device)
    clip = torch.repeat_interleave(torch.arange(len(new), device=device), new)
    time = torch.arange(len(clip), device=device) - (new.cumsum(0) - new)[clip]
    ratio = (old / new)[clip]
    place = ((time + 0.5) * ratio - 0.5).clamp(min=0).minimum((old[clip] - 1).to(ratio.dtype))
    place = torch.where(old[clip] == new[clip], time.to(place.dtype), place)
    before = place.floor().long()
    share = place - before
    after = before + (share > 0)
    start = (old.cumsum(0) - old)[clip]
    present = batch.present[start + before] & batch.present[start + after]  # S', P
    mixed = torch.lerp(batch.tokens[start + before], batch.tokens[start + after], share[:, None, None, None])
    return Packed(mixed * present[:, :, None, None], present, lengths)
