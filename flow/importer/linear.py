"""Products and sums: Gemm, MatMul, Conv, and arithmetic with constants or activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from math import gcd, lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import UsageError
from flow.importer.lowering import FLOAT_WEIGHTS, Lowering, is_constant
from flow.importer.meaning import HostKind, HostStep, Rationals
from flow.importer.reading import number, whole, wholes, window_of
from flow.importer.tensors import (
    Act,
    Codes,
    FloatInput,
    Reject,
    Tabulated,
    Tensor,
    combine,
    exact,
    per_channel,
    shorten,
    spread,
    transposed,
)
from flow.onnx_file import RawNode
from flow.ops import Add, Conv, Dense, IntArray, Mul, Op, Reshape
from flow.ops.base import check_accumulator

BIAS_TOLERANCE = Fraction(1, 1 << 22)  # float32 scales s_b and s_x*s_w that mean the same grid
ZERO = Fraction(0)


def dense(lowering: Lowering, node: RawNode) -> Tensor:
    """Gemm and MatMul with a constant weight, (in, out) unless transB."""
    act = lowering.activation(node)
    for name, neutral in (("alpha", 1.0), ("beta", 1.0), ("transA", 0)):
        if node.attributes.get(name, neutral) != neutral:
            raise Reject(f"{name} is {node.attributes[name]}", f"export with {name}={neutral}")
    codes = _weight(lowering.need(node, 1))
    if codes.codes.ndim != 2:
        raise Reject(f"its weight has {codes.codes.ndim} dimensions", "use a 2-D weight")
    turned = codes if whole(node, "transB", 0) else transposed(codes)
    return _multiply(lowering, node, act, turned, lambda w, b, zero: Dense(w, b))


def conv(lowering: Lowering, node: RawNode) -> Tensor:
    """Conv in one or two dimensions; one dimension is a row of an image."""
    act = lowering.activation(node)
    codes = _weight(lowering.need(node, 1))
    rank = codes.codes.ndim - 2
    shape = lowering.values[act.value].shape
    if rank not in (1, 2) or len(shape) != rank + 1:
        raise Reject(
            f"its weight {codes.codes.shape} on an input {shape}", "use 1-D or 2-D convolutions"
        )
    kernel = codes.codes.shape[2:]
    if wholes(node, "kernel_shape", kernel) != kernel:
        raise UsageError(f"kernel_shape is not its weight's {kernel}")
    dilation = wholes(node, "dilations", (1,) * rank)
    groups = whole(node, "group", 1)
    if groups < 1 or len(dilation) != rank:
        raise UsageError(f"group {groups} or dilations {dilation} do not fit {rank} axes")
    stride, pads = window_of(node, shape[1:], kernel, dilation)
    if rank == 2:
        return _multiply(
            lowering,
            node,
            act,
            codes,
            lambda w, b, zero: Conv(w, b, stride, pads, dilation, groups, zero),  # type: ignore[arg-type]
        )
    row = lowering.move(node, act, Reshape((shape[0], 1, shape[1])))
    flat = Codes(codes.codes[:, :, None], codes.scale.reshape(-1, 1, 1, 1))
    made = _multiply(
        lowering,
        node,
        row,
        flat,
        lambda w, b, zero: Conv(
            w, b, (1, stride[0]), (0, pads[0], 0, pads[1]), (1, dilation[0]), groups, zero
        ),
    )
    channels, _, length = lowering.values[made.value].shape
    return lowering.move(node, made, Reshape((channels, length)))


def _weight(tensor: Tensor) -> Codes:
    if isinstance(tensor, np.ndarray):
        raise Reject(*FLOAT_WEIGHTS)
    if not isinstance(tensor, Codes):
        raise Reject(
            "its second input is computed, not a weight", "only constant weights are supported"
        )
    if 0 in tensor.codes.shape:
        raise UsageError(f"its weight {tensor.codes.shape} is empty")
    return tensor


def _multiply(
    lowering: Lowering,
    node: RawNode,
    source: Act,
    weight: Codes,
    make: Callable[[IntArray, IntArray, int], Op],
) -> Act:
    value, scale, zero = lowering.plain(node, source, "input")
    outs = weight.codes.shape[0]
    own = np.broadcast_to(
        weight.scale, (1,) * (weight.codes.ndim - weight.scale.ndim) + weight.scale.shape
    )
    scales = tuple(scale * s for s in per_channel(own, outs, 0))
    codes, rest = _bias(lowering.tensor(node, 2), spread(scales, outs))
    sums = weight.codes.reshape(outs, -1).sum(axis=1)
    # Python integers: this is where an overflow would go unseen.
    whole_bias = codes.astype(object) - zero * sums.astype(object)
    check_accumulator(whole_bias.min(), whole_bias.max())
    op = make(weight.codes, whole_bias.astype(np.int64), zero)
    name = lowering.emit(node, op, (value,), scales, 0)
    return Act(name, scales, rest)


def _bias(tensor: Tensor | None, scale: Rationals) -> tuple[IntArray, Rationals]:
    """A bias as codes on the accumulator's grid, and what of it does not lie on that grid."""
    channels = len(scale)
    if tensor is None:
        return np.zeros(channels, dtype=np.int64), (ZERO,)
    if not isinstance(tensor, np.ndarray | Codes):
        raise Reject("its bias is computed, not a constant", "export with a constant bias")
    size = tensor.codes.size if isinstance(tensor, Codes) else tensor.size
    if size not in (1, channels):
        raise UsageError(f"its bias has {size} entries for {channels} channels")
    if isinstance(tensor, Codes):
        codes = np.broadcast_to(tensor.codes.reshape(-1), (channels,))
        grid = [Fraction(float(s)) for s in np.broadcast_to(tensor.scale.reshape(-1), (channels,))]
        if all(abs(s - g) <= BIAS_TOLERANCE * g for s, g in zip(scale, grid, strict=True)):
            return codes.astype(np.int64), (ZERO,)
    reals = tuple(np.broadcast_to(exact(tensor).reshape(-1), (channels,)))
    aligned = [real / s for real, s in zip(reals, scale, strict=True)]
    if all(x.denominator == 1 and abs(x) < 1 << 60 for x in aligned):
        return np.array([int(x) for x in aligned], dtype=np.int64), (ZERO,)
    return np.zeros(channels, dtype=np.int64), shorten(reals)


