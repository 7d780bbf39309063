"""Displacement classes against a loop over every frame, interval, person, token and axis."""

from __future__ import annotations

import json
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from glt.motion import displacement
from glt.motion.displacement import Bins, fit_bins, fit_bins_in_parts, targets
from glt.motion.packed import Packed
from glt.recipe import MotionConfig
from tests import oracle

GRID = 0.25  # coordinates are multiples of it: sums and squares are exact, so edges can be hit exactly
BINS = Bins(
    (1, 3),
    np.array([[0.0, 0.25], [0.5, 0.0]], np.float32),
    np.array([[[0.25, 1.0, 2.0], [0.1, 0.5, 1.25]], [[0.5, 0.75, 3.0], [0.25, 0.3, 0.35]]], np.float32),
)


@st.composite
def batches(draw: st.DrawFn) -> Packed:
    lengths = tuple(draw(st.lists(st.integers(1, 7), min_size=1, max_size=3)))
    persons, joints = draw(st.integers(1, 2)), draw(st.integers(2, 3))
    steps = draw(hnp.arrays(np.int8, (sum(lengths), persons, joints, 3), elements=st.integers(-6, 6)))
    present = draw(hnp.arrays(bool, (sum(lengths), persons)))
    tokens = steps.astype(np.float32) * GRID * present[..., None, None]
    return Packed(torch.from_numpy(tokens), torch.from_numpy(present), lengths)


@given(batches())
def test_targets_equal_the_slow_ones(batch: Packed) -> None:
    result = targets(batch, BINS)
    fast = zip(*(t.split(batch.lengths) for t in (result.direction, result.magnitude, result.valid)), strict=True)
    clips = zip(batch.tokens.split(batch.lengths), batch.present.split(batch.lengths), fast, strict=True)
    for tokens, present, (direction, magnitude, valid) in clips:
        expected = oracle.classes(tokens.numpy(), present.numpy(), BINS.intervals, BINS.dead_zone, BINS.edges)
        np.testing.assert_array_equal(direction.numpy(), expected[0])
        np.testing.assert_array_equal(magnitude.numpy(), expected[1])
        np.testing.assert_array_equal(valid.numpy()[..., None].repeat(tokens.shape[2], axis=3), expected[2])


def walk(lengths: tuple[int, ...], joints: int = 4, seed: int = 0) -> Packed:
    """Two persons, the second absent now and then; each joint moves at a scale of its own."""
    random = np.random.default_rng(seed)
    tokens = random.normal(size=(sum(lengths), 2, joints, 3)).cumsum(0) * np.arange(1, joints + 1)[:, None]
    present = np.stack([np.ones(sum(lengths), bool), random.random(sum(lengths)) < 0.7], axis=1)
    tokens = (tokens * present[..., None, None]).astype(np.float32)
    return Packed(torch.from_numpy(tokens), torch.from_numpy(present), lengths)


def moves(batch: Packed, interval: int) -> tuple[np.ndarray, np.ndarray]:
    """Every displacement over the interval that has two frames: of global translations, of local joints, [n, 3]."""
    found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for tokens, present in zip(batch.tokens.split(batch.lengths), batch.present.split(batch.lengths), strict=True):
        for t in range(interval, len(tokens)):
            for p in range(tokens.shape[1]):
                if present[t, p] and present[t - interval, p]:
                    moved = (tokens[t, p] - tokens[t - interval, p]).numpy()
                    found[0].append(moved[:1])
                    found[1].append(moved[1:])
    return np.concatenate(found[0]), np.concatenate(found[1])


def test_bins_are_quantiles_of_the_displacements() -> None:
    batch = walk((40, 30, 3, 1, 26))
    config = MotionConfig(intervals=(2, 5), magnitude_classes=6, dead_zone=0.3)
    bins = fit_bins(batch, config)
    assert bins.classes == 6
    for row, interval in enumerate(config.intervals):
        for kind, moved in enumerate(moves(batch, interval)):
            distance = np.linalg.norm(moved.astype(np.float64), axis=1)
            np.testing.assert_allclose(bins.edges[row, kind], np.quantile(distance, np.arange(1, 6) / 6), rtol=1e-5)
            np.testing.assert_allclose(bins.dead_zone[row, kind], np.quantile(np.abs(moved), 0.3), rtol=1e-5)
            filled = np.bincount(np.searchsorted(bins.edges[row, kind], distance, side="right"), minlength=6)
            assert filled.max() - filled.min() <= 2


