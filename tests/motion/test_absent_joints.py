"""No position of a joint that a clip does not show enters the tokens, the targets or the bins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from glt.data.absent import absent_joints, place_absent, shown_parents
from glt.data.layouts import KINECT20
from glt.motion.disentangle import motion_tokens
from glt.motion.displacement import Bins, fit_bins, targets
from glt.motion.packed import Packed
from glt.recipe import MotionConfig, PretrainConfig
from glt.training.mpdp import loss, weights
from tests.data import stores

ELBOW, WRIST, HAND, SHOULDER, HEAD = 5, 6, 7, 4, 3
TOKEN = 3  # of the head: the centre comes first
PRESENT = np.ones((40, 2), bool)


def clip(lost: dict[int, list[int]], fill: float = 0.0) -> np.ndarray:
    """Two persons; the joints `lost` by person held `fill` and were placed as ingest places them."""
    frames = stores.take(1, length=40, persons=2, layout=KINECT20)
    absent = np.zeros((2, 20), bool)
    for person, joints in lost.items():
        absent[person, joints] = True
        frames[:, person, joints] = fill
    return place_absent(frames, absent, KINECT20)


def test_absent_joints_are_recognised_by_their_place() -> None:
    found = absent_joints(clip({0: [ELBOW, HAND]}), PRESENT, KINECT20)
    assert [tuple(pair) for pair in np.argwhere(found)] == [(0, ELBOW), (0, HAND)]
    assert not absent_joints(clip({}), PRESENT, KINECT20).any()
    nobody = np.zeros_like(PRESENT)
    assert not absent_joints(np.zeros((40, 2, 20, 3), np.float32), nobody, KINECT20).any()


def test_a_bone_begins_at_the_next_joint_that_is_shown() -> None:
    absent = absent_joints(clip({1: [ELBOW, WRIST]}), PRESENT, KINECT20)
    parents = shown_parents(absent, KINECT20)
    assert (parents[1, HAND], parents[0, HAND]) == (SHOULDER, WRIST)
    frames = clip({1: [ELBOW, WRIST]})
    tokens = motion_tokens(frames, PRESENT, KINECT20, MotionConfig(stream="bone"))
    order = [KINECT20.centre, *(joint for joint in range(20) if joint != KINECT20.centre)]
    hand = tokens[:, 1, order.index(HAND)]
    np.testing.assert_allclose(hand, frames[:, 1, HAND] - frames[:, 1, SHOULDER], atol=1e-6)


@pytest.mark.parametrize("fields", [{}, {"stream": "bone"}, {"stream": "motion"}, {"global_translation": "mixed"}])
@pytest.mark.fault("a joint that the pose estimator never detected", "no position of it enters the tokens or the loss")
def test_tokens_do_not_depend_on_an_absent_joint(fields: dict[str, str]) -> None:
    config = MotionConfig.model_validate(fields)
    lost = {0: [HEAD], 1: [ELBOW, WRIST, HAND]}
    one, other = (motion_tokens(clip(lost, fill), PRESENT, KINECT20, config) for fill in (0.0, 9.0))
    np.testing.assert_array_equal(one, other)
    order = list(range(20))
    if fields.get("global_translation") != "mixed":
        order.insert(0, order.pop(KINECT20.centre))
    for person, joints in lost.items():
        assert not one[:, person, [order.index(joint) for joint in joints]].any()


def packed(lost: dict[int, list[int]]) -> Packed:
    tokens = motion_tokens(clip(lost), PRESENT, KINECT20, MotionConfig())
    return Packed(torch.from_numpy(tokens), torch.from_numpy(PRESENT), (40,))


BINS = Bins((1, 5), np.zeros((2, 2), np.float32), np.array([[[0.01, 0.1]] * 2] * 2, np.float32))


def test_an_absent_joint_carries_no_loss() -> None:
    batch, config = packed({0: [HEAD]}), PretrainConfig()
    goal = targets(batch, BINS)
    local, translation = weights(goal, config)
    assert not local[:, :, 0, TOKEN].any()
    assert local[:, :, 1, TOKEN].all()
    assert translation.any()
    logits = [torch.randn(*goal.direction.flatten(2).shape, n, requires_grad=True) for n in (27, BINS.classes)]
    loss((logits[0], logits[1]), goal, config).backward()
    for scores in logits:
        by_token = scores.grad.unflatten(2, (2, 20))
        assert not by_token[:, :, 0, TOKEN].any()
        assert by_token[:, :, 1, TOKEN].any()


def test_somebody_who_stands_still_keeps_the_loss_of_the_global_translation() -> None:
    batch = packed({})
    still = replace(batch, tokens=batch.tokens.clone())
    still.tokens[:, :, 0] = 0
    assert weights(targets(still, BINS), PretrainConfig())[1].any()


def test_absent_joints_do_not_shift_the_bins() -> None:
    lost, rest = packed({0: [HEAD], 1: [HEAD]}), packed({})
    without = replace(rest, tokens=torch.from_numpy(np.delete(rest.tokens.numpy(), TOKEN, axis=2)))
    for one, other in zip(*(fit_bins(b, MotionConfig()).to_dict().values() for b in (lost, without)), strict=True):
        assert one == other


def test_the_authors_targets_keep_a_class_for_absent_persons_only() -> None:
    goal = targets(packed({0: [HEAD]}), replace(BINS, absent="own-class"))
    assert goal.valid.all()
    assert goal.shown.all()