# Element by element ---------------------------------------------------------------------------


def add(lowering: Lowering, node: RawNode) -> Tensor:
    return _add(lowering, node, 1)


def sub(lowering: Lowering, node: RawNode) -> Tensor:
    return _add(lowering, node, -1)


def _add(lowering: Lowering, node: RawNode, sign: int) -> Tensor:
    x, y = lowering.need(node, 0), lowering.need(node, 1)
    kind = HostKind.ADD if sign > 0 else HostKind.SUB
    if is_constant(x) and is_constant(y):
        return _folded(x, y, lambda p, q: p + sign * q)
    if isinstance(x, FloatInput) and is_constant(y):
        return _host_step(x, kind, y)
    if isinstance(y, FloatInput) and is_constant(x) and sign > 0:
        return _host_step(y, kind, x)
    if _either(x, y, Tabulated) or (_same_value(x, y) and not is_constant(x)):
        return _tabulated(lowering, node, x, y, lambda p, q: p + sign * q)
    if is_constant(y):
        act = lowering.unclipped(node, lowering.activation(node, 0))
        constant = tuple(sign * c for c in _channel_constant(lowering, act, y))
        return replace(act, b=combine(lambda p, q: p + q, act.b, constant))
    if is_constant(x):
        act = lowering.unclipped(node, lowering.activation(node, 1))
        constant = _channel_constant(lowering, act, x)
        return Act(
            act.value,
            tuple(sign * a for a in act.a),
            combine(lambda p, q: p + sign * q, constant, act.b),
        )
    return _sum(lowering, node, sign)


