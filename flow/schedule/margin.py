"""How far a latency may be from its prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.errors import UsageError
from flow.metric import Interval


@dataclass(frozen=True)
class Margin:
    """Split-conformal factors: measured over predicted seconds is at most `upper`, and from `low`
    to `high`, with probability `coverage` each, for any law of errors, as long as the next
    prediction is exchangeable with the `count` that calibrated it.

    Source: V. Vovk, A. Gammerman and G. Shafer, "Algorithmic Learning in a Random World" (2005);
    the split form of Papadopoulos et al. (ECML 2002).
    """

    upper: float
    low: float
    high: float
    coverage: float
    count: int

    def interval(self, seconds: float) -> Interval:
        """Where a measurement will lie of which `seconds` were predicted."""
        return Interval(seconds * self.low, seconds * self.high, self.coverage)


def margin(residuals: Sequence[float], coverage: float = 0.9) -> Margin:
    """The margin from logs of measured over predicted seconds, none of which the predictor has
    seen.

    Raises:
        UsageError: too few of them for that coverage, or one that is no number.
    """
    if not 0 < coverage < 1:
        raise UsageError(f"coverage must be between 0 and 1, not {coverage}")
    ordered = np.sort(np.asarray(residuals, dtype=np.float64))
    if not np.isfinite(ordered).all():
        raise UsageError("a residual of the latency model is no number")
    # Two-sided, each side keeps half of what may be missed.
    tail = (1 - coverage) / 2
    count = len(ordered)
    needed = math.ceil(round(1 / tail - 1, 9))
    if count < needed:
        raise UsageError(
            f"a margin of coverage {coverage:g} needs at least {needed} predictions that can be "
            f"compared with measurements, not {count}; measure more networks or ask for less"
        )
    upper, high = _at_most(ordered, 1 - coverage), _at_most(ordered, tail)
    low = -_at_most(-ordered[::-1], tail)
    return Margin(math.exp(upper), math.exp(low), math.exp(high), coverage, count)


def _at_most(ordered: NDArray[np.float64], missed: float) -> float:
    """The smallest calibration value that the next one exceeds with probability `missed` at
    most."""
    rank = math.ceil(round((len(ordered) + 1) * (1 - missed), 9))
    return float(ordered[rank - 1])
