"""Quantiles that hold for designs of groups that were not seen."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from flow.metric import Interval
from flow.surrogate.trees import Floats


def group_quantile(errors: Floats, groups: NDArray[np.int64], coverage: float) -> float:
    """The least bound that holds errors of a new group with probability `coverage`: of the errors
    pooled, each of K groups with a weight of 1/(K+1), and the missing one at infinity.

    With few groups there may be none below infinity: then the largest error is given, which holds
    with probability K/(K+1) at least.

    Source: R. Dunn, L. Wasserman, A. Ramdas, "Distribution-free prediction sets for two-layer
    hierarchical models", JASA 118 (2023), pooling of distributions.
    """
    if len(errors) == 0 or len(errors) != len(groups):
        raise ValueError(f"need an error and a group each, not {len(errors)} and {len(groups)}")
    names, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    weight = 1.0 / (counts[place] * (len(names) + 1))
    order = np.argsort(errors, kind="stable")
    reached = np.cumsum(weight[order])
    at = int(np.searchsorted(reached, coverage - 1e-12))
    return float(errors[order[min(at, len(errors) - 1)]])


def exact_share(hits: int, total: int, coverage: float = 0.95) -> Interval:
    """The interval of Clopper and Pearson of the share hits/total.

    Source: C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits illustrated in
    the case of the binomial", Biometrika 26 (1934); the ends by bisection of the binomial sum.
    """
    if not 0 <= hits <= total or total == 0:
        raise ValueError(f"need 0 <= hits <= total and total > 0, not {hits} of {total}")
    tail = (1 - coverage) / 2
    low = 0.0 if hits == 0 else _solve(lambda p: 1 - _below(hits - 1, total, p) - tail)
    high = 1.0 if hits == total else _solve(lambda p: tail - _below(hits, total, p))
    return Interval(low, high, coverage)


def _below(hits: int, total: int, share: float) -> float:
    """Probability of at most `hits`."""
    if share <= 0 or share >= 1:
        return 1.0 if share <= 0 or hits >= total else 0.0
    logs = (
        math.lgamma(total + 1)
        - math.lgamma(k + 1)
        - math.lgamma(total - k + 1)
        + k * math.log(share)
        + (total - k) * math.log1p(-share)
        for k in range(hits + 1)
    )
    return min(math.fsum(math.exp(log) for log in logs), 1.0)


def _solve(rising: Callable[[float], float]) -> float:
    """Where a function that rises over (0, 1) is 0."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
