"""Quantiles that hold for designs of groups that were not seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
