"""What the importer knows of each tensor of the file, and exact arithmetic on its meaning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import UsageError
from flow.host_snippet import round_float
from flow.importer.meaning import HostFunction, HostStep, Rationals
from flow.ops import IntArray, Shape
from flow.qtype import QType
from flow.requant import Rounding


@dataclass(frozen=True, eq=False)
class Codes:
    """A quantized constant: real = scale*codes, with the zero-point already taken off the codes;
    `scale` has the constant's rank (extents 1 where it does not vary)."""

    codes: IntArray
    scale: NDArray[np.float32]


@dataclass(frozen=True)
class Act:
    """An activation: real = clip(a*code + b, low, high) of the graph value `value`; a and b have
    one entry, or one per channel. `functions` follow on the host: only the output has any."""

    value: str
    a: Rationals
    b: Rationals
    low: Fraction | None = None
    high: Fraction | None = None
    functions: tuple[HostFunction, ...] = ()

    @property
    def clipped(self) -> bool:
        return self.low is not None or self.high is not None


@dataclass(frozen=True, eq=False)
class Tabulated:
    """Any function of one graph value of few codes: `reals[i]` is its real value at code
    `first` + i. `host` is the same as an activation with host functions, where that can be said."""

    value: str
    first: int
    reals: NDArray[np.float64]
    host: Act | None


@dataclass(frozen=True)
class FloatInput:
    """The network's input before its first quantizer, after `steps` on the host; `codes` where the
    file takes integers, as their type."""

    shape: Shape
    steps: tuple[HostStep, ...] = ()
    codes: QType | None = None


@dataclass(frozen=True, eq=False)
class Quantized:
    """What a QuantizeLinear gives until a DequantizeLinear follows: integers of `source`, clamped
    to low..high."""

    source: Any
    quantizer: Quantizer
    low: int
    high: int


class Poison:
    """What a node that could not be read gives: whatever follows it is passed over in silence."""


Tensor = NDArray[Any] | Codes | Act | Tabulated | FloatInput | Quantized | Poison


class Reject(Exception):
    """A node that cannot be lowered: why, and what the user can change."""

    def __init__(self, reason: str, fix: str):
        super().__init__(reason)
        self.reason, self.fix = reason, fix


@dataclass(frozen=True, eq=False)
class Quantizer:
    """round(x / scale + zero) clamped to `qtype`; the zero-point after the rounding where not
    `zero_inside`. `axis` is the channel's for a scale of several entries in one dimension (QDQ)."""

    scale: NDArray[np.float32]
    zero: int
    qtype: QType
    rounding: Rounding = Rounding.HALF_EVEN
    zero_inside: bool = True
    zeros: IntArray | None = field(default=None)  # per channel, constants only

    def codes(self, constant: NDArray[Any]) -> Codes:
        """The constant's codes, evaluated once in float32 as the file says, zero-point taken off.

        Raises:
            UsageError: the scale does not fit the constant.
        """
        if constant.dtype.kind != "f":
            raise UsageError(f"it quantizes a constant of type {constant.dtype}")
        scale = self.fitted(constant.ndim)
        try:
            np.broadcast_to(scale, constant.shape)
        except ValueError as error:
            raise UsageError(
                f"its scale {self.scale.shape} does not fit its input {constant.shape}"
            ) from error
        zero = np.float32(self.zero)
        mode = self.rounding.value
        with np.errstate(over="ignore"):  # an infinity is clamped like any large number
            real = constant.astype(np.float32) / scale
            if self.zero_inside:
                codes = round_float(real + zero, mode)
            else:
                codes = round_float(real, mode) + zero
        clamped = np.clip(codes, self.qtype.low, self.qtype.high).astype(np.int64)
        return Codes(clamped - self.zero, scale)

    def fitted(self, rank: int) -> NDArray[np.float32]:
        """The scale with `rank` dimensions. Raises UsageError where it has more."""
        if self.scale.ndim > rank:
            if self.scale.size != 1:
                raise UsageError(f"its scale {self.scale.shape} has more axes than its input")
            return self.scale.reshape((1,) * rank)
        return self.scale.reshape((1,) * (rank - self.scale.ndim) + self.scale.shape)


def per_channel(array: NDArray[Any], channels: int, place: int | None) -> Rationals:
    """A float or Fraction array as one rational, or one per channel; `place` is the channel's axis
    in the array, None if the array has no such axis.

    Raises:
        Reject: it varies along another axis.
    """
    if array.size == 1:
        return (rational(array.reshape(-1)[0]),)
    if place is None or not 0 <= place < array.ndim or array.size != array.shape[place]:
        raise Reject(
            f"a constant of shape {array.shape} varies inside a channel",
            "use one value per tensor or one per channel",
        )
    if array.shape[place] != channels:
        raise Reject(
            f"a constant of shape {array.shape} does not fit {channels} channels",
            "use one value per tensor or one per channel",
        )
    return shorten(tuple(rational(x) for x in array.reshape(-1)))


def rational(x: Any) -> Fraction:
    return x if isinstance(x, Fraction) else Fraction(float(x))


def shorten(entries: Rationals) -> Rationals:
    """One entry where all are equal."""
    return entries[:1] if len(set(entries)) == 1 else entries


def spread(entries: Rationals, count: int) -> Rationals:
    """`count` entries, where there is one or `count`."""
    return entries * count if len(entries) == 1 else entries


def combine(
    function: Callable[[Fraction, Fraction], Fraction], x: Rationals, y: Rationals
) -> Rationals:
    """The function entry by entry, shortened again."""
    count = max(len(x), len(y))
    pairs = zip(spread(x, count), spread(y, count), strict=True)
    return shorten(tuple(function(p, q) for p, q in pairs))


def exact(constant: NDArray[Any] | Codes) -> NDArray[Any]:
    """A constant's real values as an array of Fractions."""
    if isinstance(constant, Codes):
        codes, own = np.broadcast_arrays(constant.codes, constant.scale)
        reals = [int(c) * rational(s) for c, s in zip(codes.flat, own.flat, strict=True)]
    else:
        codes, reals = constant, [rational(x) for x in constant.flat]
    result = np.empty(codes.size, dtype=object)
    result[:] = reals
    return result.reshape(codes.shape)


def transposed(codes: Codes, order: tuple[int, ...] | None = None) -> Codes:
    """A quantized constant with its axes in another order (reversed by default)."""
    rank = codes.codes.ndim
    scale = codes.scale.reshape((1,) * (rank - codes.scale.ndim) + codes.scale.shape)
    return Codes(np.ascontiguousarray(codes.codes.transpose(order)), scale.transpose(order))
