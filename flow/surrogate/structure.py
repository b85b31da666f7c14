"""What follows from a network's shapes and bits: products, parameters, adders, memory.

Nothing here is learned. What depends on weights that are not known yet is an interval which holds
for all weights there are; what depends on a step of which nothing is known is not told at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from flow.metric import Interval, Kind, Metric, Told
from flow.outline import FUSED, INPUT, WEIGHTED, Outline, Role, Step, signed_digits

_CELLS = (8, 16, 32, 64)  # bits in which a processor holds a value


@dataclass(frozen=True)
class Range:
    """From `low` to `high`, between which `likely` lies; all three the same where it is certain."""

    low: float
    likely: float
    high: float

    @classmethod
    def exactly(cls, value: float) -> Range:
        return cls(value, value, value)

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.likely + other.likely, self.high + other.high)

    def __mul__(self, other: Range | float) -> Range:
        """Of what is not below 0."""
        by = other if isinstance(other, Range) else Range.exactly(other)
        return Range(self.low * by.low, self.likely * by.likely, self.high * by.high)


NOTHING = Range.exactly(0)


def products(step: Step) -> int:
    """Multiplications of one inference, with weights of 0 too."""
    if step.role is Role.MUL:
        return step.outputs
    return step.outputs * step.taken if step.role in WEIGHTED else 0


def bit_operations(step: Step) -> Range:
    """AND gates of the products, as `flow.cost` counts them: those of weights that are not 0."""
    if step.weight_bits is None:
        return NOTHING
    most = products(step) * step.weight_bits * step.given_bits
    if step.known is None:
        return Range(0, most, most)
    return Range.exactly(step.known.nonzero * step.positions * step.weight_bits * step.given_bits)


def weight_bits(step: Step) -> int:
    """Bits of the weights, without biases."""
    return step.weights * (step.weight_bits or 0)


def digits(step: Step) -> Range:
    """Signed digits of the weights that are not 0. A weight of b bits has b/2 (rounded up) at most;
    likely are as many as weights have that are spread evenly."""
    if step.known is not None:
        return Range.exactly(step.known.digits)
    bits = step.weight_bits or 0
    return Range(0, step.weights * _mean_digits(bits), step.weights * -(-bits // 2))


@cache
def _mean_digits(bits: int) -> float:
    """Over all integers of so many bits; one bit stands for -1 and 1."""
    if bits < 2:
        return bits
    half = 1 << (bits - 1)
    return signed_digits(np.arange(-half, half)) / (2 * half)


def additions(step: Step) -> Range:
    """Adders of the step unrolled, nothing shared, biases aside: a sum of d digits takes d - 1 at
    every position. Comparisons of a pool count as such."""
    if step.role in WEIGHTED:
        found = digits(step)
        rows = step.channels if step.known is None else step.known.rows
        ends = (max(count - rows, 0) for count in (found.low, found.likely, found.high))
        return Range(*ends) * step.positions
    if step.role in (Role.ADD, Role.SUM_POOL, Role.MAX_POOL):
        return Range.exactly(step.outputs * (step.taken - 1))
    return NOTHING


def adder_bits(step: Step) -> Range:
    """Bits of those adders, each as wide as the output that it is part of."""
    return additions(step) * step.made_bits


def output_bits(step: Step) -> int:
    """Registers of one pipeline stage behind the step; what only moves codes has none."""
    return 0 if step.role in (Role.VIEW, Role.MOVE) else step.outputs * step.made_bits


def cell_bytes(bits: int) -> int:
    """Bytes in which a processor holds a value of so many bits."""
    return next(cell for cell in _CELLS if bits <= cell) // 8


@dataclass(frozen=True)
class Memory:
    """Bytes of activations on a processor: all together, and the most that are needed at one time,
    below which no allocation of them can be."""

    total: int
    peak: int


def activation_memory(network: Outline) -> Memory:
    """Each layer's outputs are written once, requantized: steps in FUSED with one reader take none
    of their own. A layer's inputs and outputs, and what later layers read, are held at one time."""
    readers: dict[str, list[str]] = {}
    for step in network.steps:
        for source in step.sources:
            readers.setdefault(source, []).append(step.name)
    home = {INPUT: INPUT}
    size = {INPUT: network.inputs * cell_bytes(network.input_bits)}
    order = [INPUT]
    last: dict[str, int] = {INPUT: 0}
    for step in network.steps:
        source = step.sources[0]
        if step.role is Role.VIEW or (step.role in FUSED and len(readers[source]) == 1):
            home[step.name] = home[source]
        else:
            home[step.name] = step.name
            order.append(step.name)
        if step.role is not Role.VIEW and home[step.name] != INPUT:
            size[home[step.name]] = step.outputs * cell_bytes(step.made_bits)
        for name in step.sources:
            if home[name] != home[step.name]:
                last[home[name]] = len(order) - 1
    last[order[-1]] = len(order) - 1
    peak = 0
    for place in range(len(order)):
        held = [name for at, name in enumerate(order) if at <= place <= last.get(name, at)]
        peak = max(peak, sum(size[name] for name in held))
    return Memory(sum(size.values()), peak)


def structure(network: Outline) -> Told:
    """The figures of a network that every target shares."""
    trained = all(step.known is not None for step in network.steps if step.role in WEIGHTED)
    weights = "actual weights" if trained else "declared shapes and bits; for any weights there are"
    counted: dict[str, tuple[str, Callable[[Step], Range], str]] = {
        "macs": ("1", lambda s: Range.exactly(products(s)), "products, those with 0 too"),
        "bit operations": (
            "1",
            bit_operations,
            f"weights that are not 0 * positions * bits of weight and input, of {weights}",
        ),
        "parameters": ("1", lambda s: Range.exactly(s.weights), "weights, without biases"),
        "weight memory": ("bits", lambda s: Range.exactly(weight_bits(s)), "without biases"),
        "signed digits": ("1", digits, f"of the weights' shortest signed forms, of {weights}"),
        "adder bits": ("1", adder_bits, f"unrolled and nothing shared, of {weights}"),
        "pipeline bits": (
            "1",
            lambda s: Range.exactly(output_bits(s)),
            "registers for the outputs of every step, one stage each",
        ),
    }
    memory = ("activation memory", "peak activation memory")
    if network.unknown:
        why = network.why_unknown
        return Told((), dict.fromkeys((*counted, *memory), why))
    metrics = []
    for name, (unit, of, source) in counted.items():
        metrics.append(
            _metric(name, sum((of(step) for step in network.steps), NOTHING), unit, source)
        )
    found = activation_memory(network)
    held = "bytes of whole cells, requantization fused"
    for name, value, why in (
        (memory[0], found.total, held),
        (memory[1], found.peak, f"{held}; no allocation needs less"),
    ):
        metrics.append(_metric(name, Range.exactly(value), "bytes", why))
    return Told(tuple(metrics), {})


def _metric(name: str, found: Range, unit: str, source: str) -> Metric:
    if found.low == found.high:
        return Metric(name, found.likely, unit, Kind.MEASURED, f"counted: {source}")
    interval = Interval(found.low, found.high, 1.0)
    return Metric(name, found.likely, unit, Kind.ESTIMATED, source, interval)
