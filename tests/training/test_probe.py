"""Linear evaluation: what it may look at, and what it measures."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from glt.errors import GltError
from glt.motion.augment import fit
from glt.motion.disentangle import Motions, write_motions
from glt.recipe import ModelConfig, Recipe
from glt.reporter import Silent
from glt.training.batches import evaluation_batches
from glt.training.classifier import ActionClassifier, predict
from glt.training.encoder import build_encoder
from glt.training.probe import Probe, fit_probe, validation_folds
from glt.training.probe import _nearest as nearest
from tests.conftest import LABELS, Store, small_recipe, store

CPU = torch.device("cpu")
SIZES = ModelConfig(max_frames=16)
ADAM = small_recipe(probe={"epochs": 20, "copies": 2, "augment": {"shear": 0.1}})
LBFGS = small_recipe(probe={"solver": "lbfgs", "regularisation": [0.1], "features": "blocks", "pool": ["mean", "std"]})
SEVERAL = {"solver": "lbfgs", "regularisation": [1e-4, 1e-2, 1.0]}


def run(motions: Motions, recipe: Recipe) -> Probe:
    torch.manual_seed(5)
    return fit_probe(build_encoder(recipe.model, motions), motions, recipe, CPU, Silent())


def write_motions_of(folder: Path, clips: Store) -> Motions:
    write_motions(clips, small_recipe(), folder, {}, Silent())  # type: ignore[arg-type]
    return Motions(folder)


@pytest.mark.parametrize("recipe", [ADAM, LBFGS], ids=["adam", "lbfgs"])
def test_the_encoder_does_not_change(motions: Motions, recipe: Recipe) -> None:
    torch.manual_seed(5)
    encoder = build_encoder(small_recipe(model={"max_frames": 16, "depth": 2, "dropout": 0.4}).model, motions)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    result = fit_probe(encoder, motions, recipe, CPU, Silent())
    for state in (encoder.state_dict(), result.model.encoder.state_dict()):
        assert state.keys() == before.keys()
        assert all(torch.equal(state[name], value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in encoder.parameters())


@pytest.mark.parametrize("recipe", [ADAM, LBFGS], ids=["adam", "lbfgs"])
def test_the_model_it_returns_gives_the_predictions_it_returns(motions: Motions, recipe: Recipe) -> None:
    result = run(motions, recipe)
    again = predict(result.model, motions, motions.clip_ids("test", labelled=True), CPU)
    assert again["predicted"].tolist() == result.predictions["predicted"].tolist()
    for column in ("confidence", *(f"p_{name}" for name in LABELS)):
        np.testing.assert_allclose(again[column], result.predictions[column], atol=1e-5)


def test_validation_folds_hold_out_whole_groups_and_equal_clips(motions: Motions) -> None:
    train = motions.clip_ids("train", labelled=True)
    index = motions.index.iloc[train]
    group, content = index["group"].to_numpy(), index["sha256"].to_numpy()
    folds = validation_folds(motions, train)
    assert len(folds) == 3  # subjects 1, 2 and 4
    for fitted, held in folds:
        assert not set(group[fitted]) & set(group[held])
        assert not set(content[fitted]) & set(content[held])
        assert len(held)
    held = np.concatenate([held for _, held in folds])
    assert len(set(held)) == len(held)
    left_out = set(index["name"]) - set(index["name"].iloc[held])
    assert left_out == {"clip00", "clip15", "clip16"}  # one recording under subjects 1 and 2


def test_more_groups_than_folds_are_shared_out(tmp_path: Path) -> None:
    motions = many_groups(tmp_path / "m")
    assert len(validation_folds(motions, motions.clip_ids("train", labelled=True))) == 5


def many_groups(folder: Path) -> Motions:
    clips = store()
    train = clips.index["subject"].isin([1, 2, 4])
    clips.index.loc[train, "subject"] = np.resize([1, 2, 4, 5, 8, 9, 13, 14], train.sum())
    return write_motions_of(folder, clips)


def test_repeats_share_groups_out_in_other_ways(tmp_path: Path) -> None:
    motions = many_groups(tmp_path / "m")
    train = motions.clip_ids("train", labelled=True)
    group = motions.index["group"].to_numpy()[train]
    ways = [[set(group[held]) for _, held in validation_folds(motions, train, repeat)] for repeat in range(3)]
    for way in ways:
        assert len(way) == 5
        assert sorted(number for part in way for number in part) == [1, 2, 4, 5, 8, 9, 13, 14]
    assert len({str(sorted(map(sorted, way))) for way in ways}) == 3


def test_few_groups_are_held_out_once_each(motions: Motions) -> None:
    assert validation_folds(motions, motions.clip_ids("train", labelled=True), 1) == []


@pytest.mark.parametrize("recipe", [ADAM, small_recipe(probe=SEVERAL)], ids=["adam", "lbfgs"])
def test_repeats_do_not_change_what_the_first_folds_say(tmp_path: Path, recipe: Recipe) -> None:
    motions = many_groups(tmp_path / "m")
    once = recipe.model_copy(update={"gate": recipe.gate.model_copy(update={"repeats": 1})})
    many, one = run(motions, recipe), run(motions, once)
    shares = ["right", "untrained_right"]
    pd.testing.assert_frame_equal(many.validation.drop(columns=shares), one.validation.drop(columns=shares))
    assert many.metrics == one.metrics
    for share, answer in zip(shares, ("predicted", "untrained"), strict=True):
        right = (one.validation[answer] == one.validation["label"]).astype(float)
        assert one.validation[share].tolist() == right.tolist()
        assert ((6 * many.validation[share]).round(6) % 1 == 0).all()  # thirds, or halves of clips with copies
        assert (many.validation[share] > 0)[right == 1].all()
    assert many.validation["right"].between(0.1, 0.9).any()


def test_a_single_group_is_split_by_clips(tmp_path: Path) -> None:
    clips = store()
    clips.index.loc[clips.index["subject"].isin([2, 4]), "subject"] = 1
    motions = write_motions_of(tmp_path / "m", clips)
    train = motions.clip_ids("train", labelled=True)
    content = motions.index["sha256"].to_numpy()[train]
    folds = validation_folds(motions, train)
    assert len(folds) == 5
    for fitted, held in folds:
        assert not set(content[fitted]) & set(content[held])
        assert not set(fitted) & set(held)
    with pytest.raises(GltError, match="needs at least two"):
        validation_folds(motions, train[:1])


def test_a_single_group_is_split_by_subjects_if_they_are_known(motions: Motions) -> None:
    index = motions.index.assign(group=3)
    train = motions.clip_ids("train", labelled=True)
    subject = index["subject"].to_numpy()[train]
    one_camera = SimpleNamespace(index=index, path=motions.path)
    folds = validation_folds(one_camera, train)  # type: ignore[arg-type]
    assert sorted(tuple(set(subject[held])) for _, held in folds) == [(1,), (2,), (4,)]
    assert not any(set(subject[fitted]) & set(subject[held]) for fitted, held in folds)
    index.loc[train[0], "subject"] = pd.NA
    assert len(validation_folds(one_camera, train)) == 5  # type: ignore[arg-type]


@pytest.mark.parametrize("recipe", [ADAM, LBFGS], ids=["adam", "lbfgs"])
def test_validation_predictions_do_not_know_their_own_groups_labels(
    motions: Motions, tmp_path: Path, recipe: Recipe
) -> None:
    """Subject 1's labels are turned round: what is predicted of subject 1 stays, of the others it changes."""
    clips = store()
    mine = (clips.index["subject"] == 1) & clips.index["label"].notna()
    turned = dict(zip(LABELS, (*LABELS[1:], LABELS[0]), strict=True))
    clips.index.loc[mine, "label"] = clips.index["label"][mine].map(turned)
    tables = [run(m, recipe).validation for m in (motions, write_motions_of(tmp_path / "m", clips))]
    before, after = (table[table["group"] == 1].reset_index(drop=True) for table in tables)
    assert before["label"].tolist() != after["label"].tolist()
    for column in ("name", "predicted", "untrained"):
        assert before[column].tolist() == after[column].tolist()
    others = [table[table["group"] != 1]["predicted"].tolist() for table in tables]
    assert others[0] != others[1]


