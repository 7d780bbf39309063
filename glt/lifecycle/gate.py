"""The promotion gate: may the candidate replace the model in service? Independent of the registry."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from glt import artifact
from glt.artifact.files import parse_json, read_bytes
from glt.data.findings import Finding
from glt.errors import GltError, first_line
from glt.lifecycle.paired import Comparison, over_clips, over_subjects
from glt.outputs import FileKind
from glt.recipe import GateConfig


def _is_verdict(content: bytes) -> bool:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and {"passed", "reason", "p_value", "candidate_top1"} <= fields.keys()


VERDICT = FileKind("verdict", _is_verdict)


# Field names in verdicts that earlier versions wrote.
_FORMER_FIELDS = {"against": "baseline", "over": "champion_version", "kept": "answers_uri", "said": "message"}


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: one word.
        passed: the check passed.
        message: the reason, for people.
    """

    name: str
    passed: bool
    message: str


@dataclass(frozen=True)
class Evidence:
    """The inputs of a decision.

    Attributes:
        labels: true classes of the clips of the gate's split.
        candidate: classes that the candidate predicts, one per clip.
        reference: classes that the baseline predicts.
        baseline: what the candidate is compared with, such as ``champion v3``.
        champion_version: version of the champion that is the baseline; empty if there is none.
        latency: milliseconds per clip of the candidate, and of the champion if that is the baseline.
        findings: findings of the checks across recordings; None if they have not been run.
        comparisons: number of earlier decisions on these clips.
        answers_uri: where both models' predictions are stored.
        subjects: number of each clip's subject, None where the recordings name none; empty if they name no subject.
        candidate_right: share of the repetitions of the validation folds in which the candidate is right, one per clip;
            if empty, its predictions are the only ones.
        reference_right: the same of the baseline.
    """

    labels: Sequence[str]
    candidate: Sequence[str]
    reference: Sequence[str]
    baseline: str
    champion_version: str = ""
    latency: tuple[float, ...] = ()
    findings: Sequence[Finding] | None = ()
    comparisons: int = 0
    answers_uri: str = ""
    subjects: Sequence[int | None] = ()
    candidate_right: Sequence[float] = ()
    reference_right: Sequence[float] = ()


@dataclass(frozen=True)
class Verdict:
    """A decision with its evidence.

    Attributes:
        passed: the candidate may be promoted.
        already: the candidate is the model in service.
        reason: one sentence for people.
        baseline: what the candidate was compared with.
        clips: number of validation clips that both models predicted.
        candidate_top1: accuracy of the candidate.
        reference_top1: accuracy of the baseline.
        only_candidate: clips that only the candidate got right (b of McNemar's test), the mean over repeated folds.
        only_reference: clips that only the baseline got right (c), likewise.
        p_value: probability of a gain at least as clear if neither model were better, see `glt.lifecycle.paired`.
        alpha: the level that the p-value must stay below.
        interval: 95 % interval of the mean gain, see `glt.lifecycle.paired`.
        checks: all checks, the paired test first.
        comparisons: number of earlier decisions on these validation clips.
        champion_version: version of the champion that is the baseline; empty if there was none.
        answers_uri: where both models' predictions are stored.
        test: the units of the paired test, ``subjects`` or ``clips``; clips in verdicts of earlier versions.
        subjects: number of subjects in these clips, if they are the units of the test; else 0.
        candidate_digest: digest of the candidate's artifact; empty in verdicts of earlier versions.
    """

    passed: bool
    already: bool
    reason: str
    baseline: str
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
    champion_version: str = ""
    answers_uri: str = ""
    test: str = "clips"
    subjects: int = 0
    candidate_digest: str = ""

    def summary(self) -> str:
        """The decision as text: passed or rejected, each failed check, and the address of the answers."""
        decision = "passed" if self.passed else "nothing to decide" if self.already else "rejected"
        failed = [f"  {check.name}: {check.message}" for check in self.checks if not check.passed]
        answers = [f"the answers of both models are in {self.answers_uri}"] if self.answers_uri else []
        return "\n".join([f"gate: {decision}: {self.reason}", *failed, *answers])

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def write(self, path: Path) -> None:
        """Write a file that `read` reads.

        Raises:
            GltError: `path` holds anything but a verdict.
        """
        VERDICT.write(path, artifact.json_bytes(self.to_dict()))

    @staticmethod
    def read(path: Path) -> Verdict:
        """The verdict in a file that the step `gate` wrote.

        Raises:
            GltError: it is missing, or anything but a verdict.
        """
        try:
            return Verdict.from_dict(parse_json(read_bytes(Path(path))))
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            reason = error.strerror if isinstance(error, OSError) else first_line(error)
            raise GltError(f"{path}: not a verdict of `glt gate` ({reason}); run it again") from error

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Verdict:
        """The verdict of JSON values from `to_dict`, of this version or an earlier one."""
        fields = _rename(values)
        written = json.dumps({**fields, "checks": [_rename(check) for check in fields["checks"]]})
        return TypeAdapter(Verdict).validate_json(written, strict=True)


