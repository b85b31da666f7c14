"""What people ask of noisy hardware, each a series of Monte Carlo runs on the same chips: a chip's
random numbers are the same at every point, so that points differ by what is asked alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from flow.artifact import replace_bytes, writing_to
from flow.binomial import exact_share
from flow.errors import UsageError
from flow.graph import Graph
from flow.metric import Interval, Kind, Metric
from flow.report.plot import Mark, curves
from flow.target import Trial
from targets.analog.build import equip, lossless
from targets.analog.chips import Question, hits_of
from targets.analog.device import Adc, Device
from targets.analog.engine import Layer
from targets.analog.intervals import (
    BoolArray,
    difference_interval,
    mean_interval,
)
from targets.analog.mapping import FloatArray

TIMES_S = (0.0, 60.0, 3600.0, 86_400.0, 2_592_000.0, 31_536_000.0)
MULTIPLIERS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
LARGEST, FINEST = 16.0, 1 / 32  # of the noise budget's multipliers, and the step it is told in
MOST_BITS = 12
RAMP_BITS = range(2, 9)


class Study(Enum):
    """`time`: accuracy against drift; `noise`: against multiples of the noise; `adc_bits`: against
    an ADC's bits, and the fewest that yield enough; `nl_adc`: against the bits of nonlinear ramps,
    which are without errors, calibrated, or not; `budget`: the most noise that yields enough;
    `layers`: with one layer noisy, and with all but one."""

    NONE = "none"
    TIME = "time"
    NOISE = "noise"
    ADC_BITS = "adc_bits"
    NL_ADC = "nl_adc"
    BUDGET = "budget"
    LAYERS = "layers"


@dataclass(frozen=True)
class Told:
    """What a study tells, what follows from it, and its plot, where it has one."""

    metrics: tuple[Metric, ...]
    notes: tuple[str, ...] = ()
    plot: Plot | None = None


@dataclass(frozen=True)
class Plot:
    """`points` are shares with intervals; `places` are where they are on the axis `x`, nothing
    where they have names alone, `lines` which line each is of, where there are several."""

    x: str
    points: tuple[Metric, ...]
    places: tuple[float, ...] = ()
    lines: tuple[str, ...] = ()
    y: str = "mean accuracy, %"

    def drawn(self, title: str) -> str:
        """As SVG text, shares in percent."""
        found: dict[str, list[Mark]] = {}
        for at, metric in enumerate(self.points):
            assert metric.interval is not None
            x = self.places[at] if self.places else float(at)
            ends = metric.interval.low, metric.interval.high
            y, low, high = (100 * part for part in (metric.value, *ends))
            line = self.lines[at] if self.lines else ""
            name = "" if self.places else metric.name
            found.setdefault(line, []).append(Mark(x, y, low, high, name, True))
        return curves(found, title, self.x, self.y)


@dataclass(frozen=True, eq=False)
class Bench:
    """What is studied: the layers with the device's converters, `reach` as they were calibrated,
    and the share of chips that must be good."""

    graph: Graph
    layers: tuple[Layer, ...]
    device: Device
    reach: dict[str, float]
    question: Question
    enough: float
    trial: Trial

    def hits(
        self,
        question: Question | None = None,
        layers: Sequence[Layer] | None = None,
        device: Device | None = None,
    ) -> BoolArray:
        """Of the chips, with something changed."""
        return hits_of(
            self.graph,
            self.layers if layers is None else layers,
            device or self.device,
            question or self.question,
            self.trial,
        )

    def good(self, hits: BoolArray) -> Interval:
        """The interval of the yield."""
        shares = hits.mean(axis=1)
        return exact_share(int((shares >= self.question.floor).sum()), len(shares))


def check(study: Study, device: Device, floor: float) -> None:
    """Raises UsageError where a study is of something that the device or the options have not."""
    if study is Study.TIME and device.drift is None:
        raise UsageError("option study=time is of devices that drift; this one does not")
    if study is Study.ADC_BITS and device.adc is None:
        raise UsageError("option study=adc_bits is of devices with ADCs; this one has none")
    if study is Study.NL_ADC and device.nl_adc is None:
        raise UsageError(
            "option study=nl_adc is of devices with nonlinear ramps; this one has no nl_adc"
        )
    if study is Study.BUDGET and not floor:
        raise UsageError(
            "option study=budget needs to know which accuracy is good: give floor, as floor=0.95"
        )
    if study is not Study.NONE and not device.varies:
        raise UsageError(
            f"option study={study.value} is of devices with noise; this one has none, leave it out"
        )


def answer(study: Study, bench: Bench) -> Told:
    """The study's points. `check` must have passed."""
    ways: dict[Study, Callable[[Bench], Told]] = {
        Study.NONE: lambda _: Told(()),
        Study.TIME: _times,
        Study.NOISE: _multiples,
        Study.ADC_BITS: _bits,
        Study.NL_ADC: _ramps,
        Study.BUDGET: _budget,
        Study.LAYERS: _layers,
    }
    told = ways[study](bench)
    if told.plot is None:
        return told
    title = f"{bench.graph.name}: {bench.question.wanted.chips:,} simulated chips, 95 % intervals"
    path = bench.trial.state / f"study_{study.value}.svg"
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(path, told.plot.drawn(title).encode())
    return replace(told, notes=(*told.notes, f"plot: {path}"))


