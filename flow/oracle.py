"""An independent float64 evaluation of a QONNX file, to check the importer and the interpreter.

It follows the ONNX and QONNX definitions node by node on real numbers and shares no arithmetic with
the integer side. Constants are the float32 values of the file; constant quantizers are evaluated
once in float32, as the tools that trained the network did; everything else is float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import Mismatch
from flow.graph import Graph
from flow.importer import Imported
from flow.onnx_file import OnnxFile, RawNode, run_reference
from flow.ops import IntArray, Requant, Table

Reals = NDArray[np.float64]
SAME_GRID = 2.0**-22  # relative: a bias scale that is s_x*s_w up to float32 rounding
NEAR_TIE = 1e-9  # of one code: float64's own rounding near a boundary, far above its real error


@dataclass(frozen=True, eq=False)
class Tensor:
    """Real values; for quantized ones the scale, and the value before it was rounded to a code."""

    real: Reals
    scale: Reals | None = None
    before: Reals | None = None


@dataclass(frozen=True)
class OracleCheck:
    """How many vectors went through the oracle, how many codes were compared, and how many vectors
    were set aside because float64 cannot decide a tie."""

    vectors: int
    codes: int
    near_ties: int


def evaluate(file: OnnxFile, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor of the file that follows from the `known` ones (n, ...) and the constants."""
    tensors = {
        name: Tensor(c.astype(np.float64) if c.dtype.kind == "f" else c)
        for name, c in file.constants.items()
    }
    fixed = set(tensors)
    tensors |= known
    for node in file.nodes:
        if node.outputs[0] in tensors or any(n and n not in tensors for n in node.inputs):
            continue  # given, or on the host's side of the first quantizer
        inputs = [tensors[name] if name else None for name in node.inputs]
        constant = all(name in fixed for name in node.inputs if name)
        tensors[node.outputs[0]] = apply(node, file.opset, inputs, constant)
        if constant:
            fixed.add(node.outputs[0])
    return tensors


def apply(node: RawNode, opset: int, inputs: list[Tensor | None], constant: bool) -> Tensor:
    """One node's first output; `constant` says whether all of its inputs are."""
    rule = _EVALUATE.get(node.op)
    if rule is not None:
        return rule(node, inputs, constant)
    arrays = [None if t is None else t.real for t in inputs]
    return Tensor(run_reference(node, opset, arrays))


def check(
    file: OnnxFile, imported: Imported, codes: IntArray, traced: Mapping[str, IntArray]
) -> OracleCheck:
    """Compare the interpreter's trace of `codes` with the oracle, value by value.

    Raises:
        Mismatch: a value differs and no tie explains it; the layer and both values are named.
    """
    graph = imported.graph
    x = _reals(graph, graph.input.name, codes)
    scale = np.array([float(s) for s in graph.input.scale])
    tensors = evaluate(file, {imported.source: Tensor(x, scale)})
    alive = np.ones(len(codes), dtype=bool)
    compared = 0
    for node in graph.nodes:
        name = node.output.name
        if name not in imported.origin:
            continue
        tensor = tensors[imported.origin[name]]
        expected = tensor.real.reshape(traced[name].shape)
        found = _reals(graph, name, traced[name])
        unit = _channels(graph, name)
        wrong = (np.abs(expected - found) > 0.25 * unit) & alive.reshape(
            -1, *[1] * (found.ndim - 1)
        )
        compared += int(alive.sum()) * int(found[0].size)
        if not wrong.any():
            continue
        tied = np.zeros_like(wrong)
        if isinstance(node.op, Requant | Table) and tensor.before is not None:
            before = tensor.before.reshape(found.shape)
            if isinstance(node.op, Table):
                shifted = 2 * before  # its rounding mode is in its entries: at wholes or at halves
            else:
                shifted = before - 0.5 if node.op.rounding.breaks_at_halves else before
            tied = np.abs(shifted - np.round(shifted)) < NEAR_TIE * np.maximum(1, np.abs(before))
        real = wrong & ~tied
        if real.any():
            at = tuple(int(i) for i in np.argwhere(real)[0])
            raise Mismatch(
                f"the integer graph is not the network in {file.path}: layer {name}, vector "
                f"{at[0]}, channel {at[1]}, position {at[2:]}: the file gives {expected[at]!r}, "
                f"the graph {found[at]!r} ({int(real.sum())} of {real.size} values differ)"
            )
        alive &= ~wrong.reshape(len(wrong), -1).any(axis=1)
    return OracleCheck(len(codes), compared, int((~alive).sum()))


