"""The promotion gate: may the candidate replace the model in service? Knows no registry."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glt.data.findings import Finding
from glt.errors import GltError
from glt.outputs import FileKind
from glt.recipe import GateConfig

_RESAMPLES = 10_000  # of the bootstrap


def _is_verdict(content: bytes) -> bool:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and {"passed", "reason", "p_value", "candidate_top1"} <= fields.keys()


VERDICT = FileKind("verdict", _is_verdict)


@dataclass(frozen=True)
class Check:
    """One thing that must hold.

    Attributes:
        name: one word.
        passed: whether it does.
        said: why, for people.
    """

    name: str
    passed: bool
    said: str


@dataclass(frozen=True)
class Evidence:
    """What the gate looks at.

    Attributes:
        labels: true classes of the clips of the gate's split.
        candidate: the candidate's answers.
        reference: those of what it must beat.
        against: what that is, for the reasons.
        version: the champion's version, if that is the reference.
        latency: milliseconds a clip takes the candidate, and the reference if it is a champion.
        findings: what the checks across the recordings have found; None if nobody has looked.
        comparisons: decisions that these clips have seen before.
        kept: where the answers are kept.
    """

    labels: Sequence[str]
    candidate: Sequence[str]
    reference: Sequence[str]
    against: str
    version: str = ""
    latency: tuple[float, ...] = ()
    findings: Sequence[Finding] | None = ()
    comparisons: int = 0
    kept: str = ""


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
        interval: of the gain in top-1, 95 % by bootstrap over clips.
        checks: everything that was asked, the paired test first.
        comparisons: how many decisions these validation clips had seen before this one.
        over: version of the champion that the reference is; empty if there was none.
        kept: where the answers to each clip are kept.
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
    interval: tuple[float, float] = (0.0, 0.0)
    checks: tuple[Check, ...] = ()
    over: str = ""
    kept: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def write(self, path: Path) -> None:
        """To a file that `read` reads.

        Raises:
            GltError: `path` holds anything but a verdict.
        """
        VERDICT.write(path, (json.dumps(self.to_dict(), sort_keys=True, indent=1) + "\n").encode())

    @staticmethod
    def read(path: Path) -> Verdict:
        """From the file that the step `gate` wrote."""
        return Verdict.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Verdict:
        """From `to_dict`."""
        checks = tuple(Check(**check) for check in values["checks"])
        return Verdict(**{**values, "checks": checks, "interval": tuple(values["interval"])})


def decide(evidence: Evidence, rules: GateConfig) -> Verdict:
    """All checks of the gate; the candidate passes if all do.

    Raises:
        GltError: no clips, or not the same number of answers.
    """
    labels, ours, theirs = evidence.labels, evidence.candidate, evidence.reference
    if not labels or not len(labels) == len(ours) == len(theirs):
        raise GltError(
            f"gate: {len(labels)} labels, {len(ours)} and {len(theirs)} answers; "
            "both models must have answered the same clips, at least one"
        )
    right = [answer == label for answer, label in zip(ours, labels, strict=True)]
    right_before = [answer == label for answer, label in zip(theirs, labels, strict=True)]
    gained = sum(a and not b for a, b in zip(right, right_before, strict=True))
    lost = sum(b and not a for a, b in zip(right, right_before, strict=True))
    p_value = _mcnemar(gained, lost)
    interval = _interval(gained, lost, len(labels))
    better = p_value < rules.alpha
    said = (
        f"right on {gained} clips that the {evidence.against} got wrong, wrong on {lost} that it got right "
        f"(p = {p_value:.3g} {'<' if better else '>='} {rules.alpha:g}, gain {_points(interval)}, "
        f"{len(labels):,} validation clips)"
    )
    checks = (
        Check("better", better, said),
        _classes(evidence, right, right_before, rules),
        _latency(evidence, rules),
        in_order(evidence.findings, rules),
        _leak(evidence),
    )
    failed = [check for check in checks if not check.passed]
    if not failed:
        reason = f"better than the {evidence.against}: {said}"
    elif not better:
        reason = f"not promoted, no clear gain: {said}"
    else:
        others = "; ".join(f"{check.name}: {check.said}" for check in failed)
        reason = f"not promoted, although better than the {evidence.against}: {others}"
    return Verdict(
        passed=not failed,
        already=False,
        reason=reason,
        against=evidence.against,
        clips=len(labels),
        candidate_top1=sum(right) / len(labels),
        reference_top1=sum(right_before) / len(labels),
        only_candidate=gained,
        only_reference=lost,
        p_value=p_value,
        alpha=rules.alpha,
        comparisons=evidence.comparisons,
        interval=interval,
        checks=checks,
        over=evidence.version,
        kept=evidence.kept,
    )


def in_service(labels: Sequence[str], candidate: Sequence[str], *, version: str, rules: GateConfig) -> Verdict:
    """The verdict on a candidate whose content is that of the champion: nothing to decide."""
    right = sum(answer == label for answer, label in zip(candidate, labels, strict=True)) / max(len(labels), 1)
    against = f"champion v{version}"
    return Verdict(
        passed=False,
        already=True,
        reason=f"already in service as {against}",
        against=against,
        clips=len(labels),
        candidate_top1=right,
        reference_top1=right,
        only_candidate=0,
        only_reference=0,
        p_value=1.0,
        alpha=rules.alpha,
        comparisons=0,
        over=version,
    )


def _mcnemar(gained: int, lost: int) -> float:
    """One-sided exact McNemar test: chance of at least `gained` of both if neither model were better."""
    from scipy.stats import binomtest  # a second to import, and most steps only read a verdict

    return float(binomtest(gained, gained + lost, alternative="greater").pvalue) if gained + lost else 1.0


def _interval(gained: int, lost: int, clips: int) -> tuple[float, float]:
    """95 % interval of the gain, by bootstrap over clips. Drawing clips is drawing how many of each kind there are."""
    shares = np.array([gained, lost, clips - gained - lost]) / clips
    drawn = np.random.default_rng(0).multinomial(clips, shares, _RESAMPLES)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / clips, [0.025, 0.975])
    return float(low), float(high)


def _points(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:+.1f} to {100 * interval[1]:+.1f} points"


def _classes(evidence: Evidence, right: Sequence[bool], before: Sequence[bool], rules: GateConfig) -> Check:
    """No class may pay for the others."""
    counts = Counter(evidence.labels)
    enough = sorted(label for label, count in counts.items() if count >= rules.least_class)
    drops = {}
    for label in enough:
        of = [number for number, known in enumerate(evidence.labels) if known == label]
        drops[label] = (sum(before[n] for n in of) - sum(right[n] for n in of)) / len(of)
    worst = sorted((label for label in enough if drops[label] > rules.class_drop), key=lambda label: -drops[label])
    few = len(counts) - len(enough)
    if worst:
        named = ", ".join(f"{label} by {100 * drops[label]:.0f}" for label in worst[:3])
        return Check("classes", False, f"{named} points worse, {100 * rules.class_drop:g} are allowed")
    said = f"none of {len(enough)} classes is more than {100 * rules.class_drop:g} points worse"
    return Check("classes", True, said + (f"; {few} have fewer than {rules.least_class} clips" if few else ""))


def _latency(evidence: Evidence, rules: GateConfig) -> Check:
    """It must answer in time."""
    if not evidence.latency:
        return Check("latency", rules.latency_ms is None, "not measured")
    ours, *theirs = evidence.latency
    bounds = [rules.latency_ms] if rules.latency_ms is not None else []
    bounds += [rules.latency_ratio * theirs[0]] if theirs else []
    said = f"{ours:.1f} ms a clip" + (f", {theirs[0]:.1f} ms the {evidence.against}" if theirs else "")
    if not bounds:
        return Check("latency", True, f"{said}; nothing to compare it with")
    bound = min(bounds)
    return Check("latency", ours <= bound, f"{said}; {bound:.1f} ms are allowed")


def in_order(findings: Sequence[Finding] | None, rules: GateConfig) -> Check:
    """Nobody should rely on a model of recordings that look wrong."""
    if findings is None:
        return Check("data", False, "what the checks of the recordings found is not known; run ingest again")
    alarms = [finding for finding in findings if finding.severity == "alarm"]
    stopping = [finding for finding in alarms if finding.check not in rules.tolerated]
    if stopping:
        return Check("data", False, f"{len(stopping)} alarms, as {stopping[0].check}: {stopping[0].text}")
    tolerated = ", ".join(sorted({finding.check for finding in alarms}))
    return Check("data", True, f"no alarm{f' but what gate.tolerated allows ({tolerated})' if alarms else ''}")


def _leak(evidence: Evidence) -> Check:
    """It decides nothing, for the gate does not look at the test split; but nobody should read test scores without."""
    leaks = [finding.text for finding in evidence.findings or () if finding.check == "leak"]
    return Check("leak", True, leaks[0] if leaks else "no test clip is known to stand in training, too")
