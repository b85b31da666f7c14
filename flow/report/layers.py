"""The layers of a compiled network as rows of data: what they are, what they hold, what they cost.

A layer is a node of the graph with the Requants, Thresholds, Tables, ReLUs and reshapes behind it,
each the only reader of what stands before it. It is called as its first node is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.cost import held_bits
from flow.graph import Graph, Node, Value
from flow.metric import Interval, Metric
from flow.ops import (
    Add,
    Conv,
    Dense,
    Flatten,
    IntArray,
    Mul,
    Relu,
    Requant,
    Reshape,
    SumPool,
    Table,
    Threshold,
)
from flow.qtype import QType
from flow.requant import exact_form
from flow.target import LayerNote

BINS = 64  # of a histogram, at most
_FOLLOWS = (Requant, Threshold, Table, Relu, Flatten, Reshape)
_SUMS = (Add, Conv, Dense, Mul, SumPool)


@dataclass(frozen=True)
class Histogram:
    """How many codes lie in first..first+width-1, in the next `width` codes, and so on."""

    first: int
    width: int
    counts: tuple[int, ...]

    @classmethod
    def of(cls, codes: IntArray, low: int, high: int) -> Histogram:
        """Of codes that lie in low..high: a bin a code where they are few enough, else of the codes
        that occur."""
        if high - low >= BINS and codes.size:
            low, high = int(codes.min()), int(codes.max())
        width = (high - low) // BINS + 1
        bins = (high - low) // width + 1
        counts = np.bincount((codes.reshape(-1) - low) // width, minlength=bins)
        return cls(low, width, tuple(int(count) for count in counts))


@dataclass(frozen=True)
class Weights:
    """A layer's weights: how many, how many of them 0, the fewest bits that hold them all, and how
    their scale is given."""

    count: int
    zeros: int
    bits: int
    scale: str
    histogram: Histogram


@dataclass(frozen=True)
class Accumulator:
    """The sums of a layer: the range that its weights can reach, the bits that this needs, the bits
    that the target has for them (None: not said), and what occurred in the samples."""

    low: int
    high: int
    bits: int
    width: int | None
    seen_low: int
    seen_high: int


@dataclass(frozen=True)
class Error:
    """What a layer's own requantization loses, over the samples: the exact value before rounding
    and clamp against the value of its code. `sqnr` is 10*log10(sum of squares of the exact values /
    sum of squares of the differences) in dB, None where nothing is lost; `rms` the root mean square
    difference in steps of the output; `clipped` the share (0 to 1) outside the range of codes by
    more than half a step. A value below 0 that becomes the lowest code, which stands for 0, is the
    ReLU and no error."""

    sqnr: float | None
    rms: float
    clipped: float


@dataclass(frozen=True)
class Layer:
    """One row. `inputs` are layers, or the network's input; `type` and `scale` those of its output;
    `requant` says how the target rounds, with a multiplier of `multiplier_bits` where it has one.
    `twin_error` is the root mean square difference of the outputs from the float twin's, as a share
    of the root mean square of the twin's: all that quantization did up to here, and what training
    moved since. None where there is no twin."""

    name: str
    op: str
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    type: str
    scale: str
    requant: str
    multiplier_bits: int | None
    macs: int
    weights: Weights | None
    accumulator: Accumulator | None
    error: Error | None
    twin_error: float | None
    outputs: Histogram
    metrics: tuple[Metric, ...]

    @property
    def twin_ratio(self) -> float | None:
        """The twin's signal to the difference from it, in dB; None where there is none."""
        return -20 * math.log10(self.twin_error) if self.twin_error else None


def layers_of(
    graph: Graph,
    trace: Mapping[str, IntArray],
    notes: Mapping[str, LayerNote],
    twin: Mapping[str, float | None],
) -> tuple[Layer, ...]:
    """The rows, in order of execution.

    Args:
        trace: every value of the graph for some samples, (n, *shape) each.
        notes: what the target says of a node, by its name.
        twin: how far a node's output is from the float twin's, by its name.
    """
    parts = tuple(groups(graph))
    layer_of = {node.output.name: group[0].name for group in parts for node in group}
    return tuple(_layer(graph, group, layer_of, trace, notes, twin) for group in parts)


def groups(graph: Graph) -> Iterator[tuple[Node, ...]]:
    """The nodes of each layer, which is called as the first of them is."""
    taken: set[str] = set()
    for node in graph.nodes:
        if node.name in taken:
            continue
        group = [node]
        while len(readers := graph.consumers(group[-1].output.name)) == 1 and isinstance(
            readers[0].op, _FOLLOWS
        ):
            group.append(readers[0])
        taken |= {each.name for each in group}
        yield tuple(group)


