"""Rows of int8 weights as the constants of an operator, and convolutions as dense layers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flow.graph import Node
from flow.layout import Layout
from flow.ops import IntArray, Shape
from targets.tflite.kernels import MAX_WEIGHT, Constants, Product
from targets.tflite.model import DType, Kind, Tensor
from targets.tflite.moves import check_entries, windows
from targets.tflite.state import Refused, State, Stored


def check_weights(weight: IntArray) -> None:
    """Raises Refused where they do not fit int8 as the format wants it."""
    most = int(abs(weight).max(initial=0))
    if most > MAX_WEIGHT:
        raise Refused(
            f"its weights reach {most} in magnitude, TFLite's int8 weights go to {MAX_WEIGHT}",
            "train with at most 8 weight bits and narrow range",
        )


def largest_of(state: State, node: Node, *codes: int) -> int:
    """The greatest magnitude of a number that the node reads, or pads with."""
    found = 0
    for name in node.inputs:
        source = state.made[name]
        ends = (*state.ends(name), *codes)
        found = max(found, *(abs(code + source.zero) for code in ends))
    return found


def tensors_of(
    state: State,
    node: Node,
    constants: Constants,
    shape: Shape,
    axis: int,
    source: Stored,
    dtype: DType = DType.INT8,
) -> tuple[Tensor, Tensor]:
    weight = state.constant(
        f"{node.name}_weight",
        constants.weight.reshape(shape).astype(np.int8),
        dtype,
        scale=tuple(float(s) for s in constants.scale),
        axis=axis,
    )
    scales = np.float32(source.tensor.scale[0]) * constants.scale
    bias = state.constant(
        f"{node.name}_bias",
        constants.bias,
        constants.bias_type,
        scale=tuple(float(s) for s in scales),
    )
    return weight, bias


def moved(constants: Constants, place: IntArray) -> Constants:
    """The rows in another order."""
    return replace(
        constants,
        weight=constants.weight[place],
        bias=constants.bias[place],
        scale=constants.scale[place],
    )


def turned(constants: Constants) -> Constants:
    """Weights (taps, channels), as a depthwise convolution has them."""
    return replace(constants, weight=constants.weight.T)


def over_windows(
    state: State,
    node: Node,
    tensor: Tensor,
    weight: IntArray,
    geometry: tuple[tuple[int, ...], tuple[int, int], tuple[int, int]],
    source: Stored,
    bias: IntArray,
    layout: Layout,
    largest: int,
    place: IntArray | None = None,
) -> Product | None:
    """A convolution of weights (out, in, kh, kw) as a dense layer over its windows, gathered;
    `geometry` is window, stride and dilation, `place` the order of its channels in the file. None
    where it would be too large."""
    taps, stride, dilation = geometry
    name = f"{node.name}_windows"
    try:
        check_entries(weight.size, "weights")
        taken = windows(state, name, tensor, (taps[0], taps[1]), stride, dilation)
    except Refused:
        return None

    def emit(constants: Constants, output: Tensor) -> None:
        mine = constants if place is None else moved(constants, place)
        tensors = tensors_of(state, node, mine, mine.weight.shape, 0, source)
        state.operator(
            Kind.FULLY_CONNECTED,
            (taken, *tensors),
            output,
            state.choices.dense_version,
            fusedActivationFunction=mine.activation.value,
            keepNumDims=True,
        )

    rows = weight.reshape(len(weight), -1)
    shape = (1, taken.shape[1], len(rows))
    return Product(
        rows, bias, taken, layout, emit, Kind.FULLY_CONNECTED, largest, shape=shape, place=place
    )
