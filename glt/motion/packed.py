"""Batches of motion clips: packed (the frames of all clips one after the other, no padding), resampled, cropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """A batch of B clips, S frames in all.

    Attributes:
        tokens: float32 [S, P, K, 3], metres; of each person the global translation, if it is a token, then the joints.
        present: bool [S, P]; tokens of an absent person are zero.
        lengths: frames of each clip, [B]; they sum to S.
        global_tokens: tokens per person that are global translations, 1 or 0.
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
        """Index of the clip that each frame belongs to, [S]."""
        return self.frame_indices()[0]

    def frame_indices(self) -> tuple[Tensor, Tensor]:
        """See the function `frame_indices`."""
        return frame_indices(self.lengths, self.tokens.device)

    def to(self, device: torch.device) -> Packed:
        """The same batch on `device`."""
        return replace(self, tokens=self.tokens.to(device), present=self.present.to(device))


def frame_indices(lengths: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """For each packed frame, the index of its clip and its index within that clip, int64 [S] each."""
    counts = torch.tensor(lengths, device=device)
    total = sum(lengths)
    clip = torch.repeat_interleave(torch.arange(len(lengths), device=device), counts, output_size=total)
    return clip, torch.arange(total, device=device) - (counts.cumsum(0) - counts)[clip]


@dataclass(frozen=True)
class BatchLayout:
    """The clip and time index of each packed frame, after sorting clips by length.

    Equally long clips are then adjacent and attend in time as one dense batch, without padding.

    Attributes:
        clips: B.
        clip: index of the clip that each frame belongs to, [S].
        time: index of each frame within its clip, [S].
        groups: (clips, frames per clip) for each length, ascending.
        order: frames of the batch in sorted order, [S]; None if the clips are sorted already.
        inverse: the permutation that undoes `order`, [S].
    """

    clips: int
    clip: Tensor
    time: Tensor
    groups: tuple[tuple[int, int], ...]
    order: Tensor | None
    inverse: Tensor | None

    @staticmethod
    def of(lengths: Sequence[int], device: torch.device) -> BatchLayout:
        """The layout of clips with these lengths, in any order."""
        order, inverse = length_order(lengths, device)
        clip, time = frame_indices(sorted(lengths), device)
        groups = tuple((clips, length) for length, clips in sorted(Counter(lengths).items()))
        return BatchLayout(len(lengths), clip, time, groups, order, inverse)

    def sort(self, x: Tensor) -> Tensor:
        """Rows [S, ...] in the order of the batch -> sorted by the length of their clips."""
        return x if self.order is None else x.index_select(0, self.order)

    def unsort(self, x: Tensor) -> Tensor:
        """The inverse of `sort`."""
        return x if self.inverse is None else x.index_select(0, self.inverse)


def length_order(lengths: Sequence[int], device: torch.device) -> tuple[Tensor | None, Tensor | None]:
    """The permutation of packed frames that sorts clips by length (stable) and its inverse, int64 [S] each.

    Both are None if the clips are sorted already.
    """
    clips = sorted(range(len(lengths)), key=lambda clip: lengths[clip])
    if clips == list(range(len(lengths))):
        return None, None
    frames = torch.split(torch.arange(sum(lengths)), list(lengths))
    order = torch.cat([frames[clip] for clip in clips])
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order))
    return order.to(device, non_blocking=True), inverse.to(device, non_blocking=True)


def windows(lengths: Sequence[int], longest: int) -> list[int]:
    """Lengths where clips above `longest` frames are cut into the fewest parts, which differ by at most one frame."""
    parts = []
    for length in lengths:
        count = -(-length // longest)
        parts += [(length + part) // count for part in range(count)]
    return parts


def resample(batch: Packed, lengths: tuple[int, ...]) -> Packed:
    """Every clip at a new length, by linear interpolation in time between frame centres (as for pixels of an image).

    A person is present in a new frame only if both frames that it lies between show the person. A clip whose length
    stays the same does not change.

    Args:
        batch: B clips.
        lengths: new length of each clip, [B], above 0.
    """
    if lengths == batch.lengths:
        return batch
    device = batch.tokens.device
    clip, time = frame_indices(lengths, device)
    old, new = batch.counts, torch.tensor(lengths, device=device)
    last = (old - 1)[clip]
    position = ((time + 0.5) * (old / new)[clip] - 0.5).clamp(min=0).minimum(last)  # S', in frames of the old clip
    position = torch.where((old == new)[clip], time, position)
    before = position.long()
    weight = position - before  # of the frame after
    start = (old.cumsum(0) - old)[clip]
    first, second = start + before, start + before + (weight > 0)
    present = batch.present[first] & batch.present[second]  # S', P
    rows = batch.tokens.flatten(1)  # S, P K 3
    weight = weight.to(rows.dtype)[:, None]
    tokens = torch.lerp(rows.index_select(0, first), rows.index_select(0, second), weight)
    tokens = tokens.view(-1, *batch.tokens.shape[1:])  # S', P, K, 3
    return replace(batch, tokens=tokens.masked_fill(~present[:, :, None, None], 0), present=present, lengths=lengths)


def crop(batch: Packed, starts: Sequence[int], lengths: tuple[int, ...]) -> Packed:
    """Cut `lengths` frames out of every clip, from frame `starts` on.

    Global translations stay relative to the first frame of the whole clip.
    """
    if lengths == batch.lengths:
        return batch
    clip, time = frame_indices(lengths, batch.tokens.device)
    counts = batch.counts
    offset = counts.cumsum(0) - counts + torch.tensor(starts, device=counts.device)
    rows = offset[clip] + time
    return replace(batch, tokens=batch.tokens[rows], present=batch.present[rows], lengths=lengths)
