"""The integer graph as a list of hls4ml layers, with an exact precision for every tensor.

Activations travel as integer codes. A Requant that is one shift for all channels costs nothing: the
binary point of the weights moves, and the cast of the result rounds (AP_RND_CONV) and saturates.
Any other Requant becomes a scale layer with a multiplier and an offset that are proven to give the
same codes for every reachable accumulator (flow/requant.py).

hls4ml keeps images channels-last; `Layout` says where each entry of a graph value is found there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flow.errors import Offence
from flow.graph import Graph, Node, Value
from flow.ops import Conv, Dense, Flatten, IntArray, MaxPool, Relu, Requant, Shape
from flow.qtype import QType
from flow.requant import Rounding
from targets.hls4ml.layers import Fixed, Kind, Layer, Layout
from targets.hls4ml.rounding import cheapest, saturating, uniform_shift

MAX_CONSTANT_BITS = 53  # hls4ml carries constants as float64


@dataclass(eq=False)
class Lowered:
    """The layers, or the offences that stand in their way."""

    layers: list[Layer] = field(default_factory=list)
    offences: list[Offence] = field(default_factory=list)


def lower(graph: Graph) -> Lowered:
    """Lower every node; nothing is left out in silence: what has no layer is an offence."""
    result = Lowered()
    value = graph.input
    result.layers.append(
        Layer(
            Kind.INPUT,
            "input_codes",
            "",
            value.name,
            {"input_shape": _hls_shape(value.shape)},
            {"result": Fixed.of(value.qtype)},
            Layout.of(value.shape),
        )
    )
    made = {value.name: result.layers[0]}
    fused: set[str] = set()
    for node in graph.nodes:
        if node.name in fused:
            continue
        consumers = graph.consumers(node.output.name)
        if len(consumers) != (node.output.name != graph.output.name):
            result.offences.append(
                Offence(node.name, "its result is used more than once or not at all", "use it once")
            )
        follower = consumers[0] if len(consumers) == 1 else None
        layer = _lower_node(graph, node, follower, made[node.inputs[0]], result.offences)
        if layer is None:
            break  # what follows has no source; checking it further would only repeat the cause
        if follower is not None and layer.value == follower.output.name:
            fused.add(follower.name)
        result.layers.append(layer)
        made[layer.value] = layer
    return result


def _lower_node(
    graph: Graph, node: Node, follower: Node | None, source: Layer, offences: list[Offence]
) -> Layer | None:
    op = node.op
    if isinstance(op, Dense | Conv):
        reasons = _conv_reasons(op) if isinstance(op, Conv) else []
        offences.extend(Offence(node.name, *reason) for reason in reasons)
        return None if reasons else _multiply(graph, node, op, follower, source)
    if isinstance(op, Requant):
        return _scale(graph, node, op, source, offences)
    if isinstance(op, MaxPool):
        if any(op.pads):
            offences.append(
                Offence(node.name, "hls4ml's max-pool has no padding", "pool without padding")
            )
            return None
        return _pool(graph, node, op, source)
    kept = {"result": Fixed.of(_reachable(graph, node.output))}
    if isinstance(op, Flatten):
        layout = Layout(node.output.shape, source.layout.order)
        shape = {"target_shape": list(node.output.shape)}
        return Layer(Kind.FLATTEN, node.name, source.name, node.output.name, shape, kept, layout)
    if isinstance(op, Relu) and op.zero == 0:
        layout = Layout(node.output.shape, source.layout.order)
        return Layer(
            Kind.RELU,
            node.name,
            source.name,
            node.output.name,
            {"activation": "relu"},
            kept,
            layout,
        )
    offences.append(
        Offence(node.name, f"{op.name} with these settings is not lowered to hls4ml", "remove it")
    )
    return None


def _conv_reasons(op: Conv) -> list[tuple[str, str]]:
    reasons = []
    if op.groups != 1:
        reasons.append(("grouped convolutions are not lowered to hls4ml", "use groups=1"))
    if op.dilation != (1, 1):
        reasons.append(("dilated convolutions are not lowered to hls4ml", "use dilation=1"))
    if op.pad_value and any(op.pads):
        reasons.append(
            (
                "hls4ml pads with 0, but the input's zero-point is not 0",
                "use a zero-point of 0 before padded convolutions, or no padding",
            )
        )
    return reasons


def _multiply(
    graph: Graph, node: Node, op: Dense | Conv, follower: Node | None, source: Layer
) -> Layer:
    """Dense or Conv, with the Requant behind it where that is one shift for all channels."""
    point, result, form, value = 0, None, "", node.output
    if follower is not None and isinstance(follower.op, Requant):
        shift = uniform_shift(graph, follower, follower.op)
        if shift is not None:
            point, result = shift
            value, form = follower.output, f"shift {point}, {result.mode.split(',')[0]}"
    unit = 2.0**-point
    weight, bias = op.weight, op.bias
    if isinstance(op, Dense):
        kind, attributes = Kind.DENSE, _dense_attributes(op)
        layout = Layout.of(value.shape)
        ordered = np.empty_like(weight)
        ordered[:, source.layout.order] = weight
        data = ordered.T
        inputs = weight.shape[1]
    else:
        kind, attributes = Kind.CONV, _conv_attributes(op, graph.value(node.inputs[0]), node.output)
        layout = Layout.of(value.shape)
        data = weight.transpose(2, 3, 1, 0)  # (kh, kw, in, out)
        inputs = int(np.prod(weight.shape[1:]))
    attributes |= {"weight_data": data * unit, "bias_data": bias * unit, "use_bias": True}
    accumulator = Fixed.of(_reachable(graph, node.output), point)
    precision = {
        "weight": Fixed.of(_signed_covering(weight), point),
        "bias": Fixed.of(_signed_covering(bias), point),
        "accum": accumulator,
        "result": result or accumulator,
    }
    return Layer(
        kind,
        node.name,
        source.name,
        value.name,
        attributes,
        precision,
        layout,
        form,
        inputs,
        weight.shape[0],
    )


def _reachable(graph: Graph, value: Value) -> QType:
    """The smallest type of everything that the value can be."""
    low, high = graph.bounds[value.name]
    return QType.covering(int(low.min()), int(high.max()))


def _signed_covering(values: IntArray) -> QType:
    """A signed type of at least 2 bits: hls4ml has special products for narrower ones."""
    return QType.covering(min(int(values.min()), -2), int(values.max()))


def _dense_attributes(op: Dense) -> dict[str, Any]:
    return {"n_in": op.weight.shape[1], "n_out": op.weight.shape[0]}


def _conv_attributes(op: Conv, given: Value, made: Value) -> dict[str, Any]:
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


def _pool(graph: Graph, node: Node, op: MaxPool, source: Layer) -> Layer:
    given, made = graph.value(node.inputs[0]), node.output
    attributes = {
        "data_format": "channels_last",
        "in_height": given.shape[1],
        "in_width": given.shape[2],
        "out_height": made.shape[1],
        "out_width": made.shape[2],
        "n_filt": given.shape[0],
        "pool_height": op.window[0],
        "pool_width": op.window[1],
        "stride_height": op.stride[0],
        "stride_width": op.stride[1],
        "pad_top": 0,
        "pad_bottom": 0,
        "pad_left": 0,
        "pad_right": 0,
        "padding": "valid",
    }
    kept = Fixed.of(_reachable(graph, made))
    return Layer(
        Kind.POOL,
        node.name,
        source.name,
        made.name,
        attributes,
        {"result": kept, "accum": kept},
        Layout.of(made.shape),
    )


def _scale(
    graph: Graph, node: Node, op: Requant, source: Layer, offences: list[Offence]
) -> Layer | None:
    """A Requant as hls4ml's BatchNormalization: code = cast(acc*scale + bias)."""
    given = graph.value(node.inputs[0])
    channels = given.shape[0]
    forms = cheapest(graph, node, op)
    if forms is None:
        offences.append(
            Offence(
                node.name,
                "its rounding cannot be had with one multiplication, addition and cast: ties "
                "alternate, and its scale is no fraction over a power of two",
                "use power-of-two scales here, or floor rounding",
            )
        )
        return None
    mode = "RND_CONV" if forms[0].rounding is Rounding.HALF_EVEN else "TRN"
    result = saturating(graph, node, op, mode)
    if result is None:
        offences.append(
            Offence(
                node.name,
                f"it clamps to {op.low}..{op.high}, which no saturating ap_fixed type does",
                "use a quantizer whose range is a full (or narrow, signed) integer type",
            )
        )
        return None
    shift = forms[0].shift
    multipliers = np.array([form.multiplier for form in forms], dtype=object)
    biases = np.array([form.offset for form in forms], dtype=object)
    types = {
        "scale": QType.covering(min(int(multipliers.min()), -2), int(multipliers.max())),
        "bias": QType.covering(min(int(biases.min()), -2), int(biases.max())),
    }
    for what, qtype in types.items():
        if qtype.bits > MAX_CONSTANT_BITS:
            offences.append(
                Offence(
                    node.name,
                    f"its {what} needs {qtype.bits} bits, hls4ml carries {MAX_CONSTANT_BITS}",
                    "use fewer output bits or power-of-two scales",
                )
            )
            return None
    vector = len(given.shape) == 1
    if vector:  # one entry per feature, in hls4ml's order
        multipliers, biases = (source.layout.to_hls(x[None])[0] for x in (multipliers, biases))
    unit = 2.0**-shift
    attributes = {
        "n_in": int(np.prod(given.shape)),
        "n_filt": -1 if vector else channels,
        "scale_data": multipliers.astype(np.float64) * unit,
        "bias_data": biases.astype(np.float64) * unit,
        "use_gamma": True,
        "use_beta": True,
    }
    precision = {name: Fixed.of(qtype, shift) for name, qtype in types.items()}
    width = max(form.width for form in forms)
    return Layer(
        Kind.SCALE,
        node.name,
        source.name,
        node.output.name,
        attributes,
        {**precision, "result": result},
        Layout(node.output.shape, source.layout.order),
        f"multiplier {width} bit, shift {shift}, {mode}",
    )


def _hls_shape(shape: Shape) -> list[int]:
    return [*shape[1:], shape[0]]