def _point(name: str, hits: BoolArray, what: str = "") -> Metric:
    shares = hits.mean(axis=1)
    source = f"mean of {len(shares):,} chips, t interval over them{what}"
    return Metric(name, float(shares.mean()), "1", Kind.ESTIMATED, source, mean_interval(shares))


def _yield_text(bench: Bench, hits: BoolArray) -> str:
    if not bench.question.floor:
        return ""
    share = float((hits.mean(axis=1) >= bench.question.floor).mean())
    return f"; yield {100 * share:.1f} %"


def _times(bench: Bench) -> Told:
    found = []
    for time in TIMES_S:
        condition = replace(bench.question.condition, time_s=time)
        hits = bench.hits(replace(bench.question, condition=condition))
        found.append(_point(f"at {time:g} s", hits, _yield_text(bench, hits)))
    return Told(tuple(found), (), Plot("seconds since the first reading", tuple(found), TIMES_S))


def _multiples(bench: Bench) -> Told:
    found = []
    for noise in MULTIPLIERS:
        hits = _with_noise(bench, noise)
        found.append(_point(f"at {noise:g} x noise", hits, _yield_text(bench, hits)))
    return Told(tuple(found), (), Plot("times the device's noise", tuple(found), MULTIPLIERS))


def _with_noise(bench: Bench, noise: float) -> BoolArray:
    condition = replace(bench.question.condition, noise=noise)
    return bench.hits(replace(bench.question, condition=condition))


def _bits(bench: Bench) -> Told:
    """From 2 bits on, to those that lose nothing."""
    adc = bench.device.adc
    assert adc is not None
    widest = max(lossless(layer.mapped, layer.drive).bits for layer in bench.layers)
    tried = range(2, max(min(widest, MOST_BITS), 2) + 1)
    found, fewest = [], None
    for bits in tried:
        hits = _with_bits(bench, adc, bits)
        found.append(_point(f"at {bits} ADC bits", hits, _yield_text(bench, hits)))
        if fewest is None and bench.question.floor and bench.good(hits).low >= bench.enough:
            fewest = bits
    places = tuple(float(bits) for bits in tried)
    notes: tuple[str, ...] = ()
    if bench.question.floor:
        said = (
            f"no ADC of up to {tried[-1]} bits is enough"
            if fewest is None
            else f"{fewest} ADC bits are the fewest"
        )
        notes = (f"{said} so that {_wanted(bench)}",)
    return Told(tuple(found), notes, Plot("bits of the ADCs", tuple(found), places))


def _with_bits(bench: Bench, adc: Adc, bits: int) -> BoolArray:
    device = replace(bench.device, adc=replace(adc, bits=bits))
    mapped = {layer.number: layer.mapped for layer in bench.layers}
    return bench.hits(layers=equip(mapped, device, bench.reach), device=device)


def _ramps(bench: Bench) -> Told:
    """Tables rounded to fewer codes, each by a ramp of as many steps, on the same chips."""
    law = bench.device.nl_adc
    assert law is not None
    read = [layer.ramp.steps for layer in bench.layers if layer.ramp is not None]
    if not read:
        return Told((), ("no layer has a table alone behind it, and so none a nonlinear ramp",))
    exact = replace(bench.device, nl_adc=replace(law, sigma_us=0.0))
    ways = (
        ("without errors", exact, bench.question.condition),
        ("calibrated", bench.device, replace(bench.question.condition, calibrate=True)),
        ("not calibrated", bench.device, replace(bench.question.condition, calibrate=False)),
    )
    widest = max(steps.bits for steps in read)
    tried = [bits for bits in RAMP_BITS if bits <= max(widest, RAMP_BITS[0])]
    found, notes, places, lines = [], [], [], []
    for name, device, condition in ways:
        shares = {}
        for bits in tried:
            question = replace(bench.question, condition=condition)
            hits = bench.hits(question, layers=_with_ramps(bench.layers, bits), device=device)
            shares[bits] = hits.mean(axis=1)
            found.append(_point(f"at {bits} ramp bits, {name}", hits, _yield_text(bench, hits)))
            places.append(float(bits))
            lines.append(name)
        notes.append(f"ramps {name}: {_knee(shares)}")
    plot = Plot("bits of the nonlinear ramps", tuple(found), tuple(places), tuple(lines))
    return Told(tuple(found), tuple(notes), plot)


