"""The closed set of operations of the integer graph: one class per op is one row of the table.

Every op says what shape it gives, which integers it can give (interval arithmetic over its actual
constants), what it computes, and what it costs. Shapes are without the batch, the channel is
axis 0. Activations are int64 arrays (n, *shape); `Bounds` are (low, high) int64 arrays of one entry
per channel.
"""

from flow.ops.base import Bounds, IntArray, Kernel, Op, Shape
from flow.ops.linear import Add, Conv, Dense, Mul
from flow.ops.movement import (
    Concat,
    DepthToSpace,
    Flatten,
    Movement,
    Pad,
    Reshape,
    Slice,
    Transpose,
    Upsample,
)
from flow.ops.pointwise import Relu, Requant, Table, Threshold
from flow.ops.pool import MaxPool, SumPool

OPS: dict[str, type[Op]] = {
    op.name: op
    for op in (
        Add,
        Concat,
        Conv,
        Dense,
        DepthToSpace,
        Flatten,
        MaxPool,
        Mul,
        Pad,
        Relu,
        Requant,
        Reshape,
        Slice,
        SumPool,
        Table,
        Threshold,
        Transpose,
        Upsample,
    )
}

__all__ = [
    "OPS",
    "Add",
    "Bounds",
    "Concat",
    "Conv",
    "Dense",
    "DepthToSpace",
    "Flatten",
    "IntArray",
    "Kernel",
    "MaxPool",
    "Movement",
    "Mul",
    "Op",
    "Pad",
    "Relu",
    "Requant",
    "Reshape",
    "Shape",
    "Slice",
    "SumPool",
    "Table",
    "Threshold",
    "Transpose",
    "Upsample",
]
