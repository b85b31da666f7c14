"""Requantizations and ReLUs: a proven multiplier, a cast, and clamps that no cast has."""

from __future__ import annotations

from typing import Any

import numpy as np

from flow.graph import Node
from flow.layout import Layout
from flow.ops import (
    Relu,
    Requant,
)
from flow.qtype import QType
from flow.requant import Rounding
from targets.hls4ml.layers import Fixed, Kind, Layer, constant_type
from targets.hls4ml.rounding import cheapest, saturating
from targets.hls4ml.scale_layer import affine, cast, per_channel
from targets.hls4ml.staircases import comparators
from targets.hls4ml.state import MAX_CONSTANT_BITS, Refused, State


def requant(state: State, node: Node, op: Requant, source: Layer) -> None:
    """A Requant as hls4ml's BatchNormalization: code = cast(acc*scale + bias)."""
    forms = cheapest(state.graph, node, op)
    if forms is None:
        comparators(state, node, op, source)
        return
    mode = "RND_CONV" if forms[0].rounding is Rounding.HALF_EVEN else "TRN"
    result = saturating(state.graph, node, op, mode, narrow=state.facts.narrow)
    shift = forms[0].shift
    multipliers = np.array([form.multiplier for form in forms], dtype=object)
    biases = np.array([form.offset for form in forms], dtype=object)
    types = {"scale": constant_type(multipliers), "bias": constant_type(biases)}
    for what, qtype in types.items():
        if qtype.bits > MAX_CONSTANT_BITS:
            raise Refused(
                f"its {what} needs {qtype.bits} bits, hls4ml carries {MAX_CONSTANT_BITS}",
                "use fewer output bits or power-of-two scales",
            )
    unit = 2.0**-shift
    clamped = result is not None
    if result is None:
        result = Fixed.of(unclamped(state, node, forms), 0, mode)
    value = node.output if clamped else None
    if (multipliers == 1 << shift).all() and not biases.any():
        layer = cast(state, node.name, source, result, value)
    else:
        layer = state.append(
            Layer(
                Kind.SCALE,
                node.name,
                (source.name,),
                None if value is None else value.name,
                per_channel(
                    source, multipliers.astype(np.float64) * unit, biases.astype(np.float64) * unit
                ),
                {**{n: Fixed.of(t, shift) for n, t in types.items()}, "result": result},
                Layout(node.output.shape, source.layout.order),
                f"multiplier {max(form.width for form in forms)} bit, shift {shift}, {mode}",
            )
        )
    if not clamped:
        clamp(state, node, op, layer)


def clamp(state: State, node: Node, op: Requant, layer: Layer) -> None:
    """clamp(y) by two casts that saturate at 0: b = max(high - y, 0), c = max(span - b, 0),
    which is clamp(y) - low."""
    result = layer.precision["result"]
    least = -(1 << (result.bits - 1)) if result.signed else 0
    span = op.high - op.low
    top = max(op.high - least, 2)
    b = affine(state, f"{node.name}_top", layer, -1, op.high, 0, top, None, "TRN,SAT")
    if op.low == 0:
        affine(state, f"{node.name}_low", b, -1, span, 0, max(span, 2), node.output, "TRN,SAT")
        return
    c = affine(state, f"{node.name}_low", b, -1, span, 0, max(span, 2), None, "TRN,SAT")
    affine(state, f"{node.name}_back", c, 1, op.low, op.low, op.high, node.output)


def unclamped(state: State, node: Node, forms: Any) -> QType:
    """What the forms can give before any clamp."""
    channels = len(forms)
    lows, highs = (np.broadcast_to(b, channels) for b in state.graph.bounds[node.inputs[0]])
    ends = [
        (int(acc) * form.multiplier + form.offset) >> form.shift
        for form, low, high in zip(forms, lows, highs, strict=True)
        for acc in (low, high)
    ]
    # Convergent rounding may go up by one; and a type of 1 bit is not one on every backend.
    return QType.covering(min(ends), max(*ends, 1) + 1)


def relu(state: State, node: Node, op: Relu, source: Layer) -> None:
    if op.zero:
        _, high = state.ends(node.inputs[0])
        top = max(high - op.zero, 2)
        above = affine(state, f"{node.name}_above", source, 1, -op.zero, 0, top, None, "TRN,SAT")
        affine(state, node.name, above, 1, op.zero, op.zero, op.zero + top, node.output)
        return
    state.append(
        Layer(
            Kind.RELU,
            node.name,
            (source.name,),
            node.output.name,
            {"activation": "relu"},
            {"result": Fixed.of(state.reachable(node.output))},
            source.layout,
        )
    )
