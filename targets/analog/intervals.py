"""Intervals of what chips and samples tell, each with what varies in it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flow.metric import Interval
from targets.analog.mapping import FloatArray

COVERAGE = 0.95
RESAMPLES = 2000
PART = 100  # resamples at a time
BoolArray = NDArray[np.bool_]


def mean_interval(values: FloatArray, coverage: float = COVERAGE) -> Interval:
    """Student's t interval of the mean of shares: chips vary, samples do not."""
    mean, half = _student(values, coverage)
    return Interval(max(0.0, mean - half), min(1.0, mean + half), coverage)


def difference_interval(values: FloatArray, coverage: float = COVERAGE) -> Interval:
    """Student's t interval of the mean of paired differences."""
    mean, half = _student(values, coverage)
    return Interval(mean - half, mean + half, coverage)


def yield_interval(good: int, chips: int, coverage: float = COVERAGE) -> Interval:
    """Clopper and Pearson's interval of a share, which covers at least what it says.

    Source: C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits illustrated in
    the case of the binomial", Biometrika 26 (1934).
    """
    from scipy.special import betaincinv

    tail = (1 - coverage) / 2
    low = 0.0 if good == 0 else float(betaincinv(good, chips - good + 1, tail))
    high = 1.0 if good == chips else float(betaincinv(good + 1, chips - good, 1 - tail))
    return Interval(low, high, coverage)


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


def two_way_interval(hits: BoolArray, seed: int, coverage: float = COVERAGE) -> Interval:
    """Of the mean of `hits` (chips, samples), where both chips and samples are drawn: percentiles
    over means of rows and columns drawn with replacement, each independently, which errs on the
    wide side.

    Source: A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007).
    """
    rng = np.random.default_rng([seed, 2])
    chips, samples = hits.shape
    means, right = np.empty(RESAMPLES), hits.astype(np.float32)
    for start in range(0, RESAMPLES, PART):
        rows, columns = (
            rng.multinomial(count, np.full(count, 1 / count), PART).astype(np.float32)
            for count in (chips, samples)
        )
        part = means[start : start + PART]
        sums = (rows @ right).astype(np.float64)  # exact: chips are fewer than 2^24
        part[:] = np.einsum("ij,ij->i", sums, columns)[: len(part)]
    return _percentiles(means / (chips * samples), coverage)


def spread_intervals(
    values: FloatArray, seed: int, coverage: float = COVERAGE
) -> tuple[Interval, Interval]:
    """Of the standard deviation and of the 5th percentile over chips, by bootstrap."""
    rng = np.random.default_rng([seed, 1])
    drawn = values[rng.integers(len(values), size=(RESAMPLES, len(values)))]
    deviations = drawn.std(axis=1, ddof=1)
    lowest = np.percentile(drawn, 5, axis=1)
    return _percentiles(deviations, coverage), _percentiles(lowest, coverage)


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
