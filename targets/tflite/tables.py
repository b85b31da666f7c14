"""Any function of int8 codes: a cast, and a gather from a table."""

from __future__ import annotations

import numpy as np

from flow.graph import Node
from flow.ops import Shape
from targets.tflite.kernels import CODES
from targets.tflite.model import DType, Kind, Tensor
from targets.tflite.state import (
    INT8_HIGH,
    INT8_LOW,
    Refused,
    State,
    Stored,
    scale_of,
)


def table(state: State, node: Node, source: Stored) -> Stored:
    """The node as a table over the codes that its input can hold, alike in every channel."""
    if source.tensor.dtype is not DType.INT8:
        raise Refused("it is a table of an input wider than int8", "quantize the input to 8 bits")
    low, high = state.ends(node.inputs[0])
    least, most = state.ends(node.output.name)
    if most - least >= CODES:
        raise Refused(f"its codes go from {least} to {most}, int8 holds {CODES}", "use 8 bits")
    codes = np.arange(low, high + 1, dtype=np.int64)
    one: tuple[Shape, ...] = ((1,),)
    kernel = node.op.kernel(one, ((codes[:1], codes[-1:]),))
    entries = kernel(codes[:, None])[:, 0]
    zero = 0 if INT8_LOW <= least and most <= INT8_HIGH else INT8_LOW - least
    label = {"scale": (scale_of(node.output),), "zero_point": zero}
    shape = source.tensor.shape
    number = Tensor("", (), DType.INT32)
    cast = state.tensor(f"{node.name}_cast", shape, number)
    state.operator(Kind.CAST, (source.tensor,), cast, inDataType=9, outDataType=2)
    index = state.tensor(f"{node.name}_index", shape, number)
    start = state.integers(f"{node.name}_start", [-(low + source.zero)])
    state.operator(Kind.ADD, (cast, start), index)
    data = (entries + zero).astype(np.int8)
    held = state.constant(f"{node.name}_table", data, DType.INT8, **label)
    made = state.tensor(node.name, shape, held)
    state.operator(Kind.GATHER, (held, index), made, 2, axis=0, batchDims=0)
    return Stored(made, zero, source.layout)
