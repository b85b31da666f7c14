"""Any function of codes: a cast, and a gather from a table."""

from __future__ import annotations

import numpy as np

from flow.graph import Node
from flow.ops import Shape
from targets.tflite.model import DType, Kind, Tensor
from targets.tflite.state import (
    Refused,
    Rounded,
    State,
    Stored,
    place_of,
    scale_of,
)


def table(state: State, node: Node, source: Stored) -> Stored:
    """The node as a table over the codes that its input can hold, alike in every channel."""
    held = state.codes
    if source.tensor.dtype is not held:
        raise Refused(
            f"it is a table of an input wider than int{held.bits}",
            f"quantize the input to {held.bits} bits",
        )
    low, high = state.ends(node.inputs[0])
    least, most = state.ends(node.output.name)
    if most - least >= held.codes:
        raise Refused(
            f"its codes go from {least} to {most}, int{held.bits} holds {held.codes}",
            f"use {held.bits} bits",
        )
    codes = np.arange(low, high + 1, dtype=np.int64)
    one: tuple[Shape, ...] = ((1,),)
    kernel = node.op.kernel(one, ((codes[:1], codes[-1:]),))
    entries = kernel(codes[:, None])[:, 0]
    zero = place_of(held, least, most)
    label = {"scale": (scale_of(node.output),), "zero_point": zero if held is DType.INT8 else 0}
    shape = source.tensor.shape
    number = Tensor("", (), DType.INT32)
    cast = state.tensor(f"{node.name}_cast", shape, number)
    state.operator(Kind.CAST, (source.tensor,), cast, inDataType=held.number, outDataType=2)
    index = state.tensor(f"{node.name}_index", shape, number)
    start = state.integers(f"{node.name}_start", [-(low + source.zero)])
    state.operator(Kind.ADD, (cast, start), index)
    data = (entries + zero).astype(held.storage)
    listed = state.constant(f"{node.name}_table", data, held, **label)
    made = state.tensor(node.name, shape, listed)
    state.operator(Kind.GATHER, (listed, index), made, 2, axis=0, batchDims=0)
    state.result.rounded[node.name] = Rounded(instead="a table of codes")
    return Stored(made, zero, source.layout)
