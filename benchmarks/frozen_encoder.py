"""A frozen encoder in both implementations: features for the linear probe, and the classification of one clip."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import baseline
from benchmarks.clips import Clip, Recordings, pack
from benchmarks.training_step import Problem
from glt.model import GLTransformer
from glt.training.classifier import ActionClassifier


class Ours:
    """glt's classifier: packed frames, the mean of F over a clip."""

    def __init__(self, problem: Problem, classes: int) -> None:
        encoder = GLTransformer(problem.model, problem.recordings.persons, problem.recordings.joints)
        self.model = ActionClassifier(encoder, [str(n) for n in range(classes)], "head", ["mean"]).eval()
        self.width = encoder.width

    @torch.no_grad()
    def features(self, clips: Sequence[Clip], batch: int) -> Tensor:
        """[clips, E]."""
        return torch.cat([self.model.pooled(pack(clips[n : n + batch])) for n in range(0, len(clips), batch)])

    @torch.no_grad()
    def classify(self, clip: Clip) -> Tensor:
        """Probabilities [1, classes]."""
        scores: Tensor = self.model(pack([clip]))
        return scores.softmax(1)


class Baseline:
    """The textbook encoder: clips padded beforehand, for nothing; the mean of F over a clip's real frames."""

    def __init__(self, problem: Problem, classes: int) -> None:
        self.sizes: Recordings = problem.recordings
        self.encoder = baseline.Encoder(problem.model, self.sizes.persons, self.sizes.joints).eval()
        self.linear = nn.Linear(self.encoder.width, classes)

    def padded(self, clips: Sequence[Clip]) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens [B, T_max, P, K, 3], present [B, T_max, P], lengths [B]."""
        lengths = torch.tensor([len(tokens) for tokens, _ in clips])
        tokens = torch.zeros(len(clips), self.sizes.max_frames, self.sizes.persons, self.sizes.joints, 3)
        present = torch.zeros(tokens.shape[:3], dtype=torch.bool)
        for row, (clip, seen) in enumerate(clips):
            tokens[row, : len(clip)], present[row, : len(clip)] = torch.from_numpy(clip), torch.from_numpy(seen)
        return tokens, present, lengths

    @torch.no_grad()
    def features(self, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Features of clips that `padded` padded, [B, E]."""
        tokens, present, lengths = batch
        real = torch.arange(tokens.shape[1]) < lengths[:, None]
        encoded: Tensor = self.encoder(tokens, present, lengths)
        return (encoded * real[..., None]).sum(1) / lengths[:, None]

    @torch.no_grad()
    def classify(self, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Probabilities [B, classes]."""
        scores: Tensor = self.linear(self.features(batch))
        return scores.softmax(1)


class LinearFit:
    """The paper's linear evaluation: one linear layer, Adam."""

    def __init__(self, width: int, answers: Tensor) -> None:
        self.linear = nn.Linear(width, int(answers.max()) + 1)
        self.answers = answers
        self.optimizer = torch.optim.Adam(self.linear.parameters(), lr=3e-3)

    def step(self, features: Tensor, rows: slice) -> None:
        """On one batch of features, those of the clips `rows`."""
        value = F.cross_entropy(self.linear(features), self.answers[rows])
        self.optimizer.zero_grad()
        torch.autograd.backward(value)
        self.optimizer.step()
