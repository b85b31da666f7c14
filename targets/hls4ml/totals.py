"""What whole hls4ml networks will take, many ways to build one at once.

A network of dense layers is the sum of its layers, each as C synthesis reports it alone, and of
what lies between them: activations. No reports of whole networks were at hand to calibrate the sum
with, so that its ends are the sums of its parts' ends.

Three accounts are kept apart: C synthesis' own report; what Vivado will leave of it; and what is to
fit, which is the worst end of both. (Vivado leaves less than announced of generic designs, but
hls4ml networks are known of which it left more.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.outline import FUSED, WEIGHTED, Outline, Role, Step
from flow.spans import Floats, Spans
from flow.surrogate.hls4ml import Reused, Way, cycles, features, matrix, terms
from flow.surrogate.shift import shipped_shifts
from flow.surrogate.store import Fitted, shipped
from targets.hls4ml.backends import Strategy

SEARCH = "wa-hls4ml-search"  # the table whose estimators are asked
LEARNED = ("lut", "ff", "bram_18k")
NO_WAY = "only dense layers with multipliers were seen"
# LUTs and flip-flops of whole designs of 64 weights and 64 values of ReLU, 16 bits wide, as C
# synthesis of Vivado HLS 2020.1, Vitis HLS 2023.1 and 2024.1 reported them, without and with
# streams: hls4ml @ef92ebdf2, test/pytest/baselines (Apache-2.0), test_activations. A value of an
# activation is taken to need no more than all of such a design for each of its 64.
RELU_VALUES = 64
RELU = {
    False: {"lut": (2224, 2840, 2983), "ff": (18, 18, 18)},
    True: {"lut": (3955, 4043, 5873), "ff": (326, 2064, 2064)},
}
_RELU_COVERAGE = 3 / 4  # one more of three takes no more than the most of them


@dataclass(frozen=True)
class Setting:
    """How one layer with weights is done."""

    strategy: Strategy
    reuse: int

    @property
    def actual(self) -> int:
        """Products that one multiplier does."""
        return self.reuse if self.strategy is Strategy.RESOURCE else 1

    @property
    def adders(self) -> bool:
        """Whether there are no multipliers."""
        return self.strategy is Strategy.DISTRIBUTED_ARITHMETIC


@dataclass(frozen=True, eq=False)
class Totals:
    """Of n ways to build a network: counts in HLS' report and by Vivado, latency and interval in
    cycles, the coverage of what was learned, by way why that is unknown (empty: it is not), and
    whether all ways do without multipliers."""

    report: Mapping[str, Spans]
    vivado: Mapping[str, Spans]
    latency: Spans
    interval: Spans
    coverage: float
    why: tuple[str, ...]
    adders: bool

    def worst(self, name: str) -> Spans:
        """Of both accounts, for what must fit."""
        announced = self.report[name]
        return announced.with_other(self.vivado[name]) if name in self.vivado else announced


def totals(network: Outline, settings: Sequence[Sequence[Setting]], stream: bool) -> Totals:
    """Of a network for AMD's tools; each way has a setting for every layer with weights."""
    layers = _Layers.of(network, settings)
    report = {name: layers.summed(spans) for name, spans in layers.counts().items()}
    report["dsp"] += _scaling(network)
    why, outside = layers.why(), _outside(network)
    if outside:
        why = (outside,) * len(settings)
        report |= {name: Spans.unknown(len(settings)) for name in LEARNED}
    else:
        for name, each in _activations(network, stream).items():
            report[name] += each
    shifts = shipped_shifts().of
    vivado = {name: report[name] * each.spans for name, each in shifts.items()}
    missed = 0.1 * len(layers.steps) + (1 - _RELU_COVERAGE) * bool(_activated(network))
    adders = all(setting.adders for _, setting in layers.made)
    return Totals(report, vivado, *_timing(network, layers), max(1 - missed, 0.01), why, adders)


@dataclass(frozen=True, eq=False)
class _Layers:
    """The layers with weights in every way that occurs: `made` is of which step in which setting,
    `places` (n, steps) where each way's stand in `made`."""

    steps: tuple[Step, ...]
    made: tuple[tuple[Step, Setting], ...]
    places: NDArray[np.int64]

    @classmethod
    def of(cls, network: Outline, settings: Sequence[Sequence[Setting]]) -> _Layers:
        steps = tuple(step for step in network.steps if step.role in WEIGHTED)
        numbers: dict[tuple[int, Setting], int] = {}
        places = [
            [numbers.setdefault(key, len(numbers)) for key in enumerate(given)]
            for given in settings
        ]
        made = tuple((steps[layer], setting) for layer, setting in numbers)
        return cls(steps, made, np.array(places, dtype=np.int64).reshape(-1, len(steps)))

    def counts(self) -> dict[str, Spans]:
        """Of each of `made`."""
        arrays = {name: np.full((3, len(self.made)), np.nan) for name in LEARNED}
        for way in Way:
            rows = [at for at, one in enumerate(self.made) if way_of(*one) is way]
            layers = [reused(*self.made[at]) for at in rows]
            if not rows:
                continue
            seen, formed = features(layers), terms(layers, way)
            for name in LEARNED:
                arrays[name][:, rows] = _learned(fitted(way).get(name), seen, formed)
        arrays["dsp"] = np.array([_dsps(*one) for one in self.made]).reshape(-1, 3).T
        return {name: Spans(*ends) for name, ends in arrays.items()}

    def summed(self, spans: Spans) -> Spans:
        """Over each way's layers."""
        return Spans(*(e[self.places].sum(axis=1) for e in (spans.low, spans.likely, spans.high)))

    def of_ways(self, values: Iterable[float]) -> Floats:
        """(n, steps) of a value for each of `made`."""
        found: Floats = np.array(list(values), dtype=np.float64)[self.places]
        return found

    def why(self) -> tuple[str, ...]:
        """By way, why something of it was not learned."""
        each = [_why(*one) for one in self.made]
        return tuple(next((each[at] for at in row if each[at]), "") for row in self.places.tolist())


