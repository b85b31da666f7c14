"""The area under the ROC curve: how well a score tells anomalies from what is normal.

It is the share of pairs of a normal and an anomalous one in which the anomalous one has the higher
score, pairs of equal scores counted half.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from flow.metric import Interval, Kind, Metric, normal_quantile

NAME = "AUC"
_HALVINGS = 60  # of an interval, until its ends are as exact as floats are


@dataclass(frozen=True)
class Roc:
    """The area (0 to 1), and the numbers of `normal` and `anomalous` recordings it is of."""

    area: float
    normal: int
    anomalous: int

    @classmethod
    def of(cls, scores: NDArray[Any], anomalous: NDArray[np.bool_]) -> Self:
        """Of the scores (n,) of n recordings. Raises ValueError where a kind is missing."""
        ones, others = np.sort(scores[anomalous]), scores[~anomalous]
        if not len(ones) or not len(others):
            raise ValueError(f"{NAME} needs normal and anomalous recordings, not one kind alone")
        above = len(ones) - np.searchsorted(ones, others, "right")
        equal = len(ones) - above - np.searchsorted(ones, others, "left")
        pairs = len(ones) * len(others)
        return cls(float(2 * above.sum() + equal.sum()) / (2 * pairs), len(others), len(ones))

    @classmethod
    def of_parts(
        cls, scores: NDArray[Any], labels: NDArray[np.int64], recordings: NDArray[np.int64]
    ) -> Self:
        """Of the scores (n,) of parts of recordings, each recording judged by their mean; labels
        (n,) are 1 for parts of anomalous ones.

        Raises:
            ValueError: a kind is missing, or a recording is of both.
        """
        _, first, of = np.unique(recordings, return_index=True, return_inverse=True)
        anomalous = labels == 1
        if not np.array_equal(anomalous[first][of], anomalous):
            raise ValueError("all parts of a recording must have one label")
        return cls.of(np.bincount(of, weights=scores) / np.bincount(of), anomalous[first])

    def interval(self, coverage: float = 0.95) -> Interval:
        """Newcombe's score interval, to the area what Wilson's is to a share: the areas t with
        (area - t)^2 <= z^2 t (1 - t) (1 + c (1 - t) / (2 - t) + c t / (1 + t)) / (normal *
        anomalous), c = (normal + anomalous) / 2 - 1.

        Source: R. G. Newcombe, "Confidence intervals for an effect size measure based on the
        Mann-Whitney statistic. Part 2", Statistics in Medicine 25 (2006), method 5; the variance is
        that of J. A. Hanley and B. J. McNeil, Radiology 143 (1982).
        """
        low, high = (self._end(bound, normal_quantile(0.5 + coverage / 2)) for bound in (0.0, 1.0))
        return Interval(low, high, coverage)

    def _end(self, bound: float, z: float) -> float:
        inside, outside = self.area, bound
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2
            if abs(self.area - middle) <= z * math.sqrt(self._variance(middle)):
                inside = middle
            else:
                outside = middle
        return inside

    def _variance(self, area: float) -> float:
        more = (self.normal + self.anomalous) / 2 - 1
        factor = 1 + more * (1 - area) / (2 - area) + more * area / (1 + area)
        return area * (1 - area) * factor / (self.normal * self.anomalous)

    def metric(self, stage: str) -> Metric:
        """As a figure of a report."""
        source = f"{self.anomalous} anomalous against {self.normal} normal recordings"
        return Metric(f"{NAME} {stage}", self.area, "1", Kind.MEASURED, source, self.interval())
