"""Numbers of which sources say where they lie, and what follows for sums and products of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flow.metric import Interval, Kind, Metric


@dataclass(frozen=True)
class Amount:
    """At least `low`, at most `high`, with the share of coverage that both ends have; None where
    only one number is known."""

    value: float
    low: float
    high: float
    coverage: float | None = None

    @classmethod
    def of(cls, known: Sequence[float]) -> Amount:
        """Of n known numbers, ascending: the middle one, or, of two, what lies between. Another
        from where they are from lies inside their ends with a probability of (n - 1)/(n + 1)."""
        count, middle = len(known), (known[len(known) // 2] + known[(len(known) - 1) // 2]) / 2
        coverage = (count - 1) / (count + 1) if count > 1 else None
        return cls(middle, known[0], known[-1], coverage)

    def __add__(self, other: Amount) -> Amount:
        ends = self.low + other.low, self.high + other.high
        return Amount(self.value + other.value, *ends, self._both(other))

    def __mul__(self, other: Amount | float) -> Amount:
        """Amounts are not below 0."""
        if isinstance(other, float):
            other = Amount(other, other, other)
        ends = self.low * other.low, self.high * other.high
        return Amount(self.value * other.value, *ends, self._both(other))

    def _both(self, other: Amount) -> float | None:
        covers = [part for part in (self.coverage, other.coverage) if part is not None]
        return min(covers, default=None)

    def metric(self, name: str, unit: str, source: str) -> Metric:
        """Estimated, where a range is known, else assumed."""
        if self.coverage is None:
            return Metric(name, self.value, unit, Kind.ASSUMED, source)
        interval = Interval(self.low, self.high, self.coverage)
        return Metric(name, self.value, unit, Kind.ESTIMATED, source, interval)