def _layer(
    graph: Graph,
    group: tuple[Node, ...],
    layer_of: Mapping[str, str],
    trace: Mapping[str, IntArray],
    notes: Mapping[str, LayerNote],
    twin: Mapping[str, float | None],
) -> Layer:
    head, output = group[0], group[-1].output
    told = [notes[node.name] for node in group if node.name in notes]
    rounding = [_requant_text(node) for node in group]
    widths = [note.multiplier_bits for note in told if note.multiplier_bits is not None]
    codes = trace[output.name]
    low, high = (int(end) for end in (graph.bounds[output.name][0].min(), _top(graph, output)))
    return Layer(
        name=head.name,
        op=head.op.name,
        nodes=tuple(node.name for node in group),
        inputs=tuple(dict.fromkeys(layer_of.get(name, name) for name in head.inputs)),
        shape=output.shape,
        type=str(output.qtype),
        scale=scale_text(output.scale),
        requant=_joined(note.requant for note in told) or _joined(rounding),
        multiplier_bits=max(widths, default=None),
        macs=sum(node.op.macs(*graph.shapes(node)) for node in group),
        weights=_weights(graph, head),
        accumulator=_accumulator(graph, head, told, trace),
        error=next((_error(node, trace) for node in group if isinstance(node.op, Requant)), None),
        # What follows the last node that the twin knows only changes the shape.
        twin_error=next((twin[node.name] for node in reversed(group) if node.name in twin), None),
        outputs=Histogram.of(codes, low, high),
        metrics=tuple(_added(metric for note in told for metric in note.metrics)),
    )


def _top(graph: Graph, value: Value) -> int:
    return int(graph.bounds[value.name][1].max())


def _joined(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text))


def _weights(graph: Graph, node: Node) -> Weights | None:
    if not isinstance(node.op, Conv | Dense):
        return None
    weight = node.op.weight
    held = QType.covering(min(int(weight.min()), 0), int(weight.max()))
    given, made = graph.value(node.inputs[0]).scale, node.output.scale
    own = given if len(given) == len(made) else given[:1] * len(made)
    scale = tuple(out / into for out, into in zip(made, own, strict=True))
    return Weights(
        int(weight.size),
        int((weight == 0).sum()),
        held_bits(weight),
        scale_text(scale),
        Histogram.of(weight, held.low, held.high),
    )


def _accumulator(
    graph: Graph, node: Node, told: Sequence[LayerNote], trace: Mapping[str, IntArray]
) -> Accumulator | None:
    if not isinstance(node.op, _SUMS):
        return None
    low, high = (ends for ends in graph.bounds[node.output.name])
    least, most = int(low.min()), int(high.max())
    widths = [note.accumulator_bits for note in told if note.accumulator_bits is not None]
    sums = trace[node.output.name]
    return Accumulator(
        least,
        most,
        QType.covering(least, most).bits,
        widths[0] if widths else None,
        int(sums.min()),
        int(sums.max()),
    )


def _error(node: Node, trace: Mapping[str, IntArray]) -> Error:
    op, codes = node.op, trace[node.output.name]
    assert isinstance(op, Requant)
    scale, offset, step = (
        _wide(values, codes.ndim) for values in (op.scale, op.offset, node.output.scale)
    )
    steps = trace[node.inputs[0]] * scale + offset  # exact, in steps of the output
    low, high = op.low - op.zero_point, op.high - op.zero_point
    if low == 0:
        steps = np.maximum(steps, 0.0)
    lost = (codes - op.zero_point) - steps
    noise = float(np.square(lost * step).sum())
    clipped = float(((steps < low - 0.5) | (steps > high + 0.5)).mean())
    power = float(np.square(steps * step).sum())
    rms = math.sqrt(float(np.square(lost).mean()))
    if noise == 0 or power == 0:
        return Error(None, rms, clipped)
    return Error(10 * math.log10(power / noise), rms, clipped)


def _wide(values: Sequence[Fraction], rank: int) -> NDArray[np.float64]:
    """One entry a channel, which is axis 1 of codes with a batch."""
    return np.array([float(value) for value in values]).reshape(-1, *[1] * (rank - 2))


def _requant_text(node: Node) -> str:
    """What the graph itself tells of how a node rounds."""
    op = node.op
    if isinstance(op, Threshold):
        return "comparators"
    if isinstance(op, Table):
        return "table"
    if not isinstance(op, Requant):
        return ""
    forms = [exact_form(rule) for rule in op.rules(max(len(op.scale), len(op.offset)))]
    if any(form is None or form.width > 1 for form in forms):
        return "multiplication and shift"
    return "shift"


def scale_text(scale: Sequence[Fraction]) -> str:
    """`2^-5`, or `0.0123`; with several channels the least and the greatest."""
    least, most = min(scale), max(scale)
    shown = _number(least) if least == most else f"{_number(least)} to {_number(most)}"
    return shown if len(scale) == 1 else f"{shown}, per channel"


def _number(scale: Fraction) -> str:
    for power, sign in ((scale.numerator, ""), (scale.denominator, "-")):
        if scale > 0 and power & (power - 1) == 0 and Fraction(power) in (scale, 1 / scale):
            return f"2^{sign}{power.bit_length() - 1}" if power > 1 else "1"
    return f"{float(scale):.4g}"


def _added(metrics: Iterable[Metric]) -> list[Metric]:
    """Metrics of the same name, unit and kind become their sum."""
    found: dict[tuple[Any, ...], Metric] = {}
    for metric in metrics:
        key = (metric.name, metric.unit, metric.kind)
        found[key] = _sum(found[key], metric) if key in found else metric
    return list(found.values())


def _sum(one: Metric, two: Metric) -> Metric:
    interval = None
    if one.interval and two.interval:
        interval = Interval(
            one.interval.low + two.interval.low,
            one.interval.high + two.interval.high,
            min(one.interval.coverage, two.interval.coverage),
        )
    return replace(one, value=one.value + two.value, interval=interval)
