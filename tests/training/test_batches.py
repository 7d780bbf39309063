"""Order and batches."""

from __future__ import annotations

from queue import Queue
from threading import current_thread
from threading import enumerate as enumerate_threads

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glt import accelerator
from glt.accelerator import device
from glt.errors import GltError
from glt.motion.disentangle import Motions
from glt.motion.packed import Packed
from glt.recipe import AugmentConfig, ModelConfig
from glt.reporter import Silent
from glt.training.batches import ClipIds, PretrainingFeed, evaluation_batches, shuffled, training_batch
from glt.training.checkpoint import Checkpoint
from glt.training.distributed import World
from glt.training.pretrain import train_encoder
from tests.conftest import small_recipe

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


def shares(motions: Motions, world: World) -> list[tuple[list[int], bool]]:
    """Lengths of the clips of each batch of two epochs, from the second step on, and whether they carry loss."""
    feed = PretrainingFeed(motions, small_recipe(), world)
    steps = [(epoch, step) for epoch in (0, 1) for step in range(len(feed.batches(epoch)))]
    found = [feed.share(*step) for step in steps[1:]]
    return [(list(one.loaded.clips.lengths), one.carries_loss) for one in found]


@pytest.mark.parametrize("world", [World(CPU), World(CPU, rank=1, size=2), World(CPU, rank=11, size=12)])
@pytest.mark.usefixtures("as_on_a_gpu")
def test_batches_read_ahead_are_the_same(motions: Motions, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = shares(motions, world)
    monkeypatch.setattr(accelerator, "GPUS", {"cuda"})
    assert ahead == shares(motions, world)
    assert len(ahead) > 3
    assert all(counts for _, counts in ahead) == (world.size < 12)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_the_next_batch_is_read_while_one_is_used(motions: Motions, monkeypatch: pytest.MonkeyPatch) -> None:
    names: Queue[str] = Queue()
    read = Motions.batch

    def batch(self: Motions, clip_ids: ClipIds) -> Packed:
        names.put(current_thread().name)
        return read(self, clip_ids)

    monkeypatch.setattr(Motions, "batch", batch)
    feed = PretrainingFeed(motions, small_recipe(), World(CPU))
    feed.share(0, 0)
    assert [names.get(timeout=60), names.get(timeout=60)] == ["batches_0", "batches_0"]


@pytest.mark.usefixtures("as_on_a_gpu")
def test_the_reader_ends_with_the_training(motions: Motions, monkeypatch: pytest.MonkeyPatch) -> None:
    """And reads no batch beyond the last one."""
    reads, read = [], Motions.batch

    def batch(self: Motions, clip_ids: ClipIds) -> Packed:
        reads.append(len(clip_ids))
        return read(self, clip_ids)

    monkeypatch.setattr(Motions, "batch", batch)
    recipe = small_recipe(pretrain={"epochs": 2, "batch": 8})
    train_encoder(motions, recipe, CPU, Silent(), Checkpoint(None))
    assert len(reads) == 2 * len(PretrainingFeed(motions, recipe, World(CPU)).batches(0))
    assert not [thread for thread in enumerate_threads() if thread.name.startswith("batches")]


@pytest.mark.usefixtures("as_on_a_gpu")
def test_an_error_of_the_reader_is_raised_where_its_batch_is_used(
    motions: Motions, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed, read = PretrainingFeed(motions, small_recipe(), World(CPU)), Motions.batch

    def batch(self: Motions, clip_ids: ClipIds) -> Packed:
        if clip_ids.tolist() == feed.batches(0)[2].tolist():
            raise OSError("tokens.npy: input/output error")
        return read(self, clip_ids)

    monkeypatch.setattr(Motions, "batch", batch)
    feed.share(0, 0)
    feed.share(0, 1)
    with pytest.raises(OSError, match="input/output error"):
        feed.share(0, 2)
