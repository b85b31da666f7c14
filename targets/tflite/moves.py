"""Max-pools and everything that only moves codes."""

from __future__ import annotations

from math import prod

import numpy as np

from flow.graph import Node
from flow.layout import Layout
from flow.ops import Concat, IntArray, MaxPool, Movement, Pad
from flow.ops.windows import windows_of
from targets.tflite.model import DType, Kind, Tensor
from targets.tflite.state import Refused, State, Stored, device_shape

_MAX_ENTRIES = 1 << 20  # numbers of all windows, products or comparisons of one operator


def check_entries(count: int, what: str) -> None:
    """Raises Refused where they are more than a file should have."""
    if count > _MAX_ENTRIES:
        raise Refused(
            f"it needs {count} {what}, at most {_MAX_ENTRIES} are written",
            "quantize to fewer bits directly behind the layer that computes the sum",
        )


def move(state: State, node: Node, op: Movement, sources: list[Stored]) -> Stored:
    """The operator that moves as `op` does: a concatenation, a padding, no more than another shape,
    or a gather of places, which can be anything."""
    if isinstance(op, Concat):
        return _concat(state, node, op, sources)
    (source,) = sources
    if isinstance(op, Pad):
        return _pad(state, node, op, settled(state, node.name, source))
    shape = node.output.shape
    index = op.index(source.layout.shape).reshape(-1)
    order = source.layout.order[index]  # where each entry of the result is now
    if index.size == source.layout.order.size and len(shape) == 1:
        if (np.sort(index) == np.arange(index.size)).all():  # the next layer's weights follow it
            flat = state.reshaped(source.tensor, (1, index.size), node.name)
            return Stored(flat, source.zero, Layout(shape, order))
    layout = Layout.channels_last(shape)
    if index.size == source.layout.order.size and np.array_equal(order, layout.order):
        shaped = state.reshaped(source.tensor, device_shape(shape), node.name)
        return Stored(shaped, source.zero, layout)
    return Stored(_gathered(state, node.name, source, order, layout), source.zero, layout)


def settled(state: State, name: str, source: Stored) -> Stored:
    """The value in the usual layout of its shape."""
    if source.layout.usual:
        return source
    layout = Layout.channels_last(source.layout.shape)
    made = _gathered(state, f"{name}_order", source, source.layout.order, layout)
    return Stored(made, source.zero, layout)


def _gathered(state: State, name: str, source: Stored, order: IntArray, layout: Layout) -> Tensor:
    places = np.empty(order.size, dtype=np.int64)
    places[layout.order] = order
    return state.gathered(source.tensor, places, device_shape(layout.shape), name)


def _concat(state: State, node: Node, op: Concat, sources: list[Stored]) -> Stored:
    """Inputs of one scale, zero-point and place of 0 (the caller sees to that)."""
    shape = node.output.shape
    if len(shape) > 1:
        sources = [settled(state, node.name, source) for source in sources]
        layout = Layout.channels_last(shape)
        axis = len(shape) if op.axis == 0 else op.axis
    else:
        starts = np.cumsum([0, *(source.layout.order.size for source in sources)])
        parts = [s.layout.order + start for s, start in zip(sources, starts, strict=False)]
        layout, axis = Layout(shape, np.concatenate(parts)), 1
    first = sources[0]
    made = state.tensor(node.name, device_shape(shape), first.tensor)
    tensors = tuple(source.tensor for source in sources)
    state.operator(Kind.CONCATENATION, tensors, made, 2, axis=axis)
    return Stored(made, first.zero, layout)


def _pad(state: State, node: Node, op: Pad, source: Stored) -> Stored:
    pairs = list(zip(op.before, op.after, strict=True))
    shape = node.output.shape
    code = op.value + source.zero
    made = _padded(state, node.name, source.tensor, [(0, 0), *pairs[1:], pairs[0]], code)
    return Stored(made, source.zero, Layout.channels_last(shape))


def padded(
    state: State, name: str, tensor: Tensor, pads: tuple[int, int, int, int], number: int
) -> Tensor:
    """An image tensor with `number` around it; `pads` is (top, left, bottom, right)."""
    top, left, bottom, right = pads
    return _padded(state, name, tensor, [(0, 0), (top, bottom), (left, right), (0, 0)], number)