def _rename(values: Mapping[str, Any]) -> dict[str, Any]:
    return {_FORMER_FIELDS.get(name, name): value for name, value in values.items()}


def decide(evidence: Evidence, rules: GateConfig) -> Verdict:
    """Run all checks; the candidate passes if all of them pass.

    Raises:
        GltError: there are no clips, or the numbers of predictions differ.
    """
    labels, ours, theirs = evidence.labels, evidence.candidate, evidence.reference
    if not labels or not len(labels) == len(ours) == len(theirs) == len(evidence.subjects or labels):
        if not labels:
            raise GltError(
                "gate: no validation clip that both models predicted: each labelled training clip has a duplicate in "
                "another group, or its class is in one group only; add recordings of other subjects"
            )
        raise GltError(
            f"gate: {len(labels)} labels, {len(ours)} and {len(theirs)} answers; "
            "both models must have answered the same clips, at least one"
        )
    right = [answer == label for answer, label in zip(ours, labels, strict=True)]
    right_before = [answer == label for answer, label in zip(theirs, labels, strict=True)]
    changes = _changes(evidence, right, right_before, rules)
    gained, lost = round(sum(c for c in changes if c > 0)), round(-sum(c for c in changes if c < 0))
    comparison, note = _compare(evidence, changes, rules)
    p_value = comparison.p_value
    better = p_value < rules.alpha
    gain = f"gain {_points(comparison.interval)}, " if comparison.subjects != 1 else ""
    message = (
        f"right on {gained} clips that the {evidence.baseline} got wrong, wrong on {lost} that it got right "
        f"(p = {p_value:.3g} {'<' if better else '>='} {rules.alpha:g}, {gain}{note})"
    )
    checks = (
        Check("better", better, message),
        _check_classes(evidence, right, right_before, rules),
        _check_latency(evidence, rules),
        check_data(evidence.findings, rules),
        _check_leak(evidence),
    )
    failed = [check for check in checks if not check.passed]
    if not failed:
        reason = f"better than the {evidence.baseline}: {message}"
    elif not better:
        reason = f"not promoted, no clear gain: {message}"
    else:
        others = "; ".join(f"{check.name}: {check.message}" for check in failed)
        reason = f"not promoted, although better than the {evidence.baseline}: {others}"
    return Verdict(
        passed=not failed,
        already=False,
        reason=reason,
        baseline=evidence.baseline,
        clips=len(labels),
        candidate_top1=sum(right) / len(labels),
        reference_top1=sum(right_before) / len(labels),
        only_candidate=gained,
        only_reference=lost,
        p_value=p_value,
        alpha=rules.alpha,
        comparisons=evidence.comparisons,
        interval=comparison.interval,
        checks=checks,
        champion_version=evidence.champion_version,
        answers_uri=evidence.answers_uri,
        test="subjects" if comparison.subjects else "clips",
        subjects=comparison.subjects,
    )


def already_in_service(labels: Sequence[str], candidate: Sequence[str], *, version: str, rules: GateConfig) -> Verdict:
    """The verdict on a candidate with the same content as the champion: there is nothing to decide."""
    right = sum(answer == label for answer, label in zip(candidate, labels, strict=True)) / max(len(labels), 1)
    baseline = f"champion v{version}"
    return Verdict(
        passed=False,
        already=True,
        reason=f"already in service as {baseline}",
        baseline=baseline,
        clips=len(labels),
        candidate_top1=right,
        reference_top1=right,
        only_candidate=0,
        only_reference=0,
        p_value=1.0,
        alpha=rules.alpha,
        comparisons=0,
        champion_version=version,
        test=rules.test,
    )


