"""A training step in both implementations, ours and the textbook baseline, on the same clips and random draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from benchmarks import baseline
from benchmarks.clips import RECORDINGS, Clip, Recordings, pack
from glt.model import GLTransformer
from glt.motion.augment import augment, draw, mask_tokens
from glt.motion.displacement import Bins, Targets, fit_bins, targets
from glt.motion.packed import Packed
from glt.recipe import AugmentConfig, ModelConfig, MotionConfig, PretrainConfig
from glt.training.mpdp import Pretrainer, loss


@dataclass(frozen=True)
class Problem:
    """The problem that both implementations train on: sizes, clips, displacement classes and augmentation."""

    recordings: Recordings
    model: ModelConfig
    clips: list[Clip]
    bins: Bins
    pretrain: PretrainConfig

    @staticmethod
    def of(name: str, width: int, lengths: Sequence[int] | None = None, interpolate: float = 0.1) -> Problem:
        """A batch of `name` (a key of RECORDINGS), `width` dims per token; the paper's sizes but for that."""
        recordings = RECORDINGS[name]
        model = ModelConfig(max_frames=recordings.max_frames, head_dim=width // 8)
        changes = AugmentConfig(shear=0.3, interpolate=interpolate, yaw=45)
        clips = recordings.clips(recordings.lengths(recordings.batch) if lengths is None else lengths)
        many = recordings.clips(recordings.lengths(64), seed=1)
        return Problem(recordings, model, clips, fit_bins(pack(many), MotionConfig()), PretrainConfig(augment=changes))


class TrainingStep(Protocol):
    """One way to train."""

    def feed(self) -> object:
        """The batch, augmented and labelled."""

    def step(self) -> float:
        """One training step, feeding included; its loss."""


class Ours:
    """glt, as `glt.training.pretrain` trains."""

    def __init__(self, problem: Problem) -> None:
        torch.manual_seed(0)
        self.problem = problem
        encoder = GLTransformer(problem.model, problem.recordings.persons, problem.recordings.joints)
        self.model = Pretrainer(encoder, problem.bins).train()
        config = problem.pretrain
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
        )

    def feed(self) -> tuple[Packed, Targets]:
        """The clips packed, augmented, labelled."""
        problem, config = self.problem, self.problem.pretrain.augment
        draws = draw(config, 0, 0, range(len(problem.clips)))
        whole = augment(pack(problem.clips), config, draws, problem.model)
        return mask_tokens(whole, config.mask, draws), targets(whole, problem.bins)

    def step(self) -> float:
        """Feed, forward, loss, backward, optimiser."""
        self.optimizer.zero_grad()
        seen, goal = self.feed()
        value = loss(self.model(seen.tokens, seen.present, seen.lengths), goal, self.problem.pretrain)
        result = value.item()
        torch.autograd.backward(value)
        self.optimizer.step()
        return result


class Baseline:
    """The textbook way; its random numbers are drawn beforehand, for nothing."""

    def __init__(self, problem: Problem) -> None:
        torch.manual_seed(0)
        self.problem = problem
        sizes = problem.recordings
        self.model = baseline.Model(problem.model, sizes.persons, sizes.joints, problem.bins).train()
        self.optimizer = baseline.optimizer(self.model, problem.pretrain)
        self.draws = draw(problem.pretrain.augment, 0, 0, range(len(problem.clips)))

    def feed(self) -> baseline.Batch:
        """Every clip augmented and labelled, then stacked."""
        problem, draws = self.problem, self.draws
        samples = [
            baseline.feed(*clip, stretch, turn, shear, problem.bins, problem.model.max_frames)
            for clip, stretch, turn, shear in zip(problem.clips, draws.stretch, draws.turn, draws.shear, strict=True)
        ]
        return baseline.collate(samples)

    def step(self) -> float:
        """Feed, forward, loss, backward, optimiser."""
        self.optimizer.zero_grad()
        batch = self.feed()
        value = baseline.loss(self.model(batch.tokens, batch.present, batch.lengths), batch, self.problem.pretrain)
        result = value.item()
        torch.autograd.backward(value)
        self.optimizer.step()
        return result


IMPLEMENTATIONS: dict[str, Callable[[Problem], TrainingStep]] = {"ours": Ours, "baseline": Baseline}
