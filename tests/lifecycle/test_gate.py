"""The gate: exact, one-sided, and readable."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glt.data.findings import Finding
from glt.errors import GltError
from glt.lifecycle import gate
from glt.lifecycle.gate import Check, Evidence, Verdict, already_in_service
from glt.recipe import GateConfig


def answers(both: int, gained: int, lost: int, neither: int) -> tuple[list[str], list[str], list[str]]:
    """Labels and the answers of candidate and reference, with these counts."""
    labels = ["walk"] * (both + gained + lost + neither)
    candidate = ["walk"] * (both + gained) + ["jump"] * (lost + neither)
    reference = ["walk"] * both + ["jump"] * gained + ["walk"] * lost + ["jump"] * neither
    return labels, candidate, reference


def decide(
    labels: list[str], candidate: list[str], reference: list[str], *, baseline: str, alpha: float, **more: Any
) -> Verdict:
    return gate.decide(Evidence(labels, candidate, reference, baseline, **more), GateConfig(alpha=alpha, test="clips"))


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_it_is_the_exact_one_sided_mcnemar_test(both: int, gained: int, lost: int, neither: int) -> None:
    """Against the binomial tail summed by hand."""
    if both + gained + lost + neither == 0:
        return
    verdict = decide(*answers(both, gained, lost, neither), baseline="champion v3", alpha=0.05)
    trials = gained + lost
    tail = sum(comb(trials, k) for k in range(gained, trials + 1)) / 2**trials
    assert verdict.p_value == pytest.approx(tail, rel=1e-9)
    assert (verdict.only_candidate, verdict.only_reference) == (gained, lost)
    assert verdict.passed == (tail < 0.05)
    assert verdict.candidate_top1 - verdict.reference_top1 == pytest.approx((gained - lost) / verdict.clips)


def test_a_better_candidate_passes_with_a_reason() -> None:
    verdict = decide(*answers(900, 31, 10, 79), baseline="champion v3", alpha=0.05, comparisons=4)
    assert verdict.passed
    assert not verdict.already
    assert verdict.reason == (
        "better than the champion v3: right on 31 clips that the champion v3 got wrong, wrong on 10 that it got right "
        "(p = 0.000725 < 0.05, gain +0.9 to +3.2 points, 1,020 validation clips)"
    )
    assert (verdict.comparisons, verdict.clips, verdict.alpha) == (4, 1020, 0.05)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (4, 0), (12, 12), (14, 9), (10, 31)])
def test_what_is_not_better_by_more_than_chance_does_not_pass(gained: int, lost: int) -> None:
    """Four clips more and none less is still chance (p = 0.0625)."""
    verdict = decide(*answers(50, gained, lost, 5), baseline="untrained encoder", alpha=0.05)
    assert not verdict.passed
    assert verdict.reason.startswith("not promoted, no clear gain: ")
    assert ">= 0.05" in verdict.reason


def test_five_clips_more_and_none_less_is_enough() -> None:
    assert decide(*answers(50, 5, 0, 5), baseline="untrained encoder", alpha=0.05).passed


@pytest.mark.parametrize(
    ("labels", "candidate", "reference"), [(["a"], ["a"], []), (["a", "b"], ["a"], ["a"]), ([], [], [])]
)
def test_answers_to_other_clips_are_rejected(labels: list[str], candidate: list[str], reference: list[str]) -> None:
    with pytest.raises(GltError, match=r"the same clips, at least one|no validation clip that both models predicted"):
        decide(labels, candidate, reference, baseline="champion v1", alpha=0.05)


def test_the_champion_itself_is_already_in_service() -> None:
    verdict = already_in_service(["a", "b"], ["a", "a"], version="2", rules=GateConfig())
    assert (verdict.passed, verdict.already) == (False, True)
    assert verdict.reason == "already in service as champion v2"
    assert verdict.candidate_top1 == verdict.reference_top1 == 0.5


def test_it_goes_through_json() -> None:
    verdict = decide(
        *answers(9, 3, 1, 2), baseline="champion v1", alpha=0.05, champion_version="1", answers_uri="runs:/x/gate"
    )
    assert Verdict.from_dict(json.loads(json.dumps(verdict.to_dict()))) == verdict
    assert (verdict.champion_version, verdict.answers_uri) == ("1", "runs:/x/gate")


def test_a_verdict_of_an_earlier_version_is_read() -> None:
    verdict = decide(*answers(9, 3, 1, 2), baseline="champion v1", alpha=0.05, champion_version="1", answers_uri="x")
    written: dict[str, Any] = json.loads(json.dumps(verdict.to_dict()))
    for former, name in (("against", "baseline"), ("over", "champion_version"), ("kept", "answers_uri")):
        written[former] = written.pop(name)
    for check in written["checks"]:
        check["said"] = check.pop("message")
    assert Verdict.from_dict(written) == verdict


@pytest.mark.parametrize(("gained", "lost", "clips"), [(31, 10, 1020), (0, 0, 5), (3, 3, 6)])
def test_the_interval_is_that_of_drawing_clips_one_by_one(gained: int, lost: int, clips: int) -> None:
    """Against the plain bootstrap."""
    verdict = decide(*answers(clips - gained - lost, gained, lost, 0), baseline="x", alpha=0.05)
    changes = np.array([1] * gained + [-1] * lost + [0] * (clips - gained - lost))
    random = np.random.default_rng(1)
    means = [changes[random.integers(0, clips, clips)].mean() for _ in range(4000)]
    assert verdict.interval == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.004 if clips > 9 else 0.05)


BETTER = answers(900, 60, 10, 30)


def failed(verdict: Verdict) -> list[str]:
    return [check.name for check in verdict.checks if not check.passed]


def test_no_class_may_pay_for_the_others() -> None:
    labels, candidate, reference = (list(one) for one in BETTER)
    paying = ["fall"] * 20, ["walk"] * 4 + ["fall"] * 16, ["fall"] * 20
    few = ["cry"] * 19, ["walk"] * 19, ["cry"] * 19
    rules = GateConfig()
    lost = gate.decide(Evidence(labels + paying[0], candidate + paying[1], reference + paying[2], "champion v1"), rules)
    assert failed(lost) == ["classes"]
    assert lost.reason.startswith(
        "not promoted, although better than the champion v1: classes: fall by 20 points worse"
    )
    kept = gate.decide(Evidence(labels + few[0], candidate + few[1], reference + few[2], "champion v1"), rules)
    assert kept.passed
    assert "1 have fewer than 20 clips" in {check.name: check.message for check in kept.checks}["classes"]


@pytest.mark.parametrize(
    ("latency", "rules", "fails"),
    [
        ((10.0, 10.0), {}, False),
        ((15.1, 10.0), {}, True),
        ((15.1, 10.0), {"latency_ratio": 2}, False),
        ((15.1, 10.0), {"latency_ratio": 2, "latency_ms": 15}, True),
        ((10.0,), {}, False),
        ((10.0,), {"latency_ms": 9}, True),
        ((), {}, False),
        ((), {"latency_ms": 9}, True),
    ],
)
def test_it_must_answer_in_time(latency: tuple[float, ...], rules: dict[str, Any], fails: bool) -> None:
    verdict = gate.decide(Evidence(*BETTER, "champion v1", latency=latency), GateConfig(**rules))
    assert failed(verdict) == (["latency"] if fails else [])
    assert verdict.passed != fails


@pytest.mark.parametrize(
    ("findings", "fails"),
    [
        ([], False),
        ([Finding("drift", "warning", "longer")], False),
        ([Finding("leak", "alarm", "95 stand in training")], False),
        ([Finding("leak", "alarm", "95 stand in training"), Finding("layout", "alarm", "another one")], True),
        (None, True),
    ],
)
def test_recordings_must_be_check_data(findings: list[Finding] | None, fails: bool) -> None:
    verdict = gate.decide(Evidence(*BETTER, "champion v1", findings=findings), GateConfig())
    assert failed(verdict) == (["data"] if fails else [])
    leak = verdict.checks[-1]
    assert (leak.name, leak.passed) == ("leak", True)
    assert leak.message == ("95 stand in training" if findings and findings[0].check == "leak" else leak.message)


def test_what_is_no_better_is_not_promoted_whatever_else_holds() -> None:
    verdict = decide(*answers(900, 10, 10, 30), baseline="champion v1", alpha=0.05, findings=[])
    assert failed(verdict) == ["better"]


@pytest.mark.fault(
    "a gate verdict that is cut off, or has wrong fields or types", "one line; nothing is registered or promoted"
)
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-20],
        lambda text: "{}",
        lambda text: "null",
        lambda text: "[" * 100_000,
        lambda text: "1" * 5000,
        lambda text: text.replace('"passed": false', '"passed": "yes"'),
        lambda text: text.replace('"checks": [', '"checks": [1, '),
        lambda text: text.replace('"p_value": ', '"p_value": [], "other": '),
    ],
)
def test_what_is_no_verdict_is_one_line(tmp_path: Path, change: Callable[[str], str]) -> None:
    path = tmp_path / "verdict.json"
    already_in_service(["a", "b"], ["a", "a"], version="2", rules=GateConfig()).write(path)
    assert Verdict.read(path).already
    path.write_text(change(path.read_text()))
    with pytest.raises(GltError) as error:
        Verdict.read(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_verdict_says_what_failed_and_where_the_answers_are() -> None:
    checks = (Check("better", False, "p = 0.4"), Check("leak", True, "none"))
    verdict = Verdict(
        passed=False, already=False, reason="not promoted, no clear gain: p = 0.4", baseline="champion v3", clips=9,
        candidate_top1=0.5, reference_top1=0.5, only_candidate=1, only_reference=1, p_value=0.4, alpha=0.05,
        comparisons=0, checks=checks, answers_uri="runs:/r/gate",
    )  # fmt: skip
    assert verdict.summary().splitlines() == [
        "gate: rejected: not promoted, no clear gain: p = 0.4",
        "  better: p = 0.4",
        "the answers of both models are in runs:/r/gate",
    ]
    assert replace(verdict, passed=True, checks=()).summary().startswith("gate: passed: ")


def test_counts_and_test_are_of_the_same_folds() -> None:
    """The first draw of the folds may show no change where the others do."""
    clips = 40
    evidence = Evidence(
        labels=["walk"] * clips,
        candidate=["walk"] * clips,
        reference=["walk"] * clips,
        baseline="champion v3",
        subjects=[number % 8 for number in range(clips)],
        candidate_right=[1.0] * clips,
        reference_right=[1 / 3] * 30 + [1.0] * 10,
    )
    verdict = gate.decide(evidence, GateConfig())
    assert (verdict.only_candidate, verdict.only_reference) == (20, 0)
    assert "right on 20 clips that the champion v3 got wrong, wrong on 0" in verdict.reason
