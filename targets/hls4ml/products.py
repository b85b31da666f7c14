"""Dense layers, convolutions and average pools, with the Requant behind them where it is free."""

from __future__ import annotations

from typing import Any

import numpy as np

from flow.graph import Node, Value
from flow.layout import Layout
from flow.ops import (
    Conv,
    Dense,
    IntArray,
    Requant,
    Shape,
    SumPool,
)
from targets.hls4ml.binary import Product
from targets.hls4ml.choice import choose, counted, signed_covering
from targets.hls4ml.layers import SIGN, Fixed, Kind, Layer
from targets.hls4ml.rounding import uniform_shift
from targets.hls4ml.scale_layer import affine
from targets.hls4ml.state import State

Pads = tuple[int, int, int, int]  # top, left, bottom, right


def multiply(state: State, node: Node, op: Dense | Conv | SumPool, source: Layer) -> None:
    """Dense or Conv, with the Requant behind it where that is one shift for all channels."""
    if isinstance(op, Dense):
        weight, bias = op.weight, op.bias
        ordered = np.empty_like(weight)
        ordered[:, source.layout.order] = weight
        kind, attributes, data = Kind.DENSE, dense_attributes(op), ordered.T
    else:
        op, source = plain_conv(state, node, op, source)
        weight, bias = op.weight, op.bias
        given = state.graph.value(node.inputs[0])
        kind, attributes = Kind.CONV, conv_attributes(op, given, node.output)
        data = weight.transpose(2, 3, 1, 0)  # (kh, kw, in, out)
        if op.groups > 1:
            kind, data = Kind.DEPTHWISE, weight.transpose(2, 3, 0, 1)  # (kh, kw, channel, 1)
    taken = int(np.prod(weight.shape[1:]))
    fused = following_shift(state, node)
    choice = choose(state, node, source, weight, kind, shifted=fused is not None and fused[1] != 0)
    product = choice.product if choice else Product.INTEGER
    point, result, form, value = 0, None, "", node.output
    if fused is not None and product is not Product.XNOR:
        requant, point, result = fused
        value, form = requant.output, f"shift {point}, {result.mode.split(',')[0]}"
    accumulator = Fixed.of(state.reachable(node.output), point)
    result = result or accumulator
    if product is Product.XNOR:
        bias, point, accumulator = counted(bias, taken)
    unit = 2.0**-point
    weights, scaled = Fixed.of(signed_covering(weight), point), data * unit
    if product in (Product.XNOR, Product.SIGN_WEIGHT):
        weights, scaled = SIGN, (data > 0).astype(np.float64)
    constants = "depthwise_data" if kind is Kind.DEPTHWISE else "weight_data"
    attributes |= {constants: scaled, "bias_data": bias * unit, "use_bias": True}
    state.append(
        Layer(
            kind,
            node.name,
            (source.name,),
            value.name,
            attributes,
            {
                "weight": weights,
                "bias": Fixed.of(signed_covering(bias), point),
                "accum": accumulator,
                "result": result,
            },
            Layout.channels_last(value.shape),
            form,
            data.size if kind is Kind.DEPTHWISE else taken,
            weight.shape[0],
            choice,
        )
    )


def following_shift(state: State, node: Node) -> tuple[Node, int, Fixed] | None:
    """The Requant behind a layer, its binary point and type, where it is one shift for all
    channels."""
    consumers = state.graph.consumers(node.output.name)
    if len(consumers) != 1 or not isinstance(consumers[0].op, Requant):
        return None
    shift = uniform_shift(state.graph, consumers[0], consumers[0].op, narrow=state.facts.narrow)
    return None if shift is None else (consumers[0], *shift)


def plain_conv(state: State, node: Node, op: Conv | SumPool, source: Layer) -> tuple[Conv, Layer]:
    """The same function as a convolution without dilation or odd padding; without groups too,
    unless hls4ml has it as a depthwise convolution."""
    if isinstance(op, SumPool):
        channels = state.graph.value(node.inputs[0]).shape[0]
        weight = np.ones((channels, 1, *op.window), dtype=np.int64)
        bias = np.zeros(channels, dtype=np.int64)
        op = Conv(weight, bias, op.stride, op.pads, groups=channels, pad_value=op.pad_value)
    native = is_depthwise(op) and (state.stream, state.strategy(node.name)) in state.facts.depthwise
    weight = op.weight if native else op.ungrouped()
    weight, bias = undilated(weight, op.dilation), op.bias
    if op.pad_value and any(op.pads):
        # conv(x) = conv(x - p) + p * sum(weight), and x - p is padded with 0.
        bias = bias + op.pad_value * weight.sum(axis=(1, 2, 3))
        given = state.graph.value(node.inputs[0])
        low, high = (int(e) - op.pad_value for e in state.ends(given.name))
        source = affine(
            state, f"{node.name}_centre", source, 1, -op.pad_value, min(low, 0), max(high, 0), None
        )
    pads = op.pads
    if state.stream and op.stride[0] > 1 and forgets_stride(weight.shape, native):
        weight, pads = with_second_row(weight, pads)
    return Conv(weight, bias, op.stride, pads, groups=op.groups if native else 1), source


def forgets_stride(weight: Shape, native: bool) -> bool:
    """Whether hls4ml's io_stream convolution forgets the vertical stride: its line buffer for
    kernels of one row does; a 1x1 convolution has a code of its own, unless it is depthwise."""
    return weight[2] == 1 and (native or weight[3] > 1)


def with_second_row(weight: IntArray, pads: Pads) -> tuple[IntArray, Pads]:
    """The same function as a kernel of two rows: zeros below, and a row for them."""
    top, left, bottom, right = pads
    return np.pad(weight, ((0, 0), (0, 0), (0, 1), (0, 0))), (top, left, bottom + 1, right)


def is_depthwise(op: Conv) -> bool:
    """One filter for each of several channels: hls4ml has no more of them than that."""
    return op.depthwise and op.groups == len(op.weight)


def undilated(weight: IntArray, dilation: tuple[int, int]) -> IntArray:
    """Taps `dilation` apart as a larger kernel with zeros between."""
    if dilation == (1, 1):
        return weight
    height, width = ((k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True))
    full = np.zeros((*weight.shape[:2], height, width), dtype=np.int64)
    full[:, :, :: dilation[0], :: dilation[1]] = weight
    return full


def dense_attributes(op: Dense) -> dict[str, Any]:
    return {"n_in": op.weight.shape[1], "n_out": op.weight.shape[0]}


def conv_attributes(op: Conv, given: Value, made: Value) -> dict[str, Any]:
    top, left, bottom, right = op.pads
    return {
        "data_format": "channels_last",
        "in_height": given.shape[1],
        "in_width": given.shape[2],
        "n_chan": given.shape[0],
        "out_height": made.shape[1],
        "out_width": made.shape[2],
        "n_filt": made.shape[0],
        "filt_height": op.weight.shape[2],
        "filt_width": op.weight.shape[3],
        "stride_height": op.stride[0],
        "stride_width": op.stride[1],
        "pad_top": top,
        "pad_bottom": bottom,
        "pad_left": left,
        "pad_right": right,
        "padding": "same" if any(op.pads) else "valid",
    }
