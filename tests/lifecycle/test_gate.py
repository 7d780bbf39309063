"""The gate: exact, one-sided, and readable."""

from __future__ import annotations

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glt.errors import GltError
from glt.lifecycle.gate import Verdict, decide, in_service


def answers(both: int, gained: int, lost: int, neither: int) -> tuple[list[str], list[str], list[str]]:
    """Labels and the answers of candidate and reference, with these counts."""
    labels = ["walk"] * (both + gained + lost + neither)
    candidate = ["walk"] * (both + gained) + ["jump"] * (lost + neither)
    reference = ["walk"] * both + ["jump"] * gained + ["walk"] * lost + ["jump"] * neither
    return labels, candidate, reference


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_it_is_the_exact_one_sided_mcnemar_test(both: int, gained: int, lost: int, neither: int) -> None:
    """Against the binomial tail summed by hand."""
    if both + gained + lost + neither == 0:
        return
    verdict = decide(*answers(both, gained, lost, neither), against="champion v3", alpha=0.05)
    trials = gained + lost
    tail = sum(comb(trials, k) for k in range(gained, trials + 1)) / 2**trials
    assert verdict.p_value == pytest.approx(tail, rel=1e-9)
    assert (verdict.only_candidate, verdict.only_reference) == (gained, lost)
    assert verdict.passed == (tail < 0.05)
    assert verdict.candidate_top1 - verdict.reference_top1 == pytest.approx((gained - lost) / verdict.clips)


def test_a_better_candidate_passes_with_a_reason() -> None:
    verdict = decide(*answers(900, 31, 10, 79), against="champion v3", alpha=0.05, comparisons=4)
    assert verdict.passed
    assert not verdict.already
    assert verdict.reason == (
        "better than the champion v3: right on 31 clips that the champion v3 got wrong, wrong on 10 that it got right "
        "(p = 0.000725 < 0.05, 1,020 validation clips)"
    )
    assert (verdict.comparisons, verdict.clips, verdict.alpha) == (4, 1020, 0.05)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (4, 0), (12, 12), (14, 9), (10, 31)])
def test_what_is_not_better_by_more_than_chance_does_not_pass(gained: int, lost: int) -> None:
    """Four clips more and none less is still chance (p = 0.0625)."""
    verdict = decide(*answers(50, gained, lost, 5), against="untrained encoder", alpha=0.05)
    assert not verdict.passed
    assert verdict.reason.startswith("not promoted, no better than chance: ")
    assert ">= 0.05" in verdict.reason


def test_five_clips_more_and_none_less_is_enough() -> None:
    assert decide(*answers(50, 5, 0, 5), against="untrained encoder", alpha=0.05).passed


@pytest.mark.parametrize(
    ("labels", "candidate", "reference"), [(["a"], ["a"], []), (["a", "b"], ["a"], ["a"]), ([], [], [])]
)
def test_answers_to_other_clips_are_refused(labels: list[str], candidate: list[str], reference: list[str]) -> None:
    with pytest.raises(GltError, match="the same clips, at least one"):
        decide(labels, candidate, reference, against="champion v1", alpha=0.05)


def test_the_champion_itself_is_already_in_service() -> None:
    verdict = in_service(["a", "b"], ["a", "a"], against="champion v2", alpha=0.05)
    assert (verdict.passed, verdict.already) == (False, True)
    assert verdict.reason == "already in service as champion v2"
    assert verdict.candidate_top1 == verdict.reference_top1 == 0.5


def test_it_goes_through_json() -> None:
    verdict = decide(*answers(9, 3, 1, 2), against="champion v1", alpha=0.05)
    assert Verdict.from_dict(verdict.to_dict()) == verdict