def _with_ramps(layers: Sequence[Layer], bits: int) -> list[Layer]:
    return [
        layer
        if layer.ramp is None
        else replace(layer, ramp=replace(layer.ramp, steps=layer.ramp.steps.rounded(bits)))
        for layer in layers
    ]


def _knee(shares: Mapping[int, FloatArray]) -> str:
    """Which bits are the best, and how much worse the most are, on the same chips."""
    best = max(shares, key=lambda bits: (float(shares[bits].mean()), -bits))
    fewest = next(
        bits for bits in shares if difference_interval(shares[best] - shares[bits]).low <= 0
    )
    most = max(shares)
    lost = shares[best] - shares[most]
    told = f"{best} bits are the most accurate, {fewest} not significantly less so"
    if best == most:
        return told
    ends = difference_interval(lost)
    return (
        f"{told}; {most} lose {100 * float(lost.mean()):.2f} points "
        f"[{100 * ends.low:.2f}, {100 * ends.high:.2f}], paired"
    )


def _wanted(bench: Bench) -> str:
    return (
        f"at least {100 * bench.enough:g} % of chips have an accuracy of {bench.question.floor:g}, "
        f"with 95 % confidence"
    )


def _budget(bench: Bench) -> Told:
    """By bisection: with the same random numbers more noise is, but for chance, not better."""
    seen: dict[float, Metric] = {}

    def enough(noise: float) -> bool:
        hits = _with_noise(bench, noise)
        ends, share = bench.good(hits), (hits.mean(axis=1) >= bench.question.floor).mean()
        name, source = f"yield at {noise:g} x noise", "Clopper and Pearson"
        seen[noise] = Metric(name, float(share), "1", Kind.ESTIMATED, source, ends)
        return ends.low >= bench.enough

    if not enough(0.0):
        return Told((), (f"no noise is little enough that {_wanted(bench)}",))
    low, high = 0.0, LARGEST
    if enough(high):
        low = high
    while high - low > FINEST:
        middle = (low + high) / 2
        if enough(middle):
            low = middle
        else:
            high = middle
    places = tuple(sorted(seen))
    asked = f"chips with an accuracy of {bench.question.floor:g}, %"
    shown = tuple(seen[noise] for noise in places)
    plot = Plot("times the device's noise", shown, places, y=asked)
    chips = f"{bench.question.wanted.chips:,} simulated chips, in steps of {FINEST:g}"
    source = f"most times the device's noise at which {_wanted(bench)}: {chips}"
    return Told((Metric("noise budget", low, "1", Kind.MEASURED, source),), (), plot)


def _layers(bench: Bench) -> Told:
    every = bench.hits()
    found, gains = [], {}
    for layer, only, others in _alone(bench.layers):
        name = layer.mapped.name
        found.append(_point(f"only {name} noisy", bench.hits(layers=only)))
        without = bench.hits(layers=others)
        gain = without.mean(axis=1) - every.mean(axis=1)
        ends = difference_interval(gain)
        gains[name] = (float(np.mean(gain)), ends)
        told = (
            f"; {100 * gains[name][0]:+.2f} points [{100 * ends.low:+.2f}, {100 * ends.high:+.2f}]"
        )
        found.append(_point(f"all but {name} noisy", without, f"{told} against all, paired"))
    plot = Plot("layers", tuple(found))
    best = max(gains, key=lambda name: gains[name][0])
    mean, ends = gains[best]
    if ends.low <= 0:
        said = "no single layer is significantly better kept digital"
        return Told(tuple(found), (said,), plot)
    note = (
        f"the layer to keep digital first is {best}, by digital_layers={best}: "
        f"{100 * mean:+.2f} points of accuracy"
    )
    return Told(tuple(found), (note,), plot)


def _alone(layers: tuple[Layer, ...]) -> Iterator[tuple[Layer, list[Layer], list[Layer]]]:
    """Each layer, alone, and all others: what is not on arrays is exact."""
    for layer in layers:
        yield layer, [layer], [other for other in layers if other is not layer]
