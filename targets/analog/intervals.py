"""Intervals of what chips and samples tell, each with what varies in it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flow.binomial import exact_share
from flow.metric import Interval
from targets.analog.mapping import FloatArray

COVERAGE = 0.95
RESAMPLES = 2000
BoolArray = NDArray[np.bool_]


def mean_interval(values: FloatArray, coverage: float = COVERAGE) -> Interval:
    """Student's t interval of the mean of shares: chips vary, samples do not."""
    mean, half = _student(values, coverage)
    return Interval(max(0.0, mean - half), min(1.0, mean + half), coverage)


def difference_interval(values: FloatArray, coverage: float = COVERAGE) -> Interval:
    """Student's t interval of the mean of paired differences."""
    mean, half = _student(values, coverage)
    return Interval(mean - half, mean + half, coverage)


def paired_interval(wins: int, losses: int, pairs: int, coverage: float = COVERAGE) -> Interval:
    """Of the difference of two shares of the same pairs, of which `wins` have the property on the
    first side only, and `losses` on the second only; never of no width.

    Source: D. G. Bonett, R. M. Price, "Adjusted Wald confidence interval for a difference of
    binomial proportions based on paired data", Journal of Educational and Behavioral Statistics 37
    (2012).
    """
    from scipy.special import ndtri

    first, second = (wins + 1) / (pairs + 2), (losses + 1) / (pairs + 2)
    error = ((first + second - (first - second) ** 2) / (pairs + 2)) ** 0.5
    half = float(ndtri(0.5 + coverage / 2)) * error
    middle = first - second
    return Interval(max(-1.0, middle - half), min(1.0, middle + half), coverage)


def two_way_interval(hits: BoolArray, coverage: float = COVERAGE) -> Interval:
    """Of the mean of `hits` (chips, samples), where both chips and samples are drawn: Student's t
    interval of the mean's logit, with the variance that mean squares of rows and columns give, and
    Satterthwaite's degrees of freedom. Percentiles of the two-way ("pigeonhole") bootstrap, which
    was here before, miss on one side where accuracies are high, as means are skewed then: 92 %
    coverage of a nominal 95, with 7 % above and 1 % below, where this has 95 to 96. Where a few
    samples hold all that is answered wrong, this has 92 to 93, too.

    Source: S. R. Searle, G. Casella, C. E. McCulloch, "Variance Components", Wiley (1992), of two
    crossed random factors; A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1
    (2007).
    """
    from scipy.special import expit, logit, stdtrit

    chips, samples = hits.shape
    mean = float(hits.mean())
    rows, columns = (hits.mean(axis=axis, dtype=np.float64) - mean for axis in (1, 0))
    by_row, by_column = float(rows @ rows), float(columns @ columns)
    left = hits.size * mean * (1 - mean) - samples * by_row - chips * by_column
    degrees = chips - 1, samples - 1
    row = by_row / degrees[0] / chips  # mean squares, over as many values as there are
    column = by_column / degrees[1] / samples
    residual = max(left, 0.0) / (degrees[0] * degrees[1]) / hits.size
    variance = max(row + column - residual, row, column)
    if variance == 0:  # every chip is right on the same samples, if not on all
        return exact_share(round(mean * samples), samples, coverage)
    freedom = (row + column) ** 2 / (row**2 / degrees[0] + column**2 / degrees[1])
    half = float(stdtrit(freedom, 0.5 + coverage / 2)) * variance**0.5 / (mean * (1 - mean))
    low, high = (float(expit(logit(mean) + sign * half)) for sign in (-1, 1))
    return Interval(low, high, coverage)


def spread_intervals(
    values: FloatArray, seed: int, coverage: float = COVERAGE
) -> tuple[Interval, Interval]:
    """Of the standard deviation and of the 5th percentile over chips, by bootstrap."""
    rng = np.random.default_rng([seed, 1])
    drawn = values[rng.integers(len(values), size=(RESAMPLES, len(values)))]
    deviations = drawn.std(axis=1, ddof=1)
    lowest = np.percentile(drawn, 5, axis=1)
    return _percentiles(deviations, coverage), _percentiles(lowest, coverage)


def reached(values: FloatArray, share: float) -> FloatArray:
    """What at least this share of values along the last axis reach, the most such value."""
    count = values.shape[-1]
    place = int((1 - share) * count + 1e-9)  # 0.1 times 30 is a little less than 3
    found: FloatArray = np.sort(values, axis=-1)[..., place]
    return found


def reached_interval(
    after: FloatArray, before: FloatArray, share: float, seed: int, coverage: float = COVERAGE
) -> Interval:
    """Of what a share of chips reach after, less what one does before, by bootstrap over the chips,
    which are the same."""
    rng = np.random.default_rng([seed, 2])
    drawn = rng.integers(len(after), size=(RESAMPLES, len(after)))
    return _percentiles(reached(after[drawn], share) - reached(before[drawn], share), coverage)


def _student(values: FloatArray, coverage: float) -> tuple[float, float]:
    """The mean, and half its interval's width."""
    from scipy.special import stdtrit

    count = len(values)
    error = float(values.std(ddof=1)) / count**0.5
    return float(values.mean()), float(stdtrit(count - 1, 0.5 + coverage / 2)) * error


def _percentiles(values: FloatArray, coverage: float) -> Interval:
    tail = 50 * (1 - coverage)
    low, high = np.percentile(values, [tail, 100 - tail])
    return Interval(float(low), float(high), coverage)
