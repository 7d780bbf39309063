"""The promotion gate: is the candidate better than the model in service by more than chance? Knows no registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy.stats import binomtest

from glt.errors import GltError


@dataclass(frozen=True)
class Verdict:
    """A decision with its evidence.

    Attributes:
        passed: the candidate may be promoted.
        already: the candidate is what is in service.
        reason: one sentence for people.
        against: what it was compared with.
        clips: validation clips that both answered.
        candidate_top1: share that the candidate got right.
        reference_top1: share that the reference got right.
        only_candidate: clips the candidate alone got right (b of McNemar's test).
        only_reference: clips the reference alone got right (c).
        p_value: chance of at least b of b + c if neither were better.
        alpha: the level it had to stay below.
        comparisons: how many decisions these validation clips had seen before this one.
    """

    passed: bool
    already: bool
    reason: str
    against: str
    clips: int
    candidate_top1: float
    reference_top1: float
    only_candidate: int
    only_reference: int
    p_value: float
    alpha: float
    comparisons: int

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Verdict:
        """From `to_dict`."""
        return Verdict(**values)


def decide(
    labels: Sequence[str],
    candidate: Sequence[str],
    reference: Sequence[str],
    *,
    against: str,
    alpha: float,
    comparisons: int = 0,
) -> Verdict:
    """One-sided exact McNemar test on the answers of both to the same clips.

    Args:
        labels: the true classes.
        candidate: the candidate's answers.
        reference: the answers of what it must beat.
        against: what that is, for the reason.
        alpha: significance level.
        comparisons: decisions that these clips have seen before.

    Raises:
        GltError: no clips, or not the same number of answers.
    """
    if not labels or not len(labels) == len(candidate) == len(reference):
        raise GltError(
            f"gate: {len(labels)} labels, {len(candidate)} and {len(reference)} answers; "
            "both models must have answered the same clips, at least one"
        )
    ours = [answer == label for answer, label in zip(candidate, labels, strict=True)]
    theirs = [answer == label for answer, label in zip(reference, labels, strict=True)]
    gained = sum(a and not b for a, b in zip(ours, theirs, strict=True))
    lost = sum(b and not a for a, b in zip(ours, theirs, strict=True))
    p_value = float(binomtest(gained, gained + lost, alternative="greater").pvalue) if gained + lost else 1.0
    passed = p_value < alpha
    counts = (
        f"right on {gained} clips that the {against} got wrong, wrong on {lost} that it got right "
        f"(p = {p_value:.2g}, {len(labels):,} validation clips)"
    )
    return Verdict(
        passed=passed,
        already=False,
        reason=f"better than the {against}: {counts}" if passed else f"not promoted, no better than chance: {counts}",
        against=against,
        clips=len(labels),
        candidate_top1=sum(ours) / len(labels),
        reference_top1=sum(theirs) / len(labels),
        only_candidate=gained,
        only_reference=lost,
        p_value=p_value,
        alpha=alpha,
        comparisons=comparisons,
    )


def in_service(labels: Sequence[str], candidate: Sequence[str], *, against: str, alpha: float) -> Verdict:
    """The verdict on a candidate whose content is that of the champion: nothing to decide."""
    right = sum(answer == label for answer, label in zip(candidate, labels, strict=True)) / max(len(labels), 1)
    return Verdict(
        False, True, f"already in service as {against}", against, len(labels), right, right, 0, 0, 1.0, alpha, 0
    )
