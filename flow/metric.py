"""Numbers that say what they are: measured, estimated with an interval, or assumed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Kind(Enum):
    MEASURED = "measured"
    ESTIMATED = "estimated"
    ASSUMED = "assumed"


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, meant to hold the true value with probability `coverage` (0 to 1)."""

    low: float
    high: float
    coverage: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"interval must have low <= high, not {self.low} > {self.high}")
        if not 0 < self.coverage <= 1:
            raise ValueError(f"coverage must be in (0, 1], not {self.coverage}")


@dataclass(frozen=True)
class Metric:
    """One number of a report; `unit` is "1" for shares and counts, `source` where it is from."""

    name: str
    value: float
    unit: str
    kind: Kind
    source: str
    interval: Interval | None = None

    def __post_init__(self) -> None:
        if self.kind is Kind.ESTIMATED and self.interval is None:
            raise ValueError(f"metric {self.name}: an estimate must carry its interval")
        if not self.source:
            raise ValueError(f"metric {self.name}: source must not be empty")

    def to_json(self) -> dict[str, Any]:
        interval = self.interval
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "kind": self.kind.value,
            "source": self.source,
            "interval": interval
            and {"low": interval.low, "high": interval.high, "coverage": interval.coverage},
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Metric:
        """The inverse of `to_json`. Raises KeyError or ValueError where the row is none."""
        interval = row["interval"]
        return cls(
            row["name"],
            row["value"],
            row["unit"],
            Kind(row["kind"]),
            row["source"],
            Interval(**interval) if interval else None,
        )


class Fit(Enum):
    """Whether a design fits a part, decided on the ends of what it may take: `fits` on the upper
    ones, `does not fit` on a lower one; what lies between, or is not known, may not fit."""

    FITS = "fits"
    MAY_NOT = "may not fit"
    DOES_NOT = "does not fit"


@dataclass(frozen=True)
class Verdict:
    """Whether a design fits a part, and what decides that."""

    part: str
    fit: Fit
    why: str

    def to_json(self) -> dict[str, str]:
        return {"part": self.part, "fit": self.fit.value, "why": self.why}


@dataclass(frozen=True)
class Told:
    """Figures, and why others cannot be told, by their names: what is not known is never 0. With a
    part, whether the design fits it."""

    metrics: tuple[Metric, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)
    verdict: Verdict | None = None


def share_interval(hits: int, total: int, coverage: float = 0.95) -> Interval:
    """Wilson's score interval of the share hits/total.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 22 (1927).
    """
    if not 0 <= hits <= total or total == 0:
        raise ValueError(f"need 0 <= hits <= total and total > 0, not {hits} of {total}")
    z = normal_quantile(0.5 + coverage / 2)
    share, weight = hits / total, z * z / total
    centre = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / total + weight / (4 * total)) / (1 + weight)
    return Interval(max(0.0, centre - half), min(1.0, centre + half), coverage)


def normal_quantile(p: float) -> float:
    """The standard normal distribution's quantile of probability p."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(p)