def _channels(graph: Graph, name: str) -> Reals:
    value = graph.value(name)
    scale = np.array([float(s) for s in value.scale])
    return scale.reshape(-1, *[1] * (len(value.shape) - 1))


def _reals(graph: Graph, name: str, codes: IntArray) -> Reals:
    return (codes - graph.value(name).zero_point) * _channels(graph, name)


# Operations: each takes the node, its inputs and whether they are all constants ---------------

_Inputs = list[Tensor | None]
_Rule = Callable[[RawNode, _Inputs, bool], Tensor]


def _need(inputs: _Inputs, index: int) -> Tensor:
    tensor = inputs[index]
    assert tensor is not None
    return tensor


def _quant(node: RawNode, inputs: _Inputs, constant: bool) -> Tensor:
    x, scale, zero, bits = (_need(inputs, i).real for i in range(4))
    dtype = np.float32 if constant else np.float64
    width = float(np.asarray(bits).reshape(-1)[0])
    low, high = _range(node, width)
    before = np.asarray(x, dtype) / np.asarray(scale, dtype) + np.asarray(zero, dtype)
    rounded = _ROUND[str(node.attributes.get("rounding_mode", "ROUND")).upper()](before)
    codes = np.clip(rounded, low, high).astype(np.float64) - np.asarray(zero, np.float64)
    wide = np.asarray(scale, np.float64)
    return Tensor(codes * wide, wide, np.asarray(before, np.float64))


def _away(x: NDArray[Any], rounded: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
    signed: NDArray[Any] = np.sign(x) * rounded(np.abs(x))
    return signed


_ROUND: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "ROUND": np.round,
    "HALF_EVEN": np.round,
    "FLOOR": np.floor,
    "CEIL": np.ceil,
    "ROUND_TO_ZERO": np.trunc,
    "DOWN": np.trunc,
    "UP": lambda x: _away(x, np.ceil),
    "HALF_UP": lambda x: _away(x, lambda m: np.floor(m + m.dtype.type(0.5))),
    "HALF_DOWN": lambda x: _away(x, lambda m: np.ceil(m - m.dtype.type(0.5))),
}


def _bias(bias: Tensor | None, x: Tensor, weight: Tensor, channels: int) -> Reals:
    """The bias on the product's own grid where its scale is that grid up to float32 rounding."""
    if bias is None:
        return np.zeros(channels)
    flat: Reals = np.broadcast_to(np.asarray(bias.real, np.float64).reshape(-1), (channels,))
    if bias.scale is None or x.scale is None or weight.scale is None:
        return flat
    product = np.broadcast_to((x.scale.reshape(-1) * weight.scale.reshape(-1)), (channels,))
    own = np.broadcast_to(bias.scale.reshape(-1), (channels,))
    if (np.abs(product - own) <= SAME_GRID * own).all():
        result: Reals = np.round(flat / own) * product
        return result
    return flat


def _gemm(node: RawNode, inputs: _Inputs, constant: bool) -> Tensor:
    x, weight = _need(inputs, 0), _need(inputs, 1)
    matrix = np.asarray(weight.real, np.float64)
    matrix = matrix.T if node.attributes.get("transB", 0) else matrix
    bias = inputs[2] if len(inputs) > 2 else None
    return Tensor(x.real @ matrix + _bias(bias, x, weight, matrix.shape[1]))