@pytest.mark.parametrize("recipe", [ADAM, small_recipe(probe=SEVERAL)], ids=["adam", "lbfgs"])
def test_nothing_is_chosen_by_the_test_split(motions: Motions, tmp_path: Path, recipe: Recipe) -> None:
    clips = store()
    for number in np.flatnonzero(clips.index["subject"].isin([3, 6])):
        clips.clips[number] = (clips.clips[number][0] * 2, clips.clips[number][1])
    one, other = (run(m, recipe).model.state_dict() for m in (motions, write_motions_of(tmp_path / "m", clips)))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_lbfgs_is_logistic_regression_on_standardised_features(motions: Motions) -> None:
    result = run(motions, LBFGS)
    torch.manual_seed(5)
    encoder = build_encoder(LBFGS.model, motions).eval()
    model = ActionClassifier(encoder, LABELS, "blocks", ("mean", "std"))
    train, test = motions.clip_ids("train", labelled=True), motions.clip_ids("test", labelled=True)
    with torch.no_grad():
        x, y = (
            torch.cat([model.pooled(batch) for batch in evaluation_batches(motions, side, SIZES, CPU)]).double().numpy()
            for side in (train, test)
        )
    scaler = StandardScaler().fit(x)
    solver = LogisticRegression(C=0.1, max_iter=1000, tol=1e-6).fit(scaler.transform(x), motions.labels(train))
    expected = solver.predict_proba(scaler.transform(y))
    found = result.predictions[[f"p_{name}" for name in solver.classes_]].to_numpy()
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.9