def test_bins_of_a_large_set_are_those_of_all_joints_and_persons(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample at even steps would meet the same joint, or the same person, again and again."""
    moving = np.random.default_rng(0).normal(size=(2000, 2, 5, 3)) * np.arange(1, 6)[:, None]
    tokens = torch.from_numpy(moving.cumsum(0).astype(np.float32))
    batch, config = Packed(tokens, torch.ones(2000, 2, dtype=torch.bool), (1000, 1000)), MotionConfig(intervals=(1,))
    whole = fit_bins(batch, config)
    monkeypatch.setattr(displacement, "_SAMPLE", 2000)  # 15,984 local displacements: every 8th
    sampled = fit_bins(batch, config)
    np.testing.assert_allclose(sampled.edges, whole.edges, rtol=0.15)
    np.testing.assert_array_equal(fit_bins(batch, config).edges, sampled.edges)


@pytest.mark.parametrize("edge", ["zero", "first-frame"])
@pytest.mark.parametrize("sample", [10**6, 300])
def test_bins_fitted_in_parts_are_those_of_all_at_once(
    monkeypatch: pytest.MonkeyPatch, edge: Literal["zero", "first-frame"], sample: int
) -> None:
    monkeypatch.setattr(displacement, "_SAMPLE", sample)
    lengths = (9, 1, 30, 12, 3)
    batch, config = walk(lengths), MotionConfig(intervals=(1, 5), edge=edge)
    pieces = [
        Packed(batch.tokens[start:end], batch.present[start:end], counts)
        for start, end, counts in ((0, 10, (9, 1)), (10, 40, (30,)), (40, 55, (12, 3)))
    ]
    whole, parts = fit_bins(batch, config), fit_bins_in_parts(lambda: pieces, config)
    assert parts.edges.tobytes() == whole.edges.tobytes()
    assert parts.dead_zone.tobytes() == whole.dead_zone.tobytes()


def test_no_dead_zone_asks_for_exact_rest() -> None:
    assert not fit_bins(walk((30,)), MotionConfig(dead_zone=0)).dead_zone.any()


def test_clips_shorter_than_an_interval_still_give_bins() -> None:
    bins = fit_bins(walk((4, 4)), MotionConfig(intervals=(1, 5)))
    assert np.isfinite(bins.edges).all()
    assert (np.diff(bins.edges, axis=-1) >= 0).all()
    assert bins.edges.shape == (2, 2, 14)


def test_fixed_bins_are_the_authors() -> None:
    bins = fit_bins(walk((5,)), MotionConfig(bins="fixed", intervals=(1,)))
    assert bins.classes == 15
    distances = [0.0, 1e-6, 0.005, 0.015, 0.125, 0.135, 9.0]
    tokens = torch.zeros(2 * len(distances), 1, 2, 3)
    tokens[1::2, 0, :, 0] = torch.tensor(distances)[:, None]
    batch = Packed(tokens, torch.ones(len(tokens), 1, dtype=torch.bool), (2,) * len(distances))
    result = targets(batch, bins)
    assert result.magnitude[1::2, 0, 0].tolist() == [[k, k] for k in (0, 1, 1, 2, 13, 14, 14)]
    assert result.direction[1::2, 0, 0, 1].tolist() == [13] + [14] * 6


def test_bins_survive_json_bit_for_bit() -> None:
    for bins in (fit_bins(walk((50,)), MotionConfig()), fit_bins(walk((50,)), MotionConfig(bins="fixed"))):
        again = Bins.from_dict(json.loads(json.dumps(bins.to_dict())))
        assert again.intervals == bins.intervals
        assert again.edges.tobytes() == bins.edges.tobytes()
        assert again.dead_zone.tobytes() == bins.dead_zone.tobytes()
