"""Rules that may decide if a model is better: p-values of many draws of subjects at once.

Those that the product has are `glt.lifecycle.paired`'s; the others were tried.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from glt.lifecycle.paired import LEAST_VARIANCE

Floats = NDArray[np.float64]
_FLIPS = 2000  # drawn where there are more


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
    return _t(draws.gains, LEAST_VARIANCE * independent(draws))


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
    variance = (2 * independent(draws) + degrees * draws.gains.var(1, ddof=1)) / (degrees + 2)
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


def independent(draws: Draws) -> Floats:
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
