"""The matrix-vector products of a graph: what analog arrays compute, and how data gets there."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from flow.graph import Graph, Node
from flow.ops import (
    Add,
    Concat,
    Conv,
    Dense,
    DepthToSpace,
    Flatten,
    IntArray,
    MaxPool,
    Mul,
    Op,
    Pad,
    Relu,
    Requant,
    Reshape,
    Shape,
    Slice,
    SumPool,
    Table,
    Threshold,
    Transpose,
    Upsample,
)
from flow.ops.windows import pad, windows_of
from targets.analog.steps import StepFunction

# What the digital part computes, as the reference does. An op that is in neither has no meaning
# here yet, and is refused.
DIGITAL: tuple[type[Op], ...] = (
    *(Add, Concat, DepthToSpace, Flatten, MaxPool, Mul, Pad, Relu, Requant, Reshape, Slice),
    *(SumPool, Table, Threshold, Transpose, Upsample),
)
PRODUCTS = (Conv, Dense)


@dataclass(frozen=True, eq=False)
class Product:
    """A node's products: of each of its `groups`, at each of its `positions`, the vector of
    `inputs` codes times a matrix; the node's bias is added digitally. With `steps`, what reads the
    sums gives that function of them, and `sums` of it in the place of the others; the bias is among
    the weights then, those of the last inputs, which always have the codes `constants`.

    `weights` is (groups, inputs, outputs); `low` and `high` (groups, inputs) bound the codes.
    """

    node: Node
    shape: Shape
    weights: IntArray
    bias: IntArray
    low: IntArray
    high: IntArray
    steps: StepFunction | None = None
    constants: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @classmethod
    def of(cls, graph: Graph, node: Node) -> Product:
        """The product of a node that is a convolution or a dense layer."""
        op, shape = node.op, graph.shapes(node)[0]
        assert isinstance(op, Conv | Dense)
        low, high = (np.broadcast_to(b, shape[:1]) for b in graph.bounds[node.inputs[0]])
        if isinstance(op, Dense):
            return cls(node, shape, op.weight.T[None], op.bias, low[None], high[None])
        if any(op.pads):
            low, high = np.minimum(low, op.pad_value), np.maximum(high, op.pad_value)
        weights = op.weight.reshape(op.groups, len(op.weight) // op.groups, -1)
        taps = prod(op.weight.shape[2:])
        low, high = (np.repeat(b, taps).reshape(op.groups, -1) for b in (low, high))
        return cls(node, shape, weights.transpose(0, 2, 1), op.bias, low, high)

    def stepped(self, steps: StepFunction) -> Product:
        """The same, read by that function."""
        most = max(int(np.abs(self.weights).max(initial=0)), 1)
        ends = int(self.low.min()), int(self.high.max())
        widest = ends[1] if ends[1] >= -ends[0] else ends[0]
        codes, rows = _bias_rows(self.bias, most, widest or 1)
        groups, _, outputs = self.weights.shape
        more = rows.reshape(len(codes), groups, outputs).transpose(1, 0, 2)
        same = np.broadcast_to(codes, (groups, len(codes)))
        return replace(
            self,
            weights=np.concatenate([self.weights, more], axis=1),
            bias=np.zeros_like(self.bias),
            low=np.concatenate([self.low, same], axis=1),
            high=np.concatenate([self.high, same], axis=1),
            steps=steps,
            constants=codes,
        )

    @property
    def positions(self) -> int:
        """How often one inference multiplies by each matrix."""
        return prod(self.node.output.shape[1:])

    def vectors(self, x: IntArray) -> IntArray:
        """Codes (n, *shape) as vectors (n, groups, positions, inputs)."""
        given = self._inputs(x)
        if not len(self.constants):
            return given
        same = np.broadcast_to(self.constants, (*given.shape[:-1], len(self.constants)))
        return np.concatenate([given, same], axis=-1)

    def _inputs(self, x: IntArray) -> IntArray:
        op = self.node.op
        if not isinstance(op, Conv):
            return x[:, None, None]
        windows = windows_of(
            pad(x, op.pads, op.pad_value), op.weight.shape[2:], op.stride, op.dilation
        )
        split = windows.reshape(len(x), op.groups, -1, *windows.shape[2:])
        columns: IntArray = split.transpose(0, 1, 3, 4, 2, 5, 6)
        return columns.reshape(len(x), op.groups, self.positions, -1)

    def outputs(self, sums: IntArray) -> IntArray:
        """Sums (n, groups, positions, outputs) as the node's output (n, *output shape)."""
        moved = np.moveaxis(sums, 2, 3)
        return np.ascontiguousarray(moved).reshape(len(sums), *self.node.output.shape)


def _bias_rows(bias: IntArray, most: int, widest: int) -> tuple[IntArray, IntArray]:
    """Codes (k,), no larger than `widest` and of its sign, and weights (k, outputs), no larger than
    `most`, whose products' sums are `bias`."""
    codes: list[int] = []
    rows: list[IntArray] = []
    left = bias.copy()
    while (need := int(np.abs(left).max(initial=0))) > 0:
        code = min(-(-need // most), abs(widest)) * (1 if widest > 0 else -1)
        row = np.clip(np.rint(left / code), -most, most).astype(np.int64)
        left = left - code * row
        codes.append(code)
        rows.append(row)
    held = np.array(rows, dtype=np.int64).reshape(len(rows), len(bias))
    return np.array(codes, dtype=np.int64), held
