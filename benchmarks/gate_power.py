"""Rates of false and of missed promotions of tests that the gate may use, simulated on recorded predictions.

    python -m benchmarks.gate_predictions DATA build/gate
    python -m benchmarks.gate_power build/gate --out results/gate-power.json

Subjects are drawn with replacement from those of a set; a draw holds the recorded answers of two models to all clips of
the drawn subjects, and each rule gives a p-value. The truth is the difference of the two models over all subjects of
the set. Worlds: two models that change places in each subject with probability 1/2, which leaves the clips of a subject
as alike as they are (`exchanged`; `seeds` of them differ in their seed only); a candidate that is up to a point worse
(`no better`); and candidates that are 2, 5, 7 or 10 points better. `thinned`: of each subject 10 to 100 % of the clips,
and the first repetition of the folds alone.

Then the same on refits: models that were fitted on the drawn subjects alone, and the truth on the others.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from benchmarks.gate_predictions import CAMERAS, DIGITS, MODELS, REFITTED, REPEATS, SETS
from benchmarks.hardware import ROOT, commit, hardware
from glt import artifact
from glt.lifecycle.paired import LEAST_VARIANCE

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
ALPHA = 0.05
SUBJECTS = (4, 5, 8, 10, 15)
PAIRS = 12  # of models in a world, drawn if there are more
_FLIPS = 2000  # drawn where there are more
# World: range of the true gain in points.
GAINS = {"no better": (-1.0, 0.0), "+2": (1.0, 3.0), "+5": (4.0, 6.0), "+7": (6.0, 8.0), "+10": (9.0, 11.0)}


@dataclass(frozen=True)
class Draws:
    """Draws of K subjects, M times.

    Attributes:
        gained: clips that only the candidate got right, [R, M, K] for R repetitions of the folds.
        lost: clips that only the reference got right, [R, M, K].
        clips: [M, K].
        squares: sum over clips of the squared change, the mean of R, [M, K].
    """

    gained: Floats
    lost: Floats
    clips: Floats
    squares: Floats

    @property
    def gains(self) -> Floats:
        """Gains of the subjects by the first repetition, [M, K]."""
        gains: Floats = (self.gained[0] - self.lost[0]) / self.clips
        return gains


def mcnemar(draws: Draws) -> Floats:
    """Exact one-sided test over clips: what the gate did before."""
    gained, lost = draws.gained[0].sum(1), draws.lost[0].sum(1)
    return np.where(gained + lost > 0, stats.binom.sf(gained - 1, np.maximum(gained + lost, 1), 0.5), 1.0)


def t_test(draws: Draws) -> Floats:
    """Over the gains of subjects."""
    return _t(draws.gains, 0 * draws.gains[:, 0])


def t_test_counts(draws: Draws) -> Floats:
    """Over the subjects' numbers of clips, so that subjects with more clips weigh more."""
    return _t(draws.gained[0] - draws.lost[0], 0 * draws.gains[:, 0])


def t_test_floored(draws: Draws) -> Floats:
    """With a variance of at least a share of that of independent clips."""
    return _t(draws.gains, LEAST_VARIANCE * _independent(draws))


def chosen_rule(draws: Draws) -> Floats:
    """The same, averaged over the repetitions of the folds: `glt.lifecycle.paired.over_subjects`."""
    gains = ((draws.gained - draws.lost) / draws.clips).mean(0)
    return _t(gains, LEAST_VARIANCE * (draws.squares / draws.clips**2).mean(1))


def t_test_of_means(draws: Draws) -> Floats:
    """Over the gains of subjects, averaged over the repetitions of the folds."""
    return _t(((draws.gained - draws.lost) / draws.clips).mean(0), 0 * draws.gains[:, 0])


def both(draws: Draws) -> Floats:
    """The t-test and McNemar's must both be significant."""
    return np.maximum(t_test(draws), mcnemar(draws))


def moderated(draws: Draws) -> Floats:
    """The variance of independent clips as two more subjects' (after Smyth 2004)."""
    degrees = draws.clips.shape[1] - 1
    variance = (2 * _independent(draws) + degrees * draws.gains.var(1, ddof=1)) / (degrees + 2)
    return _tail(draws.gains.mean(1), np.sqrt(variance / (degrees + 1)), degrees + 2)


def gee(draws: Draws) -> Floats:
    """Logistic or linear GEE with independent working correlation: the sandwich variance, and normal quantiles."""
    error = draws.gains.std(1) / np.sqrt(draws.clips.shape[1])
    return _tail(draws.gains.mean(1), error, np.inf)


