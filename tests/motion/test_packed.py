"""Packing and resampling in time."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from glt.motion.packed import Packed, crop, resample


def random_batch(lengths: tuple[int, ...], persons: int = 1, joints: int = 2, seed: int = 0) -> Packed:
    tokens = torch.randn(sum(lengths), persons, joints, 3, generator=torch.Generator().manual_seed(seed))
    return Packed(tokens, torch.ones(sum(lengths), persons, dtype=torch.bool), lengths)


def places(old: int, new: int) -> np.ndarray:
    """Where the new frames' centres fall on the old frames' axis, held inside it."""
    return np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)


def test_clip_of_each_frame() -> None:
    assert random_batch((2, 1, 3)).frame_indices()[0].tolist() == [0, 0, 1, 2, 2, 2]


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=4))
def test_resample_is_linear_interpolation(pairs: list[tuple[int, int]]) -> None:
    old, new = zip(*pairs, strict=True)
    before = random_batch(old)
    after = resample(before, new)
    assert after.lengths == new
    assert after.present.all()
    for a, b in zip(before.tokens.split(old), after.tokens.split(new), strict=True):
        curves, where = a.flatten(1).double().numpy(), places(len(a), len(b))
        expected = np.stack([np.interp(where, np.arange(len(a)), curve) for curve in curves.T], axis=1)
        np.testing.assert_allclose(b.flatten(1).numpy(), expected, atol=2e-5)


def test_equal_lengths_change_nothing_even_beside_a_clip_that_changes() -> None:
    before = random_batch((7, 5))
    assert resample(before, (7, 5)) is before
    assert torch.equal(resample(before, (7, 9)).tokens[:7], before.tokens[:7])


@given(
    st.lists(st.booleans(), min_size=1, max_size=12).flatmap(lambda seen: st.tuples(st.just(seen), st.integers(1, 24)))
)
def test_a_frame_is_shown_only_if_all_it_is_mixed_from_is(drawn: tuple[list[bool], int]) -> None:
    seen, new = drawn
    clip = random_batch((len(seen),))
    present = torch.tensor(seen)[:, None]
    after = resample(Packed(clip.tokens * present[..., None, None], present, clip.lengths), (new,))
    if new == len(seen):
        assert after.present[:, 0].tolist() == seen
    for frame, where in enumerate(places(len(seen), new)):
        nearest = round(where)
        around = [nearest] if abs(where - nearest) < 1e-5 else [int(where), int(where) + 1]
        shown = bool(after.present[frame, 0])
        if shown:
            assert all(seen[n] for n in around)
        elif abs(where - nearest) >= 1e-5:
            assert not all(seen[n] for n in around)
        assert shown or not after.tokens[frame].any()


def test_absent_persons_are_not_mixed_in() -> None:
    """Zeros of an absent person would pull a joint towards the origin; such a frame shows nobody instead."""
    tokens = torch.ones(4, 1, 1, 3)
    present = torch.tensor([True, True, False, False])[:, None]
    after = resample(Packed(tokens * present[..., None, None], present, (4,)), (9,))
    assert set(after.tokens.unique().tolist()) == {0.0, 1.0}


def test_crop_keeps_a_part_of_each_clip() -> None:
    whole = random_batch((5, 2, 4), persons=2)
    part = crop(whole, (1, 0, 2), (3, 2, 1))
    assert part.lengths == (3, 2, 1)
    assert torch.equal(part.tokens, whole.tokens[[1, 2, 3, 5, 6, 9]])
    assert torch.equal(part.present, whole.present[[1, 2, 3, 5, 6, 9]])
    assert crop(whole, (0, 0, 0), whole.lengths) is whole
