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
from flow.onnx_file import OnnxFile, RawNode
from flow.ops import IntArray, Requant

Reals = NDArray[np.float64]
SAME_GRID = 2.0**-22  # relative: a bias scale that is s_x*s_w up to float32 rounding
NEAR_TIE = 1e-9  # of one code: float64's own rounding near a boundary, far above its real error


@dataclass(frozen=True, eq=False)
class _Tensor:
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


def evaluate(file: OnnxFile, x: Reals) -> dict[str, _Tensor]:
    """Every tensor of the file for real inputs x (n, ...)."""
    tensors = {name: _Tensor(np.asarray(c)) for name, c in file.constants.items()}
    fixed = set(tensors)
    tensors[file.inputs[0].name] = _Tensor(np.asarray(x, dtype=np.float64))
    for node in file.nodes:
        inputs = [tensors[name] if name else None for name in node.inputs]
        constant = all(name in fixed for name in node.inputs if name)
        out = _EVALUATE[node.op](node, inputs, constant)
        tensors[node.outputs[0]] = out
        if constant:
            fixed.add(node.outputs[0])
    return tensors


def check(
    file: OnnxFile, imported: Imported, codes: IntArray, traced: Mapping[str, IntArray]
) -> OracleCheck:
    """Compare the interpreter's trace of `codes` with the oracle, value by value.

    Raises:
        Mismatch: a value differs and no tie explains it; the layer and both values are named.
    """
    graph = imported.graph
    x = _reals(graph, graph.input.name, codes)
    tensors = evaluate(file, x)
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
        if isinstance(node.op, Requant) and tensor.before is not None:
            before = tensor.before.reshape(found.shape)
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

_Inputs = list[_Tensor | None]
_Rule = Callable[[RawNode, _Inputs, bool], _Tensor]


def _need(inputs: _Inputs, index: int) -> _Tensor:
    tensor = inputs[index]
    assert tensor is not None
    return tensor


def _quant(node: RawNode, inputs: _Inputs, constant: bool) -> _Tensor:
    x, scale, zero, bits = (_need(inputs, i).real for i in range(4))
    dtype = np.float32 if constant else np.float64
    signed, narrow = node.attributes.get("signed", 1), node.attributes.get("narrow", 0)
    width = float(np.asarray(bits).reshape(-1)[0])
    if signed:
        low, high = -(2 ** (width - 1)) + bool(narrow), 2 ** (width - 1) - 1
    else:
        low, high = 0.0, 2**width - 1 - bool(narrow)
    before = np.asarray(x, dtype) / np.asarray(scale, dtype) + np.asarray(zero, dtype)
    rounded = _ROUND[str(node.attributes.get("rounding_mode", "ROUND")).upper()](before)
    codes = np.clip(rounded, low, high).astype(np.float64) - np.asarray(zero, np.float64)
    wide = np.asarray(scale, np.float64)
    return _Tensor(codes * wide, wide, np.asarray(before, np.float64))


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


def _bias(bias: _Tensor | None, x: _Tensor, weight: _Tensor, channels: int) -> Reals:
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


def _gemm(node: RawNode, inputs: _Inputs, constant: bool) -> _Tensor:
    x, weight = _need(inputs, 0), _need(inputs, 1)
    matrix = np.asarray(weight.real, np.float64)
    matrix = matrix.T if node.attributes.get("transB", 0) else matrix
    bias = inputs[2] if len(inputs) > 2 else None
    return _Tensor(x.real @ matrix + _bias(bias, x, weight, matrix.shape[1]))


def _conv(node: RawNode, inputs: _Inputs, constant: bool) -> _Tensor:
    x, weight = _need(inputs, 0), _need(inputs, 1)
    kernel = np.asarray(weight.real, np.float64)
    outs, ins, height, width = kernel.shape
    pads, strides, dilations = (
        tuple(np.asarray(node.attributes.get(name, default)).tolist())
        for name, default in (("pads", (0,) * 4), ("strides", (1, 1)), ("dilations", (1, 1)))
    )
    groups = int(np.asarray(node.attributes.get("group", 1)))
    padded = np.pad(x.real, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    extents = [
        (padded.shape[2 + i] - (kernel.shape[2 + i] - 1) * dilations[i] - 1) // strides[i] + 1
        for i in range(2)
    ]
    out = np.zeros((len(padded), outs, *extents))
    per = outs // groups
    for group in range(groups):
        part = padded[:, group * ins : (group + 1) * ins]
        taps = kernel[group * per : (group + 1) * per]
        for i in range(height):
            for j in range(width):
                rows = slice(i * dilations[0], None)
                columns = slice(j * dilations[1], None)
                seen = part[:, :, rows, columns][:, :, :: strides[0], :: strides[1]]
                seen = seen[:, :, : extents[0], : extents[1]]
                out[:, group * per : (group + 1) * per] += np.einsum(
                    "nchw,oc->nohw", seen, taps[:, :, i, j]
                )
    bias = inputs[2] if len(inputs) > 2 else None
    return _Tensor(out + _bias(bias, x, weight, outs).reshape(-1, 1, 1))


def _max_pool(node: RawNode, inputs: _Inputs, constant: bool) -> _Tensor:
    x = _need(inputs, 0)
    attributes = node.attributes
    kernel, strides = (
        tuple(np.asarray(attributes.get(name, (1, 1))).tolist())
        for name in ("kernel_shape", "strides")
    )
    pads = tuple(np.asarray(attributes.get("pads", (0,) * 4)).tolist())
    padded = np.pad(
        x.real, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])), constant_values=-np.inf
    )
    extents = [(padded.shape[2 + i] - kernel[i]) // strides[i] + 1 for i in range(2)]
    seen = [
        padded[:, :, i :: strides[0], j :: strides[1]][:, :, : extents[0], : extents[1]]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    return _Tensor(np.max(seen, axis=0), x.scale)


def _flatten(node: RawNode, inputs: _Inputs, constant: bool) -> _Tensor:
    x = _need(inputs, 0)
    scale = x.scale if x.scale is not None and x.scale.size == 1 else None
    return _Tensor(x.real.reshape(len(x.real), -1), scale)


def _add(node: RawNode, inputs: _Inputs, constant: bool) -> _Tensor:
    return _Tensor(
        np.asarray(_need(inputs, 0).real, np.float64)
        + np.asarray(_need(inputs, 1).real, np.float64)
    )


def _relu(node: RawNode, inputs: _Inputs, constant: bool) -> _Tensor:
    x = _need(inputs, 0)
    return _Tensor(np.maximum(x.real, 0), x.scale)


def _transpose(node: RawNode, inputs: _Inputs, constant: bool) -> _Tensor:
    x = _need(inputs, 0)
    order = node.attributes.get("perm")
    axes = [int(i) for i in np.asarray(order)] if order is not None else None
    scale = x.scale
    if scale is not None and scale.size > 1:
        scale = scale.transpose(axes)
    return _Tensor(x.real.transpose(axes), scale)


def _same(node: RawNode, inputs: _Inputs, constant: bool) -> _Tensor:
    return _need(inputs, 0)


_EVALUATE: dict[str, _Rule] = {
    "Quant": _quant,
    "IntQuant": _quant,
    "Gemm": _gemm,
    "MatMul": _gemm,
    "Conv": _conv,
    "Add": _add,
    "Relu": _relu,
    "MaxPool": _max_pool,
    "Flatten": _flatten,
    "Reshape": _flatten,
    "Transpose": _transpose,
    "Softmax": _same,  # left to the host; monotone, and nothing follows it
    "Identity": _same,
    "Dropout": _same,
}
