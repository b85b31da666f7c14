"""The integer graphs of drawn kernels, with seeded random weights."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, log2, prod

import numpy as np

from flow.graph import Graph, Node, Value
from flow.ops import (
    Add,
    Conv,
    Dense,
    Flatten,
    IntArray,
    MaxPool,
    Mul,
    Op,
    Requant,
    Shape,
    Slice,
    SumPool,
    Table,
)
from flow.qtype import QType
from flow.requant import Rounding
from flow.surrogate.kernels import IMAGES, Kernel, Kind

SUMS = QType(48, signed=True)
_ONE = (Fraction(1),)


def kernel_graph(kernel: Kernel) -> Graph:
    """Of a kernel. The same numbers give the same graph."""
    chain = _Chain(kernel)
    kind = kernel.kind
    if kind is Kind.NETWORK:
        chain.network()
    elif kind in (Kind.ADD, Kind.MUL):
        chain.halves(Add((1, 1)) if kind is Kind.ADD else Mul())
    elif kind is Kind.DENSE:
        chain.dense(kernel.outputs)
    elif kind is Kind.CONV:
        chain.conv(kernel.outputs, kernel.window)
    elif kind is Kind.DEPTHWISE:
        chain.depthwise(kernel.window)
    elif kind in (Kind.MAX_POOL, Kind.SUM_POOL):
        chain.pool(MaxPool if kind is Kind.MAX_POOL else SumPool, kernel.window)
    elif kind is Kind.REQUANT:
        chain.requant(signed=False)
    else:
        chain.table()
    return chain.graph()


class _Chain:
    """A graph as it grows: the last value, and the values that it can have by channel."""

    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.rng = np.random.default_rng(kernel.number)
        kind = kernel.kind
        given = QType(kernel.given_bits, signed=kind in (Kind.REQUANT, Kind.TABLE, Kind.MUL))
        self.shape = self._input_shape()
        self.input = Value("x", self.shape, given, _ONE)
        self.nodes: list[Node] = []
        self.last, self.bounds = "x", self._ends(given)
        # Trained weights lie about 0 more closely than even ones.
        self.near = bool(self.rng.random() < 0.5)

    def _input_shape(self) -> Shape:
        kernel = self.kernel
        if kernel.kind is Kind.NETWORK:
            if self.rng.random() < 0.5:
                return (kernel.inputs,)
            side = kernel.extent + kernel.window + 1
            return (max(1, kernel.inputs // 12), side, side)
        if kernel.kind in IMAGES:
            side = kernel.extent + kernel.window - 1
            if kernel.kind in (Kind.MAX_POOL, Kind.SUM_POOL):
                side = kernel.extent * kernel.window
            return (kernel.inputs, side, side)
        return (kernel.inputs * (2 if kernel.kind in (Kind.ADD, Kind.MUL) else 1),)

    def _ends(self, qtype: QType) -> tuple[IntArray, IntArray]:
        return np.full(self.shape[0], qtype.low), np.full(self.shape[0], qtype.high)

    def graph(self) -> Graph:
        return Graph.build(f"kernel{self.kernel.number}", self.input, tuple(self.nodes))

    def apply(self, op: Op, made: QType = SUMS) -> None:
        self.bounds = op.bounds((self.shape,), (self.bounds,))
        self.shape = op.output_shape(self.shape)
        self._put(op, (self.last,), made)

    def _put(self, op: Op, sources: tuple[str, ...], made: QType) -> None:
        name = f"{op.name}{len(self.nodes)}"
        output = Value(f"{name}_out", self.shape, made, _ONE)
        self.nodes.append(Node(name, op, sources, output))
        self.last = output.name

    def halves(self, op: Op) -> None:
        """The op on the first half of the inputs and the second."""
        count = self.kernel.inputs
        self.shape = (count,)
        given = self.input.qtype
        for start in (0, count):
            self._put(Slice((start,), (start + count,), (1,)), ("x",), given)
        self._put(op, tuple(node.output.name for node in self.nodes), SUMS)

    def dense(self, outputs: int) -> None:
        weight = self._weights((outputs, self.shape[0]))
        self.apply(Dense(weight, self._biases(outputs)))

    def conv(self, outputs: int, window: int) -> None:
        weight = self._weights((outputs, self.shape[0], window, window))
        self.apply(Conv(weight, self._biases(outputs)))

    def depthwise(self, window: int) -> None:
        channels = self.shape[0]
        weight = self._weights((channels, 1, window, window))
        self.apply(Conv(weight, self._biases(channels), groups=channels))

    def pool(self, op: type[MaxPool | SumPool], window: int) -> None:
        self.apply(op((window, window), (window, window)))

    def requant(self, signed: bool) -> None:
        """To the kernel's bits, of which the middle half of what sums can be fills all."""
        kernel = self.kernel
        made = QType(kernel.made_bits, signed)
        reach = max(int(np.abs(end).max()) for end in self.bounds)
        high = (1 << kernel.multiplier) - 1
        factor = int(self.rng.integers((high + 1) // 2, high + 1)) | 1
        wide = 2 if len(self.nodes) else 1  # sums of products rarely reach their ends
        down = ceil(log2(max(reach * factor / (wide * max(made.high, 1)), 1)))
        rounding = Rounding.FLOOR if kernel.down else Rounding.HALF_EVEN
        zero = (Fraction(0),)
        scale = (Fraction(factor, 1 << down),)
        self.apply(Requant(scale, zero, made, made.low, made.high, rounding), made)

    def table(self) -> None:
        """The logistic function."""
        low, high = int(self.bounds[0].min()), int(self.bounds[1].max())
        made = QType(self.kernel.made_bits, signed=False)
        angle = np.linspace(-4, 4, high - low + 1)
        self.apply(Table(np.round(made.high / (1 + np.exp(-angle))).astype(np.int64), low), made)

    def network(self) -> None:
        """Layers with weights, each but the last with a requantization, some of them tables."""
        kernel, rng = self.kernel, self.rng
        left = kernel.layers
        while len(self.shape) == 3 and left > 1:
            window = min(kernel.window, self.shape[1])
            if len(self.nodes) and rng.random() < 0.3:
                self.depthwise(window)
            else:
                self.conv(int(rng.integers(2, max(kernel.inputs // 4, 3) + 1)), window)
            self.between()
            left -= 1
            if self.shape[1] % 2 == 0 and rng.random() < 0.6:
                self.pool(MaxPool if rng.random() < 0.7 else SumPool, 2)
                if isinstance(self.nodes[-1].op, SumPool):
                    self.requant(signed=False)
            if self.shape[1] <= kernel.window or rng.random() < 0.4:
                break
        if len(self.shape) == 3:
            self.apply(Flatten(), self.nodes[-1].output.qtype)
        for _ in range(left - 1):
            widest = max(self.shape[0], kernel.outputs, 3)
            self.dense(int(rng.integers(2, min(widest, kernel.inputs + 2) + 1)))
            self.between()
        self.dense(kernel.outputs)

    def between(self) -> None:
        """What is between two layers with weights."""
        table = self.kernel.made_bits <= 6 and self.rng.random() < 0.15
        self.requant(signed=table)
        if table:
            self.table()

    def _weights(self, shape: Shape) -> IntArray:
        kernel, rng = self.kernel, self.rng
        half = 1 << (kernel.weight_bits - 1)
        codes = rng.integers(-half + 1, half, shape)
        if self.near:
            normal = np.rint(rng.normal(0, 0.35 * half, shape))
            codes = np.clip(normal, -half + 1, half - 1).astype(np.int64)
        codes[rng.random(shape) < kernel.zeros / 100] = 0
        flat = codes.reshape(len(codes), -1)
        # An output without products is no layer's.
        flat[~flat.any(axis=1), int(rng.integers(prod(shape[1:])))] = 1
        return codes

    def _biases(self, count: int) -> IntArray:
        return self.rng.integers(-64, 65, count)
