"""Whether a design fits a part, decided so that what does not fit is never said to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import ceil, floor

from flow.metric import Fit, Verdict


@dataclass(frozen=True)
class Need:
    """At least `low` and at most `high` of something, of which a part `has` so many."""

    low: float
    high: float
    has: float

    @property
    def fit(self) -> Fit:
        if self.low > self.has:
            return Fit.DOES_NOT
        return Fit.FITS if self.high <= self.has else Fit.MAY_NOT

    def __str__(self) -> str:
        low, high = floor(self.low), ceil(self.high)
        return f"{f'{low:,} to ' if low < high else ''}{high:,} of {self.has:,.0f}"


def verdict(part: str, needs: Mapping[str, Need], unknown: Collection[str] = ()) -> Verdict:
    """By all that the part is said to have. Of what is `unknown` any amount may be needed."""
    told = {name: need.fit for name, need in needs.items()}
    for fit in (Fit.DOES_NOT, Fit.MAY_NOT):
        found = [f"{name} {need}" for name, need in needs.items() if told[name] is fit]
        if fit is Fit.MAY_NOT:
            found += [f"{name} unknown" for name in unknown]
        if found:
            return Verdict(part, fit, "; ".join(found))
    if not needs:
        return Verdict(part, Fit.MAY_NOT, "nothing is known of what it takes")
    return Verdict(part, Fit.FITS, "; ".join(f"{name} {need}" for name, need in needs.items()))
