"""Which of many points no other is better than."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flow.spans import Floats


def front(costs: Floats) -> NDArray[np.bool_]:
    """Of points with costs (n, k), those (n,) that no other dominates, which would be as cheap in
    all and cheaper in one. A point with a cost that is not known (NaN) is never among them, and
    keeps no other out."""
    found = np.zeros(len(costs), dtype=bool)
    known = np.flatnonzero(~np.isnan(costs).any(axis=1))
    # Who dominates another comes before it in this order.
    order = known[np.lexsort(costs[known].T[::-1])]
    best = np.empty((len(order), costs.shape[1]))
    count = 0
    for at in order.tolist():
        held, row = best[:count], costs[at]
        below = held[(held <= row).all(axis=1)]
        if len(below) and (below < row).any():
            continue
        found[at] = True
        if not len(below):  # else an equal one is held
            best[count] = row
            count += 1
    return found
