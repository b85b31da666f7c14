"""Single layers to be synthesized, so that estimates can be fitted on what came of them.

`drawn` spreads them over shapes, bits, zeros and pipeline stages by Latin hypercube; a kernel is
its numbers, from which its graph with seeded random weights follows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np

from flow.errors import UsageError
from flow.graph import Graph, Node, Value
from flow.ops import Conv, Dense, IntArray, MaxPool, Op, Requant, Shape, SumPool, Table
from flow.qtype import QType
from flow.requant import Rounding

BLOCK = 280  # kernels, of each kind as many
MOST_PRODUCTS = 250  # of one kernel: da4ml, interpreted, takes minutes for a thousand


class Kind(Enum):
    DENSE = "dense"
    CONV = "conv"
    DEPTHWISE = "depthwise"
    MAX_POOL = "max_pool"
    SUM_POOL = "sum_pool"
    REQUANT = "requant"
    TABLE = "table"


_WEIGHTED = (Kind.DENSE, Kind.CONV, Kind.DEPTHWISE)
_IMAGES = (Kind.CONV, Kind.DEPTHWISE, Kind.MAX_POOL, Kind.SUM_POOL)
# The ends of what is drawn: channels in and out, side of the window and of the outputs, bits of
# inputs, weights and outputs, percent of the weights that are 0, and adders in one stage. A layer
# that is unrolled whole has no reuse factor: how many stages it is cut into is what can be chosen.
_FIELDS: dict[str, tuple[int, int]] = {
    "inputs": (2, 64),
    "outputs": (1, 24),
    "window": (1, 3),
    "extent": (1, 4),
    "given_bits": (2, 8),
    "weight_bits": (2, 8),
    "made_bits": (2, 8),
    "zeros": (0, 80),
    "cutoff": (1, 8),
}
_GEOMETRIC = ("inputs", "outputs")  # as many between 2 and 4 as between 32 and 64


@dataclass(frozen=True)
class Kernel:
    """One layer. What its kind has not is 0: windows and extents are of images, weights of layers
    with weights, `made_bits` of requantizations and tables."""

    number: int
    kind: Kind
    inputs: int
    outputs: int
    window: int
    extent: int
    given_bits: int
    weight_bits: int
    made_bits: int
    zeros: int
    cutoff: int

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "kind" and not 0 <= value <= 1_000_000:
                raise UsageError(f"kernel: {field.name} must be from 0 to 1000000, not {value}")
        if min(self.inputs, self.given_bits) < 1:
            raise UsageError(f"kernel {self.number}: needs inputs and bits of them")

    @property
    def shape(self) -> tuple[int, ...]:
        """What tells shapes apart, for splits: kind and sizes, without bits."""
        return (
            list(Kind).index(self.kind),
            self.inputs,
            self.outputs,
            self.window,
            self.extent,
        )

    @property
    def products(self) -> int:
        """Products, or values that are compared, added or looked up."""
        taken = self.window**2 if self.kind in _IMAGES else 1
        places = self.extent**2 if self.kind in _IMAGES else 1
        if self.kind in (Kind.DENSE, Kind.CONV):
            return self.inputs * self.outputs * taken * places
        return self.inputs * taken * places

    def row(self) -> dict[str, str]:
        """As cells of a table."""
        cells = {**vars(self), "kind": self.kind.value}
        return {name: str(value) for name, value in cells.items()}

    @classmethod
    def read(cls, cells: Mapping[str, str]) -> Kernel:
        """The inverse of `row`. Raises KeyError, ValueError or UsageError."""
        values: dict[str, Any] = {
            field.name: int(cells[field.name])
            for field in dataclasses.fields(cls)
            if field.name != "kind"
        }
        return cls(kind=Kind(cells["kind"]), **values)

    def graph(self) -> Graph:
        """The layer alone, on codes, with weights that its number decides."""
        rng = np.random.default_rng(self.number)
        given = QType(self.given_bits, signed=self.kind is Kind.REQUANT or self.kind is Kind.TABLE)
        shape: Shape = (self.inputs,)
        if self.kind in _IMAGES:
            side = self.extent + self.window - 1
            if self.kind in (Kind.MAX_POOL, Kind.SUM_POOL):
                side = self.extent * self.window
            shape = (self.inputs, side, side)
        op = self._op(rng, given)
        made = op.qtype if isinstance(op, Requant) else QType(48, signed=True)
        one = (Fraction(1),)
        x = Value("x", shape, given, one)
        y = Value("y", op.output_shape(shape), made, one)
        return Graph.build(f"kernel{self.number}", x, (Node(self.kind.value, op, ("x",), y),))

    def _op(self, rng: np.random.Generator, given: QType) -> Op:
        side = (self.window, self.window)
        if self.kind is Kind.DENSE:
            return Dense(
                self._weights(rng, (self.outputs, self.inputs)), _biases(rng, self.outputs)
            )
        if self.kind is Kind.CONV:
            weight = self._weights(rng, (self.outputs, self.inputs, *side))
            return Conv(weight, _biases(rng, self.outputs))
        if self.kind is Kind.DEPTHWISE:
            weight = self._weights(rng, (self.inputs, 1, *side))
            return Conv(weight, _biases(rng, self.inputs), groups=self.inputs)
        if self.kind is Kind.MAX_POOL:
            return MaxPool(side, side)
        if self.kind is Kind.SUM_POOL:
            return SumPool(side, side)
        made = QType(self.made_bits, signed=False)
        if self.kind is Kind.TABLE:
            angle = np.linspace(-4, 4, given.high - given.low + 1)
            entries = np.round(made.high / (1 + np.exp(-angle))).astype(np.int64)
            return Table(entries, given.low)
        scale = Fraction(
            int(rng.integers(128, 256)), 1 << (7 + max(self.given_bits - self.made_bits, 0))
        )
        return Requant((scale,), (Fraction(0),), made, 0, made.high, Rounding.HALF_EVEN)

    def _weights(self, rng: np.random.Generator, shape: tuple[int, ...]) -> IntArray:
        half = 1 << (self.weight_bits - 1)
        codes = rng.integers(-half + 1, half, shape)
        codes[rng.random(shape) < self.zeros / 100] = 0
        codes.reshape(len(codes), -1)[:, 0] |= 1  # an output without products is no layer's
        return codes


def _biases(rng: np.random.Generator, count: int) -> IntArray:
    return rng.integers(-64, 65, count)


def drawn(count: int, seed: int = 0) -> list[Kernel]:
    """`count` kernels, the kinds in turn, in blocks each of which is spread evenly: more of them
    begin with fewer of the same seed. What is too large is made smaller."""
    from scipy.stats import qmc

    kinds, rows = list(Kind), []
    for block in range(-(-count // BLOCK)):
        rng = np.random.default_rng([seed, block])
        rows += qmc.LatinHypercube(len(_FIELDS), rng=rng).random(BLOCK).tolist()
    return [
        _fitting(number, kinds[number % len(kinds)], dict(zip(_FIELDS, row, strict=True)))
        for number, row in enumerate(rows[:count])
    ]


def _fitting(number: int, kind: Kind, shares: dict[str, float]) -> Kernel:
    """The kernel at a point of the unit cube."""
    values = {name: _between(name, share) for name, share in shares.items()}
    for name in _unused(kind):
        values[name] = 0
    if kind in (Kind.REQUANT, Kind.TABLE):  # of sums, not of codes
        values["given_bits"] += 2 if kind is Kind.TABLE else 6
        values["given_bits"] = (
            min(values["given_bits"], 10) if kind is Kind.TABLE else values["given_bits"]
        )
    if kind in (Kind.MAX_POOL, Kind.SUM_POOL, Kind.DEPTHWISE):
        values["window"] = max(values["window"], 2)
    while (found := Kernel(number, kind, **values)).products > MOST_PRODUCTS:
        largest = max(("inputs", "outputs", "extent"), key=lambda name: values[name])
        values[largest] = max(values[largest] * 3 // 4, 1)
    return found


def _between(name: str, share: float) -> int:
    low, high = _FIELDS[name]
    if name in _GEOMETRIC:
        return min(int(low * ((high + 1) / low) ** share), high)
    return min(low + int(share * (high - low + 1)), high)


def _unused(kind: Kind) -> Iterator[str]:
    if kind not in _IMAGES:
        yield from ("window", "extent")
    if kind not in _WEIGHTED:
        yield from ("weight_bits", "zeros")
    if kind not in (Kind.DENSE, Kind.CONV):
        yield "outputs"
    if kind not in (Kind.REQUANT, Kind.TABLE):
        yield "made_bits"
