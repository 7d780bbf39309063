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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from benchmarks.gate_predictions import CAMERAS, DIGITS, MODELS, REFITTED, REPEATS, SETS
from benchmarks.gate_rules import RULES, Draws
from benchmarks.hardware import ROOT, commit, hardware
from glt import artifact
from glt.lifecycle.paired import LEAST_VARIANCE

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
ALPHA = 0.05
RATES = "rates.csv"
SUBJECTS = (4, 5, 8, 10, 15)
PAIRS = 12  # of models in a world, drawn if there are more
# World: range of the true gain in points.
GAINS = {"no better": (-1.0, 0.0), "+2": (1.0, 3.0), "+5": (4.0, 6.0), "+7": (6.0, 8.0), "+10": (9.0, 11.0)}


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
    return {"rate": round(mean, 4), "low": round(low, 4), "high": round(high, 4), "highest": round(max(rates), 4)}


def coverage(pairs: list[Pair], many: int, seed: int) -> dict[str, dict[str, float]]:
    """Share of 95 % intervals that hold the true gain, by number of subjects: bootstrap over subjects, and t."""
    random = np.random.default_rng(seed)
    chosen = [pairs[row] for row in random.choice(len(pairs), min(PAIRS, len(pairs)), replace=False)]
    found: dict[str, dict[str, float]] = {}
    for count in SUBJECTS:
        held: dict[str, list[float]] = {"bootstrap": [], "t": []}
        for pair in chosen:
            draws, truth = pair.draw(random, many, count, exchanged=False, thinned=False), pair.gain / 100
            gains = ((draws.gained - draws.lost) / draws.clips).mean(0)
            means = gains[:, random.integers(0, count, (1000, count))].mean(2)
            low, high = np.quantile(means, [0.025, 0.975], axis=1)
            held["bootstrap"].append(float(((low <= truth + 1e-9) & (truth <= high + 1e-9)).mean()))
            least = LEAST_VARIANCE * (draws.squares / draws.clips**2).mean(1)
            error = np.sqrt(np.maximum(gains.var(1, ddof=1), least) / count)
            reach = stats.t.ppf(0.975, count - 1) * error
            held["t"].append(float((np.abs(gains.mean(1) - truth) <= reach + 1e-9).mean()))
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
    """Simulate all recorded sets; print the two rates of each rule, and write all rates."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path, nargs="?", default=ROOT / "results" / "gate-power")
    arguments.add_argument("--out", type=Path, default=ROOT / "results" / "gate-power.json")
    arguments.add_argument("--draws", type=int, default=1000)
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
        print(f"{name}: done", flush=True)
    command = f"python -m benchmarks.gate_power --draws {given.draws} --seed {given.seed}"
    result |= {"command": command, "seed": given.seed, "alpha": ALPHA, "commit": commit(), "hardware": hardware(1)}
    write(result, given.out)
    for count in (5, 10):
        print(f"\n{markdown(result, count)}")
    print(f"\n{refits_markdown(result)}")


def write(result: dict[str, Any], out: Path) -> None:
    """Write `out`, and beside it in a folder of its name the rates as a table."""
    artifact.write_json(out, {key: value for key, value in result.items() if key != "rates"})
    folder = out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(result["rates"]).to_csv(folder / RATES, index=False)


def read(out: Path) -> dict[str, Any]:
    """Read the files that `write` wrote."""
    result: dict[str, Any] = artifact.read_json(out, dict)
    return result | {"rates": pd.read_csv(out.with_suffix("") / RATES).to_dict("records")}


def markdown(result: dict[str, Any], count: int) -> str:
    """Table of the two rates in per cent with `count` subjects: promotions if models are exchanged, and misses of +7.

    One row per rule, one column per set.
    """
    rates = {
        (row["set"], row["rule"], row["world"]): 100 * row["rate"]
        for row in result["rates"]
        if row["subjects"] == count
    }
    sets = [name for name in dict.fromkeys(name for name, _, _ in rates) if (name, "t", "+7") in rates]
    lines = [f"| false / missed, {count} subjects | {' | '.join(sets)} |", "| --- |" + " --- |" * len(sets)]
    for rule in RULES:
        cells = [f"{rates[name, rule, 'exchanged']:.1f} / {100 - rates[name, rule, '+7']:.0f}" for name in sets]
        lines.append(f"| {rule} | {' | '.join(cells)} |")
    return "\n".join(lines)


def refits_markdown(result: dict[str, Any]) -> str:
    """Table of promotions in per cent with five subjects that trained: by McNemar over clips / by the gate.

    One row per set, one column per range of the true gain.
    """
    ranges = [tuple(row["gain"]) for row in max(result["refits"].values(), key=len)]
    head = [f"{low:+d} to {high:+d}".replace("+0", "0") for low, high in ranges]
    lines = [f"| true gain, points | {' | '.join(head)} |", "| --- |" + " --- |" * len(ranges)]
    for name, rows in result["refits"].items():
        found = {tuple(row["gain"]): row["rates"] for row in rows}
        cells = [
            f"{100 * found[part]['McNemar over clips']:.0f} / {100 * found[part]['t, floored']:.0f}"
            if part in found
            else "-"
            for part in ranges
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