def _changes(evidence: Evidence, right: Sequence[bool], before: Sequence[bool], rules: GateConfig) -> list[float]:
    """Change of each clip from baseline to candidate, -1 to 1: over the repeated folds if subjects are compared."""
    ours: Sequence[float] = right
    theirs: Sequence[float] = before
    if rules.test == "subjects" and any(subject is not None for subject in evidence.subjects):
        ours, theirs = evidence.candidate_right or right, evidence.reference_right or before
    return [float(share) - float(former) for share, former in zip(ours, theirs, strict=True)]


def _compare(evidence: Evidence, changes: Sequence[float], rules: GateConfig) -> tuple[Comparison, str]:
    """The paired test that the rules and the recordings allow, and what it rests on, in words."""
    clips = f"{len(changes):,} validation clips"
    is_unnamed = all(subject is None for subject in evidence.subjects)
    if rules.test == "clips" or is_unnamed:
        comparison = over_clips(changes.count(1.0), changes.count(-1.0), len(changes))
        return comparison, clips if rules.test == "clips" else f"{clips} of unnamed subjects"
    comparison = over_subjects(changes, evidence.subjects)
    if comparison.subjects == 1:
        return comparison, f"{clips} of one subject; a test needs two, or gate.test: clips"
    return comparison, f"{comparison.subjects} subjects, {clips}"


def _points(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:+.1f} to {100 * interval[1]:+.1f} points"


def _check_classes(evidence: Evidence, right: Sequence[bool], before: Sequence[bool], rules: GateConfig) -> Check:
    """Reject if any class's recall drops too far."""
    counts = Counter(evidence.labels)
    enough = sorted(label for label, count in counts.items() if count >= rules.least_class)
    drops = {}
    for label in enough:
        clips = [index for index, known in enumerate(evidence.labels) if known == label]
        drops[label] = (sum(before[n] for n in clips) - sum(right[n] for n in clips)) / len(clips)
    worst = sorted((label for label in enough if drops[label] > rules.class_drop), key=lambda label: -drops[label])
    few = len(counts) - len(enough)
    if worst:
        named = ", ".join(f"{label} by {100 * drops[label]:.0f}" for label in worst[:3])
        return Check("classes", False, f"{named} points worse, {100 * rules.class_drop:g} are allowed")
    message = f"none of {len(enough)} classes is more than {100 * rules.class_drop:g} points worse"
    return Check("classes", True, message + (f"; {few} have fewer than {rules.least_class} clips" if few else ""))


def _check_latency(evidence: Evidence, rules: GateConfig) -> Check:
    """Reject if the candidate is slower than the limits allow."""
    if not evidence.latency:
        return Check("latency", rules.latency_ms is None, "not measured")
    ours, *theirs = evidence.latency
    bounds = [rules.latency_ms] if rules.latency_ms is not None else []
    bounds += [rules.latency_ratio * theirs[0]] if theirs else []
    message = f"{ours:.1f} ms a clip" + (f", {theirs[0]:.1f} ms the {evidence.baseline}" if theirs else "")
    if not bounds:
        return Check("latency", True, f"{message}; nothing to compare it with")
    bound = min(bounds)
    return Check("latency", ours <= bound, f"{message}; {bound:.1f} ms are allowed")


def check_data(findings: Sequence[Finding] | None, rules: GateConfig) -> Check:
    """Reject if the recordings raise an alarm that the recipe does not tolerate."""
    if findings is None:
        return Check("data", False, "the findings of the checks across recordings are missing; run ingest again")
    alarms = [finding for finding in findings if finding.severity == "alarm"]
    stopping = [finding for finding in alarms if finding.check not in rules.tolerated]
    if stopping:
        return Check("data", False, f"{len(stopping)} alarms, as {stopping[0].check}: {stopping[0].text}")
    tolerated = ", ".join(sorted({finding.check for finding in alarms}))
    return Check("data", True, f"no alarm{f' but what gate.tolerated allows ({tolerated})' if alarms else ''}")


def _check_leak(evidence: Evidence) -> Check:
    """Report test clips that are also in training. It always passes, because the gate does not use the test split."""
    leaks = [finding.text for finding in evidence.findings or () if finding.check == "leak"]
    return Check("leak", True, leaks[0] if leaks else "no test clip is known to be in training, too")
