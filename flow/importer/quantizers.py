"""Quantizers: QONNX's Quant, BipolarQuant and Trunc, ONNX's QuantizeLinear and DequantizeLinear,
FINN's MultiThreshold."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import UsageError
from flow.importer.lowering import Lowering
from flow.importer.meaning import HostInput
from flow.importer.reading import LEAST_SCALE, first_bad, integer_type, number, rounding_of, whole
from flow.importer.tensors import (
    Act,
    Codes,
    FloatInput,
    Quantized,
    Quantizer,
    Reject,
    Tabulated,
    Tensor,
    exact,
    rational,
)
from flow.onnx_file import RawNode
from flow.ops import Requant
from flow.qtype import QType
from flow.requant import Rounding

MAX_QUANT_BITS = 32
ONNX_TYPES = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 21: "uint4", 22: "int4"}


def quant(lowering: Lowering, node: RawNode) -> Tensor:
    """Quant(x, scale, zero-point, bit width)."""
    scale = _scale(_float32(lowering, node, 1, "scale"))
    zero = _one_whole(lowering.constant(node, 2, "zero-point"), "zero-point")
    bits = _one_whole(lowering.constant(node, 3, "bit width"), "bit width")
    signed, narrow = bool(whole(node, "signed", 1)), bool(whole(node, "narrow", 0))
    if not (2 if signed else 1) <= bits <= MAX_QUANT_BITS:
        raise Reject(f"its bit width is {bits}", f"use 2 to {MAX_QUANT_BITS} bits (1 if unsigned)")
    quantizer = Quantizer(scale, zero, QType(bits, signed, narrow), rounding_of(node))
    return _apply(lowering, node, lowering.need(node, 0), quantizer)


def _apply(lowering: Lowering, node: RawNode, source: Tensor, quantizer: Quantizer) -> Tensor:
    if isinstance(source, np.ndarray):
        return quantizer.codes(source)
    if isinstance(source, FloatInput):
        return lowering.quantize_input(node, source, quantizer)
    if isinstance(source, Act | Tabulated):
        return lowering.requantize(node, source, quantizer)
    raise Reject("it quantizes what is quantized already", "remove one of the two quantizers")


def bipolar(lowering: Lowering, node: RawNode) -> Tensor:
    """BipolarQuant(x, scale): +scale where x >= 0, else -scale."""
    scale = _scale(_float32(lowering, node, 1, "scale"))
    source = lowering.need(node, 0)
    if isinstance(source, np.ndarray):
        signs = np.where(source >= 0, 1, -1).astype(np.int64)
        rank = signs.ndim
        return Codes(signs, Quantizer(scale, 0, QType(2, True)).fitted(rank))
    if scale.size != 1:
        raise Reject("it has one scale per channel", "use one scale per tensor")
    step = rational(scale.reshape(-1)[0])
    if isinstance(source, FloatInput):
        both = Quantizer(scale, 0, QType(2, True, narrow=True))
        act = lowering.quantize_input(node, source, both)
        assert lowering.head is not None
        lowering.head = replace(lowering.head, bipolar=True)
        return act
    if not isinstance(source, Act):
        raise Reject("it quantizes a float function", "quantize the function's input instead")
    levels = np.full((1, 1), Fraction(0), dtype=object)
    value = lowering.threshold(node, source, levels, np.array([-1, 1]))
    return _scaled(lowering, value, step, 0)


def multi_threshold(lowering: Lowering, node: RawNode) -> Tensor:
    """MultiThreshold(x, thresholds): out_bias + out_scale * (number of thresholds reached)."""
    levels = exact(lowering.constant(node, 1, "thresholds"))
    if levels.ndim != 2 or not levels.size:
        raise UsageError(f"its thresholds must be (channels, steps), not {levels.shape}")
    if str(node.attributes.get("data_layout", "")) not in ("", "NCHW", "NC"):
        raise Reject("its layout is channels-last", "use data_layout NCHW")
    step = rational(number(node, "out_scale", 1.0))
    bias = rational(number(node, "out_bias", 0.0))
    if step <= 0:
        raise Reject("its out_scale is not positive", "use a positive out_scale")
    if any(list(row) != sorted(row) for row in levels):
        raise UsageError("its thresholds must ascend")
    act = lowering.activation(node)
    value = lowering.threshold(node, act, levels, np.arange(levels.shape[1] + 1))
    zero = -bias / step
    if zero.denominator == 1:
        return _scaled(lowering, value, step, int(zero))
    return replace(_scaled(lowering, value, step, 0), b=(bias,))


def _scaled(lowering: Lowering, value: str, scale: Fraction, zero: int) -> Act:
    """Give a value that was just emitted its meaning."""
    made = replace(lowering.values[value], scale=(scale,), zero_point=zero)
    lowering.values[value] = made
    lowering.nodes[-1] = replace(lowering.nodes[-1], output=made)
    return Act(value, (scale,), (-scale * zero,))


def trunc(lowering: Lowering, node: RawNode) -> Tensor:
    """Trunc of opset 2 (x, scale, zero-point, input bits, output scale, output bits), and of
    opset 1 (without the output scale: it follows from the bits)."""
    act = lowering.activation(node)
    scale = _one_scale(_float32(lowering, node, 1, "scale"))
    zero = _one_whole(lowering.constant(node, 2, "zero-point"), "zero-point")
    in_bits = _one_whole(lowering.constant(node, 3, "input bit width"), "input bit width")
    second = len(node.inputs) > 5
    out_bits = _one_whole(
        lowering.constant(node, 5 if second else 4, "output bit width"), "output bit width"
    )
    if not 1 <= out_bits <= MAX_QUANT_BITS:
        raise Reject(f"its output bit width is {out_bits}", f"use 1 to {MAX_QUANT_BITS}")
    if second:
        ratio = _one_scale(_float32(lowering, node, 4, "output scale")) / scale
        shift = round(float(np.log2(float(ratio))))
        step = scale * ratio
    else:
        shift, step = in_bits - out_bits, scale
    value, own, own_zero = lowering.plain(node, act, "input")
    if (own, own_zero) != (scale, zero) or shift < 0 or shift > MAX_QUANT_BITS:
        raise Reject("its input is not on the grid that it names", "export with matching scales")
    # Opset 1 takes the zero-point off after the shift, unshifted: so qonnx and Brevitas define it.
    out_zero = Fraction(zero, 1 << shift) if second else Fraction(zero)
    if out_zero.denominator != 1:
        raise Reject("its zero-point is cut in two", "use a zero-point of 0 before a Trunc")
    rounding = rounding_of(node, "FLOOR")
    if second:
        signed, narrow = bool(whole(node, "signed", 1)), bool(whole(node, "narrow", 0))
        qtype = QType(out_bits, signed, narrow)
        low, high = qtype.low, qtype.high
    else:  # does not clamp: the type is what can be reached
        ends = [
            int(end.item()) for b in (lowering.bounds[value],) for end in (b[0].min(), b[1].max())
        ]
        low, high = (rounding.apply(Fraction(end, 1 << shift)) for end in ends)
        qtype = QType.covering(low, high)
    op = Requant((Fraction(1, 1 << shift),), (Fraction(0),), qtype, low, high, rounding)
    name = lowering.emit(node, op, (value,), (step,), int(out_zero))
    return Act(name, (step,), (-step * out_zero,))


def quantize_linear(lowering: Lowering, node: RawNode) -> Tensor:
    """QuantizeLinear(x, scale, zero-point): its integers, until a DequantizeLinear follows."""
    source = lowering.need(node, 0)
    zeros, qtype = _zero_points(lowering, node), _type(lowering, node)
    scale = _scale(_float32(lowering, node, 1, "scale"))
    rank = _rank(lowering, source)
    quantizer = Quantizer(
        _along(scale, whole(node, "axis", 1), rank),
        _common_zero(zeros),
        qtype,
        zero_inside=False,
    )
    return codes_at_end(lowering, node, Quantized(source, quantizer, qtype.low, qtype.high))


def codes_at_end(lowering: Lowering, node: RawNode, source: Quantized) -> Tensor:
    """The same, or where they are the network's output the integers themselves."""
    if node.outputs[0] != lowering.file.outputs[0]:
        return source
    count = len(lowering.nodes)
    made = _settled(lowering, node, source)
    if not isinstance(made, Act):
        return made
    if len(lowering.nodes) > count:
        return _scaled(lowering, made.value, Fraction(1), 0)
    return replace(made, a=(Fraction(1),), b=(Fraction(0),))


