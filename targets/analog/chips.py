"""What is told of many chips: accuracies with intervals, their spread, and the yield."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from flow.binomial import exact_share
from flow.graph import Graph
from flow.metric import Interval, Kind, Metric, share_interval
from flow.ops import IntArray
from flow.target import Spread, Trial
from targets.analog.build import run_all
from targets.analog.converters import Converter
from targets.analog.device import Device
from targets.analog.engine import Engine, Hardware, Layer
from targets.analog.intervals import (
    BoolArray,
    difference_interval,
    mean_interval,
    spread_intervals,
    two_way_interval,
)
from targets.analog.montecarlo import Wanted, simulate
from targets.analog.programmed import Condition, Draws
from targets.analog.ramp import thresholds


@dataclass(frozen=True)
class Question:
    """What is asked of chips: how many, under which condition, and which accuracy (0 to 1) is good
    enough, 0 where that is not asked."""

    wanted: Wanted
    condition: Condition
    seed: int
    floor: float


def ask(
    graph: Graph,
    layers: Sequence[Layer],
    device: Device,
    name: str,
    question: Question,
    trial: Trial,
) -> Spread:
    """What chips of the device, which users know as `name`, answer."""
    if not varies(device, question.condition) and not lossy(layers, device):
        return Spread(warnings=(f"device {name} has no noise: every chip is as it was proven",))
    if trial.right is None:
        return Spread(
            warnings=("chips are rated by accuracy, which this network has none of: not simulated",)
        )
    accuracy = {}
    if lossy(layers, device):
        accuracy["converters"] = _without_noise(graph, layers, device, trial)
    if not varies(device, question.condition):
        return Spread(accuracy, warnings=(f"device {name} has no noise: all chips are alike",))
    hits = hits_of(graph, layers, device, question, trial)
    told = f"{len(hits):,} simulated chips, device {name}, {_condition(device, question.condition)}"
    accuracy["chips"] = Metric(
        "accuracy chips",
        float(hits.mean()),
        "1",
        Kind.ESTIMATED,
        f"mean of {told}; t interval over chips, of these {hits.shape[1]} samples",
        mean_interval(hits.mean(axis=1)),
    )
    more = _nonlinearity(layers, device, question)
    return Spread(accuracy, (*_metrics(hits, question), *more))


def hits_of(
    graph: Graph, layers: Sequence[Layer], device: Device, question: Question, trial: Trial
) -> BoolArray:
    """Which samples chips answer right: (chips, samples)."""
    hardware = Hardware(device, question.condition, question.seed)
    make = partial(Engine, graph, layers, hardware)
    return simulate(make, trial, question.wanted, trial.state / f"{_key(layers, hardware)}.npz")


def varies(device: Device, condition: Condition) -> bool:
    """Whether one chip differs from another."""
    stuck = device.stuck is not None and device.stuck.off + device.stuck.on > 0
    drifts = device.drift is not None and condition.time_s > 0
    return stuck or drifts or (condition.noise > 0 and device.varies)


def lossy(layers: Sequence[Layer], device: Device) -> bool:
    """Whether converters or wires lose something even without noise."""
    parts = (device.weight, device.input, device.detector, device.wire)
    return any(part is not None for part in parts) or any(
        layer.drive.dropped > 0 or replace(layer.converter, offset=0.0, noise=0.0) != Converter()
        for layer in layers
    )


def _without_noise(graph: Graph, layers: Sequence[Layer], device: Device, trial: Trial) -> Metric:
    """The accuracy of one chip that is programmed exactly."""
    exact = replace(device, stuck=None)
    engine = Engine(graph, layers, Hardware(exact, Condition(noise=0.0)))
    assert trial.right is not None
    outputs: list[IntArray] = []
    run_all(engine, trial.codes, lambda part: outputs.append(engine.run(part, [0])[0]))
    total = len(trial.codes)
    hits = int(trial.right(np.concatenate(outputs), np.arange(total)).sum())
    wires = "" if device.wire is None else " and wires"
    source = f"{hits} of {total} test samples, with the device's converters{wires}"
    return Metric(
        "accuracy converters", hits / total, "1", Kind.MEASURED, source, share_interval(hits, total)
    )


def _condition(device: Device, condition: Condition) -> str:
    parts = [] if condition.noise == 1 else [f"{condition.noise:g} times its noise"]
    if device.drift is not None:
        time = f"{condition.time_s:g} s of drift"
        parts.append(f"{time}, compensation {condition.compensation.value}")
    if device.nl_adc is not None and not condition.calibrate:
        parts.append("ramps not calibrated")
    return ", ".join(parts) or "as programmed"


def _metrics(hits: BoolArray, question: Question) -> list[Metric]:
    shares = hits.mean(axis=1)
    deviation, lowest = spread_intervals(shares, question.seed)
    over = "bootstrap over chips"
    found = [
        Metric(
            "accuracy, other samples too",
            float(shares.mean()),
            "1",
            Kind.ESTIMATED,
            "the same mean; t interval of its logit, over chips and test samples",
            two_way_interval(hits),
        ),
        Metric("chips' sd", float(shares.std(ddof=1)), "1", Kind.ESTIMATED, over, deviation),
        Metric(
            "chips' 5th percentile",
            float(np.percentile(shares, 5)),
            "1",
            Kind.ESTIMATED,
            over,
            lowest,
        ),
        Metric("worst chip", float(shares.min()), "1", Kind.MEASURED, "of those simulated"),
    ]
    if question.floor:
        good = int((shares >= question.floor).sum())
        source = f"{good} of {len(shares)} chips with an accuracy of at least {question.floor:g}"
        interval = exact_share(good, len(shares))
        told = f"{source}; Clopper and Pearson"
        found.append(Metric("yield", good / len(shares), "1", Kind.ESTIMATED, told, interval))
    return found


def _nonlinearity(layers: Sequence[Layer], device: Device, question: Question) -> Iterator[Metric]:
    """Of nonlinear ramps: the worst of a chip's, over chips."""
    chips = range(question.wanted.chips)
    for layer in layers:
        if layer.ramp is None or device.nl_adc is None:
            continue
        ramp, draws = layer.ramp, Draws(question.seed, chips, layer.number)
        tiles = len(layer.mapped.tiles)
        drawn = thresholds(ramp, tiles, device.nl_adc, question.condition, draws)
        found = np.array(
            [np.max([ramp.nonlinearity(own) for own in each], axis=0) for each in drawn]
        )
        rows = (("INL", "codes that a threshold is off"), ("DNL", "shares that a step is off"))
        for (name, what), values in zip(rows, found.T, strict=True):
            source = f"the most {what}, mean of {len(chips):,} chips; t interval over chips"
            mean, ends = float(values.mean()), difference_interval(values)
            interval = Interval(max(ends.low, 0.0), ends.high, ends.coverage)
            whole = f"{name} {layer.mapped.name}"
            yield Metric(whole, mean, "1", Kind.ESTIMATED, source, interval)


def _key(layers: Sequence[Layer], hardware: Hardware) -> str:
    """Of all that decides a chip's answers, beside the network and the samples."""
    parts = [repr(hardware)]
    for layer in layers:
        size = layer.mapped.arrays
        ramp = "" if layer.ramp is None else layer.ramp.steps.digest
        parts.append(f"{layer.number} {size} {layer.drive} {layer.converter} {ramp}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