def reused(step: Step, setting: Setting) -> Reused:
    """The matrix of a layer, as it is done."""
    return Reused(*matrix(step), setting.actual, step.weight_bits or 0, step.given_bits)


def fitted(way: Way) -> dict[str, Fitted]:
    """The estimators of single layers done in that way, by label."""
    return {
        str(each.about["label"]): each
        for each in shipped().values()
        if (each.about["table"], each.about["way"]) == (SEARCH, way.value)
    }


def way_of(step: Step, setting: Setting) -> Way | None:
    """None where no such layer was seen."""
    if step.role is not Role.DENSE or setting.adders:
        return None
    return Way.REUSED if setting.actual > 1 else Way.UNROLLED


def _learned(each: Fitted | None, seen: Floats, formed: Floats) -> Floats:
    """(3, n): the ends and between them what is likely; constants take no block RAM."""
    if each is None:
        return np.zeros((3, len(seen)))
    told = each.estimator.estimate(seen, formed)
    found: Floats = np.array([told.low, told.value, told.high])
    found[:, each.estimator.hull.strange(seen).any(axis=1)] = np.nan
    return found


def _dsps(step: Step, setting: Setting) -> tuple[float, float, float]:
    if setting.adders:
        return 0.0, 0.0, 0.0
    found = reused(step, setting).dsps
    return found.low, found.likely, found.high


def _why(step: Step, setting: Setting) -> str:
    way = way_of(step, setting)
    if way is None:
        return f"{step.name}: {NO_WAY}"
    seen = features([reused(step, setting)])
    strange = any(each.estimator.hull.strange(seen).any() for each in fitted(way).values())
    return f"{step.name}: none with bits like its were seen" if strange else ""


def _outside(network: Outline) -> str:
    """Why nothing of the network was learned, whatever its settings."""
    if network.unknown:
        return network.why_unknown
    known = (*WEIGHTED, Role.REQUANT, Role.CLAMP, Role.VIEW)
    others = {step.role.value for step in network.steps if step.role not in known}
    others |= {"scales that are no powers of two" for step in network.steps if step.scaled}
    return f"no design was seen with {', '.join(sorted(others))}" if others else ""


def _scaling(network: Outline) -> Spans:
    """DSPs of what is neither a layer with weights nor a shift: none up to as many for each value
    as the widest product takes."""
    if not all(step.role in (*WEIGHTED, *FUSED) for step in network.steps):
        return Spans.unknown(1)
    values = sum(step.outputs for step in network.steps if step.scaled)
    return Spans.between(0.0, float(values), 4.0 * values)


def _activated(network: Outline) -> int:
    """Values of activations between the layers."""
    return sum(step.outputs for step in network.steps if step.role in (Role.REQUANT, Role.CLAMP))


def _activations(network: Outline, stream: bool) -> dict[str, Spans]:
    """What they take: from nothing, as parts of the layers before them, on."""
    share = _activated(network) / RELU_VALUES
    return {
        name: Spans.between(0.0, share * sorted(seen)[1], share * max(seen))
        for name, seen in RELU[stream].items()
    }


def _timing(network: Outline, layers: _Layers) -> tuple[Spans, Spans]:
    """Latency and interval in cycles, as `flow.surrogate.hls4ml` has them of one design."""
    reuse = layers.of_ways(setting.reuse for _, setting in layers.made)
    adders = layers.of_ways(setting.adders for _, setting in layers.made).any(axis=1)
    positions = np.array([step.positions for step in layers.steps])
    most = (reuse * positions).max(axis=1)
    if not all(step.role in (Role.DENSE, *FUSED) for step in network.steps):
        return Spans.unknown(len(most)), Spans.exactly(most)
    count, total = len(layers.steps), reuse.sum(axis=1)
    scales = sum(step.role is Role.REQUANT for step in network.steps)
    ends = cycles(total, count, scales)
    found = Spans(*(np.where(adders, np.nan, each) for each in ends))
    return found, Spans(most, most, np.where(adders, most, most + 1))
