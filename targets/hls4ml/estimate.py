"""What an hls4ml design will be, told from shapes, bits and reuse factors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flow.metric import Fit, Interval, Kind, Metric, Told, Verdict
from flow.outline import FUSED, WEIGHTED, Outline, Role, Step
from flow.report.vendor.synthesis import BY_VIVADO, HLS_REPORT
from flow.spans import Spans
from flow.surrogate import energy
from flow.surrogate.fits import Need, verdict
from flow.surrogate.hls4ml import FEATURES, cycles, features, interval, terms
from flow.surrogate.shift import NO_BRAM, shipped_shifts
from flow.surrogate.store import Fitted
from flow.surrogate.structure import Range
from flow.surrogate.trees import Floats
from targets.hls4ml.parts import COUNTED, find_stock
from targets.hls4ml.totals import NO_WAY, Setting, Totals, fitted, reused, totals, way_of

_SEEN = 747  # designs of which each had exactly so many DSPs


@dataclass(frozen=True)
class Build:
    """What is told to HLS of a whole design: the part, its clock's period, and whether values go
    from layer to layer through streams; `vendor` is whether its tools are AMD's."""

    part: str
    clock_ns: float
    stream: bool
    vendor: bool


def timing(reuse: Sequence[int], scales: int) -> list[Metric]:
    """Latency and interval of dense layers for AMD's devices."""
    low, likely, high = cycles(sum(reuse), len(reuse), scales)
    every = interval(reuse)
    source = "sum(reuse)+2*layers-1; held in 109 of 109 dense hls4ml designs (Vitis 2023.2)"
    between = Interval(low, high, 0.95)
    same = "largest reuse factor; same designs"
    return [
        Metric("latency", likely, "cycles", Kind.ESTIMATED, source, between),
        Metric("interval", every.low, "cycles", Kind.ESTIMATED, same, every),
    ]


def estimates(network: Outline, settings: Mapping[str, Setting], build: Build) -> Told:
    """With the settings of the layers with weights, by name: of the whole, and of each layer."""
    told = whole(network, settings, build)
    if network.unknown or not build.vendor:
        return told
    weighted = [step for step in network.steps if step.role in WEIGHTED]
    layers = [_layer(step, settings[step.name]) for step in weighted]
    metrics = (metric for layer in layers for metric in layer.metrics)
    unknown = {name: why for layer in layers for name, why in layer.unknown.items()}
    return replace(told, metrics=(*told.metrics, *metrics), unknown={**told.unknown, **unknown})


def whole(network: Outline, settings: Mapping[str, Setting], build: Build) -> Told:
    """Of the whole network."""
    weighted = [step for step in network.steps if step.role in WEIGHTED]
    if network.unknown:
        why = network.why_unknown
        return Told((), dict.fromkeys(("latency", "interval", *_counts()), why), _lost(build, why))
    if not weighted:
        return Told()
    chosen = [settings[step.name] for step in weighted]
    times = _times(network, weighted, chosen, build.vendor)
    if not build.vendor:
        why = "no design for these devices was seen"
        return Told(tuple(times), dict.fromkeys(_counts(), why))
    found = totals(network, [chosen], build.stream)
    counts, unknown = _counted(found)
    energies, lost = _energy(network, found, build)
    unknown |= lost
    return Told((*times, *counts, *energies), unknown, fit_of(found, build))


def _times(
    network: Outline, weighted: Sequence[Step], settings: Sequence[Setting], vendor: bool
) -> list[Metric]:
    reuse = [setting.reuse for setting in settings]
    plain = all(step.role in (Role.DENSE, *FUSED) for step in network.steps)
    adders = any(setting.adders for setting in settings)
    if not plain:
        every = max(s.positions * r for s, r in zip(weighted, reuse, strict=True))
        source = "largest of output positions * reuse factor over the layers; not checked"
        return [Metric("interval", every, "cycles", Kind.ASSUMED, source)]
    if adders or not vendor:
        source = "largest reuse factor over the layers; not checked for such designs"
        return [Metric("interval", max(reuse), "cycles", Kind.ASSUMED, source)]
    return timing(reuse, sum(step.role is Role.REQUANT for step in network.steps))


