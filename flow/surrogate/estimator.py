"""One label's estimate: a formula, what was learned of its error, and how far both may be off.

All in log(1 + label). The formula is a sum of terms that follow from a kernel's structure, with
fitted factors that are not negative. Inside the hull of the designs that it was fitted on, trees
correct it; outside a linear rule does, no further than the corrections that were seen. The interval
is conformal: its half-width is a quantile of the errors on designs of shapes that the fit did not
see, and outside the hull of those on designs beyond its ends; of designs that are told to be about
as large, as small ones are told less exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.metric import Interval
from flow.surrogate.trees import Floats, Forest


@dataclass(frozen=True, eq=False)
class Hull:
    """Where designs were seen: `points` (n, features) between `low` and `high`; in steps of `unit`,
    none is further from the next of another group than `reach`. The first `sizes` features are
    sizes, which may go on beyond the ends; of the others nothing is known there."""

    low: Floats
    high: Floats
    unit: Floats
    points: Floats
    reach: float
    sizes: int

    def holds(self, rows: Floats) -> NDArray[np.bool_]:
        """Of rows (n, features)."""
        within = self._between(rows).all(axis=1)
        near = nearest(rows / self.unit, self.points / self.unit) <= self.reach * (1 + 1e-9)
        found: NDArray[np.bool_] = within & near
        return found

    def strange(self, rows: Floats) -> NDArray[np.bool_]:
        """(n, features): where a row has what no design had, and what is no size."""
        found = ~self._between(rows)
        found[:, : self.sizes] = False
        return found

    def _between(self, rows: Floats) -> NDArray[np.bool_]:
        slack = 1e-9 * self.unit
        found: NDArray[np.bool_] = (rows >= self.low - slack) & (rows <= self.high + slack)
        return found


def nearest(rows: Floats, points: Floats) -> Floats:
    """Distance (Chebyshev) of each row to the nearest point."""
    far = np.empty(len(rows))
    for start in range(0, len(rows), 256):  # bounded memory
        part = rows[start : start + 256, None, :]
        far[start : start + 256] = np.abs(part - points[None]).max(axis=2).min(axis=1)
    return far


@dataclass(frozen=True, eq=False)
class Estimates:
    """Of n designs: values, intervals of nominal `coverage`, and which are outside the hull."""

    value: Floats
    low: Floats
    high: Floats
    outside: NDArray[np.bool_]
    coverage: float

    def interval(self, row: int) -> Interval:
        return Interval(float(self.low[row]), float(self.high[row]), self.coverage)


@dataclass(frozen=True, eq=False)
class Estimator:
    """`factors` are the terms'; `slope` the linear rule's, of (rows - centre) / unit of the hull,
    behind its constant; it and the trees stay within `least` and `most`. `inside` and `outside`
    (b,) are half-widths of estimates between the `edges` (b - 1,), which are log(1 + label)."""

    factors: Floats
    trees: Forest
    slope: Floats
    least: float
    most: float
    hull: Hull
    edges: Floats
    inside: Floats
    outside: Floats
    coverage: float

    def formula(self, terms: Floats) -> Floats:
        """The formula alone, (n,) of terms (n, t)."""
        found: Floats = terms @ self.factors
        return found

    def estimate(self, features: Floats, terms: Floats) -> Estimates:
        """Of features (n, f) and terms (n, t)."""
        held = self.hull.holds(features)
        scaled = (features - self.hull.low) / self.hull.unit
        linear = self.slope[0] + scaled @ self.slope[1:]
        learned = np.where(held, self.trees.predict(features), linear)
        middle = np.log1p(self.formula(terms)) + np.clip(learned, self.least, self.most)
        size = np.searchsorted(self.edges, middle)
        width = np.where(held, self.inside[size], self.outside[size])
        low, value, high = (
            np.maximum(np.expm1(middle + side * width), 0.0) for side in (-1.0, 0.0, 1.0)
        )
        return Estimates(value, low, high, ~held, self.coverage)
