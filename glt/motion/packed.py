"""Batches of motion clips: packed (the frames of all clips one after the other, no padding), resampled, cropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glt.accelerator import on_gpu, pinned, send, upload

Indices = NDArray[np.int64]

BUCKETS = 8  # padded lengths of a batch
ALIGNED = 16  # lengths that fused attention takes a mask of without copying it


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

    def frame_indices(self) -> tuple[Tensor, Tensor]:
        """See the function `frame_indices`."""
        return frame_indices(self.lengths, self.tokens.device)

    def pinned(self, device: torch.device) -> Packed:
        """The same batch where a copy to `device` starts from."""
        return replace(self, tokens=pinned(self.tokens, device), present=pinned(self.present, device))

    def to(self, device: torch.device) -> Packed:
        """The same batch on `device`."""
        return replace(self, tokens=send(self.tokens, device), present=send(self.present, device))


def frame_indices(lengths: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """For each packed frame, the index of its clip and its index within that clip, int64 [S] each."""
    clip, time = frames(np.asarray(lengths))
    return upload(clip, device), upload(time, device)


def frames(lengths: Indices) -> tuple[Indices, Indices]:
    """As `frame_indices`, in this process's memory: on a GPU each small operation would cost its launch."""
    clip = np.repeat(np.arange(len(lengths)), lengths)
    return clip, np.arange(len(clip)) - starts(lengths)[clip]


def starts(lengths: Indices) -> Indices:
    """The index of the first packed frame of each clip, [B]."""
    first: Indices = lengths.cumsum() - lengths
    return first


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
        padding: on a GPU, where clips are not sorted but padded to a few lengths within the temporal attention.
    """

    clips: int
    clip: Tensor
    time: Tensor
    groups: tuple[tuple[int, int], ...]
    order: Tensor | None
    inverse: Tensor | None
    padding: Padding | None = None

    @staticmethod
    def of(lengths: Sequence[int], device: torch.device) -> BatchLayout:
        """The layout of clips with these lengths, in any order."""
        if on_gpu(device):
            padding = Padding.of(lengths, device)
            return BatchLayout(len(lengths), *frame_indices(lengths, device), padding.buckets, None, None, padding)
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


@dataclass(frozen=True)
class Padding:
    """A batch whose clips are padded to a few lengths, bucket by bucket; N rows in all.

    Attributes:
        buckets: (clips, rows per clip) of each bucket, ascending; at most BUCKETS.
        rows: packed frame in each row, [N]; a padded row repeats the first frame of its clip.
        place: row of each packed frame, [S].
        bias: of each row as a key of attention, [N]: zero, or minus infinity if it is padded; None if no row is.
    """

    buckets: tuple[tuple[int, int], ...]
    rows: Tensor
    place: Tensor
    bias: Tensor | None

    @staticmethod
    def of(lengths: Sequence[int], device: torch.device) -> Padding:
        """The padding of clips with these lengths, in any order."""
        actual = np.asarray(lengths)
        buckets = length_buckets(lengths)
        clips = np.argsort(actual, kind="stable")
        padded = np.repeat([length for _, length in buckets], [count for count, _ in buckets])  # of clips in order
        clip, time = frames(padded)
        real = time < actual[clips][clip]
        rows = starts(actual)[clips][clip] + np.where(real, time, 0)
        place = np.empty(actual.sum(), np.int64)
        place[rows[real]] = np.flatnonzero(real)
        bias = None if real.all() else upload(np.where(real, 0, -np.inf).astype(np.float32), device)
        return Padding(buckets, upload(rows, device), upload(place, device), bias)


def length_buckets(lengths: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """(clips, length) of at most BUCKETS buckets, ascending; a clip belongs to the first that is long enough.

    The lengths are multiples of ALIGNED. Neighbours are merged as long as there are too many, those first whose merger
    pads the fewest frames.
    """
    counted = Counter(-(-length // ALIGNED) * ALIGNED for length in lengths)
    buckets = [(clips, length) for length, clips in sorted(counted.items())]
    while len(buckets) > BUCKETS:
        costs = [clips * (longer - length) for (clips, length), (_, longer) in pairwise(buckets)]
        first = costs.index(min(costs))
        (some, _), (more, length) = buckets[first : first + 2]
        buckets[first : first + 2] = [(some + more, length)]
    return tuple(buckets)


def length_order(lengths: Sequence[int], device: torch.device) -> tuple[Tensor | None, Tensor | None]:
    """The permutation of packed frames that sorts clips by length (stable) and its inverse, int64 [S] each.

    Both are None if the clips are sorted already.
    """
    clips = sorted(range(len(lengths)), key=lambda clip: lengths[clip])
    if clips == list(range(len(lengths))):
        return None, None
    counts = np.asarray(lengths)[clips]
    clip, time = frames(counts)
    order = starts(np.asarray(lengths))[clips][clip] + time
    return upload(order, device), upload(np.argsort(order), device)


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
    old, new = np.asarray(batch.lengths), np.asarray(lengths)
    clip, time = frames(new)
    ratio = old.astype(np.float32) / new.astype(np.float32)
    position = (time.astype(np.float32) + np.float32(0.5)) * ratio[clip] - np.float32(0.5)  # S', of the old clip
    position = np.clip(position, 0, (old - 1)[clip].astype(np.float32))
    position = np.where((old == new)[clip], time.astype(np.float32), position)
    before = position.astype(np.int64)
    after = position - before.astype(np.float32)  # weight of the frame after
    row = starts(old)[clip] + before
    first, second = upload(row, device), upload(row + (after > 0), device)
    present = batch.present.index_select(0, first) & batch.present.index_select(0, second)  # S', P
    rows = batch.tokens.flatten(1)  # S, P K 3
    weight = upload(after, device).to(rows.dtype)[:, None]
    tokens = torch.lerp(rows.index_select(0, first), rows.index_select(0, second), weight)
    tokens = tokens.view(-1, *batch.tokens.shape[1:])  # S', P, K, 3
    return replace(batch, tokens=tokens.masked_fill(~present[:, :, None, None], 0), present=present, lengths=lengths)


def crop(batch: Packed, first: Sequence[int], lengths: tuple[int, ...]) -> Packed:
    """Cut `lengths` frames out of every clip, from frame `first` on.

    Global translations stay relative to the first frame of the whole clip.
    """
    if lengths == batch.lengths:
        return batch
    clip, time = frames(np.asarray(lengths))
    offset = starts(np.asarray(batch.lengths)) + np.asarray(first)
    rows = upload(offset[clip] + time, batch.tokens.device)
    tokens, present = (x.index_select(0, rows) for x in (batch.tokens, batch.present))
    return replace(batch, tokens=tokens, present=present, lengths=lengths)
