"""MPDP's classifiers, loss and metrics (paper, Eq. 12 and 15)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from glt.accelerator import on_gpu
from glt.model import DisplacementHeads, GLTransformer
from glt.motion.displacement import Bins, Targets
from glt.recipe import PretrainConfig


class Pretrainer(nn.Module):
    """The encoder followed by MPDP's classifiers."""

    def __init__(self, encoder: GLTransformer, bins: Bins) -> None:
        super().__init__()
        self.encoder = encoder
        tokens = encoder.persons * encoder.joints
        self.heads = DisplacementHeads(encoder.width, tokens, len(bins.intervals), bins.classes)

    def forward(self, tokens: Tensor, present: Tensor, lengths: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Direction and magnitude logits [S, intervals, J, classes]; arguments as `GLTransformer.forward`."""
        direction, magnitude = self.heads(self.encoder(tokens, present, lengths))
        return direction, magnitude


@dataclass
class Tally:
    """Sums over an epoch, on the device: losses, correct predictions and valid targets per interval.

    Attributes:
        intervals: frames, of the metrics' names.
        sums: by name, scalars or [intervals, ...].
        batches, clips: how many were added.
        start_time: `time.perf_counter` when the epoch began.
    """

    intervals: tuple[int, ...]
    sums: dict[str, Tensor] = field(default_factory=dict)
    batches: int = 0
    clips: int = 0
    start_time: float = field(default_factory=time.perf_counter)

    def add(self, name: str, value: Tensor) -> None:
        """Add to a sum."""
        value = value.detach()
        self.sums[name] = self.sums[name] + value if name in self.sums else value

    def metrics(self) -> dict[str, float]:
        """The metrics of the epoch by their keys in MLflow."""
        sums = {name: value.cpu() for name, value in self.sums.items()}
        result = {f"pretrain/{name}": float(sums[name]) / self.batches for name in sums if "loss" in name}
        seen = sums["seen"].clamp(min=1)
        for kind in ("direction", "magnitude"):
            for row, interval in enumerate(self.intervals):
                key = f"interval_{interval}"
                result[f"pretrain/{kind}_top1/{key}"] = float(sums[kind][row] / seen[row])
                common = sums[f"{kind}_classes"][row].max()
                result[f"pretrain/{kind}_majority/{key}"] = float(common / seen[row])
        result["speed/clips_per_s"] = self.clips / (time.perf_counter() - self.start_time)
        return result


def weights(goal: Targets, config: PretrainConfig) -> tuple[Tensor, Tensor]:
    """Masks of the targets that count as local joints and as global translation, bool [S, I, P, K] each."""
    valid = goal.valid[..., None] & goal.shown[:, None]
    translation = torch.zeros_like(valid)
    intervals = slice(None) if config.global_intervals == "all" else slice(0, 1)
    translation[:, intervals, :, : goal.global_tokens] = valid[:, intervals, :, : goal.global_tokens]
    return valid & ~translation, translation


def counts(goal: Targets, config: PretrainConfig) -> Tensor:
    """Number of targets in the two means of the loss, [2]: local joints, global translation."""
    return torch.stack([kind.sum() for kind in weights(goal, config)])


def loss(
    logits: tuple[Tensor, Tensor],
    goal: Targets,
    config: PretrainConfig,
    total: Tensor | None = None,
    tally: Tally | None = None,
) -> Tensor:
    """The loss of Eq. 15, with means in place of sums: joints plus `lambda_global` times the global translation.

    Args:
        logits: direction [S, I, J, 27] and magnitude [S, I, J, C].
        goal: classes [S, I, P, K]; targets that are not valid carry no loss.
        config: weights of the terms.
        total: divisors of the means, from `counts`; those of the whole batch if several processes share it.
        tally: receives the terms of the loss and the accuracies.

    Returns:
        A scalar.
    """
    local, translation = weights(goal, config)
    divisor = (counts(goal, config) if total is None else total).clamp(min=1).to(logits[0].dtype)
    valid = local | translation
    local, translation = (kind.flatten(2).to(logits[0].dtype) for kind in (local, translation))  # S, I, J
    weight = local / divisor[0] + translation * (config.lambda_global / divisor[1])
    result = logits[0].new_zeros(())
    cross_entropy: Any = WeightedCrossEntropy.apply
    parts = (
        ("direction", logits[0], goal.direction, config.lambda_direction),
        ("magnitude", logits[1], goal.magnitude, config.lambda_magnitude),
    )
    for name, scores, classes, factor in parts:
        part, right = cross_entropy(scores, classes.flatten(2), weight)
        result = result + factor * part
        if tally is not None:
            with torch.no_grad():
                tally.add(name, (right.view_as(valid) & valid).sum((0, 2, 3)))
                tally.add(f"{name}_classes", histogram(classes, valid, scores.shape[-1]))
                tally.add(f"loss_{name}", part)
    if tally is not None:
        tally.add("seen", valid.sum((0, 2, 3)))
        tally.add("loss", result)
        tally.batches += 1
    return result


class WeightedCrossEntropy(torch.autograd.Function):
    """Weighted cross entropy and correctness in one pass over the logits; saves the gradient, not the logits.

    On a CPU it takes half the time and a third of the memory of `cross_entropy` and `argmax`.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, classes: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [..., C], classes and weight [...] -> weighted sum, and which predictions are correct [...]."""
        top = logits.amax(-1, keepdim=True)
        chosen = logits.gather(-1, classes[..., None])
        gradient = (logits - top).exp_()
        total = gradient.sum(-1, keepdim=True)
        entropy = (total.log() + top - chosen).squeeze(-1)
        gradient.mul_(weight[..., None] / total).scatter_add_(-1, classes[..., None], -weight[..., None])
        ctx.save_for_backward(gradient)
        right = (chosen >= top).squeeze(-1)
        ctx.mark_non_differentiable(right)
        return (entropy * weight).sum(), right

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """d loss / d logits."""
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0], None, None


def histogram(classes: Tensor, valid: Tensor, count: int) -> Tensor:
    """Number of valid targets [S, I, P, K] of each class per interval, [I, count]."""
    intervals = classes.shape[1]
    row = torch.arange(intervals, device=classes.device).view(-1, 1, 1) * count
    index = torch.where(valid, classes + row, intervals * count).flatten()  # the last bin takes what is not valid
    if not on_gpu(index.device):
        return torch.bincount(index, minlength=intervals * count + 1)[:-1].view(intervals, count)
    bins = index.new_zeros(intervals * count + 1)  # a GPU's bincount waits for the largest class
    return bins.scatter_add_(0, index, torch.ones_like(index))[:-1].view(intervals, count)