def obuchowski(draws: Draws) -> Floats:
    """McNemar's test for clustered pairs, Obuchowski (1998): variance under the null hypothesis, normal quantiles."""
    change = draws.gained[0] - draws.lost[0]
    count = change.shape[1]
    return _tail(change.sum(1), np.sqrt((change**2).sum(1) * count / (count - 1)), np.inf)


def durkalski(draws: Draws) -> Floats:
    """The same of rates, Durkalski et al. (2003)."""
    return _tail(draws.gains.sum(1), np.sqrt((draws.gains**2).sum(1)), np.inf)


def sign_flips(draws: Draws) -> Floats:
    """Permutation test: each subject's gain with either sign."""
    gains, count = draws.gains, draws.clips.shape[1]
    if 2**count <= _FLIPS:
        signs = np.array(list(itertools.product((1, -1), repeat=count)))
    else:
        signs = np.random.default_rng(0).choice((1, -1), (_FLIPS, count))
        signs[0] = 1
    p_values: Floats = (gains @ signs.T >= gains.sum(1)[:, None] - 1e-9).mean(1)
    return p_values


def repeated_folds(draws: Draws) -> Floats:
    """Corrected resampled t-test over folds (Nadeau & Bengio 2003), of at most five folds of subjects, repeated."""
    repeats, many, count = draws.gained.shape
    folds = min(5, count)
    random, scores = np.random.default_rng(1), []
    for repeat in range(repeats):
        order = random.permuted(np.tile(np.arange(count), (many, 1)), axis=1)
        change, clips = (
            np.take_along_axis(x, order, 1) for x in (draws.gained[repeat] - draws.lost[repeat], draws.clips)
        )
        for part in np.array_split(np.arange(count), folds):
            scores.append(change[:, part].sum(1) / clips[:, part].sum(1))
    found = np.stack(scores, axis=1)
    number = found.shape[1]
    error = np.sqrt((1 / number + 1 / (folds - 1)) * found.var(1, ddof=1))
    return _tail(found.mean(1), error, number - 1)


RULES: dict[str, Callable[[Draws], Floats]] = {
    "McNemar over clips": mcnemar,
    "t, floored, folds repeated": chosen_rule,
    "t, floored": t_test_floored,
    "t": t_test,
    "t of counts": t_test_counts,
    "t, folds repeated": t_test_of_means,
    "t and McNemar": both,
    "moderated t": moderated,
    "repeated folds": repeated_folds,
    "sign flips": sign_flips,
    "Obuchowski": obuchowski,
    "Durkalski": durkalski,
    "GEE": gee,
}


def _independent(draws: Draws) -> Floats:
    """The mean variance of a subject's gain if clips are independent, [M]."""
    variance: Floats = ((draws.gained[0] + draws.lost[0]) / draws.clips**2).mean(1)
    return variance


def _t(values: Floats, least: Floats) -> Floats:
    count = values.shape[1]
    return _tail(values.mean(1), np.sqrt(np.maximum(values.var(1, ddof=1), least) / count), count - 1)


def _tail(mean: Floats, error: Floats, degrees: float) -> Floats:
    """One-sided p-values; without an error any positive mean is certain."""
    sure = error > 1e-12
    t = np.where(sure, mean / np.where(sure, error, 1), np.where(mean > 1e-12, np.inf, -np.inf))
    p_values: Floats = stats.norm.sf(t) if np.isinf(degrees) else stats.t.sf(t, degrees)
    return p_values


@dataclass(frozen=True)
class Pair:
    """Two models on all subjects of a set: gained and lost [R, S], clips and squares [S] as in `Draws`."""

    candidate: str
    reference: str
    gained: Floats
    lost: Floats
    clips: Floats
    squares: Floats

    @property
    def gain(self) -> float:
        """The truth in points: the mean over subjects and repetitions."""
        return 100 * float(((self.gained - self.lost) / self.clips).mean())

    @property
    def by_seed(self) -> bool:
        """The models differ in their seed only."""
        ours, theirs = (
            name.translate({ord(digit): None for digit in "01"}) for name in (self.candidate, self.reference)
        )
        return ours == theirs

    def draw(self, random: np.random.Generator, many: int, count: int, *, exchanged: bool, thinned: bool) -> Draws:
        """`many` draws of `count` subjects."""
        chosen = random.integers(0, len(self.clips), (many, count))
        gained, lost, clips = self.gained[:, chosen], self.lost[:, chosen], self.clips[chosen]
        if exchanged:
            swap = random.random((many, count)) < 0.5
            gained, lost = np.where(swap, lost, gained), np.where(swap, gained, lost)
        if thinned:
            # Of one repetition: clips that are left out are the same in all.
            ours, theirs, whole = gained[:1].astype(int), lost[:1].astype(int), clips.astype(int)
            kept = np.maximum(np.round(clips * random.uniform(0.1, 1, clips.shape)), 2).astype(int)
            of_ours = random.hypergeometric(ours, whole - ours, np.broadcast_to(kept, ours.shape))
            of_theirs = random.hypergeometric(theirs, whole - ours - theirs, kept - of_ours)
            return Draws(
                of_ours.astype(float), of_theirs.astype(float), kept.astype(float), (of_ours + of_theirs)[0] * 1.0
            )
        return Draws(gained, lost, clips, self.squares[chosen])


