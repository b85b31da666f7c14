"""Sums of floats that do not depend on the order of adding."""

from __future__ import annotations

import math

import numpy as np

from targets.analog.mapping import FloatArray

HELD = 44  # of float64's 53 bits; the rest is for noise, and for what rounding leaves of levels
FINEST = 40


def fraction_bits(most: float) -> int:
    """How many bits behind the point multiples of 1/2^bits may have, so that sums of up to `most`
    are exact in float64, in any order: what BLAS makes of them depends on no thread count."""
    return max(0, min(HELD - math.frexp(max(most, 1.0))[1], FINEST))


def to_grid(values: FloatArray, bits: int) -> FloatArray:
    """The nearest multiples of 1/2^bits, in place."""
    np.multiply(values, 2.0**bits, out=values)
    np.rint(values, out=values)
    np.multiply(values, 2.0**-bits, out=values)
    return values
