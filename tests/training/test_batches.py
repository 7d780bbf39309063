"""Order and batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glt.accelerator import device
from glt.errors import GltError
from glt.motion.disentangle import Motions
from glt.recipe import AugmentConfig, ModelConfig
from glt.training.batches import evaluation_batches, shuffled, training_batch

CPU = torch.device("cpu")


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 3), st.integers(0, 3))
def test_an_epoch_has_every_clip_once_in_even_batches(count: int, batch: int, seed: int, epoch: int) -> None:
    clip_ids = np.arange(count) * 3
    batches = shuffled(clip_ids, seed, epoch, batch)
    assert sorted(np.concatenate(batches)) == clip_ids.tolist()
    sizes = [len(part) for part in batches]
    assert max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 1
    assert len(batches) == -(-count // batch)
    again = shuffled(clip_ids, seed, epoch, batch)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_seed_and_epoch_each_change_the_order() -> None:
    orders = [np.concatenate(shuffled(np.arange(50), *key, 8)).tolist() for key in [(0, 0), (1, 0), (0, 1)]]
    assert len(set(map(tuple, orders))) == 3


def test_masking_spares_what_targets_are_made_from(motions: Motions) -> None:
    config = AugmentConfig(mask=0.5)
    whole, seen = training_batch(motions, np.arange(6), config, 0, 0, ModelConfig(max_frames=16), CPU)
    unmasked, _ = training_batch(motions, np.arange(6), AugmentConfig(), 0, 0, ModelConfig(max_frames=16), CPU)
    assert torch.equal(whole.tokens, unmasked.tokens)
    assert (seen.tokens == 0).float().mean() > 0.4
    assert torch.equal(seen.present, whole.present)


def test_evaluation_is_in_order_and_only_shortens(motions: Motions) -> None:
    clip_ids = np.array([9, 2, 30, 7, 11])
    batches = list(evaluation_batches(motions, clip_ids, model=ModelConfig(max_frames=12), device=CPU, batch=2))
    assert [len(batch.lengths) for batch in batches] == [2, 2, 1]
    natural = motions.index["length"].to_numpy()[clip_ids]
    assert natural.max() > 12
    assert [n for batch in batches for n in batch.lengths] == np.minimum(natural, 12).tolist()
    short = motions.batch(clip_ids[3:4])
    assert torch.equal(batches[1].tokens[-short.lengths[0] :], short.tokens)


def test_accelerator_profiles() -> None:
    assert device("cpu") == CPU
    assert device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(GltError, match="accelerator 'tpu': take cpu, gpu or auto"):
        device("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(GltError, match="torch sees no GPU"):
        device("gpu")