def _conv(node: RawNode, inputs: _Inputs, constant: bool) -> Tensor:
    """Any rank, tap by tap."""
    x, weight = _need(inputs, 0), _need(inputs, 1)
    kernel = np.asarray(weight.real, np.float64)
    outs, ins, *taps = kernel.shape
    rank = len(taps)
    strides, dilations = (
        [int(v) for v in np.asarray(node.attributes.get(name, (1,) * rank))]
        for name in ("strides", "dilations")
    )
    pads = _pads(node, x.real.shape[2:], taps, strides, dilations)
    groups = int(np.asarray(node.attributes.get("group", 1)))
    sides = [(0, 0), (0, 0), *((pads[i], pads[rank + i]) for i in range(rank))]
    padded = np.pad(x.real, sides)
    extents = [
        (padded.shape[2 + i] - (taps[i] - 1) * dilations[i] - 1) // strides[i] + 1
        for i in range(rank)
    ]
    out = np.zeros((len(padded), outs, *extents))
    per = outs // groups
    for group in range(groups):
        part = padded[:, group * ins : (group + 1) * ins]
        some = slice(group * per, (group + 1) * per)
        for place in np.ndindex(*taps):
            seen: Reals = part[_window(place, extents, strides, dilations)]
            tap: Reals = kernel[some].reshape(per, ins, -1)[:, :, np.ravel_multi_index(place, taps)]
            out[:, some] += np.einsum("nc...,oc->no...", seen, tap)
    bias = inputs[2] if len(inputs) > 2 else None
    return Tensor(out + _bias(bias, x, weight, outs).reshape(-1, *[1] * rank))


