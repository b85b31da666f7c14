"""What an hls4ml design will be, told from shapes, bits and reuse factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flow.metric import Interval, Kind, Metric
from flow.outline import FUSED, WEIGHTED, Outline, Role, Step
from flow.surrogate.hls4ml import Reused, cycles, interval, matrix
from flow.surrogate.structure import NOTHING, Range, products
from targets.hls4ml.backends import Strategy

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


def estimates(network: Outline, settings: Mapping[str, Setting], vendor: bool) -> list[Metric]:
    """Of the layers with weights, by name; `vendor` is whether its tools are AMD's."""
    weighted = [step for step in network.steps if step.role in WEIGHTED]
    if network.unknown or not weighted:
        return []
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
    if setting.strategy is Strategy.RESOURCE:
        inputs, outputs = matrix(step)
        made = Reused(inputs, outputs, setting.reuse, step.weight_bits or 0, step.given_bits)
        return made.dsps
    return Range(0, products(step), products(step))