def read_pairs(file: Path) -> list[Pair]:
    """All ordered pairs of models that `benchmarks.gate_predictions` has recorded of a set, but those never apart."""
    table = pd.read_csv(file)
    right = np.array([list(text) for text in table["predictions"]]) == table["label"].to_numpy()[:, None]
    shaped = right.reshape(len(table), REPEATS, len(MODELS)).transpose(1, 2, 0)  # R, models, clips
    _, of = np.unique(table["subject"], return_inverse=True)
    return list(_pairs(tuple(MODELS), shaped, of))


def _pairs(names: tuple[str, ...], right: Bools, of: NDArray[np.intp]) -> Iterator[Pair]:
    clips = np.bincount(of).astype(float)
    for i, j in itertools.permutations(range(len(names)), 2):
        gained, lost = (
            np.stack([np.bincount(of, row, len(clips)).astype(float) for row in rows])
            for rows in (right[:, i] & ~right[:, j], right[:, j] & ~right[:, i])
        )
        change = (right[:, i].astype(float) - right[:, j]).mean(0)
        if gained[0].sum() + lost[0].sum():
            yield Pair(names[i], names[j], gained, lost, clips, np.bincount(of, change**2, len(clips)).astype(float))


def worlds(pairs: list[Pair], random: np.random.Generator) -> Iterator[tuple[str, list[Pair], dict[str, bool]]]:
    """The worlds of a set: name, pairs of models, and how subjects are drawn."""
    better = [pair for pair in pairs if pair.gain >= 0]
    chosen = {"exchanged": better, "seeds": [pair for pair in better if pair.by_seed]}
    chosen |= {name: [pair for pair in pairs if low <= pair.gain <= high] for name, (low, high) in GAINS.items()}
    for name, of_world in chosen.items():
        if len(of_world) > PAIRS:
            of_world = [of_world[row] for row in sorted(random.choice(len(of_world), PAIRS, replace=False))]
        if of_world:
            exchanged = name in ("exchanged", "seeds")
            yield name, of_world, {"exchanged": exchanged, "thinned": False}
            if name in ("exchanged", "+7"):
                yield f"{name}, thinned", of_world, {"exchanged": exchanged, "thinned": True}


def simulate(name: str, pairs: list[Pair], many: int, seed: int) -> list[dict[str, Any]]:
    """One row per number of subjects, world and rule: the share of promotions, over pairs and draws."""
    random, rows = np.random.default_rng(seed), []
    for world, of_world, how in worlds(pairs, random):
        for count in SUBJECTS:
            rates: dict[str, list[float]] = {rule: [] for rule in RULES}
            for pair in of_world:
                draws = pair.draw(random, many, count, **how)
                for rule, test in RULES.items():
                    rates[rule].append(float((test(draws) < ALPHA).mean()))
            key = {"set": name, "world": world, "subjects": count, "pairs": len(of_world)}
            key["gain"] = round(float(np.mean([pair.gain for pair in of_world])), 2)
            rows += [{**key, "rule": rule, **_summary(values, many)} for rule, values in rates.items()]
    return rows


def _summary(rates: list[float], many: int) -> dict[str, Any]:
    """Mean over pairs with a 95 % interval of pairs and draws together, and the highest of a pair."""
    mean = float(np.mean(rates))
    error = np.sqrt((np.var(rates, ddof=1) if len(rates) > 1 else mean * (1 - mean) / many) / len(rates))
    low, high = max(mean - 1.96 * error, 0.0), min(mean + 1.96 * error, 1.0)
    return {"rate": round(mean, 4), "interval": [round(low, 4), round(high, 4)], "highest": round(max(rates), 4)}


