"""Sums of floats that do not depend on the order of adding."""

from __future__ import annotations

import math

import numpy as np

from flow.ops import IntArray
from targets.analog.mapping import FloatArray

HELD = 44  # of float64's 53 bits; the rest is for noise, and for what rounding leaves of levels
FINEST = 40
RUN = 1 << 12  # numbers of a run that is clamped in one go


def fraction_bits(most: float) -> int:
    """How many bits behind the point multiples of 1/2^bits may have, so that sums of up to `most`
    are exact in float64, in any order: what BLAS makes of them depends on no thread count."""
    return max(0, min(HELD - math.frexp(max(most, 1.0))[1], FINEST))


def clamp(values: FloatArray, low: float, high: float) -> None:
    """As np.clip, in place; `values` must be contiguous. Two arrays are gone through thrice as fast
    as an array and a number."""
    flat = values.reshape(-1)
    assert np.may_share_memory(flat, values)
    whole = flat.size - flat.size % RUN
    lows, highs = np.full(RUN, float(low)), np.full(RUN, float(high))
    for part in (flat[:whole].reshape(-1, RUN), flat[whole:]):
        np.maximum(part, lows[: part.shape[-1]], out=part)
        np.minimum(part, highs[: part.shape[-1]], out=part)


def to_grid(values: FloatArray, bits: int | IntArray) -> FloatArray:
    """The nearest multiples of 1/2^bits, in place; of bits that broadcast to them."""
    np.multiply(values, 2.0**bits, out=values)
    np.rint(values, out=values)
    np.multiply(values, 0.5**bits, out=values)
    return values