def dequantize_linear(lowering: Lowering, node: RawNode) -> Tensor:
    """DequantizeLinear(codes, scale, zero-point)."""
    source = lowering.need(node, 0)
    scale = _scale(_float32(lowering, node, 1, "scale"))
    axis = whole(node, "axis", 1)
    zeros = _zero_points(lowering, node)
    if isinstance(source, np.ndarray):
        return _stored_codes(source, scale, zeros, axis)
    if isinstance(source, FloatInput) and source.codes is not None:
        return _coded_input(lowering, node, source, source.codes, scale, _common_zero(zeros))
    if not isinstance(source, Quantized):
        raise Reject("it dequantizes what is not quantized", "put a QuantizeLinear before it")
    quantizer = source.quantizer
    fitted = _along(scale, axis, _rank(lowering, source.source))
    if _common_zero(zeros) != quantizer.zero or not np.array_equal(fitted, quantizer.scale):
        raise Reject(
            "it dequantizes with another scale or zero-point than it was quantized with",
            "use the same scale and zero-point in both",
        )
    return _settled(lowering, node, source)


def _settled(lowering: Lowering, node: RawNode, source: Quantized) -> Tensor:
    """What the integers stand for: the quantizer, with a Clip of its integers, applied."""
    quantizer = source.quantizer
    clamped = replace(quantizer, qtype=_narrowed(quantizer.qtype, source.low, source.high))
    if isinstance(source.source, np.ndarray) or (clamped.qtype.low, clamped.qtype.high) == (
        source.low,
        source.high,
    ):
        return _apply(lowering, node, source.source, clamped)
    raise Reject(
        f"it clips to {source.low}..{source.high}, which is no integer type's range",
        "clip to the range of some bit width",
    )


