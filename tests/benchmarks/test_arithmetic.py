"""The formula that GEMM shares rest on, against torch's own count of the baseline's products."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.arithmetic import forward_flops, step_flops
from benchmarks.clips import NWUCLA_RECORDINGS, RECORDINGS, nwucla_length
from benchmarks.training_step import Baseline, Problem


def test_flops_are_those_of_a_step_without_padding() -> None:
    problem = Problem.of("nwucla", 8, lengths=[50, 50], interpolate=0.0)
    side = Baseline(problem)
    with FlopCounterMode(display=False) as counter:
        side.step()
    counted = counter.get_total_flops()
    expected = step_flops(problem.model, 20, [50, 50], 3, 15)
    embedding = 2 * 2 * 50 * 20 * 3 * 8  # no gradient of the recordings themselves is computed
    assert counted == expected - embedding


def test_flops_grow_with_frames_and_with_the_square_of_a_clips_length() -> None:
    model = Problem.of("nwucla", 8).model
    one, two, long = (forward_flops(model, 20, lengths) for lengths in ([25], [25, 25], [50]))
    assert two == 2 * one
    assert long - two == 2 * model.depth * 2 * 160 * (50**2 - 2 * 25**2)


def test_lengths_are_those_counted() -> None:
    """Of as many clips as were counted, just as many have each length."""
    recordings = RECORDINGS["nwucla"]
    drawn = torch.tensor(recordings.lengths(sum(NWUCLA_RECORDINGS)))
    assert tuple(torch.bincount(drawn, minlength=51)[1:].tolist()) == NWUCLA_RECORDINGS
    assert sum(NWUCLA_RECORDINGS) == 1484
    assert nwucla_length(torch.tensor([0.0, 0.999]).numpy()).tolist() == [1, 50]


def test_ntu_lengths_have_the_mean_and_median_they_are_said_to_have() -> None:
    drawn = torch.tensor(RECORDINGS["ntu"].lengths(5000)).float()
    assert drawn.median() == 76
    assert abs(drawn.mean() - 84) < 0.5
    assert drawn.min() == 30
    assert drawn.max() == 300
