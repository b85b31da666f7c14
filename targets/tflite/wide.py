"""Values that the activations' type does not hold, as plain int32: the network's output, mostly.

A dense layer or convolution whose accumulator is the output is a BATCH_MATMUL of int8 by int8,
which the runtimes give as int32 without any rounding, and an ADD of the bias. Where its input is
wider itself, or its weights are wider than int8, it is written as products and their sum. Steps
that no multiplier gives are compared one by one.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from flow.graph import Node
from flow.layout import Layout
from flow.ops import Add, Conv, Dense, IntArray, Mul, Relu, SumPool
from targets.tflite.arithmetic import MAX_ACCUMULATOR
from targets.tflite.kernels import MAX_WEIGHT, Goal
from targets.tflite.model import DType, Kind, Tensor
from targets.tflite.moves import check_entries, padded, relabelled, settled, windows
from targets.tflite.state import (
    Refused,
    Rounded,
    State,
    Stored,
    device_shape,
    place_of,
    scale_of,
)

_INT32 = Tensor("", (), DType.INT32)


def wide(state: State, node: Node, sources: list[Stored]) -> Stored:
    """The node's output as int32.

    Raises:
        Refused: it does not fit int32, or the node is none that int32 is written for.
    """
    low, high = state.ends(node.output.name)
    if max(abs(low), abs(high)) > MAX_ACCUMULATOR:
        raise Refused(
            f"its output goes from {low} to {high}, more than int32 holds", "use fewer bits"
        )
    op = node.op
    if isinstance(op, Dense):
        return _dense(state, node, op, sources[0])
    if isinstance(op, Conv | SumPool):
        return _conv(state, node, op, sources[0])
    if isinstance(op, Add):
        return _add(state, node, op, sources)
    if isinstance(op, Mul):
        first, second = (
            _less(state, f"{node.name}_in{place}", cast(state, node, source), zero)
            for place, (source, zero) in enumerate(zip(sources, op.zeros, strict=True))
        )
        return _with(state, node, Kind.MUL, first, second.tensor)
    assert isinstance(op, Relu)
    zero = state.integers(f"{node.name}_zero", [op.zero])
    return _with(state, node, Kind.MAXIMUM, cast(state, node, sources[0]), zero)


def _dense(state: State, node: Node, op: Dense, source: Stored) -> Stored:
    ordered = np.empty_like(op.weight)
    ordered[:, source.layout.order] = op.weight
    made = _matmul(state, node, source, ordered, op.bias)
    return Stored(made, 0, Layout.channels_last(node.output.shape))


def _conv(state: State, node: Node, op: Conv | SumPool, source: Stored) -> Stored:
    """Every window gathered as a row, then as a dense layer."""
    source = settled(state, node.name, source)
    channels = source.layout.shape[0]
    if isinstance(op, SumPool):
        ones = np.ones((channels, 1, *op.window), dtype=np.int64)
        nothing = np.zeros(channels, dtype=np.int64)
        op = Conv(ones, nothing, op.stride, op.pads, (1, 1), channels, op.pad_value)
    tensor = source.tensor
    if any(op.pads):
        number = op.pad_value + source.zero
        tensor = padded(state, f"{node.name}_pad", tensor, op.pads, number)
    weight = op.ungrouped()
    taps = (weight.shape[2], weight.shape[3])
    taken = windows(state, f"{node.name}_windows", tensor, taps, op.stride, op.dilation)
    rows_of = Stored(taken, source.zero, source.layout)
    made = _matmul(state, node, rows_of, weight.reshape(len(weight), -1), op.bias)
    shaped = state.reshaped(made, device_shape(node.output.shape), f"{node.name}_shaped")
    return Stored(shaped, 0, Layout.channels_last(node.output.shape))


def _matmul(state: State, node: Node, source: Stored, matrix: IntArray, bias: IntArray) -> Tensor:
    """Rows of the tensor (1, ..., k) by a matrix (out, k), as int32 (1, ..., out)."""
    outs, taps = matrix.shape
    places = prod(source.tensor.shape) // taps
    batch = (1,) if places == 1 else (1, places)
    shape = (*batch, outs)
    bias = bias - source.zero * matrix.sum(axis=1)
    if max(abs(bias).max(initial=0), abs(matrix).max(initial=0)) > MAX_ACCUMULATOR:
        raise Refused("its bias or weights do not fit int32", "use fewer bits")
    rows = state.reshaped(source.tensor, (*batch, taps), f"{node.name}_rows")
    if rows.dtype is DType.INT8 and abs(matrix).max(initial=0) <= MAX_WEIGHT:
        # The runtimes do not agree on whether zero-points are subtracted, so here they are 0.
        plain = relabelled(state, f"{node.name}_codes", replace(source, tensor=rows), 1.0, 0)
        data = matrix.T.astype(np.int8)
        weight = state.constant(f"{node.name}_weight", data, DType.INT8, scale=(1.0,))
        product = state.tensor(f"{node.name}_product", shape, _INT32)
        inputs = (plain.tensor, weight)
        state.operator(Kind.BATCH_MATMUL, inputs, product, 2, adjX=False, adjY=False)
    else:
        check_entries(places * outs * taps, "products in int32")
        spread = state.reshaped(
            _number(state, node, rows), (1, places, 1, taps), f"{node.name}_spread"
        )
        weight = state.integers(f"{node.name}_weight", matrix[None, None])
        every = state.tensor(f"{node.name}_products", (1, places, outs, taps), _INT32)
        state.operator(Kind.MUL, (spread, weight), every)
        product = _sum(state, f"{node.name}_total", every)
        product = state.reshaped(product, shape, f"{node.name}_product")
    added = state.integers(f"{node.name}_bias", bias)
    made = state.tensor(node.name, shape, _INT32)
    return state.operator(Kind.ADD, (product, added), made)


def compared(state: State, name: str, source: Stored, wanted: Goal) -> Stored:
    """The wanted codes of int32 accumulators: the first code, and one for each step that is
    reached.

    Raises:
        Refused: there are more comparisons than a file should do.
    """
    source = settled(state, name, source)
    channels, places = source.layout.shape[0], prod(source.layout.shape[1:])
    longest = max(max(len(steps.cuts) for steps in wanted.steps), 1)
    check_entries(channels * places * longest, "comparisons in int32")
    never = np.iinfo(np.int32).max
    cuts = np.full((1, 1, channels, longest), never, dtype=np.int64)
    for row, steps in zip(cuts[0, 0], wanted.steps, strict=True):
        row[: len(steps.cuts)] = steps.cuts
    signs = np.array([-1 if steps.falling else 1 for steps in wanted.steps])
    tensor = state.reshaped(source.tensor, (1, places, channels, 1), f"{name}_sums")
    if (signs < 0).any():
        turned = state.tensor(f"{name}_turned", tensor.shape, _INT32)
        factors = state.integers(f"{name}_signs", signs.reshape(1, 1, channels, 1))
        tensor = state.operator(Kind.MUL, (tensor, factors), turned)
    shape = (1, places, channels, longest)
    reached = state.tensor(f"{name}_reached", shape, replace(_INT32, dtype=DType.BOOL))
    state.operator(Kind.GREATER_EQUAL, (tensor, state.integers(f"{name}_cuts", cuts)), reached)
    counts = state.tensor(f"{name}_counts", shape, _INT32)
    state.operator(Kind.CAST, (reached,), counts, inDataType=6, outDataType=2)
    total = _sum(state, f"{name}_count", counts)
    held = state.codes
    zero = place_of(held, wanted.low, wanted.high)
    firsts = state.integers(f"{name}_first", [steps.first + zero for steps in wanted.steps])
    number = state.tensor(f"{name}_number", total.shape, _INT32)
    state.operator(Kind.ADD, (total, firsts), number)
    point = zero if held is DType.INT8 else 0
    like = Tensor("", (), held, (scale_of(wanted.value),), point)
    made = state.tensor(name, total.shape, like)
    state.operator(Kind.CAST, (number,), made, inDataType=2, outDataType=held.number)
    state.result.rounded[name] = Rounded(instead="steps compared one by one, in int32")
    shaped = state.reshaped(made, device_shape(wanted.value.shape), f"{name}_shaped")
    return Stored(shaped, zero, Layout.channels_last(wanted.value.shape))


def _sum(state: State, name: str, terms: Tensor) -> Tensor:
    """Sums along the last axis."""
    made = state.tensor(name, terms.shape[:-1], _INT32)
    axis = state.integers(f"{name}_axis", [len(terms.shape) - 1])
    return state.operator(Kind.SUM, (terms, axis), made, keepDims=False)


def _add(state: State, node: Node, op: Add, sources: list[Stored]) -> Stored:
    total: Stored | None = None
    for factor, source in zip(op.multipliers, sources, strict=True):
        term = settled(state, node.name, cast(state, node, source))
        if factor != 1:
            if abs(factor) > MAX_ACCUMULATOR:
                raise Refused("a factor of its inputs does not fit int32", "use equal scales")
            number = state.integers(f"{node.name}_factor", [factor])
            term = _with(state, node, Kind.MUL, term, number)
        total = term if total is None else _with(state, node, Kind.ADD, total, term.tensor)
    assert total is not None
    return _less(state, node.name, total, -op.bias)


def cast(state: State, node: Node, source: Stored) -> Stored:
    """The codes as int32."""
    if source.tensor.dtype is DType.INT32:
        return source
    made = _number(state, node, source.tensor)
    return _less(state, node.name, Stored(made, 0, source.layout), source.zero)


def _number(state: State, node: Node, tensor: Tensor) -> Tensor:
    """The tensor's own numbers as int32."""
    if tensor.dtype is DType.INT32:
        return tensor
    made = state.tensor(f"{node.name}_cast", tensor.shape, _INT32)
    return state.operator(Kind.CAST, (tensor,), made, inDataType=tensor.dtype.number, outDataType=2)


def _less(state: State, name: str, source: Stored, number: int) -> Stored:
    """The int32 numbers less a number."""
    if not number:
        return source
    made = state.tensor(f"{name}_moved", source.tensor.shape, _INT32)
    less = state.integers(f"{name}_less", [-number])
    state.operator(Kind.ADD, (source.tensor, less), made)
    return Stored(made, 0, source.layout)


def _with(state: State, node: Node, kind: Kind, first: Stored, second: Tensor) -> Stored:
    made = state.tensor(node.name, first.tensor.shape, _INT32)
    state.operator(kind, (first.tensor, second), made)
    return Stored(made, 0, first.layout)