def _narrowed(qtype: QType, low: int, high: int) -> QType:
    """The type whose range is low..high, where there is one: a Clip between Q and DQ makes it."""
    for bits in range(1, qtype.bits + 1):
        for narrow in (False, True):
            candidate = QType(bits, qtype.signed, narrow)
            if (candidate.low, candidate.high) == (low, high):
                return candidate
    return qtype


def _stored_codes(
    source: NDArray[Any], scale: NDArray[np.float32], zeros: NDArray[Any], axis: int
) -> Codes:
    if integer_type(source.dtype.name) is None:
        raise UsageError(f"it dequantizes a constant of type {source.dtype}")
    rank = source.ndim
    try:
        centred = source.astype(np.int64) - _along(zeros.astype(np.int64), axis, rank)
        fitted = _along(scale, axis, rank)
        np.broadcast_to(fitted, centred.shape)
    except ValueError as error:
        raise UsageError(
            f"its scale {scale.shape} or zero-point {zeros.shape} does not fit {source.shape}"
        ) from error
    return Codes(centred, fitted)


def _coded_input(
    lowering: Lowering,
    node: RawNode,
    source: FloatInput,
    qtype: QType,
    scale: NDArray[np.float32],
    zero: int,
) -> Act:
    """The network's input as integers that the file takes: nothing is left to quantize."""
    if scale.size != 1:
        raise Reject("the input has one scale per channel", "quantize the input per tensor")
    if lowering.head is not None:
        raise Reject("the input is dequantized a second time", "dequantize the input once")
    lowering.head = HostInput(
        lowering.input_shape(), source.steps, 1.0, 0, False, Rounding.HALF_EVEN, qtype
    )
    return lowering.start(node, source.shape, qtype, rational(scale.reshape(-1)[0]), zero)


