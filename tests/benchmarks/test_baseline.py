"""The textbook baseline computes what ours computes: else its time would say nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks import baseline
from glt.model import GLTransformer
from glt.motion.augment import augment, draw
from glt.motion.displacement import Bins, displacement, fit_bins, targets
from glt.motion.packed import Packed
from glt.recipe import AugmentConfig, ModelConfig, MotionConfig, PretrainConfig
from glt.training.mpdp import Pretrainer, loss

LONGEST, JOINTS = 24, 4
LENGTHS = (9, 24, 1, 17, 24, 13)
AUGMENT = AugmentConfig(shear=0.3, interpolate=0.1, yaw=45)
Clip = tuple[NDArray[np.float32], NDArray[np.bool_]]


def clips(persons: int, seed: int = 0) -> list[Clip]:
    """Random walks; the last of several persons comes late, leaves early or never comes, one frame shows nobody."""
    random = np.random.default_rng(seed)
    result = []
    for number, length in enumerate(LENGTHS):
        tokens = random.normal(0, 0.02, (length, persons, JOINTS, 3)).cumsum(0)
        present = np.ones((length, persons), bool)
        if persons > 1:
            present[: (0, 5, 0, length, 0, 0)[number], -1] = False
            present[-4 if number == 4 else length :, -1] = False
            present[8:9] &= number != 5
        result.append(((tokens * present[..., None, None]).astype(np.float32), present))
    return result


def pack(chosen: list[Clip]) -> Packed:
    tokens, present = zip(*chosen, strict=True)
    lengths = tuple(len(clip) for clip in tokens)
    return Packed(torch.from_numpy(np.concatenate(tokens)), torch.from_numpy(np.concatenate(present)), lengths)


def bins_of(chosen: list[Clip]) -> Bins:
    return fit_bins(pack(chosen), MotionConfig(intervals=(1, 3, 5), magnitude_classes=6))


def feed_both(chosen: list[Clip], bins: Bins, config: AugmentConfig = AUGMENT) -> tuple[Packed, baseline.Batch]:
    """The same clips, augmented with the same draws, by ours and by the baseline."""
    draws = draw(config, seed=3, epoch=2, clip_ids=range(len(chosen)))
    ours = augment(pack(chosen), config, draws, ModelConfig(max_frames=LONGEST))
    samples = [
        baseline.feed(*clip, stretch, turn, shear, bins, LONGEST)
        for clip, stretch, turn, shear in zip(chosen, draws.stretch, draws.turn, draws.shear, strict=True)
    ]
    return ours, baseline.collate(samples)


def near_edges(batch: Packed, bins: Bins, within: float = 1e-6) -> torch.Tensor:
    """Where single and double precision may name another class, [S, I, P, K]."""
    rows = []
    kind = [0, *[1] * (JOINTS - 1)]
    for row, interval in enumerate(bins.intervals):
        moved, _ = displacement(batch, interval)
        zone = torch.from_numpy(bins.dead_zone[row])[kind][:, None]
        edges = torch.from_numpy(bins.edges[row])[kind]
        by_axis = ((moved.abs() - zone).abs() < within).any(-1)
        rows.append(by_axis | ((moved.norm(dim=-1)[..., None] - edges).abs() < within).any(-1))
    return torch.stack(rows, 1)


@pytest.mark.parametrize("persons", [1, 2])
def test_the_feeder_gives_ours_tokens_and_targets(persons: int) -> None:
    chosen = clips(persons)
    bins = bins_of(chosen)
    ours, theirs = feed_both(chosen, bins)
    goal = targets(ours, bins)
    assert tuple(theirs.lengths.tolist()) == ours.lengths
    assert ours.lengths != LENGTHS, "nothing was interpolated"
    real = torch.arange(LONGEST) < theirs.lengths[:, None]
    assert torch.equal(theirs.present[real], ours.present)
    assert not theirs.present[~real].any()
    assert not theirs.tokens[~real].any()
    torch.testing.assert_close(theirs.tokens[real], ours.tokens, rtol=0, atol=1e-6)
    assert torch.equal(theirs.valid[real], goal.valid)
    assert not theirs.valid[~real].any()
    sure = ~near_edges(ours, bins) & goal.valid[..., None]
    assert sure.sum() > 0.98 * goal.valid[..., None].expand_as(sure).sum()
    assert torch.equal(theirs.direction[real][sure], goal.direction[sure])
    assert torch.equal(theirs.magnitude[real][sure], goal.magnitude[sure])
    assert len(goal.direction[sure].unique()) == 27
    assert len(goal.magnitude[sure].unique()) == bins.classes


@pytest.mark.parametrize("tables", ["shared", "per-block"])
@pytest.mark.parametrize("persons", [1, 2])
def test_loss_and_gradients_are_ours(persons: int, tables: str) -> None:
    sizes = {"max_frames": LONGEST, "head_dim": 3, "heads": 2, "depth": 3, "dropout": 0.0, "drop_path": 0.0}
    model = ModelConfig.model_validate(sizes | {"tables": tables})
    config = PretrainConfig(lambda_direction=0.7, lambda_magnitude=1.3, lambda_global=0.05)
    chosen = clips(persons)
    bins = bins_of(chosen)
    ours_batch, batch = feed_both(chosen, bins)
    torch.manual_seed(0)
    ours = Pretrainer(GLTransformer(model, persons, JOINTS), bins)
    with torch.no_grad():
        for parameter in ours.parameters():  # no bias, scale or table at its start
            parameter += 0.1 * torch.randn(parameter.shape)
    theirs = baseline.Model(model, persons, JOINTS, bins)
    baseline.load(theirs, ours.state_dict())

    goal = targets(ours_batch, bins)
    real = torch.arange(LONGEST) < batch.lengths[:, None]
    batch.direction[real], batch.magnitude[real] = goal.direction, goal.magnitude  # one class beside an edge may differ
    batch.tokens[real] = ours_batch.tokens
    value = loss(ours(ours_batch.tokens, ours_batch.present, ours_batch.lengths), goal, config)
    value.backward()
    expected = baseline.loss(theirs(batch.tokens, batch.present, batch.lengths), batch, config)
    expected.backward()
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=0)
    gradients = baseline.rename_weights({name: p.grad for name, p in ours.named_parameters()}, len(bins.intervals))
    for name, parameter in theirs.named_parameters():
        scale = float(parameter.grad.abs().max())
        assert scale > 0, name
        difference = float((gradients[name] - parameter.grad).abs().max())
        assert difference <= 1e-5 * max(scale, 1e-3), (name, difference, scale)


def test_an_absent_clip_has_no_loss() -> None:
    """A batch without a valid target gives zero on both sides, not a quotient of nothing."""
    chosen = [(tokens * 0, present & False) for tokens, present in clips(1)]
    bins = bins_of(clips(1))
    ours_batch, batch = feed_both(chosen, bins)
    goal = targets(ours_batch, bins)
    shape = (len(LENGTHS), LONGEST, 3, 1, JOINTS)
    theirs = baseline.loss((torch.randn(*shape, 27), torch.randn(*shape, 6)), batch, PretrainConfig())
    frames = sum(ours_batch.lengths)
    logits = torch.randn(frames, 3, JOINTS, 27), torch.randn(frames, 3, JOINTS, 6)
    assert float(theirs) == float(loss(logits, goal, PretrainConfig())) == 0.0