def coverage(pairs: list[Pair], many: int, seed: int) -> dict[str, dict[str, float]]:
    """Share of 95 % intervals that hold the true gain, by number of subjects: bootstrap over subjects, and t."""
    random = np.random.default_rng(seed)
    chosen = [pairs[row] for row in random.choice(len(pairs), min(PAIRS, len(pairs)), replace=False)]
    found: dict[str, dict[str, float]] = {}
    for count in SUBJECTS:
        held: dict[str, list[float]] = {"bootstrap": [], "t": []}
        for pair in chosen:
            draws, truth = pair.draw(random, many, count, exchanged=False, thinned=False), pair.gain / 100
            means = draws.gains[:, random.integers(0, count, (1000, count))].mean(2)
            low, high = np.quantile(means, [0.025, 0.975], axis=1)
            held["bootstrap"].append(float(((low <= truth + 1e-9) & (truth <= high + 1e-9)).mean()))
            error = np.sqrt(np.maximum(draws.gains.var(1, ddof=1), LEAST_VARIANCE * _independent(draws)) / count)
            reach = stats.t.ppf(0.975, count - 1) * error
            held["t"].append(float((np.abs(draws.gains.mean(1) - truth) <= reach + 1e-9).mean()))
        found[str(count)] = {name: round(float(np.mean(values)), 3) for name, values in held.items()}
    return found


def refitted(file: Path) -> list[dict[str, Any]]:
    """One row per pair of models: the true gain on subjects that did not train, and each rule's share of promotions.

    Five subjects have one way to be shared out among five folds, so there is one repetition.
    """
    table = pd.read_csv(file, dtype={"right": str})
    tests, rest = table[table["subject"] < 0], table[table["subject"] >= 0]
    tested = np.array([[float(share) for share in row.split()] for row in tests["right"]])  # draws, models
    groups = [[_bits(text) for text in part["right"]] for _, part in rest.groupby("draw")]
    rows = []
    for i, j in itertools.permutations(range(len(REFITTED)), 2):
        gained, lost = (
            np.array([[float((one[:, a] & ~one[:, b]).sum()) for one in group] for group in groups])
            for a, b in ((i, j), (j, i))
        )
        clips = np.array([[float(len(one)) for one in group] for group in groups])
        draws = Draws(gained[None], lost[None], clips, gained + lost)
        rates = {rule: float((test(draws) < ALPHA).mean()) for rule, test in RULES.items()}
        gain = 100 * float((tested[:, i] - tested[:, j]).mean())
        rows.append({"candidate": REFITTED[i], "reference": REFITTED[j], "gain": round(gain, 2), "rates": rates})
    return rows


def _bits(text: str) -> Bools:
    codes = np.array([int(text[start : start + DIGITS], 16) for start in range(0, len(text), DIGITS)])
    bits: Bools = (codes[:, None] >> np.arange(len(REFITTED))) & 1 == 1
    return bits


def by_gain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Refits summarised: mean rates over the pairs whose true gain lies in a range."""
    found = []
    for low, high in ((-1, 0), (1, 3), (4, 6), (6, 8), (9, 11)):
        chosen = [row for row in rows if low <= row["gain"] <= high]
        if chosen:
            rates = {
                rule: round(float(np.mean([row["rates"][rule] for row in chosen])), 4) for rule in chosen[0]["rates"]
            }
            found.append({"gain": [low, high], "pairs": len(chosen), "rates": rates})
    return found


def main() -> None:
    """Simulate all recorded sets; print the two rates of each rule, and write all."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path, nargs="?", default=ROOT / "results" / "gate-power")
    arguments.add_argument("--out", type=Path, default=ROOT / "results" / "gate-power.json")
    arguments.add_argument("--draws", type=int, default=2000)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    result: dict[str, Any] = {"rates": [], "coverage": {}, "refits": {}}
    for name in (*SETS, *CAMERAS.values()):
        file = given.folder / f"predictions-{name}.csv"
        if not file.exists():
            print(f"{file}: not there, left out")
            continue
        pairs = read_pairs(file)
        result["rates"] += simulate(name, pairs, given.draws, given.seed)
        result["coverage"][name] = coverage(pairs, 500, given.seed)
        if (refits := given.folder / f"refits-{name}.csv").exists():
            result["refits"][name] = by_gain(refitted(refits))
        print(f"\n{name}\n{table(result['rates'], name).to_string()}", flush=True)
    command = f"python -m benchmarks.gate_power --draws {given.draws} --seed {given.seed}"
    result |= {"command": command, "seed": given.seed, "alpha": ALPHA, "commit": commit(), "hardware": hardware(1)}
    artifact.write_json(given.out, result)


def table(rows: list[dict[str, Any]], name: str) -> pd.DataFrame:
    """Shares of promotions in per cent: one row per rule, one column per world and number of subjects."""
    columns: dict[tuple[str, int], dict[str, float]] = {}
    for row in rows:
        if row["set"] == name:
            columns.setdefault((row["world"], row["subjects"]), {})[row["rule"]] = round(100 * row["rate"], 1)
    return pd.DataFrame(columns)


if __name__ == "__main__":
    main()
