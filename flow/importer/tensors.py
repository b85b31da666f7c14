"""What the importer knows of each tensor of the file, and exact arithmetic on its meaning."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import UsageError
from flow.host_snippet import round_float
from flow.ops import IntArray
from flow.qtype import QType
from flow.requant import Rounding

Rationals = tuple[Fraction, ...]


@dataclass(frozen=True, eq=False)
class Codes:
    """A quantized constant: real = scale*codes, with the zero-point already taken off the codes;
    `scale` has the constant's rank (extents 1 where it does not vary)."""

    codes: IntArray
    scale: NDArray[np.float32]


@dataclass(frozen=True)
class Act:
    """An activation: real = clip(a*code + b, low, high) of the graph value `value`; a and b have
    one entry, or one per channel."""

    value: str
    a: Rationals
    b: Rationals
    low: Fraction | None = None
    high: Fraction | None = None
    softmax: bool = False


class FloatInput:
    """The network's input before its first Quant."""


class Poison:
    """What a node that could not be read gives: whatever follows it is passed over in silence."""


Tensor = NDArray[Any] | Codes | Act | FloatInput | Poison


class Reject(Exception):
    """A node that cannot be lowered: why, and what the user can change."""

    def __init__(self, reason: str, fix: str):
        super().__init__(reason)
        self.reason, self.fix = reason, fix


@dataclass(frozen=True, eq=False)
class Quantizer:
    scale: NDArray[np.float32]
    zero: int
    qtype: QType
    rounding: Rounding

    def codes(self, constant: NDArray[Any]) -> Codes:
        """The constant's codes, evaluated once in float32 as QONNX says, zero-point taken off."""
        if constant.dtype.kind != "f":
            raise UsageError(f"it quantizes a constant of type {constant.dtype}")
        try:
            scale = np.broadcast_to(
                self.scale, (1,) * (constant.ndim - self.scale.ndim) + self.scale.shape
            )
            np.broadcast_to(scale, constant.shape)
        except ValueError as error:
            raise UsageError(
                f"its scale {self.scale.shape} does not fit its input {constant.shape}"
            ) from error
        real = constant.astype(np.float32) / scale + np.float32(self.zero)
        codes = round_float(real, self.rounding.value)
        clamped = np.clip(codes, self.qtype.low, self.qtype.high).astype(np.int64)
        return Codes(clamped - self.zero, scale)


def per_channel(scale: NDArray[Any], channels: int, rank: int, axis: int | None) -> Rationals:
    """A float or Fraction array as one rational, or one per channel.

    `rank` is that of one sample (or of a weight less its first axis); `axis` says where the channel
    is: 0 for weights, 1 for activations with their batch, None for activations whose array may come
    with or without the batch.
    """
    if scale.size == 1:
        return (rational(scale.reshape(-1)[0]),)
    shape = scale.shape
    full = rank + 1
    if axis is None or axis == 1:
        # Numpy broadcasting: the last axes line up; the channel is `rank` axes from the end.
        where = len(shape) - rank
    else:
        where = len(shape) - full
    fits = where >= 0 and shape[where] == channels and scale.size == channels
    if not fits:
        raise Reject(
            f"a constant of shape {shape} varies inside a channel, or not with the channel",
            "use one value per tensor or one per output channel",
        )
    return shorten(tuple(rational(x) for x in scale.reshape(-1)))


def rational(x: Any) -> Fraction:
    return x if isinstance(x, Fraction) else Fraction(float(x))


def shorten(entries: Rationals) -> Rationals:
    """One entry where all are equal."""
    return entries[:1] if len(set(entries)) == 1 else entries


def broadcast(entries: Rationals, other: Rationals) -> Rationals:
    return entries * len(other) if len(entries) == 1 and len(other) > 1 else entries


def paired(x: Rationals, y: Rationals) -> list[tuple[Fraction, Fraction]]:
    return list(zip(broadcast(x, y), broadcast(y, x), strict=True))


def transposed(codes: Codes) -> Codes:
    return Codes(
        np.ascontiguousarray(codes.codes.T),
        np.broadcast_to(codes.scale, (1,) * (2 - codes.scale.ndim) + codes.scale.shape).T,
    )
