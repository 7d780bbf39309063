"""The rules that the simulation compares, each against a slow or an independent one; the worlds that it draws."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import gate_power, gate_rules
from benchmarks.gate_power import Pair
from benchmarks.gate_predictions import DIGITS, LETTERS, MODELS, REFITTED, REPEATS
from benchmarks.gate_rules import RULES, Draws
from glt.lifecycle.paired import over_clips, over_subjects

RESULTS = gate_power.ROOT / "results"
RECORDED = gate_power.read(RESULTS / "gate-power.json")


def made(many: int = 6, count: int = 5, repeats: int = 3, seed: int = 0) -> tuple[Draws, list[list[np.ndarray]]]:  # type: ignore[type-arg]
    """Draws, and the change of each clip of each subject, [R, clips]."""
    random = np.random.default_rng(seed)
    changes = [
        [random.choice((1, 0, -1), (repeats, int(random.integers(3, 30))), p=(0.3, 0.5, 0.2)) for _ in range(count)]
        for _ in range(many)
    ]
    gained, lost = (
        np.array([[[(one[r] == sign).sum() for one in row] for row in changes] for r in range(repeats)], float)
        for sign in (1, -1)
    )
    clips = np.array([[one.shape[1] for one in row] for row in changes], float)
    squares = np.array([[(one.mean(0) ** 2).sum() for one in row] for row in changes])
    return Draws(gained, lost, clips, squares), changes


def test_the_rules_of_the_product_are_the_product_s() -> None:
    draws, changes = made()
    for row, clips in enumerate(changes):
        first = np.concatenate([one[0] for one in clips])
        slow = over_clips(int((first > 0).sum()), int((first < 0).sum()), len(first))
        assert gate_rules.mcnemar(draws)[row] == pytest.approx(slow.p_value)
        subjects = np.repeat(np.arange(len(clips)), [one.shape[1] for one in clips]).tolist()
        slow = over_subjects(np.concatenate([one.mean(0) for one in clips]).tolist(), subjects)
        assert gate_rules.chosen_rule(draws)[row] == pytest.approx(slow.p_value)
        slow = over_subjects(first.tolist(), subjects)
        assert gate_rules.t_test_floored(draws)[row] == pytest.approx(slow.p_value)


def test_the_other_rules_agree_with_slow_ones() -> None:
    draws, changes = made()
    found = {rule: test(draws) for rule, test in RULES.items()}
    for row, clips in enumerate(changes):
        change = np.array([one[0].sum() for one in clips], float)
        gains = np.array([one[0].mean() for one in clips])
        flipped = [
            sum(s * g for s, g in zip(signs, gains, strict=True)) for signs in itertools.product((1, -1), repeat=5)
        ]
        expected = {
            "t": stats.ttest_1samp(gains, 0, alternative="greater").pvalue,
            "t of counts": stats.ttest_1samp(change, 0, alternative="greater").pvalue,
            "sign flips": np.mean([total >= gains.sum() - 1e-9 for total in flipped]),
            "GEE": stats.norm.sf(gains.mean() / (sum((gains - gains.mean()) ** 2) / 25) ** 0.5),
            # Obuchowski (1998): variance of the difference of two proportions that are equal, times 4 / 5 of 5 clusters
            "Obuchowski": stats.norm.sf(change.sum() / (5 / 4 * sum(value**2 for value in change)) ** 0.5),
            "Durkalski": stats.norm.sf(gains.sum() / sum(value**2 for value in gains) ** 0.5),
        }
        for rule, p_value in expected.items():
            assert found[rule][row] == pytest.approx(p_value), rule


def test_repeated_folds_are_the_corrected_resampled_t_test() -> None:
    """With five subjects each fold is one subject: Nadeau & Bengio (2003), with a test share of a quarter."""
    draws, changes = made()
    for row, clips in enumerate(changes):
        scores = np.array([one[r].mean() for one in clips for r in range(3)])
        statistic = scores.mean() / np.sqrt((1 / 15 + 1 / 4) * scores.var(ddof=1))
        assert gate_rules.repeated_folds(draws)[row] == pytest.approx(stats.t.sf(statistic, 14))


@pytest.mark.parametrize("rule", ["t, floored, folds repeated", "sign flips", "Obuchowski"])
def test_exchanged_subjects_give_no_more_promotions_than_alpha(rule: str) -> None:
    gained = np.array([[9, 4, 1, 0, 6, 2, 3, 8]], float)
    pair = Pair("a", "b", gained, gained[:, ::-1] * 0 + 1, np.full(8, 20.0), gained[0] + 1)
    draws = pair.draw(np.random.default_rng(0), 4000, 8, exchanged=True, thinned=False)
    assert (RULES[rule](draws) < 0.05).mean() < 0.06
    assert (gate_rules.mcnemar(draws) < 0.05).mean() > 0.1


def test_thinned_subjects_keep_their_share() -> None:
    gained, clips = np.array([[10.0, 0, 20]]), np.array([40.0, 30, 50])
    pair = Pair("a", "b", gained, gained / 2, clips, gained[0] * 1.5)
    draws = pair.draw(np.random.default_rng(0), 3000, 3, exchanged=False, thinned=True)
    assert draws.clips.min() >= 2
    assert (draws.gained + draws.lost <= draws.clips).all()
    assert draws.clips.mean() == pytest.approx(0.55 * 40, rel=0.05)
    assert 100 * draws.gains.mean() == pytest.approx(pair.gain, abs=0.7)


def test_pairs_are_read_from_recorded_predictions(tmp_path: Path) -> None:
    """The first model is right of every clip, the second of none, the third of subject 7 in the first repeat."""
    rows = []
    for clip in range(6):
        subject = 7 if clip < 4 else 9
        letters = ["a" if model == 0 else "b" for _ in range(REPEATS) for model in range(len(MODELS))]
        if subject == 7:
            letters[2] = "a"
        rows.append(
            {"set": "s", "clip": f"c{clip}", "subject": subject, "label": LETTERS[0], "predictions": "".join(letters)}
        )
    pd.DataFrame(rows).to_csv(tmp_path / "predictions.csv", index=False)
    names = list(MODELS)
    pairs = {(pair.candidate, pair.reference): pair for pair in gate_power.read_pairs(tmp_path / "predictions.csv")}
    assert (names[1], names[3]) not in pairs  # never apart
    best = pairs[names[0], names[1]]
    assert (best.gain, best.gained.tolist(), best.clips.tolist()) == (100.0, [[4, 2]] * REPEATS, [4, 2])
    third = pairs[names[2], names[1]]
    assert third.gained.tolist() == [[4, 0], *[[0, 0]] * (REPEATS - 1)]
    assert third.gain == pytest.approx(50 / REPEATS)
    assert third.squares == pytest.approx([4 / REPEATS**2, 0])
    assert [pair.by_seed for pair in (pairs[names[0], names[1]],)] == [False]


def test_refits_are_read(tmp_path: Path) -> None:
    """The first model is right in all clips of five subjects, the others in none; tests agree."""
    rows = [("s", draw, subject, f"{1:0{DIGITS}x}" * 8) for draw in range(3) for subject in range(5)]
    tests = [("s", draw, -1, " ".join(["0.9", *["0.5"] * (len(REFITTED) - 1)])) for draw in range(3)]
    pd.DataFrame([*rows, *tests], columns=["set", "draw", "subject", "right"]).to_csv(tmp_path / "r.csv", index=False)
    found = gate_power.refitted(tmp_path / "r.csv")
    best = next(row for row in found if row["candidate"] == REFITTED[0])
    assert best["gain"] == 40
    assert best["rates"]["McNemar over clips"] == best["rates"]["t, floored"] == 1
    assert all(row["rates"]["t"] == 0 for row in found if row["candidate"] != REFITTED[0])


def test_recorded_predictions_are_small_and_give_the_recorded_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates of results/gate-power.json, simulated again from results/gate-power/."""
    assert sum(file.stat().st_size for file in (RESULTS / "gate-power").glob("*.csv")) < 900_000
    rules = {rule: RULES[rule] for rule in ("McNemar over clips", "t, floored, folds repeated")}
    monkeypatch.setattr(gate_power, "RULES", rules)
    monkeypatch.setattr(gate_power, "SUBJECTS", (4,))
    pairs = gate_power.read_pairs(RESULTS / "gate-power" / "predictions-utkinect.csv")
    found = gate_power.simulate("utkinect", pairs, 1000, 0)
    rows = [row for row in found if row["world"] == "exchanged"]
    assert len(rows) == 2
    assert all(row in RECORDED["rates"] for row in rows)


def test_the_page_has_the_recorded_rates() -> None:
    page = (gate_power.ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
    for count in (5, 10):
        assert gate_power.markdown(RECORDED, count) in page, "copy what python -m benchmarks.gate_power prints"
    assert gate_power.refits_markdown(RECORDED) in page, "copy what python -m benchmarks.gate_power prints"
    assert f"`{RECORDED['commit']}`" in page