def _sum(lowering: Lowering, node: RawNode, sign: int) -> Act:
    """Two activations on their common grid: the largest step that divides both scales."""
    acts = [lowering.unclipped(node, lowering.activation(node, i)) for i in (0, 1)]
    scales = []
    for act in acts:
        if len(act.a) > 1:
            raise Reject(
                "one of its inputs has one scale per channel", "quantize both inputs per tensor"
            )
        scales.append(act.a[0])
    scales[1] *= sign
    grid = _common_step(scales)
    factors = tuple(int(s / grid) for s in scales)
    b = combine(lambda p, q: p + sign * q, acts[0].b, acts[1].b)
    zero = -b[0] / grid
    whole_zero = int(zero) if len(b) == 1 and zero.denominator == 1 else 0
    sources = tuple(act.value for act in acts)
    name = lowering.emit(node, Add(factors), sources, (grid,), whole_zero)
    return Act(name, (grid,), b)


def _common_step(scales: list[Fraction]) -> Fraction:
    """The largest rational of which all scales are whole multiples."""
    bottom = lcm(*(s.denominator for s in scales))
    return Fraction(gcd(*(abs(int(s * bottom)) for s in scales)), bottom)


def mul(lowering: Lowering, node: RawNode) -> Tensor:
    x, y = lowering.need(node, 0), lowering.need(node, 1)
    if is_constant(x) and is_constant(y):
        return _folded(x, y, lambda p, q: p * q)
    for tensor, other, index in ((x, y, 0), (y, x, 1)):
        if isinstance(tensor, FloatInput) and is_constant(other):
            return _host_step(tensor, HostKind.MUL, other)
        if is_constant(other) and not isinstance(tensor, Tabulated):
            return _scale_by(lowering, node, index, other, lambda c: c)
    if _either(x, y, Tabulated) or _same_value(x, y):
        return _tabulated(lowering, node, x, y, lambda p, q: p * q)
    (u, su, zu), (v, sv, zv) = (
        lowering.plain(node, lowering.activation(node, i), "input") for i in (0, 1)
    )
    name = lowering.emit(node, Mul((zu, zv)), (u, v), (su * sv,), 0)
    return Act(name, (su * sv,), (ZERO,))


def div(lowering: Lowering, node: RawNode) -> Tensor:
    x, y = lowering.need(node, 0), lowering.need(node, 1)
    if not is_constant(y):
        if _same_value(x, y) or isinstance(y, Tabulated) or is_constant(x):
            return _tabulated(lowering, node, x, y, lambda p, q: p / q)
        raise Reject("it divides by an activation", "only division by constants is supported")
    if (exact(_as_constant(y)) == 0).any():
        raise UsageError("it divides by zero")
    if is_constant(x):
        return _folded(x, y, lambda p, q: p / q)
    if isinstance(x, FloatInput):
        return _host_step(x, HostKind.DIV, y)
    if isinstance(x, Tabulated):
        return _tabulated(lowering, node, x, y, lambda p, q: p / q)
    return _scale_by(lowering, node, 0, y, lambda c: 1 / c)


def power(lowering: Lowering, node: RawNode) -> Tensor:
    """Pow of constants (an unfused BatchNorm writes sqrt so), or of few codes."""
    x, y = lowering.need(node, 0), lowering.need(node, 1)
    if is_constant(x) and is_constant(y):
        return _folded(x, y, np.power)
    return _tabulated(lowering, node, x, y, np.power)


def _scale_by(
    lowering: Lowering,
    node: RawNode,
    index: int,
    constant: Tensor,
    turn: Callable[[Fraction], Fraction],
) -> Act:
    act = lowering.activation(node, index)
    factors = tuple(turn(c) for c in _channel_constant(lowering, act, constant))
    return scaled(lowering, node, act, factors)


def scaled(lowering: Lowering, node: RawNode, act: Act, factors: Rationals) -> Act:
    """The activation times constants, one or one per channel."""
    if act.clipped and len(factors) == 1 and factors[0] > 0:
        factor = factors[0]
        low = act.low * factor if act.low is not None else None
        high = act.high * factor if act.high is not None else None
        act = replace(act, low=low, high=high)
    else:
        act = lowering.unclipped(node, act)
    return replace(
        act,
        a=combine(lambda p, q: p * q, act.a, factors),
        b=combine(lambda p, q: p * q, act.b, factors),
    )


