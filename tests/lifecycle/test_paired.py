"""Paired tests over subjects: against scipy, by their symmetries, and with few subjects, one or none."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from glt.errors import GltError
from glt.lifecycle import gate
from glt.lifecycle.gate import Evidence, Verdict
from glt.lifecycle.paired import LEAST_VARIANCE, Comparison, over_clips, over_subjects
from glt.recipe import GateConfig

SUBJECT = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 12)).filter(any)
PEOPLE = st.lists(SUBJECT, min_size=2, max_size=9)


def arrays(people: list[tuple[int, int, int]]) -> tuple[Any, Any, Any]:
    gained, lost, rest = (np.array(column) for column in zip(*people, strict=True))
    return gained, lost, gained + lost + rest


def compare(people: list[tuple[int, int, int]]) -> Comparison:
    """The test over these subjects, from the change of each clip."""
    changes = np.concatenate([np.repeat((1.0, -1.0, 0.0), row) for row in people])
    return over_subjects(changes.tolist(), np.repeat(range(len(people)), [sum(row) for row in people]).tolist())


def evidence(people: list[tuple[int, int, int]], subjects: list[int | None] | None = None) -> Evidence:
    """Clips of each subject: only the candidate right, only the reference right, both right."""
    rows = [(person, kind) for person, row in enumerate(people) for kind, count in enumerate(row) for _ in range(count)]
    return Evidence(
        labels=["walk"] * len(rows),
        candidate=["jump" if kind == 1 else "walk" for _, kind in rows],
        reference=["jump" if kind == 0 else "walk" for _, kind in rows],
        baseline="champion v3",
        subjects=[person for person, _ in rows] if subjects is None else subjects,
    )


@given(PEOPLE)
def test_it_is_the_t_test_where_gains_vary_more_than_clips_would(people: list[tuple[int, int, int]]) -> None:
    gained, lost, clips = arrays(people)
    found, gains = compare(people), (gained - lost) / clips
    least = LEAST_VARIANCE * np.mean([(b + c) / n**2 for b, c, n in zip(gained, lost, clips, strict=True)])
    if gains.var(ddof=1) > least:
        slow = stats.ttest_1samp(gains, 0, alternative="greater")
        assert found.p_value == pytest.approx(slow.pvalue, rel=1e-9, abs=1e-12)
        low, high = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
        assert found.interval == pytest.approx((max(low, -1), min(high, 1)))
    elif least:
        slow = stats.t.sf(gains.mean() / (least / len(gains)) ** 0.5, len(gains) - 1)
        assert found.p_value == pytest.approx(slow, rel=1e-9, abs=1e-12)
    assert found.subjects == len(people)


@given(PEOPLE)
def test_models_that_change_places_have_the_other_tail(people: list[tuple[int, int, int]]) -> None:
    ours, theirs = compare(people), compare([(lost, gained, rest) for gained, lost, rest in people])
    if any(gained + lost for gained, lost, _ in people):
        assert ours.p_value + theirs.p_value == pytest.approx(1)
    assert ours.interval == pytest.approx((-theirs.interval[1], -theirs.interval[0]))


@given(PEOPLE, st.randoms(use_true_random=False))
def test_the_order_of_clips_and_the_numbers_of_subjects_do_not_matter(
    people: list[tuple[int, int, int]], random: Any
) -> None:
    one = evidence(people)
    order = list(range(len(one.labels)))
    random.shuffle(order)
    other = Evidence(
        labels=one.labels,
        candidate=[one.candidate[row] for row in order],
        reference=[one.reference[row] for row in order],
        baseline=one.baseline,
        subjects=[1000 - 7 * (one.subjects[row] or 0) for row in order],
    )
    before, after = gate.decide(one, GateConfig()), gate.decide(other, GateConfig())
    assert after.p_value == pytest.approx(before.p_value, rel=1e-6, abs=1e-12)
    assert (after.subjects, after.only_candidate) == (before.subjects, before.only_candidate)


def test_equal_gains_of_few_subjects_are_no_certainty() -> None:
    """One clip of twenty in each of three subjects: a plain t-test would be certain."""
    found = compare([(1, 0, 19)] * 3)
    assert found.p_value == pytest.approx(stats.t.sf(np.sqrt(3 / LEAST_VARIANCE), 2))
    assert found.p_value > 0.05


def test_a_gain_of_one_person_is_not_one_of_people() -> None:
    """Sixty clips gained, all by one subject of five: certain over clips, chance over subjects."""
    people = [(60, 0, 0), *[(3, 3, 54)] * 4]
    over = {test: gate.decide(evidence(people), GateConfig(test=test)) for test in ("subjects", "clips")}
    assert over["clips"].passed
    assert over["clips"].p_value < 1e-9
    assert not over["subjects"].passed
    slow = stats.ttest_1samp([1, 0, 0, 0, 0], 0, alternative="greater")
    assert over["subjects"].p_value == pytest.approx(slow.pvalue)


def test_the_same_gain_in_every_person_passes_where_clips_alone_do_not() -> None:
    people = [(8, 5, 87), (8, 6, 86), (9, 6, 85), (8, 5, 87), (7, 5, 88)]
    over = {test: gate.decide(evidence(people), GateConfig(test=test)) for test in ("subjects", "clips")}
    assert (over["subjects"].passed, over["clips"].passed) == (True, False)


def test_the_verdict_names_its_units() -> None:
    people = [(9, 1, 40), (7, 0, 43), (8, 2, 40), (11, 1, 38), (8, 1, 41)]
    verdict = gate.decide(evidence(people), GateConfig())
    assert verdict.reason == (
        "better than the champion v3: right on 43 clips that the champion v3 got wrong, wrong on 5 that it got right "
        "(p = 0.000744 < 0.05, gain +9.8 to +20.6 points, 5 subjects, 250 validation clips)"
    )
    assert (verdict.test, verdict.subjects) == ("subjects", 5)
    clips = gate.decide(evidence(people), GateConfig(test="clips"))
    assert clips.reason.endswith("points, 250 validation clips)")
    assert (clips.test, clips.subjects) == ("clips", 0)


def test_without_subjects_clips_are_the_units() -> None:
    people = [(9, 1, 40), (7, 0, 43)]
    gained, lost, clips = (int(column.sum()) for column in arrays(people))
    for subjects in ([], [None] * clips):
        verdict = gate.decide(evidence(people, subjects), GateConfig())
        assert verdict.p_value == over_clips(gained, lost, clips).p_value < 0.05
        assert verdict.reason.endswith("100 validation clips of unnamed subjects)")
        assert (verdict.test, verdict.subjects) == ("clips", 0)


def test_one_subject_is_not_enough() -> None:
    verdict = gate.decide(evidence([(30, 0, 30)]), GateConfig())
    assert (verdict.passed, verdict.p_value, verdict.test, verdict.subjects) == (False, 1.0, "subjects", 1)
    assert verdict.reason.endswith(
        "(p = 1 >= 0.05, 60 validation clips of one subject; a test needs two, or gate.test: clips)"
    )
    assert gate.decide(evidence([(30, 0, 30)]), GateConfig(test="clips")).passed


def test_two_subjects_may_be_enough() -> None:
    assert gate.decide(evidence([(30, 0, 30), (31, 0, 29)]), GateConfig()).passed
    assert not gate.decide(evidence([(30, 0, 30), (10, 0, 50)]), GateConfig()).passed


def test_clips_without_a_subject_are_those_of_one_more() -> None:
    changes = [1, 0, 1, 0, 1, -1]
    assert over_subjects(changes, [4, 4, 5, 5, None, None]) == over_subjects(changes, [4, 4, 5, 5, 6, 6])


def test_repetitions_of_the_folds_count_by_their_mean() -> None:
    """Two repetitions of which one is right: half a clip."""
    one = evidence([(9, 0, 11), (2, 2, 16), (4, 1, 15)])
    right = [answer == "walk" for answer in one.candidate]
    before = [answer == "walk" for answer in one.reference]
    shares = [0.5 if row % 7 == 0 else float(known) for row, known in enumerate(right)]
    found = gate.decide(replace(one, candidate_right=shares, reference_right=before), GateConfig())
    frame = pd.DataFrame({"of": one.subjects, "change": np.array(shares) - np.array(before)})
    gains = frame.groupby("of")["change"].mean()
    assert found.p_value == pytest.approx(stats.ttest_1samp(gains, 0, alternative="greater").pvalue)
    same = replace(one, candidate_right=right, reference_right=before)
    assert gate.decide(same, GateConfig()).p_value == gate.decide(one, GateConfig()).p_value
    clips = gate.decide(replace(one, candidate_right=shares, reference_right=before), GateConfig(test="clips"))
    assert clips.p_value == gate.decide(one, GateConfig(test="clips")).p_value


def test_models_that_agree_everywhere_are_not_apart() -> None:
    verdict = gate.decide(evidence([(0, 0, 5), (0, 0, 9)]), GateConfig())
    assert (verdict.p_value, verdict.interval, verdict.passed) == (1.0, (0.0, 0.0), False)


def test_subjects_of_other_clips_are_rejected() -> None:
    with pytest.raises(GltError, match="the same clips"):
        gate.decide(evidence([(3, 0, 5), (0, 0, 9)], [1, 2]), GateConfig())


@pytest.mark.parametrize(
    ("gained", "lost", "clips", "p_value"), [(71, 2, 267, 2.86e-19), (31, 10, 1020, 7.25e-4), (5, 0, 10, 0.03125)]
)
def test_the_former_rule_gives_the_p_values_of_recorded_verdicts(
    gained: int, lost: int, clips: int, p_value: float
) -> None:
    """The first is that of results/sample.json, of subjects who would not have been named then."""
    people = [(gained, lost, clips - gained - lost)]
    verdict = gate.decide(evidence(people), GateConfig(test="clips"))
    assert verdict.p_value == pytest.approx(p_value, rel=2e-3)
    assert verdict.passed


def test_a_verdict_from_before_subjects_is_one_over_clips() -> None:
    verdict = gate.decide(evidence([(9, 1, 40), (7, 0, 43)]), GateConfig(test="clips"))
    written: dict[str, Any] = json.loads(json.dumps(verdict.to_dict()))
    del written["test"], written["subjects"]
    assert Verdict.from_dict(written) == verdict