def _padded(
    state: State, name: str, tensor: Tensor, pairs: list[tuple[int, int]], number: int
) -> Tensor:
    info = np.iinfo(tensor.dtype.storage)
    if not info.min <= number <= info.max:
        raise Refused(
            f"its padding is the number {number}, which {tensor.dtype.value} does not hold",
            "pad with a code that the input's quantizer has",
        )
    shape = tuple(size + sum(pair) for size, pair in zip(tensor.shape, pairs, strict=True))
    made = state.tensor(name, shape, tensor)
    amounts = state.integers(f"{name}_pads", pairs)
    if number == tensor.zero_point:
        return state.operator(Kind.PAD, (tensor, amounts), made, 2)
    label = {"scale": tensor.scale, "zero_point": tensor.zero_point}
    data = np.array([number], dtype=tensor.dtype.storage)
    filler = state.constant(f"{name}_number", data, tensor.dtype, **label)
    return state.operator(Kind.PADV2, (tensor, amounts, filler), made, 2)


def max_pool(state: State, node: Node, op: MaxPool, source: Stored) -> Stored:
    held = state.codes
    if source.tensor.dtype is not held:
        raise Refused(
            f"TFLite pools int{held.bits}, and its input is wider", "quantize before the pool"
        )
    source = settled(state, node.name, source)
    tensor = source.tensor
    if any(op.pads):  # with the lowest number, which never wins
        tensor = padded(state, f"{node.name}_pad", tensor, op.pads, held.low)
    made = state.tensor(node.name, device_shape(node.output.shape), tensor)
    state.operator(
        Kind.MAX_POOL_2D,
        (tensor,),
        made,
        2,
        padding=1,
        strideH=op.stride[0],
        strideW=op.stride[1],
        filterHeight=op.window[0],
        filterWidth=op.window[1],
    )
    return Stored(made, source.zero, Layout.channels_last(node.output.shape))


def windows(
    state: State,
    name: str,
    tensor: Tensor,
    taps: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    """Every window of an image tensor as a row (1, places, channels * taps), channels first.

    Raises:
        Refused: they are too many.
    """
    height, width, channels = tensor.shape[1:]
    places = np.arange(prod(tensor.shape)).reshape(1, height, width, channels)
    every = windows_of(places.transpose(0, 3, 1, 2), taps, stride, dilation)
    rows = every[0].transpose(1, 2, 0, 3, 4)  # (oh, ow, C, kh, kw)
    count, entries = prod(rows.shape[:2]), prod(rows.shape[2:])
    check_entries(count * entries, "window entries")
    return state.gathered(tensor, rows.reshape(-1), (1, count, entries), name)


def mixed(state: State, source: Tensor, matrix: IntArray, output: Tensor) -> Tensor:
    """Every place's numbers times a matrix (out, in) of small integers; both tensors have the
    output's scale, so that nothing is rounded."""
    name, scale = output.name, output.scale[0]
    outs, ins = matrix.shape
    flat = len(source.shape) == 2
    shape = (outs, ins) if flat else (outs, 1, 1, ins)
    data = matrix.reshape(shape).astype(np.int8)
    ones = (1.0,) * outs
    weight = state.constant(f"{name}_weight", data, DType.INT8, scale=ones)
    scales = (scale,) * outs
    bias = state.constant(f"{name}_bias", np.zeros(outs, np.int32), DType.INT32, scale=scales)
    inputs = (source, weight, bias)
    if flat:
        version = state.choices.dense_version
        return state.operator(
            Kind.FULLY_CONNECTED, inputs, output, version, fusedActivationFunction=0
        )
    plain = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    return state.operator(
        Kind.CONV_2D, inputs, output, 3, fusedActivationFunction=0, padding=1, **plain
    )


def relabelled(state: State, name: str, source: Stored, scale: float, zero_point: int) -> Stored:
    """The same numbers with another scale and zero-point written beside them."""
    tensor = source.tensor
    if (tensor.scale, tensor.zero_point) == ((scale,), zero_point):
        return source
    label = {"scale": (scale,), "zero_point": zero_point}
    made = state.reshaped(tensor, tensor.shape, name, **label)
    return Stored(made, source.zero, source.layout)


def size(source: Stored) -> int:
    return prod(source.tensor.shape)
