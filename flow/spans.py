"""Figures of many designs at once, as arrays: from where to where each may lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.metric import Fit

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spans:
    """Of n designs (n,): at least, likely, and at most; NaN, all three, where it is not known."""

    low: Floats
    likely: Floats
    high: Floats

    @classmethod
    def exactly(cls, values: Floats) -> Spans:
        return cls(values, values, values)

    @classmethod
    def between(cls, low: float, likely: float, high: float) -> Spans:
        """Of one design, or of each of any number alike."""
        return cls(np.array([low]), np.array([likely]), np.array([high]))

    @classmethod
    def unknown(cls, count: int) -> Spans:
        return cls.exactly(np.full(count, np.nan))

    def __add__(self, other: Spans) -> Spans:
        return Spans(self.low + other.low, self.likely + other.likely, self.high + other.high)

    def __mul__(self, other: Spans) -> Spans:
        """Of what is not below 0."""
        return Spans(self.low * other.low, self.likely * other.likely, self.high * other.high)

    def with_other(self, other: Spans) -> Spans:
        """The ends of two accounts of the same; the likely value is this one's."""
        ends = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return Spans(ends[0], self.likely, ends[1])

    @property
    def known(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.likely)


@dataclass(frozen=True, eq=False)
class Swept:
    """What a target tells of n designs: figures by name, the part of each and whether it fits
    that, and why something of it is unknown (empty: nothing is). `costs` are what designs are
    chosen by, each at its upper end (n,), NaN where it is not known; `units` those of figures and
    of costs."""

    figures: Mapping[str, Spans]
    units: Mapping[str, str]
    costs: Mapping[str, Floats]
    parts: tuple[str, ...]
    fits: tuple[Fit, ...]
    why: tuple[str, ...]