def batch_norm(lowering: Lowering, node: RawNode) -> Tensor:
    """BatchNormalization(x, gamma, beta, mean, variance); gamma/sqrt(variance + epsilon) is its
    float64 value, from then on exact."""
    act = lowering.activation(node)
    channels = lowering.values[act.value].shape[0]
    parts = [lowering.constant(node, i, what) for i, what in enumerate(_BATCH_NORM, start=1)]
    for part, what in zip(parts, _BATCH_NORM, strict=True):
        if part.size not in (1, channels):
            raise UsageError(f"its {what} has {part.size} entries for {channels} channels")
    gamma, beta, mean, variance = (part.astype(np.float64).reshape(-1) for part in parts)
    epsilon = float(np.float32(number(node, "epsilon", 1e-5)))
    if (variance + epsilon <= 0).any():
        raise UsageError("its variance is negative")
    factor = gamma / np.sqrt(variance + epsilon)
    factors, means, betas = (
        shorten(tuple(Fraction(float(v)) for v in values)) for values in (factor, mean, beta)
    )
    act = lowering.unclipped(node, act)
    centred = replace(act, b=combine(lambda p, q: p - q, act.b, means))
    made = scaled(lowering, node, centred, factors)
    return replace(made, b=combine(lambda p, q: p + q, made.b, betas))


_BATCH_NORM = ("scale", "bias", "mean", "variance")


def _channel_constant(lowering: Lowering, act: Act, constant: Tensor) -> Rationals:
    shape = lowering.values[act.value].shape
    array = exact(_as_constant(constant))
    place = array.ndim - len(shape)  # numpy lines up the last axes
    return per_channel(array, shape[0], place if place >= 0 else None)


def _as_constant(tensor: Tensor) -> NDArray[Any] | Codes:
    assert isinstance(tensor, np.ndarray | Codes)
    return tensor


def _folded(x: Tensor, y: Tensor, function: Callable[[Any, Any], Any]) -> NDArray[Any]:
    """Arithmetic of two constants, in float64 and back to what they were."""
    if not (isinstance(x, np.ndarray) and isinstance(y, np.ndarray)):
        raise Reject("it computes with quantized constants", "fold constants before the export")
    if x.dtype.kind in "iu" and y.dtype.kind in "iu":
        return np.asarray(function(x.astype(np.int64), y.astype(np.int64)))
    with np.errstate(all="ignore"):
        result = np.asarray(function(x.astype(np.float64), y.astype(np.float64)))
    if not np.isfinite(result).all():
        raise UsageError("its constants give NaN or infinity")
    return result


def _either(x: Tensor, y: Tensor, kind: type) -> bool:
    return isinstance(x, kind) or isinstance(y, kind)


def _same_value(x: Tensor, y: Tensor) -> bool:
    return isinstance(x, Act | Tabulated) and isinstance(y, Act | Tabulated) and x.value == y.value


def _tabulated(
    lowering: Lowering,
    node: RawNode,
    x: Tensor,
    y: Tensor,
    function: Callable[[Any, Any], Any],
) -> Tabulated:
    """A float function of one value of few codes: both sides are that value, or a constant."""
    reals: list[Any] = []
    value, first = None, 0
    for tensor in (x, y):
        if isinstance(tensor, np.ndarray):
            if tensor.size != 1:
                raise Reject("a float function with one constant per channel", "quantize before it")
            reals.append(np.float64(tensor.reshape(-1)[0]))
            continue
        table = lowering.tabulate(node, tensor)
        if value not in (None, table.value) or not table.reals.size:
            raise Reject("a float function of two values, or of too many codes", "quantize first")
        value, first = table.value, table.first
        reals.append(table.reals)
    assert value is not None
    with np.errstate(all="ignore"):
        result = np.asarray(function(*reals), dtype=np.float64)
    if not np.isfinite(result).all():
        raise UsageError("it gives NaN or infinity for a code that can be reached")
    return Tabulated(value, first, result, None)


def _host_step(source: FloatInput, kind: HostKind, constant: Tensor) -> FloatInput:
    if not isinstance(constant, np.ndarray):
        raise Reject("a quantized constant before the input is quantized", "quantize the input")
    values = tuple(float(v) for v in constant.reshape(-1))
    step = HostStep(kind, values, constant.shape)
    full = np.broadcast_shapes((1, *source.shape), constant.shape)
    if full != (1, *source.shape):
        raise Reject("a constant makes the input larger", "feed the input in its final shape")
    return replace(source, steps=(*source.steps, step))
