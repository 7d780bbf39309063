"""Paired comparisons of two models that answered the same clips: p-value and interval of the gain in top-1.

Two units of chance: subjects, whose clips are not independent of each other, and clips. `benchmarks.gate_power`
measures how often each promotes a model that is no better, and misses one that is (docs/gate.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 10_000  # of the bootstrap
LEAST_VARIANCE = 0.5  # of the gains, as a share of that of independent clips


@dataclass(frozen=True)
class Comparison:
    """The result of a one-sided paired test.

    Attributes:
        p_value: probability of a gain at least as clear if neither model were better.
        interval: 95 % interval of the mean gain: of the subjects' shares of right clips or, if clips are the units, of
            the share of right clips.
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


def over_subjects(changes: Sequence[float], subjects: Sequence[int | None]) -> Comparison:
    """One-sided t-test on the gains of subjects.

    A subject's gain is the mean change of its clips. Subjects count alike, however many clips they have. The variance
    of the gains is taken to be at least `LEAST_VARIANCE` times what it is on average if clips are independent (as
    McNemar has it: of n clips the sum of squared changes, divided by n**2). With few subjects the gains are sometimes
    nearly equal by chance, and a variance near zero would make any gain significant. The interval is that of the
    t-test: a bootstrap over five subjects covers the true gain in about 80 % of all cases, not 95.

    The p-value of a single subject is 1, and its interval is -1 to 1: nothing is known of other people.

    Args:
        changes: of each clip, how much more often the candidate is right: 1, 0 or -1, or between them over several
            repetitions.
        subjects: of each clip. Clips without one count as those of one more subject, since nothing says that they are
            of different people.
    """
    from scipy.special import stdtr, stdtrit

    change = np.asarray(changes, np.float64)
    _, of = np.unique([-1 if subject is None else subject for subject in subjects], return_inverse=True)
    clips = np.bincount(of)
    count = len(clips)
    if count < 2:
        return Comparison(1.0, (-1.0, 1.0), count)
    gains, independent = np.bincount(of, change) / clips, np.bincount(of, change**2) / clips**2
    mean = float(gains.mean())
    error = float(np.sqrt(max(gains.var(ddof=1), LEAST_VARIANCE * independent.mean()) / count))
    if not error:  # the models differ in no clip
        return Comparison(1.0, (0.0, 0.0), count)
    p_value, reach = float(stdtr(count - 1, -mean / error)), float(stdtrit(count - 1, 0.975) * error)
    return Comparison(p_value, (max(mean - reach, -1.0), min(mean + reach, 1.0)), count)


def _quantiles(gains: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(gains, [0.025, 0.975])
    return float(low), float(high)
