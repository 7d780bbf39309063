"""Augmentation: what is drawn, and what each change may touch."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from glt.motion.augment import augment, draw, fit, mask_tokens
from glt.motion.displacement import Bins, displacement, targets
from glt.motion.packed import Packed, resample
from glt.recipe import AugmentConfig, ModelConfig

ALL = AugmentConfig(shear=0.3, interpolate=0.2, yaw=40, mask=0.2)
OFF = AugmentConfig(shear=0, interpolate=0, yaw=0, mask=0)
LENGTHS = (12, 1, 20)
CLIPS = (31, 4, 159)


def batch(lengths: tuple[int, ...] = LENGTHS, absent: bool = False, seed: int = 0) -> Packed:
    """Two persons of four tokens; if asked, the second one comes late and leaves a gap."""
    tokens = torch.randn(sum(lengths), 2, 4, 3, generator=torch.Generator().manual_seed(seed))
    present = torch.ones(sum(lengths), 2, dtype=torch.bool)
    if absent:
        present[:4, 1] = False
        present[18:22, 1] = False
        present[20] = False
    return Packed(tokens * present[..., None, None], present, lengths)


def split(whole: Packed) -> list[Packed]:
    parts = zip(whole.tokens.split(whole.lengths), whole.present.split(whole.lengths), whole.lengths, strict=True)
    return [Packed(tokens, present, (length,)) for tokens, present, length in parts]


def changed(whole: Packed, config: AugmentConfig, clips: tuple[int, ...], epoch: int = 3, longest: int = 22) -> Packed:
    draws = draw(config, seed=7, epoch=epoch, clip_ids=clips)
    return mask_tokens(augment(whole, config, draws, ModelConfig(max_frames=longest)), config.mask, draws)


def test_a_clip_is_changed_alike_in_any_batch() -> None:
    together = split(changed(batch(absent=True), ALL, CLIPS))
    for clip, number, expected in zip(split(batch(absent=True)), CLIPS, together, strict=True):
        alone = changed(clip, ALL, (number,))
        assert alone.lengths == expected.lengths
        assert torch.equal(alone.present, expected.present)
        torch.testing.assert_close(alone.tokens, expected.tokens, rtol=0, atol=1e-6)
        assert torch.equal(alone.tokens == 0, expected.tokens == 0)


def test_seed_epoch_and_clip_each_change_the_draw() -> None:
    draws = [draw(ALL, seed, epoch, [clip]) for seed, epoch, clip in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]]
    assert len({float(d.stretch[0]) for d in draws}) == 4
    assert len({float(d.turn[0]) for d in draws}) == 4
    again = draw(ALL, 0, 0, [0])
    np.testing.assert_array_equal(again.shear, draws[0].shear)
    assert len(np.unique(draw(ALL, 0, 0, [0]).shear)) == 7  # six factors of their own, and the diagonal


def test_draws_stay_within_their_bounds_and_fill_them() -> None:
    draws = draw(ALL, 0, 0, range(2000))
    factors = draws.shear[:, ~np.eye(3, dtype=bool)]
    for values, bound in [(draws.stretch, 0.2), (draws.turn, math.radians(40)), (factors, 0.3)]:
        assert np.abs(values).max() <= bound
        assert np.abs(values).max() > 0.99 * bound
        assert abs(values.mean()) < 0.05 * bound
    assert (draws.shear[:, np.eye(3, dtype=bool)] == 1).all()


def test_nothing_on_changes_nothing() -> None:
    before = batch(absent=True)
    assert changed(before, OFF, CLIPS) is before


def test_interpolation_alone_resamples() -> None:
    config = OFF.model_copy(update={"interpolate": 0.2})
    before = batch()
    after = changed(before, config, CLIPS, longest=100)
    stretch = draw(config, 7, 3, CLIPS).stretch
    assert after.lengths == tuple(max(1, round(n * (1 + s))) for n, s in zip(LENGTHS, stretch, strict=True))
    assert after.lengths != LENGTHS
    assert torch.equal(after.tokens, resample(before, after.lengths).tokens)


def test_no_clip_is_longer_than_the_longest_nor_empty() -> None:
    for epoch in range(20):
        lengths = changed(batch(), AugmentConfig(interpolate=0.99), CLIPS, epoch, longest=14).lengths
        assert all(1 <= length <= 14 for length in lengths)
    assert fit(batch(), ModelConfig(max_frames=14)).lengths == (12, 1, 14)
    assert torch.equal(fit(batch(), ModelConfig(max_frames=14)).tokens[:13], batch().tokens[:13])


def test_shear_is_a_matrix_on_the_local_motion_only() -> None:
    config = OFF.model_copy(update={"shear": 0.3})
    before, matrices = split(batch()), draw(config, 7, 3, CLIPS).shear
    for old, new, matrix in zip(before, split(changed(batch(), config, CLIPS)), matrices, strict=True):
        assert torch.equal(new.tokens[:, :, 0], old.tokens[:, :, 0])
        expected = np.einsum("ij,tpkj->tpki", matrix, old.tokens[:, :, 1:].numpy())
        np.testing.assert_allclose(new.tokens[:, :, 1:].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("up", [0, 1, 2])
def test_yaw_turns_everything_about_the_vertical(up: int) -> None:
    config = OFF.model_copy(update={"yaw": 90.0})
    draws = draw(config, 7, 3, CLIPS)
    old, new = batch().tokens, augment(batch(), config, draws, ModelConfig(max_frames=100), up).tokens
    torch.testing.assert_close(new[..., up], old[..., up])
    torch.testing.assert_close(new.norm(dim=-1), old.norm(dim=-1))
    a, b = [axis for axis in range(3) if axis != up]
    cosine = (old[..., a] * new[..., a] + old[..., b] * new[..., b]) / (
        torch.hypot(old[..., a], old[..., b]) * torch.hypot(new[..., a], new[..., b])
    )
    turn = torch.from_numpy(np.cos(draws.turn)).float()[batch().frame_indices()[0]]
    torch.testing.assert_close(cosine, turn[:, None, None].expand_as(cosine), rtol=0, atol=1e-4)
    assert torch.linalg.det(torch.linalg.lstsq(old[:12].reshape(-1, 3), new[:12].reshape(-1, 3)).solution) > 0


def test_yaw_and_shear_together_turn_first() -> None:
    config = OFF.model_copy(update={"yaw": 90.0, "shear": 0.3})
    turned = changed(batch(), config.model_copy(update={"shear": 0.0}), CLIPS)
    expected = changed(turned, config.model_copy(update={"yaw": 0.0}), CLIPS)
    torch.testing.assert_close(changed(batch(), config, CLIPS).tokens, expected.tokens, rtol=0, atol=1e-5)


def test_masking_zeroes_a_share_of_the_tokens_and_keeps_the_whole() -> None:
    config = OFF.model_copy(update={"mask": 0.25})
    whole = batch((400, 300, 500))
    draws = draw(config, 0, 0, CLIPS)
    seen = mask_tokens(whole, config.mask, draws)
    masked = (seen.tokens == 0).all(dim=-1)
    assert torch.equal(masked, (seen.tokens == 0).any(dim=-1))  # whole tokens
    assert masked.float().mean() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(seen.tokens[~masked], whole.tokens[~masked])
    assert whole.tokens.ne(0).all()
    assert not torch.equal(masked[0], masked[1])  # anew in every frame


@pytest.mark.parametrize("epoch", range(5))
def test_absent_persons_stay_zero_and_never_become_targets(epoch: int) -> None:
    after = changed(batch(absent=True), ALL, CLIPS, epoch)
    assert not after.present.all()
    assert not after.tokens[~after.present].any()
    bins = Bins((1, 5), np.zeros((2, 2), np.float32), np.ones((2, 2, 3), np.float32))
    valid = targets(after, bins).valid  # S, I, P
    assert not (valid & ~after.present[:, None]).any()
    for row, interval in enumerate(bins.intervals):
        assert torch.equal(valid[:, row], displacement(after, interval)[1])


def test_a_longer_clip_is_resampled_cropped_or_kept_whole() -> None:
    whole = batch((12, 40, 20))
    sizes = {name: ModelConfig(max_frames=16, longer=name) for name in ("resample", "crop", "windows")}
    assert torch.equal(fit(whole, sizes["resample"]).tokens, resample(whole, (12, 16, 16)).tokens)
    middle = fit(whole, sizes["crop"])
    assert middle.lengths == (12, 16, 16)
    assert torch.equal(middle.tokens[12:28], whole.tokens[12 + 12 : 12 + 28])
    assert fit(whole, sizes["windows"]) is whole
    starts = set()
    for epoch in range(30):
        part = augment(whole, OFF, draw(OFF, 0, epoch, CLIPS), sizes["crop"])
        assert part.lengths == (12, 16, 16)
        starts.add(int(torch.nonzero((whole.tokens == part.tokens[12]).all(dim=(1, 2, 3)))) - 12)
    assert min(starts) <= 2
    assert max(starts) >= 22
    assert starts <= set(range(25))


def test_a_fixed_speed_gives_every_clip_the_same_length() -> None:
    sizes = ModelConfig(max_frames=16, speed="fixed")
    whole = batch(absent=True)
    expected = resample(whole, (16, 16, 16))
    assert torch.equal(fit(whole, sizes).tokens, expected.tokens)
    stretched = OFF.model_copy(update={"interpolate": 0.2})
    assert torch.equal(augment(whole, stretched, draw(stretched, 0, 0, CLIPS), sizes).tokens, expected.tokens)


@pytest.mark.parametrize("global_tokens", [0, 1])
def test_shear_of_the_global_translation_is_a_switch(global_tokens: int) -> None:
    config = OFF.model_copy(update={"shear": 0.3, "shear_global": True})
    whole = replace(batch(), global_tokens=global_tokens)
    after = changed(whole, config, CLIPS)
    matrix = draw(config, 7, 3, CLIPS).shear[whole.frame_indices()[0].numpy()]
    expected = np.einsum("tij,tpkj->tpki", matrix, whole.tokens.numpy())
    np.testing.assert_allclose(after.tokens.numpy(), expected, atol=1e-6)
    only_local = changed(whole, config.model_copy(update={"shear_global": False}), CLIPS)
    assert torch.equal(only_local.tokens, after.tokens) == (
        global_tokens == 0
    )  # without one, there is nothing to spare


@pytest.mark.parametrize("up", [0, 1, 2])
def test_tilt_turns_everything_by_no_more_than_its_bound(up: int) -> None:
    config = OFF.model_copy(update={"tilt": 30.0})
    draws = draw(config, 7, 3, CLIPS)
    vertical = batch().tokens.clone().zero_()
    vertical[..., up] = 1.0
    leaning = augment(replace(batch(), tokens=vertical), config, draws, ModelConfig(max_frames=100), up).tokens
    torch.testing.assert_close(leaning.norm(dim=-1), torch.ones_like(leaning[..., 0]))
    expected = torch.from_numpy(np.cos(draws.slope)).float()[batch().frame_indices()[0]][:, None, None]
    torch.testing.assert_close(leaning[..., up], expected.expand_as(leaning[..., up]))
    axes = draw(config, 0, 0, range(4000))
    assert np.degrees(np.abs(axes.slope)).max() == pytest.approx(30, abs=0.1)
    assert np.abs(np.exp(1j * axes.slope_axis).mean()) < 0.05  # about every horizontal axis


def test_size_scales_everything() -> None:
    config = OFF.model_copy(update={"size": 0.2})
    size = torch.from_numpy(draw(config, 7, 3, CLIPS).size).float()[batch().frame_indices()[0]][:, None, None, None]
    assert 0.8 <= float(size.min()) < float(size.max()) <= 1.2
    torch.testing.assert_close(changed(batch(), config, CLIPS).tokens, batch().tokens * size)


def test_in_a_mirror_left_and_right_change_places() -> None:
    config, order = OFF.model_copy(update={"mirror": 0.5}), (0, 2, 1, 3)
    clips = tuple(range(40))
    before = batch((3,) * 40)
    draws = draw(config, 0, 0, clips)
    after = augment(before, config, draws, ModelConfig(max_frames=100), 1, order)
    flipped = before.tokens[:, :, list(order)] * torch.tensor([-1.0, 1.0, 1.0])
    mirrored = torch.from_numpy(draws.mirrored)[before.frame_indices()[0]].view(-1, 1, 1, 1)
    assert 10 < draws.mirrored.sum() < 30
    assert torch.equal(after.tokens, torch.where(mirrored, flipped, before.tokens))
    again = augment(after, config, draws, ModelConfig(max_frames=100), 1, order)
    assert torch.equal(again.tokens, before.tokens)
