"""The matrix-vector products of a graph: what analog arrays compute, and how data gets there."""

from __future__ import annotations

from dataclasses import dataclass
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
    `inputs` codes times a matrix; the node's bias is added digitally.

    `weights` is (groups, inputs, outputs); `low` and `high` (groups, inputs) bound the codes.
    """

    node: Node
    shape: Shape
    weights: IntArray
    bias: IntArray
    low: IntArray
    high: IntArray

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

    @property
    def positions(self) -> int:
        """How often one inference multiplies by each matrix."""
        return prod(self.node.output.shape[1:])

    def vectors(self, x: IntArray) -> IntArray:
        """Codes (n, *shape) as vectors (n, groups, positions, inputs)."""
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
