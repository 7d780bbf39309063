"""The classifier on top of the encoder: pooling, tables, its folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from glt import artifact
from glt.errors import GltError
from glt.motion.augment import fit
from glt.motion.disentangle import Motions
from glt.motion.packed import Packed
from glt.recipe import ModelConfig, Pool
from glt.training.classifier import (
    ActionClassifier,
    Features,
    accuracy,
    load_classifier,
    pool_frames,
    predict,
    read_validation,
    save_classifier,
    training_classes,
)
from glt.training.encoder import build_encoder
from tests.conftest import LABELS, small_recipe

CPU = torch.device("cpu")


def model(motions: Motions, features: Features = "head", pool: tuple[Pool, ...] = ("mean",)) -> ActionClassifier:
    torch.manual_seed(0)
    made = ActionClassifier(build_encoder(small_recipe().model, motions), LABELS, features, pool)
    with torch.no_grad():
        for tensor in (*made.parameters(), made.mean):
            tensor += 0.1 * torch.randn_like(tensor)
    return made.eval()


def clips(motions: Motions, clip_ids: list[int]) -> Packed:
    return fit(motions.batch(np.array(clip_ids)), ModelConfig(max_frames=16))


def test_pooling_is_by_clip() -> None:
    lengths = (3, 1, 6)
    frames = torch.randn(10, 5)
    batch = Packed(torch.zeros(10, 1, 1, 3), torch.ones(10, 1, dtype=torch.bool), lengths)
    expected = [
        np.concatenate([clip.max(0), clip.mean(0), clip.std(0), clip.min(0)])
        for clip in np.split(frames.numpy(), [3, 4])
    ]
    pooled = pool_frames(frames, batch, ("max", "mean", "std", "min"))
    np.testing.assert_allclose(pooled.numpy(), np.stack(expected), atol=2e-6)
    assert pool_frames(frames, batch, ("mean",)).shape == (3, 5)


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_pooling_is_by_part_of_a_clip(parts: int) -> None:
    lengths = (3, 1, 8)
    frames = torch.randn(12, 5)
    batch = Packed(torch.zeros(12, 1, 1, 3), torch.ones(12, 1, dtype=torch.bool), lengths)
    pooled = pool_frames(frames, batch, ("mean", "max", "std"), parts).numpy()
    for row, clip in zip(pooled, np.split(frames.numpy(), [3, 4]), strict=True):
        expected = []
        for part in range(parts):
            low, high = len(clip) * part / parts, len(clip) * (part + 1) / parts
            some = clip[[t for t in range(len(clip)) if t + 1 > low + 1e-9 and t < high - 1e-9]]
            expected += [some.mean(0), some.max(0), some.std(0)]
        np.testing.assert_allclose(row, np.concatenate(expected), atol=2e-6)


def test_the_features_of_parts_stand_beside_those_of_the_whole(motions: Motions) -> None:
    encoder, batch = model(motions).encoder, clips(motions, [1, 2])
    whole = ActionClassifier(encoder, LABELS, "head", ("mean", "max")).pooled(batch)
    both = ActionClassifier(encoder, LABELS, "head", ("mean", "max"), (1, 2))
    assert both.pooled(batch).shape == (2, 3 * whole.shape[1]) == (2, len(both.mean))
    torch.testing.assert_close(both.pooled(batch)[:, : whole.shape[1]], whole)


@pytest.mark.parametrize("features", ["head", "blocks"])
def test_features_do_not_depend_on_the_batch(motions: Motions, features: Features) -> None:
    clip_ids, classifier = [1, 7, 2, 12, 3], model(motions, features, ("mean", "max", "std"))
    together = classifier.pooled(clips(motions, clip_ids))
    assert together.shape == (5, 3 * classifier.encoder.width * (3 if features == "blocks" else 1))
    for row, number in enumerate(clip_ids):
        alone = classifier.pooled(clips(motions, [number]))[0]
        torch.testing.assert_close(alone, together[row], rtol=1e-5, atol=1e-5)
    backwards = classifier.pooled(clips(motions, clip_ids[::-1]))
    torch.testing.assert_close(backwards.flip(0), together, rtol=1e-5, atol=1e-5)


def test_head_features_are_the_last_of_the_blocks_features(motions: Motions) -> None:
    encoder, batch = model(motions).encoder, clips(motions, [1, 2])
    head, blocks = (
        ActionClassifier(encoder, LABELS, features, ("mean",)).pooled(batch) for features in ("head", "blocks")
    )
    torch.testing.assert_close(head, blocks[:, -head.shape[1] :])


def test_features_are_standardised_before_the_linear_layer(motions: Motions) -> None:
    classifier = model(motions)
    classifier.scale += 0.5
    batch = clips(motions, [1, 2, 4])
    x = ((classifier.pooled(batch) - classifier.mean) / 1.5).double()
    expected = x @ classifier.linear.weight.double().T + classifier.linear.bias
    torch.testing.assert_close(classifier(batch).double(), expected, rtol=1e-4, atol=1e-4)


def test_predictions_are_a_row_a_clip(motions: Motions) -> None:
    classifier, clip_ids = model(motions), motions.clip_ids("test", labelled=True)
    table = predict(classifier, motions, clip_ids, CPU)
    fixed = ["name", "label", "predicted", "clean", "persons", "subject", "confidence"]  # these clips have no camera
    assert list(table) == [*fixed, *(f"p_{name}" for name in LABELS)]
    assert table["name"].tolist() == motions.index["name"].iloc[clip_ids].tolist()
    assert table["label"].tolist() == motions.labels(clip_ids).tolist()
    probability = table[[f"p_{name}" for name in LABELS]].to_numpy()
    np.testing.assert_allclose(probability.sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(probability.max(1), table["confidence"])
    assert table["predicted"].tolist() == np.array(LABELS)[probability.argmax(1)].tolist()
    assert table["clean"].tolist() == [name != "clip03" for name in table["name"]]


def test_accuracy_with_and_without_the_clips_on_both_splits() -> None:
    table = pd.DataFrame({"label": list("aabb"), "predicted": list("aaab"), "clean": [False, True, True, True]})
    assert accuracy(table.assign(persons=1)) == {"top1": 0.75, "top1_clean": pytest.approx(2 / 3)}
    by_persons = accuracy(table.assign(persons=[2, 1, 1, 2]), "probe/top1")
    assert by_persons["probe/top1_persons_1"] == 0.5
    assert by_persons["probe/top1_persons_2"] == 1.0


def test_classes_are_those_of_labelled_training_clips(motions: Motions) -> None:
    assert training_classes(motions) == sorted(LABELS)


@pytest.mark.parametrize("features", ["head", "blocks"])
def test_a_classifier_comes_back_from_its_folder(motions: Motions, tmp_path: Path, features: Features) -> None:
    classifier = model(motions, features, ("mean", "std"))
    clip_ids = motions.clip_ids("test", labelled=True)
    table = predict(classifier, motions, clip_ids, CPU)
    save_classifier(classifier, motions, small_recipe(), {"predictions": table}, {"a": 1.0}, tmp_path / "c", {})
    again, config = load_classifier(tmp_path / "c")
    assert not again.training
    assert again.classes == LABELS
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in classifier.state_dict().items())
    pd.testing.assert_frame_equal(predict(again, motions, clip_ids, CPU), table)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "c" / "predictions.parquet"), table)
    assert config["motion"] == small_recipe().motion.model_dump(mode="json")
    assert config["skeleton"] == motions.skeleton.to_dict() | {
        key: list(map(list, value)) if key in ("bones", "pairs") else list(value)
        for key, value in motions.skeleton.to_dict().items()
        if isinstance(value, tuple)
    }


def test_a_fine_tuned_classifier_has_no_validation_and_says_so(motions: Motions, tmp_path: Path) -> None:
    save_classifier(model(motions), motions, small_recipe(), {}, {}, tmp_path / "c", {})
    with pytest.raises(GltError, match=r"c: no validation predictions.*give a classifier of it"):
        read_validation(tmp_path / "c")


@pytest.mark.parametrize("name", ["model.pkl", "sub/code.py", "MLmodel"])
@pytest.mark.parametrize("sealed", [False, True])
def test_a_file_that_does_not_belong_there_is_rejected(
    motions: Motions, tmp_path: Path, name: str, sealed: bool
) -> None:
    save_classifier(model(motions), motions, small_recipe(), {}, {}, tmp_path / "c", {})
    (tmp_path / "c" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "c" / name).write_bytes(b"x")
    if sealed:
        artifact.seal(tmp_path / "c", "classifier", {})
    with pytest.raises(GltError, match=f"{name}: does not belong to a classifier; nothing of the folder was loaded"):
        load_classifier(tmp_path / "c")


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "predictions.parquet"])
def test_a_damaged_classifier_is_rejected(motions: Motions, tmp_path: Path, file: str) -> None:
    tables = {"predictions": predict(model(motions), motions, motions.clip_ids("test", labelled=True), CPU)}
    save_classifier(model(motions), motions, small_recipe(), tables, {}, tmp_path / "c", {})
    (tmp_path / "c" / file).write_bytes((tmp_path / "c" / file).read_bytes()[:-1])
    with pytest.raises(GltError, match=f"{file}: changed"):
        load_classifier(tmp_path / "c")
