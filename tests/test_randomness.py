"""Random numbers from their place alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from glt.randomness import RandomStream, uniform

ROWS, COLUMNS = torch.arange(400)[:, None], torch.arange(500)


def numbers(seed: int = 0, epoch: int = 0, stream: RandomStream = RandomStream.MASK) -> np.ndarray:
    return uniform(stream, seed, epoch, ROWS, COLUMNS).numpy()


def test_a_number_belongs_to_its_place_alone() -> None:
    some = uniform(RandomStream.MASK, 5, 7, torch.tensor([[31], [2]]), torch.tensor([4, 0, 99]))
    expected = numbers(5, 7)[[31, 2]][:, [4, 0, 99]]
    np.testing.assert_array_equal(some.numpy(), expected)


def test_seed_epoch_purpose_and_place_each_change_it() -> None:
    draws = [numbers(), numbers(seed=1), numbers(epoch=1), numbers(stream=RandomStream.AUGMENT)]
    for i, a in enumerate(draws):
        assert len(np.unique(a)) > 0.99 * a.size
        for b in draws[:i]:
            assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.01


@pytest.mark.parametrize("seed", range(3))
def test_they_are_uniform_and_independent(seed: int) -> None:
    values = numbers(seed)
    assert values.min() >= 0
    assert values.max() < 1
    assert stats.kstest(values.ravel(), "uniform").pvalue > 1e-3
    for lag in (1, 2, 7):
        assert abs(np.corrcoef(values[lag:].ravel(), values[:-lag].ravel())[0, 1]) < 0.01
        assert abs(np.corrcoef(values[:, lag:].ravel(), values[:, :-lag].ravel())[0, 1]) < 0.01
    pairs = np.histogram2d(values[:, ::2].ravel(), values[:, 1::2].ravel(), bins=8)[0]
    assert stats.chisquare(pairs.ravel()).pvalue > 1e-3
    assert np.abs(values.mean(0) - 0.5).max() < 0.08  # 400 numbers a column: five deviations are 0.07