def test_the_strength_is_chosen_by_the_validation_predictions(motions: Motions) -> None:
    several = run(motions, small_recipe(probe=SEVERAL))
    singles = [run(motions, small_recipe(probe=SEVERAL | {"regularisation": [c]})) for c in SEVERAL["regularisation"]]
    best = max(single.metrics["probe/val_top1"] for single in singles)
    assert several.metrics["probe/val_top1"] == best
    chosen = next(single for single in singles if single.metrics["probe/val_top1"] == best)  # the strongest of equals
    assert torch.equal(several.model.linear.weight, chosen.model.linear.weight)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_two_classes(tmp_path: Path, solver: str) -> None:
    clips = store()
    clips.index["label"] = clips.index["label"].replace({"jump": "walk"})
    motions = write_motions_of(tmp_path / "m", clips)
    probe = {"solver": solver, "epochs": 100, "pool": ["mean", "std"], "regularisation": [1.0]}
    result = run(motions, small_recipe(probe=probe))
    assert result.model.classes == ("walk", "wave")
    table = predict(result.model, motions, motions.clip_ids("train", labelled=True), CPU)
    assert (table["predicted"] == table["label"]).mean() > table["label"].value_counts(normalize=True).max()


def test_a_class_that_one_subject_alone_performs_is_never_guessed_for_that_subject(tmp_path: Path) -> None:
    clips = store()
    mine = (clips.index["subject"] == 1) & (clips.index["label"] == "wave")
    clips.index.loc[mine, "label"] = "dance"
    motions = write_motions_of(tmp_path / "m", clips)
    validation = run(motions, LBFGS).validation
    assert "dance" in set(validation["label"])
    assert "dance" not in set(validation["predicted"][validation["group"] == 1])


def test_metrics_are_those_of_the_tables(motions: Motions) -> None:
    result = run(motions, ADAM)
    table, validation = result.predictions, result.validation
    assert list(validation) == [
        "name",
        "sha256",
        "label",
        "group",
        "subject",
        "predicted",
        "untrained",
        "right",
        "untrained_right",
    ]
    assert validation["subject"].tolist() == motions.index.set_index("name")["subject"][validation["name"]].tolist()
    right = table["label"] == table["predicted"]
    assert result.metrics["probe/top1"] == pytest.approx(right.mean())
    assert result.metrics["probe/top1_clean"] == pytest.approx(right[table["clean"]].mean())
    for key, column in (("probe/val_top1", "predicted"), ("probe/untrained_val_top1", "untrained")):
        assert result.metrics[key] == pytest.approx((validation["label"] == validation[column]).mean())
    kinds = ("probe/top1", "probe/untrained_top1", "knn/top1")
    assert result.metrics.keys() == {
        *(key + end for key in kinds for end in ("", "_clean", "_persons_1", "_persons_2")),
        *("probe/val_top1", "probe/untrained_val_top1"),
    }


def test_the_nearest_neighbour_is_by_cosine_about_the_training_mean() -> None:
    random = np.random.default_rng(0)
    train, test = (random.normal(size=(n, 5)).astype(np.float32) * np.arange(1, 6) + 4 for n in (30, 20))
    centre = train.astype(np.float64).mean(0)
    for x, found in zip(test - centre, nearest(train, test), strict=True):
        cosine = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for y in train - centre]
        assert found == np.argmax(cosine)


def test_the_nearest_neighbour_answers_with_its_label(motions: Motions) -> None:
    result = run(motions, ADAM)
    train, test = motions.clip_ids("train", labelled=True), motions.clip_ids("test", labelled=True)
    with torch.no_grad():
        a, b = (result.model.pooled(fit(motions.batch(side), SIZES)).numpy() for side in (train, test))
    right = motions.labels(train)[nearest(a, b)] == motions.labels(test)
    assert result.metrics["knn/top1"] == pytest.approx(right.mean())


def test_dropout_is_off(motions: Motions) -> None:
    """The authors' evaluation left it on in the frozen encoder."""
    size = {"max_frames": 16, "head_dim": 2, "heads": 2, "depth": 2}
    wild, calm = (
        run(motions, small_recipe(model=size | {"dropout": share, "drop_path": share}, probe={"epochs": 5}))
        for share in (0.5, 0.0)
    )
    pd.testing.assert_frame_equal(wild.predictions, calm.predictions)
    pd.testing.assert_frame_equal(wild.validation, calm.validation)


def test_the_untrained_encoder_is_where_pretraining_starts(motions: Motions) -> None:
    torch.manual_seed(ADAM.seed)
    start = build_encoder(ADAM.model, motions)
    result = fit_probe(start, motions, ADAM, CPU, Silent())
    assert result.validation["untrained"].tolist() == result.validation["predicted"].tolist()
    assert result.metrics["probe/untrained_top1"] == result.metrics["probe/top1"]


@pytest.mark.parametrize(("labels", "words"), [("none", "no labelled clip"), ("one", "every labelled .* 'wave'")])
def test_labels_that_cannot_be_learnt_are_an_error(tmp_path: Path, labels: str, words: str) -> None:
    clips = store()
    clips.index["label"] = None if labels == "none" else "wave"
    with pytest.raises(GltError, match=words):
        run(write_motions_of(tmp_path / "m", clips), ADAM)
