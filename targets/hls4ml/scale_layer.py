"""hls4ml's BatchNormalization as code = factor*x + offset, and casts without arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np

from flow.graph import Value
from flow.ops import (
    IntArray,
)
from flow.qtype import QType
from targets.hls4ml.layers import Fixed, Kind, Layer, constant_type, unrounded
from targets.hls4ml.state import State


def affine(
    state: State,
    name: str,
    source: Layer,
    factor: int,
    offset: int | IntArray,
    low: int,
    high: int,
    value: Value | None,
    mode: str = "",
) -> Layer:
    """factor*x + offset (one, or one per channel), known to lie in low..high, or saturating to
    that type."""
    result = Fixed.of(QType.covering(low, high), 0, mode)
    if factor == 1 and not np.any(offset):
        return cast(state, name, source, result, value)
    return state.append(
        Layer(
            Kind.SCALE,
            name,
            (source.name,),
            None if value is None else value.name,
            per_channel(source, factor, offset),
            {
                "scale": Fixed.of(constant_type(np.asarray(factor))),
                "bias": Fixed.of(constant_type(np.asarray(offset))),
                "result": result,
            },
            source.layout,
        )
    )


def cast(state: State, name: str, source: Layer, result: Fixed, value: Value | None) -> Layer:
    """The same codes in another type. hls4ml drops scale layers that do nothing, and with them
    their cast; a linear activation keeps it, and goes only where the types are the same."""
    if str(unrounded(result)) == str(unrounded(source.precision["result"])):
        if value is None or value.name != state.graph.output.name:
            if value is not None:
                state.made[value.name] = source
            return source
        result = Fixed(result.bits + 1, result.point, result.signed)  # kept: it is the output
    return state.append(
        Layer(
            Kind.RELU,
            name,
            (source.name,),
            None if value is None else value.name,
            {"activation": "linear"},
            {"result": result},
            source.layout,
            "cast",
        )
    )


def per_channel(source: Layer, scale: Any, bias: Any) -> dict[str, Any]:
    """The attributes of a scale layer; constants per channel (per feature of a vector), in the
    graph's order."""
    shape = source.layout.shape
    vector = len(shape) == 1
    constants = [np.broadcast_to(np.asarray(c, dtype=np.float64), shape[:1]) for c in (scale, bias)]
    if vector:
        constants = [source.layout.to_device(c[None])[0] for c in constants]
    return {
        "n_in": int(np.prod(shape)),
        "n_filt": -1 if vector else shape[0],
        "scale_data": np.ascontiguousarray(constants[0]),
        "bias_data": np.ascontiguousarray(constants[1]),
        "use_gamma": True,
        "use_beta": True,
    }
