"""Sums of products as rows of int8 weights over one stored tensor, and the operators that do them.

Dense, convolution, depthwise convolution, average pool (a depthwise convolution with ones), sum of
activations (one over the stacked inputs) and a requantization on its own (one with a single tap).
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from flow.graph import Node
from flow.layout import Layout
from flow.ops import Add, Conv, Dense, IntArray, Op, SumPool
from targets.tflite.finish import finish
from targets.tflite.kernels import (
    MAX_WEIGHT,
    Constants,
    Product,
    aligned_goal,
)
from targets.tflite.model import DType, Kind, Tensor
from targets.tflite.moves import padded, relabelled, settled
from targets.tflite.rows import (
    check_weights,
    largest_of,
    moved,
    over_windows,
    tensors_of,
    turned,
)
from targets.tflite.state import Refused, State, Stored

_ONE_PLACE = {
    "padding": 1,
    "strideH": 1,
    "strideW": 1,
    "dilationHFactor": 1,
    "dilationWFactor": 1,
}


def product(state: State, node: Node, value: str | None = None) -> Product:
    """The product that a node is; with `value`, that stored value itself, times 1.

    Raises:
        Refused: its weights do not fit int8.
    """
    if value is not None:
        return _identity(state, node, state.made[value])
    op = node.op
    if isinstance(op, Dense):
        return _dense(state, node, op)
    if isinstance(op, Conv | SumPool):
        return _conv(state, node, op)
    assert isinstance(op, Add)
    return _add(state, node, op)


def is_product(op: Op) -> bool:
    return isinstance(op, Dense | Conv | SumPool | Add)


def _dense(state: State, node: Node, op: Dense) -> Product:
    source = state.made[node.inputs[0]]
    ordered = np.empty_like(op.weight)
    ordered[:, source.layout.order] = op.weight
    check_weights(ordered)
    packed = state.choices.weights
    room = (1 << (packed.bits - 1)) - 1
    # A row that ends inside a byte is read differently by the runtime's kernels.
    whole = ordered.shape[1] * packed.bits % 8 == 0
    dtype = packed if whole and abs(ordered).max(initial=0) <= room else DType.INT8

    layout = Layout.channels_last(node.output.shape)
    bias = op.bias + source.shift * ordered.sum(axis=1)
    if state.choices.old_delegate:
        inside = state.reshaped(source.tensor, (1, 1, 1, ordered.shape[1]), f"{node.name}_in")
        shape = (1, 1, 1, len(ordered))
        emit_conv = _as_conv(state, node, inside, source)
        return Product(
            ordered,
            bias,
            inside,
            layout,
            emit_conv,
            Kind.CONV_2D,
            largest_of(state, node),
            shape=shape,
        )

    def emit(constants: Constants, output: Tensor) -> None:
        state.result.packed[node.name] = dtype
        weight, bias = tensors_of(state, node, constants, constants.weight.shape, 0, source, dtype)
        state.operator(
            Kind.FULLY_CONNECTED,
            (source.tensor, weight, bias),
            output,
            state.choices.dense_version,
            fusedActivationFunction=constants.activation.value,
        )

    return Product(
        ordered,
        bias,
        source.tensor,
        layout,
        emit,
        Kind.FULLY_CONNECTED,
        largest_of(state, node),
        room if dtype is packed else MAX_WEIGHT,
    )


def _as_conv(
    state: State, node: Node, inside: Tensor, source: Stored
) -> Callable[[Constants, Tensor], None]:
    """Writes a dense layer as the convolution of one place."""

    def emit(constants: Constants, output: Tensor) -> None:
        rows, taps = constants.weight.shape
        tensors = tensors_of(state, node, constants, (rows, 1, 1, taps), 0, source)
        options = {**_ONE_PLACE, "fusedActivationFunction": constants.activation.value}
        state.operator(Kind.CONV_2D, (inside, *tensors), output, 3, **options)

    return emit


def _conv(state: State, node: Node, op: Conv | SumPool) -> Product:
    source = settled(state, node.name, state.made[node.inputs[0]])
    channels = source.layout.shape[0]
    if isinstance(op, SumPool):
        ones = np.ones((channels, 1, *op.window), dtype=np.int64)
        nothing = np.zeros(channels, dtype=np.int64)
        op = Conv(ones, nothing, op.stride, op.pads, (1, 1), channels, op.pad_value)
    check_weights(op.weight)
    tensor, padding = source.tensor, "VALID"
    if any(op.pads):
        if _is_same(op, source) and op.pad_value == source.shift:
            padding = "SAME"
        else:
            tensor = padded(state, f"{node.name}_pad", tensor, op.pads, op.pad_value + source.zero)
    outs, depthwise = len(op.weight), op.depthwise
    weight = op.weight if depthwise else op.ungrouped()
    inside, *taps = weight.shape[1:]
    rows = weight.transpose(0, 2, 3, 1).reshape(outs, -1)  # (out, kh * kw * in)
    options = {
        "padding": int(padding == "VALID"),
        "strideH": op.stride[0],
        "strideW": op.stride[1],
        "dilationHFactor": op.dilation[0],
        "dilationWFactor": op.dilation[1],
    }
    if depthwise:
        options["depthMultiplier"] = outs // channels
    kind = Kind.DEPTHWISE_CONV_2D if depthwise else Kind.CONV_2D

    def emit(constants: Constants, output: Tensor) -> None:
        if depthwise:
            constants = turned(constants)
        axis = 3 if depthwise else 0
        shape = (1, *taps, outs) if depthwise else (len(constants.weight), *taps, inside)
        tensors = tensors_of(state, node, constants, shape, axis, source)
        state.operator(
            kind,
            (tensor, *tensors),
            output,
            3,
            fusedActivationFunction=constants.activation.value,
            **options,
        )

    layout = Layout.channels_last(node.output.shape)
    bias = op.bias + source.shift * rows.sum(axis=1)
    largest = largest_of(state, node, op.pad_value)

    def dense() -> Product | None:
        inner = tensor
        if padding == "SAME":
            inner = padded(state, f"{node.name}_pad", tensor, op.pads, tensor.zero_point)
        full = op.ungrouped()
        geometry = full.shape[2:], op.stride, op.dilation
        return over_windows(state, node, inner, full, geometry, source, bias, layout, largest)

    return Product(rows, bias, tensor, layout, emit, kind, largest, dense=dense)


def _is_same(op: Conv, source: Stored) -> bool:
    """Whether the padding is the one that the format calls SAME."""
    for axis in range(2):
        size, stride = source.layout.shape[1 + axis], op.stride[axis]
        span = (op.weight.shape[2 + axis] - 1) * op.dilation[axis] + 1
        total = max((-(-size // stride) - 1) * stride + span - size, 0)
        if (op.pads[axis], op.pads[axis + 2]) != (total // 2, total - total // 2):
            return False
    return True


def aligned(state: State, node: Node, sources: list[Stored]) -> list[Stored]:
    """The stored inputs of a node with one code for the number 0, one scale and one zero-point, as
    a concatenation needs them. A scale is only written anew; codes are moved by a kernel."""
    first, held = sources[0], state.codes
    if any(source.tensor.dtype is not held for source in sources):
        if all(source.tensor.dtype is first.tensor.dtype for source in sources):
            return sources
        raise Refused(
            f"it joins int{held.bits} and int32",
            f"quantize every input to {held.bits} bits or fewer",
        )
    if len({source.zero for source in sources}) > 1:
        ends = [state.ends(name) for name in node.inputs]
        low, high = min(end[0] for end in ends), max(end[1] for end in ends)
        if high - low >= held.codes:
            raise Refused(
                f"its inputs' codes go from {low} to {high}, which int{held.bits} does not hold "
                "together",
                "give its inputs the same bits and sign",
            )
        moved = []
        for name, source in zip(node.inputs, sources, strict=True):
            wanted = aligned_goal(state, state.graph.value(name), low, high)
            moved.append(
                finish(state, f"{node.name}_aligned", _identity(state, node, source), wanted)
            )
        sources, first = moved, moved[0]
    scale, point = first.tensor.scale[0], first.tensor.zero_point
    return [relabelled(state, f"{node.name}_same", s, scale, point) for s in sources]


def _add(state: State, node: Node, op: Add) -> Product:
    """The inputs stacked, and one depthwise tap for each."""
    terms = [state.made[name] for name in node.inputs]
    if state.codes is DType.INT16:  # no zero-points: what codes are moved by goes into the bias
        scale = terms[0].tensor.scale[0]
        terms = [relabelled(state, f"{node.name}_same", term, scale, 0) for term in terms]
    else:
        terms = aligned(state, node, terms)
    if len({term.layout.order.tobytes() for term in terms}) > 1:
        terms = [settled(state, node.name, term) for term in terms]
    first = terms[0]
    channels, places = _columns(first)
    weight = np.array(op.multipliers, dtype=object)
    if abs(weight).max(initial=0) > MAX_WEIGHT:
        factors = " : ".join(map(str, op.multipliers))
        raise Refused(
            f"the scales of its inputs are as {factors}, TFLite's factors go to {MAX_WEIGHT}",
            "requantize the sum to 8 bits or fewer directly behind it, or use power-of-two scales",
        )
    count = len(terms)
    flat = [
        state.reshaped(term.tensor, (1, 1, places, channels), f"{node.name}_in") for term in terms
    ]
    stacked = state.tensor(f"{node.name}_stack", (1, count, places, channels), first.tensor)
    state.operator(Kind.CONCATENATION, tuple(flat), stacked, 2, axis=1)
    rows = np.tile(weight.astype(np.int64), (first.layout.shape[0], 1))
    bias = op.bias + rows @ np.array([term.shift for term in terms])
    return _depthwise(state, node, stacked, rows, bias, first)


def _identity(state: State, node: Node, source: Stored) -> Product:
    channels, places = _columns(source)
    tensor = state.reshaped(source.tensor, (1, 1, places, channels), f"{node.name}_in")
    rows = np.ones((source.layout.shape[0], 1), dtype=np.int64)
    bias = np.full(len(rows), source.shift)
    return _depthwise(state, node, tensor, rows, bias, source)


def _columns(source: Stored) -> tuple[int, int]:
    """(channels, places of each) of a stored value."""
    channels = source.layout.shape[0]
    return channels, prod(source.layout.shape[1:])


def _depthwise(
    state: State, node: Node, tensor: Tensor, rows: IntArray, bias: IntArray, source: Stored
) -> Product:
    """A depthwise convolution with a column of taps (channels, taps), whose channels lie as in
    `source`."""
    channels, taps = rows.shape
    places = tensor.shape[2]
    # Behind a Flatten every entry is a channel, in the order of the image it was.
    order = source.layout.order if len(source.layout.shape) == 1 else np.arange(channels)
    place = np.argsort(order)
    largest = largest_of(state, node)

    def emit(constants: Constants, output: Tensor) -> None:
        mine = moved(constants, place)
        shape = (1, taps, 1, channels)
        tensors = tensors_of(state, node, turned(mine), shape, 3, source)
        state.operator(
            Kind.DEPTHWISE_CONV_2D,
            (tensor, *tensors),
            output,
            3,
            fusedActivationFunction=mine.activation.value,
            depthMultiplier=1,
            **_ONE_PLACE,
        )

    def dense() -> Product | None:
        weight = np.zeros((channels, channels, taps, 1), dtype=np.int64)
        weight[np.arange(channels), order, :, 0] = rows
        geometry = (taps, 1), (1, 1), (1, 1)
        return over_windows(
            state, node, tensor, weight, geometry, source, bias, source.layout, largest, place
        )

    kind, shape = Kind.DEPTHWISE_CONV_2D, (1, 1, places, channels)
    return Product(
        rows,
        bias,
        tensor,
        source.layout,
        emit,
        kind,
        largest,
        shape=shape,
        dense=dense,
        place=place,
    )
