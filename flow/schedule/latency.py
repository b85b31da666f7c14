"""Latency of a network on one core type, from what its layers do and the clock.

    t = sum over layers of  a[kind] + macs / (r[kind] * f) + bytes / bandwidth[kind]

One model holds for all clocks of a core type: the part that the clock divides and the part that it
does not are fitted apart, by non-negative least squares on relative errors, so that none of its
terms can take time away. The form is a roofline's, its two sides added: a layer's loads and
products seldom overlap in full. `fit_each` is what it is compared with: a model for every clock of
its own, as Yuan et al. train one regressor per configuration (arXiv:1906.08689).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from flow.errors import UsageError
from flow.schedule.layer_work import Network, totals

FloatArray = NDArray[np.float64]
MAX_OBSERVATIONS = 1_000_000


@dataclass(frozen=True)
class Observation:
    """A network that took `seconds` at a clock of `mhz` on the core type in question."""

    name: str
    network: Network
    mhz: float
    seconds: float

    def __post_init__(self) -> None:
        if not (0 < self.mhz < np.inf and 0 < self.seconds < np.inf):
            raise UsageError(
                f"observation {self.name}: mhz and seconds must be above 0 and finite, not "
                f"{self.mhz} and {self.seconds}"
            )


@dataclass(frozen=True)
class LatencyModel:
    """Seconds of a call, cycles of a multiply-accumulate and seconds of a byte, by kind of
    layer."""

    call_s: Mapping[str, float] = field(default_factory=dict)
    mac_cycles: Mapping[str, float] = field(default_factory=dict)
    byte_s: Mapping[str, float] = field(default_factory=dict)

    def seconds(self, network: Network, mhz: float) -> float:
        """The latency of one inference at that clock.

        Raises:
            UsageError: a kind of layer that the model knows nothing of, or a clock that is none.
        """
        if not 0 < mhz < np.inf:
            raise UsageError(f"the clock must be above 0 MHz and finite, not {mhz}")
        found = totals(network)
        if missing := sorted(found.keys() - self.call_s.keys()):
            raise UsageError(
                f"the latency model knows no layers of the kind {', '.join(missing)}; it was "
                f"fitted to {', '.join(sorted(self.call_s))}: measure a network that has them"
            )
        return sum(
            calls * self.call_s[kind]
            + macs * self.mac_cycles.get(kind, 0.0) / (mhz * 1e6)
            + moved * self.byte_s.get(kind, 0.0)
            for kind, (calls, macs, moved) in found.items()
        )


def fit(observations: Sequence[Observation]) -> LatencyModel:
    """The model with the least squared relative error over all observations, of any clocks.

    Raises:
        UsageError: fewer observations than the model has terms, which would leave it undecided.
    """
    terms = _terms(observations)
    if not len(terms) <= len(observations) <= MAX_OBSERVATIONS:
        told = ", ".join(f"{part.name.lower()} of {kind}" for part, kind in terms) or "none"
        raise UsageError(
            f"the latency model has {len(terms)} terms ({told}) and must be fitted to at least as "
            f"many observations and at most {MAX_OBSERVATIONS}, not {len(observations)}"
        )
    rows = np.array([_row(seen, terms) for seen in observations])
    found = _non_negative(rows / _seconds(observations)[:, None]).tolist()
    parts: dict[_Part, dict[str, float]] = {part: {} for part in _Part}
    for (part, kind), value in zip(terms, found, strict=True):
        parts[part][kind] = value
    cycles = {kind: 1e6 * value for kind, value in parts[_Part.MACS].items()}
    return LatencyModel(parts[_Part.CALLS], cycles, parts[_Part.BYTES])


def fit_each(observations: Sequence[Observation]) -> Mapping[float, LatencyModel]:
    """A model of its own for every clock (MHz) that was seen.

    Raises:
        UsageError: as `fit`, of any clock.
    """
    clocks = sorted({seen.mhz for seen in observations})
    return {mhz: fit([seen for seen in observations if seen.mhz == mhz]) for mhz in clocks}


def leave_one_out(observations: Sequence[Observation]) -> FloatArray:
    """Each observation's log of seconds over prediction (n,), by a model that has seen nothing of
    its network, whatever the clock.

    Raises:
        UsageError: as `fit` and `LatencyModel.seconds`.
    """
    found = np.empty(len(observations))
    for name in {seen.name for seen in observations}:
        model = fit([seen for seen in observations if seen.name != name])
        for place, seen in enumerate(observations):
            if seen.name == name:
                found[place] = residual(model, seen)
    return found


def residual(model: LatencyModel, seen: Observation) -> float:
    """The log of measured over predicted seconds; 0 where they are equal."""
    predicted = model.seconds(seen.network, seen.mhz)
    if predicted <= 0:
        raise UsageError(f"the latency model gives {seen.name} no time at all; measure more")
    return float(np.log(seen.seconds / predicted))


def _seconds(observations: Sequence[Observation]) -> FloatArray:
    return np.array([seen.seconds for seen in observations])


class _Part(Enum):
    """What a term of the model is times, by its place in `totals`."""

    CALLS = 0
    MACS = 1
    BYTES = 2


def _terms(observations: Sequence[Observation]) -> list[tuple[_Part, str]]:
    """Part and kind of every term that some observation has."""
    found = {
        (part, kind)
        for seen in observations
        for kind, done in totals(seen.network).items()
        for part in _Part
        if done[part.value]
    }
    return sorted(found, key=lambda term: (term[0].value, term[1]))


def _row(seen: Observation, terms: Sequence[tuple[_Part, str]]) -> list[float]:
    """What each term is times: calls, products over MHz, or bytes of a kind."""
    found = totals(seen.network)
    none = (0, 0, 0)
    return [
        found.get(kind, none)[part.value] / (seen.mhz if part is _Part.MACS else 1.0)
        for part, kind in terms
    ]


def _non_negative(rows: FloatArray) -> FloatArray:
    """x >= 0 with the least |rows x - 1|, where every column is first brought to the same length:
    bytes and calls differ by nine orders of magnitude."""
    from scipy.optimize import nnls  # takes half a second, and only fits need it

    lengths = np.linalg.norm(rows, axis=0)
    lengths[lengths == 0] = 1.0
    found, _ = nnls(rows / lengths, np.ones(len(rows)), maxiter=100 * rows.shape[1])
    scaled: FloatArray = found / lengths
    return scaled
