"""Global translation and local motion, and the folder of motions."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from glt import artifact
from glt.data import splits
from glt.errors import GltError
from glt.motion.disentangle import (
    Bools,
    Floats,
    Motions,
    disentangle,
    entangle,
    face_forward,
    motion_tokens,
    write_motions,
)
from glt.motion.displacement import fit_bins
from glt.recipe import MotionConfig
from glt.reporter import Silent
from glt.training.checkpoint import Checkpoint
from glt.training.pretrain import train_encoder
from tests.conftest import STICK, Store, small_recipe, store


@st.composite
def clips(draw: st.DrawFn, joints: int = 4) -> tuple[Floats, Bools]:
    """Frames [T, P, K, 3] with absent persons as zeros, and present [T, P]."""
    shape = (draw(st.integers(1, 6)), draw(st.integers(1, 3)))
    frames = draw(hnp.arrays(np.float32, (*shape, joints, 3), elements=st.integers(-64, 64).map(lambda n: n / 16)))
    present = draw(hnp.arrays(bool, shape))
    return frames * present[..., None, None], present


@given(clips(), st.integers(0, 3))
def test_disentangle_is_the_papers_subtraction(clip: tuple[Floats, Bools], centre: int) -> None:
    frames, present = clip
    tokens = disentangle(frames, present, centre)
    assert tokens.dtype == np.float32
    others = [k for k in range(4) if k != centre]
    for t, p in np.ndindex(present.shape):
        if not present[t, p]:
            assert not tokens[t, p].any()
            continue
        first = next(s for s in range(len(frames)) if present[s, p])
        np.testing.assert_array_equal(tokens[t, p, 0], frames[t, p, centre] - frames[first, p, centre])
        for place, joint in enumerate(others, start=1):
            np.testing.assert_array_equal(tokens[t, p, place], frames[t, p, joint] - frames[t, p, centre])


@given(clips(), st.integers(0, 3))
def test_entangle_undoes_it_up_to_each_persons_start(clip: tuple[Floats, Bools], centre: int) -> None:
    frames, present = clip
    again = entangle(disentangle(frames, present, centre), present, centre)
    for p in range(present.shape[1]):
        seen = present[:, p]
        if seen.any():
            start = frames[seen.argmax(), p, centre]
            np.testing.assert_array_equal(again[seen, p], frames[seen, p] - start)
        assert not again[~seen, p].any()


@pytest.mark.parametrize("up", [0, 1, 2])
def test_face_forward_lays_the_shoulders_along_an_axis_and_keeps_every_distance(up: int) -> None:
    skeleton = replace(STICK, up=up)
    random = np.random.default_rng(up)
    frames = random.normal(size=(7, 2, 6, 3)).astype(np.float32)
    present = np.ones((7, 2), bool)
    present[:2, 0] = False
    present[4:, 1] = False
    frames *= present[..., None, None]
    turned = face_forward(frames, present, skeleton)

    line = turned[2, 0, 2] - turned[2, 0, 3]  # left - right when the first person is first seen
    along = [axis for axis in range(3) if axis != up and abs(line[axis]) > 1e-6]
    assert len(along) == 1
    assert line[along[0]] > 0
    np.testing.assert_array_equal(turned[..., up], frames[..., up])
    a, b = frames.reshape(-1, 3), turned.reshape(-1, 3)
    distances = [np.linalg.norm(x[:, None] - x[None], axis=-1) for x in (a, b)]
    np.testing.assert_allclose(distances[1], distances[0], atol=1e-5)
    solution = np.linalg.lstsq(a.astype(np.float64), b.astype(np.float64), rcond=None)[0]
    assert np.linalg.det(solution) == pytest.approx(1, abs=1e-5)  # a turn, not a reflection
    assert not turned[~present].any()
    np.testing.assert_allclose(face_forward(turned, present, skeleton), turned, atol=1e-6)


def test_face_forward_removes_the_camera_s_bearing() -> None:
    frames, present = store().clips[1]
    angle = 1.1
    turn = np.array([(np.cos(angle), 0, np.sin(angle)), (0, 1, 0), (-np.sin(angle), 0, np.cos(angle))], np.float32)
    one, other = (face_forward(view, present, STICK) for view in (frames, frames @ turn.T))
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("case", ["never seen", "shoulders above each other"])
def test_face_forward_leaves_a_clip_it_cannot_turn(case: str) -> None:
    frames, present = np.ones((3, 1, 6, 3), np.float32), np.ones((3, 1), bool)
    frames[:, :, 2, 1] = 2  # straight above the other shoulder
    if case == "never seen":
        frames, present = frames * 0, ~present
    np.testing.assert_array_equal(face_forward(frames, present, STICK), frames)


def test_motions_hold_every_clip_disentangled(motions: Motions) -> None:
    clips = store()
    assert (motions.persons, motions.joints, motions.skeleton) == (2, 6, STICK)
    assert motions.info["data_version"] == "test"
    clip_ids = np.array([5, 0, 7, 41])
    batch = motions.batch(clip_ids)
    assert batch.lengths == tuple(len(clips.clips[n][0]) for n in clip_ids)
    expected = [disentangle(*clips.clips[n], STICK.centre) for n in clip_ids]
    np.testing.assert_array_equal(batch.tokens.numpy(), np.concatenate(expected))
    np.testing.assert_array_equal(batch.present.numpy(), np.concatenate([clips.clips[n][1] for n in clip_ids]))


def test_motions_know_splits_groups_and_leaks(motions: Motions) -> None:
    index, data = motions.index, small_recipe().data
    assert motions.index["split"].tolist() == splits.assign(store().index, data).tolist()
    assert set(index["subject"][index["split"] == "train"]) == {1, 2, 4}
    assert index["group"].tolist() == index["subject"].tolist()
    assert index["name"][~index["clean"]].tolist() == ["clip03"]
    train, labelled = motions.clip_ids("train"), motions.clip_ids("train", labelled=True)
    assert set(train) > set(labelled)
    assert set(train) | set(motions.clip_ids("test")) == set(range(42))
    assert motions.labels(labelled).tolist() == store().index["label"][labelled].tolist()


def test_the_file_of_tokens_is_what_numpy_writes(motions: Motions, tmp_path: Path) -> None:
    np.save(tmp_path / "tokens.npy", motions.batch(np.arange(42)).tokens.numpy())
    assert (tmp_path / "tokens.npy").read_bytes() == (motions.path / "tokens.npy").read_bytes()


def test_an_unused_clip_stays_in_the_folder_and_is_learnt_from_by_nobody(motions: Motions, tmp_path: Path) -> None:
    clips = store()
    data = small_recipe().data.model_dump() | {"deduplicate": True}
    write_motions(clips, small_recipe(data=data), tmp_path / "one", {}, Silent())  # type: ignore[arg-type]
    clips.clips[1] = (clips.clips[1][0] * 3, clips.clips[1][1])  # a copy of a test clip
    write_motions(clips, small_recipe(data=data), tmp_path / "other", {}, Silent())  # type: ignore[arg-type]
    one, other = Motions(tmp_path / "one"), Motions(tmp_path / "other")
    assert one.index["name"].tolist() == motions.index["name"].tolist()
    assert one.clip_ids("unused").tolist() == [1]
    assert set(one.clip_ids("train")) == set(motions.clip_ids("train")) - {1}
    assert one.index["clean"].all()
    assert one.bins.edges.tobytes() == other.bins.edges.tobytes()
    history = [
        train_encoder(m, small_recipe(), torch.device("cpu"), Silent(), Checkpoint(None, ""))[1][-1]["pretrain/loss"]
        for m in (one, other)
    ]
    assert history[0] == history[1]
    with pytest.raises(GltError, match="no clip in the unused split"):
        motions.clip_ids("unused")


def test_bins_are_fitted_on_the_training_split_only(motions: Motions) -> None:
    bins = fit_bins(motions.batch(motions.clip_ids("train")), small_recipe().motion)
    assert motions.bins.edges.tobytes() == bins.edges.tobytes()
    assert motions.bins.dead_zone.tobytes() == bins.dead_zone.tobytes()
    everything = fit_bins(motions.batch(np.arange(42)), small_recipe().motion)
    assert everything.edges.tobytes() != bins.edges.tobytes()


def test_yaw_is_applied_when_asked_for(tmp_path: Path) -> None:
    recipe = small_recipe(motion={"yaw": "first-frame", "intervals": [1], "magnitude_classes": 4})
    write_motions(store(), recipe, tmp_path / "motions", {}, Silent())  # type: ignore[arg-type]
    frames, present = store().clips[1]
    expected = disentangle(face_forward(frames, present, STICK), present, STICK.centre)
    tokens = Motions(tmp_path / "motions").batch(np.array([1])).tokens.numpy()
    np.testing.assert_allclose(tokens, expected, atol=1e-6)


def test_a_clip_can_face_forward_by_the_mean_of_its_frames() -> None:
    frames, present = store().clips[1]
    config = MotionConfig(yaw="mean")
    tokens = motion_tokens(frames, present, STICK, config)
    left, right = (token_of(joint) for joint in STICK.shoulders)
    line = (tokens[:, 0, left] - tokens[:, 0, right])[present[:, 0]].mean(axis=0)
    assert line[2] == pytest.approx(0, abs=1e-6)
    assert line[0] > 0
    angle = np.float32(1.1)
    turn = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]], np.float32)
    np.testing.assert_allclose(motion_tokens(frames @ turn, present, STICK, config), tokens, atol=1e-5)


def token_of(joint: int) -> int:
    return 1 + [other for other in range(len(STICK.joints)) if other != STICK.centre].index(joint)


def test_every_frame_and_person_can_face_forward() -> None:
    frames, present = store().clips[1]
    config = MotionConfig(yaw="per-frame")
    tokens = motion_tokens(frames, present, STICK, config)
    plain = disentangle(frames, present, STICK.centre)
    line = tokens[:, :, 2] - tokens[:, :, 3]  # left - right shoulder; token 0 is the translation, 1 the hips
    assert np.abs(line[present][:, 0]).min() > 0.1
    np.testing.assert_allclose(line[present][:, 2], 0, atol=1e-6)
    assert (line[present][:, 0] > 0).all()
    np.testing.assert_allclose(tokens[..., 1], plain[..., 1])
    np.testing.assert_allclose(np.linalg.norm(tokens, axis=-1), np.linalg.norm(plain, axis=-1), atol=1e-6)
    assert not tokens[~present].any()


def test_the_global_translation_is_apart_mixed_in_or_left_out() -> None:
    frames, present = store().clips[1]
    apart = disentangle(frames, present, STICK.centre)
    without = motion_tokens(frames, present, STICK, MotionConfig(global_translation="none"))
    np.testing.assert_array_equal(without, apart[:, :, 1:])
    mixed = motion_tokens(frames, present, STICK, MotionConfig(global_translation="mixed"))
    for person in range(2):
        seen = present[:, person]
        start = frames[np.argmax(seen), person, STICK.centre]
        np.testing.assert_allclose(mixed[seen, person], frames[seen, person] - start, atol=1e-6)
        assert not mixed[~seen, person].any()


def test_a_bone_is_a_joint_from_the_next_one_towards_the_centre() -> None:
    frames, present = store().clips[1]
    for translation, first in (("separate", 1), ("none", 0)):
        config = MotionConfig(stream="bone", global_translation=translation)  # type: ignore[arg-type]
        tokens = motion_tokens(frames, present, STICK, config)
        place = first
        for joint in range(len(STICK.joints)):
            if joint == STICK.centre:
                continue
            towards = [b if a == joint else a for a, b in STICK.bones if joint in (a, b)]
            bones = [(frames[:, :, joint] - frames[:, :, other]) * present[..., None] for other in towards]
            assert any(np.array_equal(tokens[:, :, place], bone) for bone in bones)
            place += 1
    np.testing.assert_array_equal(
        motion_tokens(frames, present, STICK, MotionConfig(stream="bone"))[:, :, 0],
        disentangle(frames, present, STICK.centre)[:, :, 0],
    )


def test_the_motion_stream_is_the_change_since_the_frame_before() -> None:
    frames, present = store().clips[1]
    tokens = motion_tokens(frames, present, STICK, MotionConfig(yaw="first-frame"))
    changes = motion_tokens(frames, present, STICK, MotionConfig(yaw="first-frame", stream="motion"))
    assert not changes[0].any()
    for t, p in np.ndindex(present.shape):
        if t and present[t, p] and present[t - 1, p]:
            np.testing.assert_array_equal(changes[t, p], tokens[t, p] - tokens[t - 1, p])
        else:
            assert not changes[t, p].any()


def test_streams_need_the_translation_apart() -> None:
    with pytest.raises(ValueError, match="stream: bone and motion need"):
        MotionConfig(stream="bone", global_translation="mixed")


@pytest.mark.parametrize("translation", ["separate", "none", "mixed"])
def test_the_mirror_image_of_tokens_are_the_tokens_of_the_mirror_image(tmp_path: Path, translation: str) -> None:
    recipe = small_recipe(motion={"global_translation": translation, "intervals": [1], "magnitude_classes": 4})
    write_motions(store(), recipe, tmp_path / "motions", {}, Silent())  # type: ignore[arg-type]
    motions = Motions(tmp_path / "motions")
    frames, present = store().clips[1]
    order = list(range(len(STICK.joints)))
    for left, right in STICK.pairs:
        order[left], order[right] = right, left
    flip = np.array([-1, 1, 1], np.float32)
    image = motion_tokens(frames[:, :, order] * flip, present, STICK, recipe.motion)
    tokens = motion_tokens(frames, present, STICK, recipe.motion)
    np.testing.assert_allclose(tokens[:, :, list(motions.mirror)] * flip, image, atol=1e-6)


@pytest.mark.parametrize(
    ("translation", "joints", "global_tokens"), [("none", 5, 0), ("mixed", 6, 0), ("separate", 6, 1)]
)
def test_motions_know_what_became_of_the_translation(
    tmp_path: Path, translation: str, joints: int, global_tokens: int
) -> None:
    recipe = small_recipe(motion={"global_translation": translation, "intervals": [1], "magnitude_classes": 4})
    write_motions(store(), recipe, tmp_path / "motions", {}, Silent())  # type: ignore[arg-type]
    motions = Motions(tmp_path / "motions")
    assert (motions.joints, motions.global_tokens, motions.translation) == (joints, global_tokens, translation)
    assert motions.batch(np.array([1, 2])).global_tokens == global_tokens
    encoder, history = train_encoder(motions, recipe, torch.device("cpu"), Silent(), Checkpoint(None, ""))
    assert hasattr(encoder, "embed_global") == bool(global_tokens)
    assert history[-1]["pretrain/loss"] < history[0]["pretrain/loss"]


def test_the_same_clips_give_the_same_bytes(motions: Motions, tmp_path: Path) -> None:
    write_motions(store(), small_recipe(), tmp_path / "again", {"other": "run"}, Silent())  # type: ignore[arg-type]
    assert Motions(tmp_path / "again").digest == motions.digest


@pytest.mark.parametrize(("subjects", "split"), [((1, 2), "test"), ((3, 6), "train")])
def test_an_empty_split_is_an_error_and_leaves_nothing(tmp_path: Path, subjects: tuple[int, ...], split: str) -> None:
    whole = store()
    kept = np.flatnonzero(whole.index["subject"].isin(subjects))
    part = Store(whole.index.iloc[kept].reset_index(drop=True), [whole.clips[n] for n in kept])
    with pytest.raises(GltError, match=f"data.protocol.*{split} split"):
        write_motions(part, small_recipe(), tmp_path / "motions", {}, Silent())  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_split_without_labels_is_named(motions: Motions, tmp_path: Path) -> None:
    unlabelled = store()
    unlabelled.index["label"] = None
    write_motions(unlabelled, small_recipe(), tmp_path / "motions", {}, Silent())  # type: ignore[arg-type]
    bare = Motions(tmp_path / "motions")
    assert len(bare.clip_ids("train")) == len(motions.clip_ids("train"))
    with pytest.raises(GltError, match=r"motions: no labelled clip in the train split"):
        bare.clip_ids("train", labelled=True)


def test_damaged_motions_are_rejected(motions: Motions, tmp_path: Path) -> None:
    copy = tmp_path / "motions"
    shutil.copytree(motions.path, copy)
    bins = json.loads((copy / "displacement.json").read_text())
    artifact.write_json(copy / "displacement.json", bins | {"intervals": [1, 2]})
    with pytest.raises(GltError, match=r"displacement\.json: changed"):
        Motions(copy)
