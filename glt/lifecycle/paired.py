"""Paired comparisons of two models that answered the same clips: p-value and interval of the gain in top-1.

Two units of chance: subjects, whose clips are not independent of each other, and clips. `benchmarks.gate_power` measures
how often each promotes a model that is no better, and misses one that is (docs/gate.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
_RESAMPLES = 10_000  # of the bootstrap
LEAST_VARIANCE = 0.5  # of the gains, as a share of that of independent clips


@dataclass(frozen=True)
class Comparison:
    """The result of a one-sided paired test.

    Attributes:
        p_value: probability of a gain at least as clear if neither model were better.
        interval: 95 % interval of the gain, as a share of the clips.
        subjects: number of subjects that were the units of the test; 0 if clips were.
    """

    p_value: float
    interval: tuple[float, float]
    subjects: int = 0


def over_clips(gained: int, lost: int, clips: int) -> Comparison:
    """Exact McNemar test on `gained` clips that only the candidate got right and `lost` that only the reference did.

    The interval is a bootstrap over clips, which is a multinomial draw of the three counts. Both hold if the clips are
    independent: drawn one by one, or from one person and said of that person only.
    """
    from scipy.stats import binomtest  # a second to import, and most steps only read a verdict

    trials = gained + lost
    p_value = float(binomtest(gained, trials, alternative="greater").pvalue) if trials else 1.0
    shares = np.array([gained, lost, clips - trials]) / clips
    counts = np.random.default_rng(0).multinomial(clips, shares, _RESAMPLES)
    return Comparison(p_value, _quantiles((counts[:, 0] - counts[:, 1]) / clips))


def over_subjects(gained: Counts, lost: Counts, clips: Counts) -> Comparison:
    """One-sided t-test on the gains of subjects, (gained - lost) / clips of each; the arguments are counts [K].

    A gain is the change of a subject's share of right clips. Subjects count alike, however many clips they have. The
    variance of the gains is taken to be at least `LEAST_VARIANCE` times what it is on average if clips are independent,
    (gained + lost) / clips**2 by McNemar: few subjects have nearly equal gains by chance at times, and a variance near
    zero would make any gain significant.

    The p-value of a single subject is 1, and its interval is -1 to 1: nothing is known of other people.
    """
    from scipy.special import stdtr, stdtrit

    count = len(clips)
    if count < 2:
        return Comparison(1.0, (-1.0, 1.0), count)
    gains = (gained - lost) / clips
    mean, independent = gains.mean(), ((gained + lost) / clips**2).mean()
    error = np.sqrt(max(gains.var(ddof=1), LEAST_VARIANCE * independent) / count)
    if not error:  # the models differ in no clip
        return Comparison(1.0, (0.0, 0.0), count)
    p_value = float(stdtr(count - 1, -mean / error))
    reach = float(stdtrit(count - 1, 0.975) * error)
    return Comparison(p_value, (max(float(mean) - reach, -1.0), min(float(mean) + reach, 1.0)), count)


def count_by_subject(
    right: Sequence[bool], right_before: Sequence[bool], subjects: Sequence[int | None]
) -> tuple[Counts, Counts, Counts]:
    """Clips that only the first model got right, that only the second did, and all, of each subject: three times [K].

    Clips without a subject count as those of one more subject, since nothing says that they are of different people.
    """
    names = np.array([-1 if subject is None else subject for subject in subjects])
    _, of = np.unique(names, return_inverse=True)
    ours, theirs = np.array(right, bool), np.array(right_before, bool)
    gained, lost, clips = (np.bincount(of, weights) for weights in (ours & ~theirs, theirs & ~ours, np.ones(len(of))))
    return gained.astype(np.int64), lost.astype(np.int64), clips.astype(np.int64)


def _quantiles(gains: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(gains, [0.025, 0.975])
    return float(low), float(high)
