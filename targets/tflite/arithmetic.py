"""How the runtimes' kernels requantize.

A kernel makes an integer accumulator into a code by a multiplier that the runtime computes from the
scales of input, weights and output. What each really does is measured by
`tests/targets/test_tflite_kernels.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.ops import IntArray

MAX_ACCUMULATOR = (1 << 31) - 1
MAX_WIDE_ACCUMULATOR = (1 << 47) - 1


class Arithmetic(Enum):
    """XNNPACK: rint(float32(acc) * float32(m)), ties to even. RUY, in the convolutions and dense
    layers of tflite-runtime, and in those of 16-bit activations with an int32 bias: a 31-bit
    multiplier and two roundings, ties up. GEMMLOWP, in its depthwise convolutions and products of
    activations: the second rounding's ties away from 0. With 16-bit activations and an int64 bias,
    REDUCED: a multiplier of 15 bits and one rounding, ties up; FLOAT64, in LiteRT's dense layers:
    round(float64(acc) * m), ties away from 0."""

    XNNPACK = "XNNPACK"
    RUY = "ruy"
    GEMMLOWP = "gemmlowp"
    REDUCED = "int16x8"
    FLOAT64 = "float64"

    @property
    def shown(self) -> str:
        """The multiplier in words."""
        return f"{_MULTIPLIERS[self.value]} multiplier ({self.value})"

    def multiplier(self, s_in: float, s_w: NDArray[np.float32], s_out: float) -> NDArray[Any]:
        """The real multiplier that the runtime makes of the three scales (float32, or float64)."""
        if self is Arithmetic.XNNPACK:
            product: NDArray[Any] = (np.float32(s_in) * s_w) / np.float32(s_out)
            return product
        exact = s_w.astype(np.float64)  # an array of float32 would make all float32
        return np.float32(s_in).astype(np.float64) * exact / np.float64(np.float32(s_out))

    def rounded(self, acc: IntArray, multiplier: NDArray[Any]) -> IntArray:
        """Accumulators (broadcast against multipliers) to codes, before zero-point and clamp."""
        if self is Arithmetic.XNNPACK:
            found: IntArray = np.rint(acc.astype(np.float32) * multiplier).astype(np.int64)
            return found
        if self is Arithmetic.FLOAT64:
            real = acc.astype(np.float64) * multiplier
            whole = np.floor(np.abs(real))
            nearest: IntArray = (whole + (np.abs(real) - whole >= 0.5)).astype(np.int64)
            return np.where(real < 0, -nearest, nearest)
        q, exponent = _quantized(multiplier)
        if self is Arithmetic.REDUCED:
            half = np.int64(1) << (14 - exponent)
            once: IntArray = ((acc * _reduced(q) + half) >> (15 - exponent)).astype(np.int64)
            return once
        left, right = np.maximum(exponent, 0), np.maximum(-exponent, 0)
        product, half = (acc << left) * q, (np.int64(1) << right) >> 1
        if self is Arithmetic.RUY:
            up: IntArray = (((product + (1 << 30)) >> 31) + half) >> right
            return up
        high = (np.abs(product) + (1 << 30) - (product < 0)) >> 31
        away: IntArray = np.sign(product) * ((high + half) >> right)
        return away

    def line(self, multiplier: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(slope, lead): before its last rounding, to the nearest, the kernel is (acc + lead) *
        slope; as near as that says nothing for XNNPACK and GEMMLOWP."""
        if self in (Arithmetic.XNNPACK, Arithmetic.GEMMLOWP, Arithmetic.FLOAT64):
            return multiplier.astype(np.float64), np.zeros(multiplier.shape)
        q, exponent = _quantized(multiplier)
        if self is Arithmetic.REDUCED:
            return np.ldexp(_reduced(q).astype(np.float64), exponent - 15), np.zeros(q.shape)
        # The first rounding, to a whole number, lets every sum be half of one more.
        lead = np.where(exponent < 0, 2.0**30 / np.maximum(q, 1), 0.0)
        return np.ldexp(q.astype(np.float64), exponent - 31), lead

    @property
    def straight(self) -> bool:
        """Whether `line` is all of it, so that it says which offsets do."""
        return self not in (Arithmetic.XNNPACK, Arithmetic.GEMMLOWP)

    def reach(self, multiplier: NDArray[Any]) -> IntArray:
        """The greatest accumulator that the kernel takes: RUY and GEMMLOWP shift it left in 32 bits
        first, REDUCED and FLOAT64 have 47 bits for it and 32 for the code before its clamp."""
        if self is Arithmetic.XNNPACK:
            return np.full(multiplier.shape, MAX_ACCUMULATOR)
        if self in (Arithmetic.REDUCED, Arithmetic.FLOAT64):
            codes = np.floor(MAX_ACCUMULATOR / (2 * multiplier.astype(np.float64)))
            wide: IntArray = np.minimum(codes, MAX_WIDE_ACCUMULATOR).astype(np.int64)
            return wide
        left = np.maximum(np.frexp(multiplier)[1], 0)
        reached: IntArray = np.int64(MAX_ACCUMULATOR) >> left
        return reached


_MULTIPLIERS = {
    "XNNPACK": "float32",
    "ruy": "31-bit",
    "gemmlowp": "31-bit",
    "int16x8": "15-bit",
    "float64": "float64",
}


def _quantized(multiplier: NDArray[Any]) -> tuple[IntArray, IntArray]:
    """(q, e): the multiplier as q * 2**(e - 31), q of 31 bits."""
    fraction, exponent = np.frexp(multiplier)
    q = np.rint(fraction * 2.0**31).astype(np.int64)
    full = q == 1 << 31  # next below a power of two
    narrow: IntArray = np.where(full, q >> 1, q)
    return narrow, exponent.astype(np.int64) + full


def _reduced(q: IntArray) -> IntArray:
    """A 31-bit multiplier in the 15 bits that are left of it beside a sum of 48."""
    return np.minimum((q + (1 << 15)) >> 16, (1 << 15) - 1)


@dataclass(frozen=True)
class Scales:
    """What is fixed before the search: the kernel's arithmetic and both ends' scales."""

    arithmetic: Arithmetic
    s_in: float
    s_out: float

    @property
    def room(self) -> int:
        """The greatest accumulator before any multiplier is known."""
        wide = self.arithmetic in (Arithmetic.REDUCED, Arithmetic.FLOAT64)
        return MAX_WIDE_ACCUMULATOR if wide else MAX_ACCUMULATOR
