"""The noise of inputs and of the detectors that read their sums, in one draw.

Weights w that stay while inputs x are multiplied make (x + e) w + d of independent normal errors e
of inputs, of variance s^2, and d of sums, of variance t^2. That is x w + n, where n is normal, too,
with the covariance s^2 w'w + t^2 of sums: a number for each sum says what one for each sum and one
for each input would, and no other law is put in its place. Where errors follow another law, or
weights vary from product to product, this does not hold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from targets.analog.draws import normals
from targets.analog.grid import fraction_bits
from targets.analog.mapping import FloatArray

NORMAL_BITS = 14  # behind the point, of normal numbers
MOST_NORMAL = 8.0  # none is larger
LEAST = 2.0**-15  # of sums' errors to those that inputs make of them, for factors that are exact


def fits(inputs: int, readings: int, largest: float, given: float, read: float) -> bool:
    """Whether one draw is as exact as two, and takes fewer numbers, for standard deviations `given`
    of inputs and `read` of sums; by the largest weight without noise, so that it is the same for
    all chips."""
    most = given * largest * (inputs * readings) ** 0.5
    return given > 0 and read > LEAST * most and readings <= inputs


def factors(weights: FloatArray, given: float, read: float) -> FloatArray:
    """What normal numbers in steps of 1/2^NORMAL_BITS are to be multiplied by, (c, groups,
    readings, readings), for weights (c, groups, inputs, readings): rounded so that sums of products
    are exact in any order."""
    squares = np.matmul(weights.swapaxes(-1, -2), weights)
    readings = weights.shape[-1]
    diagonal = squares.reshape(*squares.shape[:2], -1)[..., :: readings + 1]
    diagonal += (read / given) ** 2
    # Of a column the squares add up to the diagonal, so that this is the most that a sum can be.
    most = MOST_NORMAL * given * np.sqrt(readings * diagonal.max(axis=(1, 2)))
    found: FloatArray = np.linalg.cholesky(squares)
    bits = [fraction_bits(float(each)) - NORMAL_BITS for each in most]  # by each chip alone
    steps = np.array(bits, dtype=np.float64)[:, None, None, None]
    found *= given * 2.0**steps
    np.rint(found, out=found)
    found *= 2.0 ** -(steps + NORMAL_BITS)
    return found.swapaxes(-1, -2)


def drawn(factors: FloatArray, products: int, streams: Sequence[Generator]) -> FloatArray:
    """The errors (c, groups, products, readings) of sums, of a stream for each chip."""
    _, groups, readings, _ = factors.shape
    made = normals(streams, (groups, products, readings), 2.0**NORMAL_BITS)
    np.rint(made, out=made)
    found: FloatArray = np.matmul(made.astype(np.float64), factors)
    return found