def _counts() -> Iterator[str]:
    """Names of what is counted of a whole design, of either account."""
    yield from (f"{name} {HLS_REPORT}" for name in COUNTED)
    yield from (f"{name} {BY_VIVADO}" for name in COUNTED)


def _counted(found: Totals) -> tuple[list[Metric], dict[str, str]]:
    """HLS' report and what Vivado will leave of it, each for itself."""
    metrics, unknown = [], {}
    for name, spans in found.report.items():
        source, coverage = _source(name, spans, found)
        called = f"{name} {HLS_REPORT}"
        if not spans.known[0]:
            unknown[called] = found.why[0] or "not told of such networks"
            continue
        metrics.append(_estimated(called, spans, source, coverage))
    for name in COUNTED:
        called = f"{name} {BY_VIVADO}"
        left = found.vivado.get(name)
        if left is None:
            unknown[called] = NO_BRAM
        elif not left.known[0]:
            unknown[called] = f"{name} {HLS_REPORT} is not known"
        else:
            shifts = shipped_shifts()
            _, coverage = _source(name, found.report[name], found)
            missed = 2 - coverage - shifts.of[name].coverage
            source = f"{name} {HLS_REPORT}, {shifts.source}"
            metrics.append(_estimated(called, left, source, max(1 - missed, 0.01)))
    return metrics, unknown


def _energy(network: Outline, found: Totals, build: Build) -> tuple[list[Metric], dict[str, str]]:
    """Of the logic, and of a board where one with the device was measured."""
    logic = energy.unrolled if found.adders else energy.multiplied
    metrics = [energy.switching(logic(network), fabric=True)]
    stock = find_stock(build.part)
    device = stock.device if stock is not None else build.part
    seconds = [
        Range(*(float(end[0]) for end in (s.low, s.likely, s.high))) * (1e-9 * build.clock_ns)
        if s.known[0]
        else None
        for s in (found.latency, found.interval)
    ]
    metrics += energy.boards(device, *seconds)
    told = {metric.name for metric in metrics}
    unknown = {}
    if energy.PIPELINED not in told:
        unknown[energy.ALONE] = energy.no_board(device)
    elif energy.ALONE not in told:
        unknown[energy.ALONE] = "its latency is not known"
    return metrics, unknown


def _source(name: str, spans: Spans, found: Totals) -> tuple[str, float]:
    if name != "dsp":
        return "sum of the layers' and activations' ends; no whole network was seen", found.coverage
    if spans.low[0] == spans.high[0]:
        return (
            f"one a multiplier for weights of 8 bits or more, none for 4 or less; exact in C "
            f"synthesis of {_SEEN} of {_SEEN} dense layers (Vitis HLS)"
        ), _SEEN / (_SEEN + 1)
    return "between none and one a product: not decided by bits and reuse factor alone", 1.0


def _estimated(name: str, spans: Spans, source: str, coverage: float) -> Metric:
    low, value, high = (float(each[0]) for each in (spans.low, spans.likely, spans.high))
    return Metric(name, value, "1", Kind.ESTIMATED, source, Interval(low, high, coverage))


def fit_of(found: Totals, build: Build, row: int = 0) -> Verdict | None:
    """Whether one of the ways fits its part; None where what the part has is not known."""
    stock = find_stock(build.part)
    if stock is None:
        return None
    needs, unknown = {}, []
    for name in COUNTED:
        spans = found.worst(name)
        if spans.known[row]:
            needs[name] = Need(float(spans.low[row]), float(spans.high[row]), stock.has[name])
        else:
            unknown.append(name)
    return verdict(stock.device, needs, unknown)


def _lost(build: Build, why: str) -> Verdict | None:
    stock = find_stock(build.part)
    return None if stock is None else Verdict(stock.device, Fit.MAY_NOT, why)


def _layer(step: Step, setting: Setting) -> Told:
    """What C synthesis will report of a layer alone: what lies between layers is not in it."""
    way = way_of(step, setting)
    if way is None:
        return Told((), {f"{step.name} lut": NO_WAY})
    made, learned = [reused(step, setting)], fitted(way)
    rows = features(made)
    metrics = []
    for label, each in learned.items():
        strange = each.estimator.hull.strange(rows)[0]
        if strange.any():
            return Told(
                (), {f"{step.name} {label}": _why(each, rows[0], strange) for label in learned}
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
