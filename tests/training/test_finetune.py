"""The semi-supervised protocol: whose labels it uses, and that it goes on where it was."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from glt.errors import GltError, Interrupted
from glt.motion.augment import fit
from glt.motion.disentangle import Motions, write_motions
from glt.recipe import Recipe
from glt.reporter import Silent
from glt.training.checkpoint import Checkpoint
from glt.training.classifier import accuracy, predict
from glt.training.encoder import build_encoder
from glt.training.finetune import Finetuned, draw_labelled, finetune_classifier
from tests.conftest import small_recipe, store

CPU = torch.device("cpu")
REGULARISED = {"max_frames": 16, "head_dim": 2, "heads": 2, "depth": 2, "dropout": 0.2, "drop_path": 0.3}
RECIPE = small_recipe(finetune={"epochs": 3, "batch": 8, "augment": {"mask": 0.1}}, model=REGULARISED)
NONE = Checkpoint(None)


def run(
    motions: Motions, recipe: Recipe = RECIPE, seed: int = 0, checkpoint: Checkpoint = NONE, reporter: object = None
) -> Finetuned:
    torch.manual_seed(5)
    encoder = build_encoder(recipe.model, motions)
    return finetune_classifier(encoder, motions, recipe, 0.5, seed, CPU, reporter or Silent(), checkpoint)  # type: ignore[arg-type]


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_fraction_of_every_class_is_drawn(motions: Motions, fraction: float, seed: int) -> None:
    drawn = draw_labelled(motions, fraction, seed)
    train = motions.clip_ids("train", labelled=True)
    assert set(drawn) <= set(train)
    assert len(set(drawn)) == len(drawn)
    for name in set(motions.labels(train)):
        members = (motions.labels(train) == name).sum()
        assert (motions.labels(drawn) == name).sum() == max(1, round(fraction * members))
    assert drawn.tolist() == draw_labelled(motions, fraction, seed).tolist()


def test_smaller_draws_are_nested_in_larger_ones_and_seeds_differ(motions: Motions) -> None:
    draws = [set(draw_labelled(motions, fraction, 3)) for fraction in (0.1, 0.3, 0.6, 1.0)]
    assert all(small < large for small, large in pairwise(draws))
    assert len({tuple(draw_labelled(motions, 0.3, seed)) for seed in range(5)}) > 1


def test_the_same_run_twice_is_the_same(motions: Motions) -> None:
    one, other = run(motions), run(motions)
    assert equal(one, other)
    assert not equal(one, run(motions, seed=1))
    assert one.labelled.tolist() == draw_labelled(motions, 0.5, 0).tolist()


def equal(a: Finetuned, b: Finetuned) -> bool:
    return all(torch.equal(value, b.model.state_dict()[name]) for name, value in a.model.state_dict().items())


class LostPod(Exception):
    """Stands for one."""


class Stopping(Silent):
    """Breaks a run off after some epochs, or sends SIGTERM."""

    def __init__(self, after: int, *, kill: bool = False) -> None:
        self.after, self.kill, self.trained = after, kill, []

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        self.trained.append(step)

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        if done == self.after and self.kill:
            os.kill(os.getpid(), signal.SIGTERM)
        elif done == self.after:
            raise LostPod


def test_an_interrupted_run_ends_as_an_uninterrupted_one(motions: Motions, tmp_path: Path) -> None:
    """Whether it is lost between two epochs or interrupted within one; with dropout, bit for bit."""
    whole = run(motions)
    with pytest.raises(LostPod):
        run(motions, checkpoint=Checkpoint(tmp_path / "state", every=0), reporter=Stopping(1))
    with pytest.raises(Interrupted, match=r"fine-tuning was interrupted \(SIGTERM\) at epoch 3, step 1"):
        run(motions, checkpoint=Checkpoint(tmp_path / "state"), reporter=Stopping(2, kill=True))
    torch.rand(7)
    reporter = Stopping(99)
    resumed = run(motions, checkpoint=Checkpoint(tmp_path / "state"), reporter=reporter)
    assert reporter.trained == [3]  # the epochs before are not trained again
    assert equal(resumed, whole)


def test_encoder_and_classifier_are_trained_at_their_own_rates(motions: Motions) -> None:
    torch.manual_seed(5)
    start = build_encoder(RECIPE.model, motions).state_dict()
    trained = run(motions).model.encoder.state_dict()
    assert not any(torch.equal(value, trained[name]) for name, value in start.items() if "qkv.weight" in name)
    still = run(motions, small_recipe(finetune={"epochs": 2, "encoder_lr": 0, "batch": 8}, model=REGULARISED))
    frozen = still.model.encoder.state_dict()
    assert all(torch.equal(value, frozen[name]) for name, value in start.items())
    assert still.model.linear.weight.abs().sum() != run(motions).model.linear.weight.abs().sum()


def test_it_measures_the_last_epoch_on_the_test_split(motions: Motions) -> None:
    result = run(motions)
    test = motions.clip_ids("test", labelled=True)
    table = predict(result.model, motions, test, CPU)
    assert table["predicted"].tolist() == result.predictions["predicted"].tolist()
    assert result.metrics == {**accuracy(table), "labelled": len(result.labelled)}


def test_it_looks_at_no_test_clip(motions: Motions, tmp_path: Path) -> None:
    clips = store()
    for number in np.flatnonzero(clips.index["subject"].isin([3, 6])):
        clips.clips[number] = (clips.clips[number][0] * 2, clips.clips[number][1])
    write_motions(clips, RECIPE, tmp_path / "m", {}, Silent())  # type: ignore[arg-type]
    assert equal(run(motions), run(Motions(tmp_path / "m")))


def test_a_loss_that_is_not_finite_stops_the_run(motions: Motions, tmp_path: Path) -> None:
    wild = small_recipe(finetune={"epochs": 3, "batch": 8, "encoder_lr": 1e30, "lr": 1e30})
    with pytest.raises(
        GltError, match=r"fine-tuning: the loss is (nan|inf) at epoch 1, step 2, clips clip.*; lower finetune\.lr"
    ):
        run(motions, wild, checkpoint=Checkpoint(tmp_path / "state", every=0))
    assert [state.name for state in (tmp_path / "state").iterdir()] == ["step-00000001"]


def test_a_few_labels_are_learnt(motions: Motions) -> None:
    recipe = small_recipe(finetune={"epochs": 80, "batch": 8, "lr": 0.01, "encoder_lr": 0.003})
    result = run(motions, recipe)
    table = predict(result.model, motions, result.labelled, CPU)
    assert accuracy(table)["top1"] > 0.9


PROBED = {"features": "blocks", "solver": "lbfgs", "regularisation": [0.1], "pool": ["mean", "std"], "copies": 2}


def from_probe(**settings: object) -> Recipe:
    shape = {"start": "probe", "features": "blocks", "pool": ["mean", "std"], "parts": [1, 2]}
    return small_recipe(finetune={"epochs": 2, "batch": 8, **shape, **settings}, probe=PROBED, model=REGULARISED)


def test_a_classifier_may_start_from_the_probe_of_its_few_labels(motions: Motions) -> None:
    recipe = from_probe(epochs=0)
    result = run(motions, recipe)
    train, drawn = motions.clip_ids("train", labelled=True), set(result.labelled)
    features = result.model.pooled(fit(motions.batch(result.labelled), recipe.model))
    assert accuracy(predict(result.model, motions, result.labelled, CPU))["top1"] > 0.9
    assert result.model.mean.abs().sum() > 0
    assert len(features[0]) == len(result.model.mean)
    others = np.array([number for number in train if number not in drawn])
    assert len(others)
    seen = finetune_with(motions, recipe, others)  # the labels of other clips play no part
    assert equal(result, seen)


def finetune_with(motions: Motions, recipe: Recipe, spoilt: np.ndarray) -> Finetuned:
    labels = motions.index["label"].copy()
    motions.index.loc[spoilt, "label"] = labels.iloc[spoilt[::-1]].to_numpy()
    drawn = draw_labelled(motions, 0.5, 0)
    try:
        assert labels.iloc[drawn].tolist() == motions.index["label"].iloc[drawn].tolist()
        return run(motions, recipe)
    finally:
        motions.index["label"] = labels


def test_from_the_probe_it_goes_on_where_it_was(motions: Motions, tmp_path: Path) -> None:
    recipe = from_probe(epochs=3)
    whole = run(motions, recipe)
    with pytest.raises(LostPod):
        run(motions, recipe, checkpoint=Checkpoint(tmp_path / "state", every=0), reporter=StoppingIn("finetune", 1))
    assert equal(run(motions, recipe, checkpoint=Checkpoint(tmp_path / "state")), whole)


class StoppingIn(Stopping):
    """Breaks off after some epochs of one task only."""

    def __init__(self, task: str, after: int) -> None:
        super().__init__(after)
        self.task = task

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        if task.startswith(self.task):
            super().progress(task, done, total, note)