def _rank(lowering: Lowering, source: Tensor) -> int:
    """The rank of a tensor with its batch."""
    if isinstance(source, np.ndarray):
        return source.ndim
    if isinstance(source, FloatInput):
        return len(source.shape) + 1
    if isinstance(source, Act | Tabulated):
        return len(lowering.values[source.value].shape) + 1
    raise Reject("it quantizes what is quantized already", "remove one of the two quantizers")


def _along(values: NDArray[Any], axis: int, rank: int) -> NDArray[Any]:
    """One value, or one per entry of `axis`, with `rank` dimensions. Raises UsageError."""
    if values.size == 1:
        return values.reshape((1,) * rank)
    if not -rank <= axis < rank or values.ndim != 1:
        raise UsageError(f"axis {axis} does not fit {rank} dimensions")
    return values.reshape([-1 if i == axis % rank else 1 for i in range(rank)])


def _zero_points(lowering: Lowering, node: RawNode) -> NDArray[Any]:
    if lowering.tensor(node, 2) is None:
        return np.zeros(1, dtype=np.int64)
    zeros = lowering.constant(node, 2, "zero-point")
    if integer_type(zeros.dtype.name) is None:
        raise Reject(f"its zero-point is of type {zeros.dtype}", "use an integer type")
    return zeros


def _type(lowering: Lowering, node: RawNode) -> QType:
    """The integers that a QuantizeLinear gives: its zero-point's type."""
    if lowering.tensor(node, 2) is not None:
        name = lowering.constant(node, 2, "zero-point").dtype.name
    else:
        kind = whole(node, "output_dtype", 0) or 2
        name = ONNX_TYPES.get(kind, f"ONNX's number {kind}")
    qtype = integer_type(name)
    if qtype is None:
        raise Reject(f"its type is {name}", "use an integer type of at most 32 bits")
    return qtype


def _common_zero(zeros: NDArray[Any]) -> int:
    found = {int(z) for z in zeros.reshape(-1)}
    if not found:
        raise UsageError("its zero-point is an empty tensor")
    if len(found) != 1:
        raise Reject("it has one zero-point per channel", "use one zero-point per tensor")
    return found.pop()


def _scale(array: NDArray[Any]) -> NDArray[np.float32]:
    scale = array.astype(np.float32)
    if not (scale.size and (scale >= LEAST_SCALE).all() and (scale <= 1 / LEAST_SCALE).all()):
        raise UsageError(
            f"its scale must be positive and finite (2^-100 to 2^100), not {first_bad(scale)}"
        )
    return scale


def _float32(lowering: Lowering, node: RawNode, index: int, what: str) -> NDArray[Any]:
    """A constant that runtimes take as float32. Raises Reject where the file's own number is none:
    rounded, it would be another network's."""
    array = lowering.constant(node, index, what)
    if node.inputs[index] in lowering.file.constants and array.dtype == np.float64:
        with np.errstate(over="ignore"):
            lost = array != array.astype(np.float32)
        if lost.any():
            raise Reject(
                f"its {what} {float(array[lost][0])!r} is float64, between two float32 numbers",
                f"export the {what} as float32, as ONNX and QONNX define it",
            )
    return array


def _one_scale(array: NDArray[Any]) -> Fraction:
    scale = _scale(array)
    if scale.size != 1:
        raise Reject("it has one scale per channel", "use one scale per tensor")
    return rational(scale.reshape(-1)[0])


def _one_whole(array: NDArray[Any], what: str) -> int:
    flat = {float(v) for v in array.reshape(-1)}
    if not flat or any(v % 1 or abs(v) >= 1 << MAX_QUANT_BITS for v in flat):
        raise UsageError(
            f"its {what} must be a whole number below 2^{MAX_QUANT_BITS}, not {sorted(flat)[:3]}"
        )
    if len(flat) != 1:
        raise Reject(f"its {what} is not one number", f"use one {what} per tensor")
    return int(flat.pop())
