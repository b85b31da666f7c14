"""What an hls4ml design will be, told from shapes, bits and reuse factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.metric import Interval, Kind, Metric, Told
from flow.outline import FUSED, WEIGHTED, Outline, Role, Step
from flow.surrogate.hls4ml import (
    FEATURES,
    Reused,
    Way,
    cycles,
    features,
    interval,
    matrix,
    terms,
)
from flow.surrogate.store import Fitted, shipped
from flow.surrogate.structure import NOTHING, Range
from flow.surrogate.trees import Floats
from targets.hls4ml.backends import Strategy

SEARCH = "wa-hls4ml-search"  # the table whose estimators are asked
_SEEN = 747  # designs of which each had exactly so many DSPs


@dataclass(frozen=True)
class Setting:
    """How one layer with weights is done."""

    strategy: Strategy
    reuse: int


def timing(reuse: Sequence[int], scales: int) -> list[Metric]:
    """Latency and interval of dense layers for AMD's devices."""
    latency, every = cycles(reuse, scales), interval(reuse)
    source = "sum(reuse)+2*layers-1; held in 109 of 109 dense hls4ml designs (Vitis 2023.2)"
    between = Interval(latency.low, latency.high, 0.95)
    same = "largest reuse factor; same designs"
    return [
        Metric("latency", latency.likely, "cycles", Kind.ESTIMATED, source, between),
        Metric("interval", every.low, "cycles", Kind.ESTIMATED, same, every),
    ]


def estimates(network: Outline, settings: Mapping[str, Setting], vendor: bool) -> Told:
    """Of the layers with weights, by name; `vendor` is whether its tools are AMD's."""
    weighted = [step for step in network.steps if step.role in WEIGHTED]
    if network.unknown or not weighted:
        return Told()
    whole = _whole(network, weighted, settings, vendor)
    if not vendor:
        return Told(tuple(whole), {"lut": "no design for these devices was seen"})
    layers = [_layer(step, settings[step.name]) for step in weighted]
    metrics = (metric for layer in layers for metric in layer.metrics)
    unknown = {name: why for layer in layers for name, why in layer.unknown.items()}
    return Told((*whole, *metrics), unknown)


def _whole(
    network: Outline, weighted: Sequence[Step], settings: Mapping[str, Setting], vendor: bool
) -> list[Metric]:
    reuse = [settings[step.name].reuse for step in weighted]
    plain = all(step.role in (Role.DENSE, *FUSED) for step in network.steps)
    adders = any(each.strategy is Strategy.DISTRIBUTED_ARITHMETIC for each in settings.values())
    if not plain:
        every = max(s.positions * r for s, r in zip(weighted, reuse, strict=True))
        source = "largest of output positions * reuse factor over the layers; not checked"
        return [Metric("interval", every, "cycles", Kind.ASSUMED, source)]
    if adders or not vendor:
        source = "largest reuse factor over the layers; not checked for such designs"
        return [Metric("interval", max(reuse), "cycles", Kind.ASSUMED, source)]
    scales = sum(step.role is Role.REQUANT for step in network.steps)
    return [*timing(reuse, scales), _dsps(weighted, settings)]


def _dsps(weighted: Sequence[Step], settings: Mapping[str, Setting]) -> Metric:
    parts = [_dsps_of(step, settings[step.name]) for step in weighted]
    found = sum(parts, NOTHING)
    certain = found.low == found.high
    source = (
        f"one a multiplier for weights of 8 bits or more, none for 4 or less; exact in C synthesis "
        f"of {_SEEN} of {_SEEN} dense layers (Vitis HLS)"
        if certain
        else "between none and one a product: not decided by bits and reuse factor alone"
    )
    coverage = _SEEN / (_SEEN + 1) if certain else 1.0
    between = Interval(found.low, found.high, coverage)
    return Metric("dsp", found.likely, "1", Kind.ESTIMATED, source, between)


def _dsps_of(step: Step, setting: Setting) -> Range:
    if setting.strategy is Strategy.DISTRIBUTED_ARITHMETIC:
        return NOTHING
    reuse = setting.reuse if setting.strategy is Strategy.RESOURCE else 1
    return Reused(*matrix(step), reuse, step.weight_bits or 0, step.given_bits).dsps


def _layer(step: Step, setting: Setting) -> Told:
    """What C synthesis will report of a layer alone: what lies between layers is not in it."""
    if step.role is not Role.DENSE or setting.strategy is Strategy.DISTRIBUTED_ARITHMETIC:
        return Told((), {f"{step.name} lut": "only dense layers with multipliers were seen"})
    reuse = setting.reuse if setting.strategy is Strategy.RESOURCE else 1
    way = Way.REUSED if reuse > 1 else Way.UNROLLED
    made = [Reused(step.taken, step.channels, reuse, step.weight_bits or 0, step.given_bits)]
    fitted = {
        each.about["label"]: each
        for each in shipped().values()
        if (each.about["table"], each.about["way"]) == (SEARCH, way.value)
    }
    rows = features(made)
    metrics = []
    for label, each in fitted.items():
        strange = each.estimator.hull.strange(rows)[0]
        if strange.any():
            return Told(
                (), {f"{step.name} {label}": _why(each, rows[0], strange) for label in fitted}
            )
        found = each.estimator.estimate(rows, terms(made, way))
        beyond = "; beyond all that were seen, hence wide" if found.outside[0] else ""
        source = f"the layer alone. {each.source}{beyond}"
        name, value = f"{step.name} {label}", float(found.value[0])
        metrics.append(Metric(name, value, "1", Kind.ESTIMATED, source, found.interval(0)))
    return Told(tuple(metrics))


def _why(fitted: Fitted, row: Floats, strange: NDArray[np.bool_]) -> str:
    hull = fitted.estimator.hull
    parts = [
        f"{name} {value:g}, where designs seen have {low:g}"
        + (f" to {high:g}" if high > low else "")
        for name, value, low, high, odd in zip(
            FEATURES, row.tolist(), hull.low.tolist(), hull.high.tolist(), strange, strict=True
        )
        if odd
    ]
    return "; ".join(parts)