def _pads(
    node: RawNode, extents: Any, taps: list[int], strides: list[int], dilations: list[int]
) -> list[int]:
    """Explicit pads, or those of ONNX's SAME modes."""
    rank, mode = len(taps), str(node.attributes.get("auto_pad", "NOTSET"))
    if not mode.startswith("SAME"):
        return [int(v) for v in np.asarray(node.attributes.get("pads", (0,) * (2 * rank)))]
    total = [
        max((int(np.ceil(e / s)) - 1) * s + (k - 1) * d + 1 - e, 0)
        for e, k, s, d in zip(extents, taps, strides, dilations, strict=True)
    ]
    half, rest = [t // 2 for t in total], [t - t // 2 for t in total]
    return half + rest if mode == "SAME_UPPER" else rest + half


def _bipolar(node: RawNode, inputs: _Inputs, constant: bool) -> Tensor:
    x, scale = _need(inputs, 0).real, np.asarray(_need(inputs, 1).real, np.float64)
    return Tensor((2.0 * (x >= 0) - 1) * scale, scale, np.asarray(x + 0.5, np.float64))


def _multi_threshold(node: RawNode, inputs: _Inputs, constant: bool) -> Tensor:
    x, levels = _need(inputs, 0).real, _need(inputs, 1).real
    shape = (1, len(levels), *[1] * (x.ndim - 2))
    count = np.zeros_like(x)
    for k in range(levels.shape[1]):
        count += x >= levels[:, k].reshape(shape)
    scale = float(np.asarray(node.attributes.get("out_scale", 1.0)))
    return Tensor(count * scale + float(np.asarray(node.attributes.get("out_bias", 0.0))))


def _trunc(node: RawNode, inputs: _Inputs, constant: bool) -> Tensor:
    x, scale, zero, in_bits = (_need(inputs, i).real for i in range(4))
    second = len(inputs) > 5
    out_scale = _need(inputs, 4).real if second else scale
    codes = np.round(x / scale + zero)
    if second:
        power = 2 ** np.round(np.log2(out_scale / scale))
        bits = float(np.asarray(_need(inputs, 5).real).reshape(-1)[0])
        codes = np.clip(codes / power, *_range(node, bits))
    else:
        power = 2.0 ** (in_bits - _need(inputs, 4).real)
        codes, zero = codes / power, zero * power  # opset 1 does not shift the zero-point
    rounded = _ROUND[str(node.attributes.get("rounding_mode", "FLOOR")).upper()](codes)
    return Tensor((rounded - zero / power) * out_scale, np.asarray(out_scale, np.float64), codes)


def _range(node: RawNode, bits: float) -> tuple[float, float]:
    signed, narrow = node.attributes.get("signed", 1), bool(node.attributes.get("narrow", 0))
    if signed:
        return -(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1
    return 0.0, 2**bits - 1 - narrow


def _quantize_linear(node: RawNode, inputs: _Inputs, constant: bool) -> Tensor:
    x, scale = _need(inputs, 0).real, _need(inputs, 1).real
    zero = inputs[2].real if len(inputs) > 2 and inputs[2] is not None else np.zeros(1, np.uint8)
    shape = _axis_shape(node, x, scale)
    kind = int(np.asarray(node.attributes.get("output_dtype", 0)))
    dtype = np.float32 if constant else np.float64
    wide: NDArray[Any] = np.asarray(scale, dtype).reshape(shape)
    before: NDArray[Any] = np.asarray(x, dtype) / wide
    # Without a zero-point: uint8, or what the attribute says.
    name = zero.dtype.name if len(inputs) > 2 and inputs[2] is not None else _DTYPES[kind]
    bits = int(name.lstrip("uint"))
    low, high = (0, 2**bits - 1) if name[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    codes = np.clip(np.round(before) + zero.astype(dtype).reshape(shape), low, high)
    return Tensor(codes.astype(np.float64), None, np.asarray(before, np.float64))


_DTYPES = {0: "uint8", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 21: "uint4", 22: "int4"}


def _dequantize_linear(node: RawNode, inputs: _Inputs, constant: bool) -> Tensor:
    source, scale = _need(inputs, 0), np.asarray(_need(inputs, 1).real, np.float64)
    shape = _axis_shape(node, source.real, scale)
    zero = inputs[2].real if len(inputs) > 2 and inputs[2] is not None else np.zeros(1)
    wide = scale.reshape(shape)
    codes = source.real.astype(np.float64) - zero.astype(np.float64).reshape(
        shape if zero.size == scale.size else (1,) * source.real.ndim
    )
    return Tensor(codes * wide, wide, source.before)


def _axis_shape(node: RawNode, x: NDArray[Any], scale: NDArray[Any]) -> tuple[int, ...]:
    if scale.size == 1:
        return (1,) * x.ndim
    axis = int(np.asarray(node.attributes.get("axis", 1)))
    return tuple(-1 if i == axis % x.ndim else 1 for i in range(x.ndim))


def _moved(node: RawNode, inputs: _Inputs, constant: bool) -> Tensor:
    """Flatten and Reshape keep the batch, whatever its size in the file."""
    x = _need(inputs, 0)
    if constant or node.op == "Flatten":
        shape: tuple[int, ...] = (len(x.real), -1)
        if node.op == "Reshape":
            shape = tuple(int(v) for v in _need(inputs, 1).real)
    else:
        target = [int(v) for v in _need(inputs, 1).real]
        kept = [x.real.shape[i] if v == 0 else v for i, v in enumerate(target)]
        size = int(np.prod(x.real.shape[1:]))
        known = int(np.prod([v for v in kept[1:] if v != -1]))
        rest = [size // known if v == -1 else v for v in kept[1:]]
        shape = (len(x.real), *rest)
    scale = x.scale if x.scale is not None and x.scale.size == 1 else None
    return Tensor(x.real.reshape(shape), scale, x.before)


def _resize(node: RawNode, inputs: _Inputs, constant: bool) -> Tensor:
    """Nearest neighbour, axis by axis, by ONNX's coordinate formulas."""
    x = _need(inputs, 0)
    given = [t for t in inputs[1:] if t is not None and t.real.size == x.real.ndim]
    numbers = [float(v) for v in given[-1].real]
    sized = len(inputs) > 3 and inputs[3] is not None
    made = x.real
    for axis, extent in enumerate(x.real.shape):
        if axis == 0:
            continue
        length = int(numbers[axis]) if sized else int(extent * numbers[axis])
        factor = length / extent
        places = np.arange(length, dtype=np.float64)
        mode = str(node.attributes.get("coordinate_transformation_mode", "half_pixel"))
        if node.op == "Upsample" or mode == "asymmetric":
            places = places / factor
        else:
            places = (places + 0.5) / factor - 0.5
        rounding = str(node.attributes.get("nearest_mode", "round_prefer_floor"))
        if node.op == "Upsample" or rounding == "floor":
            chosen = np.floor(places)
        elif rounding == "round_prefer_ceil":
            chosen = np.floor(places + 0.5)
        else:
            chosen = np.ceil(places - 0.5)
        made = np.take(made, np.clip(chosen, 0, extent - 1).astype(int), axis=axis)
    return Tensor(made, x.scale)


def _hard_swish(node: RawNode, inputs: _Inputs, constant: bool) -> Tensor:
    """x * relu6(x + 3) / 6; onnx's reference has 1/6 in float32, which misses exact codes."""
    x = _need(inputs, 0).real
    return Tensor(x * np.minimum(np.maximum(x + 3, 0), 6) / 6)


def _relu(node: RawNode, inputs: _Inputs, constant: bool) -> Tensor:
    x = _need(inputs, 0)
    return Tensor(np.maximum(x.real, 0), x.scale)


def _max_pool(node: RawNode, inputs: _Inputs, constant: bool) -> Tensor:
    """Any rank, tap by tap; a max keeps the grid of its input."""
    x = _need(inputs, 0)
    taps = [int(v) for v in np.asarray(node.attributes["kernel_shape"])]
    rank = len(taps)
    strides = [int(v) for v in np.asarray(node.attributes.get("strides", (1,) * rank))]
    pads = _pads(node, x.real.shape[2:], taps, strides, [1] * rank)
    sides = [(0, 0), (0, 0), *((pads[i], pads[rank + i]) for i in range(rank))]
    padded = np.pad(x.real, sides, constant_values=-np.inf)
    extents = [(padded.shape[2 + i] - taps[i]) // strides[i] + 1 for i in range(rank)]
    made = np.full((*padded.shape[:2], *extents), -np.inf)
    for place in np.ndindex(*taps):
        made = np.maximum(made, padded[_window(place, extents, strides, [1] * rank)])
    return Tensor(made, x.scale)


def _window(
    place: tuple[int, ...], extents: list[int], strides: list[int], dilations: list[int]
) -> tuple[slice, ...]:
    """What one tap of a window sees, as an index of (n, C, ...)."""
    return (
        slice(None),
        slice(None),
        *(
            slice(p * d, p * d + (n - 1) * s + 1, s)
            for p, d, n, s in zip(place, dilations, extents, strides, strict=True)
        ),
    )


def _transpose(node: RawNode, inputs: _Inputs, constant: bool) -> Tensor:
    x = _need(inputs, 0)
    order = node.attributes.get("perm")
    axes = [int(i) for i in np.asarray(order)] if order is not None else None
    scale = x.scale
    if scale is not None and scale.size > 1:
        scale = scale.transpose(axes)
    return Tensor(x.real.transpose(axes), scale)


def _same(node: RawNode, inputs: _Inputs, constant: bool) -> Tensor:
    return _need(inputs, 0)


# What is not listed is evaluated by onnx's reference implementation, in float64.
_EVALUATE: dict[str, _Rule] = {
    "Quant": _quant,
    "IntQuant": _quant,
    "BipolarQuant": _bipolar,
    "MultiThreshold": _multi_threshold,
    "Trunc": _trunc,
    "QuantizeLinear": _quantize_linear,
    "DequantizeLinear": _dequantize_linear,
    "Gemm": _gemm,
    "MatMul": _gemm,
    "Conv": _conv,
    "HardSwish": _hard_swish,
    "Relu": _relu,
    "Resize": _resize,
    "Upsample": _resize,
    "MaxPool": _max_pool,
    "Flatten": _moved,
    "Reshape": _moved,
    "Transpose": _transpose,
    "Identity": _same,
    "Dropout": _same,
    "Cast": _same,
}
