"""How the runtimes' kernels requantize, and the multipliers and offsets that make them exact.

A kernel makes an int32 accumulator into a code by a multiplier that the runtime computes from the
scales of input, weights and output. `fit` searches the weights' scale (a float32) and an integer in
the bias so that the kernel has the wanted steps over every reachable accumulator. A kernel is
monotone, so two evaluations at every step prove it: the code at the step, and the one before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.ops import IntArray
from flow.requant import Steps

MAX_ACCUMULATOR = (1 << 31) - 1
_LEAST, _GREATEST = 2.0**-31, 255.0  # multipliers that XNNPACK takes: from 2**-32, below 256
_ULPS = np.array(sorted(range(-64, 65), key=abs))
_WIDE = np.geomspace(2.0**-17, 2.0**-8, 40)  # relative changes of the scale, for few steps
_FEASIBLE = 1.5  # accumulators of slack before a candidate is not even tried: float32 rounding


class Arithmetic(Enum):
    """XNNPACK: rint(float32(acc) * float32(m)), ties to even. RUY, in the convolutions and dense
    layers of tflite-runtime: a 31-bit multiplier and two roundings, ties up. GEMMLOWP, in its
    depthwise convolutions and products of activations: the second rounding's ties away from 0."""

    XNNPACK = "XNNPACK"
    RUY = "ruy"
    GEMMLOWP = "gemmlowp"

    @property
    def elementwise(self) -> Arithmetic:
        """What the same runtime does in a depthwise convolution or a product of activations."""
        return Arithmetic.GEMMLOWP if self is Arithmetic.RUY else self

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
        fraction, exponent = np.frexp(multiplier)
        q = np.rint(fraction * 2.0**31).astype(np.int64)
        left, right = np.maximum(exponent, 0), np.maximum(-exponent, 0)
        product, half = (acc << left) * q, (np.int64(1) << right) >> 1
        if self is Arithmetic.RUY:
            up: IntArray = (((product + (1 << 30)) >> 31) + half) >> right
            return up
        high = (np.abs(product) + (1 << 30) - (product < 0)) >> 31
        away: IntArray = np.sign(product) * ((high + half) >> right)
        return away

    def reach(self, multiplier: NDArray[Any]) -> IntArray:
        """The greatest accumulator that the kernel takes: all but XNNPACK shift it left in 32 bits
        first."""
        if self is Arithmetic.XNNPACK:
            return np.full(multiplier.shape, MAX_ACCUMULATOR)
        left = np.maximum(np.frexp(multiplier)[1], 0)
        reached: IntArray = np.int64(MAX_ACCUMULATOR) >> left
        return reached


@dataclass(frozen=True)
class Fitted:
    """One channel's kernel: code = base + rounded((argument*gain + offset) * multiplier), where the
    argument is the accumulator, negated if falling. `missed` accumulators next to a step get
    another code than wanted; none: proven."""

    weight_scale: np.float32
    gain: int
    offset: int
    missed: int

    @property
    def proven(self) -> bool:
        return not self.missed


@dataclass(frozen=True)
class Scales:
    """What is fixed before the search: the kernel's arithmetic and both ends' scales."""

    arithmetic: Arithmetic
    s_in: float
    s_out: float


@dataclass(frozen=True, eq=False)
class _Wanted:
    """Conditions on the kernel's codes (relative to `base`): at least `floors` at `above`, at most
    `tops` at `below` (arguments)."""

    above: IntArray
    floors: IntArray
    below: IntArray
    tops: IntArray

    @classmethod
    def of(cls, steps: Steps, base: int) -> _Wanted:
        codes = np.arange(steps.first + 1, steps.last + 1, dtype=np.int64) - base
        above, floors = [steps.cuts], [codes]
        below, tops = [steps.cuts - 1], [codes - 1]
        if steps.first > steps.floor:  # not held by the clamp
            above.append(np.array([steps.low]))
            floors.append(np.array([steps.first - base]))
        if steps.last < steps.ceiling:
            below.append(np.array([steps.high]))
            tops.append(np.array([steps.last - base]))
        joined = [np.concatenate(part).astype(np.int64) for part in (above, floors, below, tops)]
        return cls(*joined)


def fit(
    steps: Steps, base: int, slope: float, scales: Scales, gains: tuple[int, ...], free: bool = True
) -> Fitted:
    """The first proven kernel, the nearest to the nominal one; where there is none, the one that
    misses the fewest steps.

    Args:
        base: the code that the kernel's 0 stands for.
        slope: codes per accumulator, nominally.
        gains: whole factors that the channel's weights have room for, in order of preference.
        free: whether there is a bias that takes an offset.
    """
    wanted = _Wanted.of(steps, base)
    best: Fitted | None = None
    for gain in gains:
        if max(abs(steps.low), abs(steps.high)) * gain > MAX_ACCUMULATOR:
            continue
        for weight_scales in _candidates(slope / gain, scales):
            found = _best(steps, wanted, gain, weight_scales, scales, free)
            if best is None or found.missed < best.missed:
                best = found
            if best.proven:
                return best
    assert best is not None, "a gain of 1 always fits int32"
    return best


def begins(values: IntArray, steps: Steps, fitted: Fitted, scales: Scales) -> IntArray:
    """The least argument of low..high at which the kernel gives at least each of the values, high+1
    where it never does."""
    factor = scales.arithmetic.multiplier(scales.s_in, fitted.weight_scale.reshape(1), scales.s_out)
    low = np.full(values.shape, steps.low)
    high = np.full(values.shape, steps.high + 1)  # the kernel is monotone: bisect
    while (low < high).any():
        middle = (low + high) // 2
        sums = middle * fitted.gain + fitted.offset
        reached = scales.arithmetic.rounded(sums, factor) >= values
        high = np.where(reached, np.minimum(middle, high), high)
        low = np.where(reached, low, np.minimum(middle + 1, high))
    return low


def _candidates(slope: float, scales: Scales) -> Iterator[NDArray[np.float32]]:
    """The nominal weight scale, those a few ulps around it, and those further away."""
    slope = min(max(slope, _LEAST), _GREATEST)
    nominal = np.float32(slope * scales.s_out / scales.s_in)
    yield nominal.reshape(1)
    yield (nominal.reshape(1).view(np.int32) + _ULPS[1:].astype(np.int32)).view(np.float32)
    changes = np.stack([_WIDE, -_WIDE], axis=1).reshape(-1)
    yield (nominal * (1 + changes)).astype(np.float32)


def _best(
    steps: Steps,
    wanted: _Wanted,
    gain: int,
    weight_scales: NDArray[np.float32],
    scales: Scales,
    free: bool,
) -> Fitted:
    multipliers = scales.arithmetic.multiplier(scales.s_in, weight_scales, scales.s_out)
    real = multipliers.astype(np.float64)[:, None]
    # Where (argument*gain + offset) * multiplier crosses floors - 1/2, and tops + 1/2.
    least = ((wanted.floors - 0.5) / real - wanted.above * gain).max(axis=1, initial=-np.inf)
    greatest = ((wanted.tops + 0.5) / real - wanted.below * gain).min(axis=1, initial=np.inf)
    least = np.where(np.isinf(least), np.where(np.isinf(greatest), 0, greatest - gain), least)
    greatest = np.where(np.isinf(greatest), least + gain, greatest)
    tried = np.flatnonzero(least <= greatest + _FEASIBLE * gain)
    if not len(tried):
        tried = np.arange(min(len(multipliers), 8))
    offsets = _offsets(least[tried], greatest[tried]) if free else np.zeros((len(tried), 1), int)
    reached = max(abs(steps.low), abs(steps.high)) * gain
    room = np.maximum(scales.arithmetic.reach(multipliers[tried]) - reached, 0)[:, None]
    offsets = np.clip(offsets, -room, room).astype(np.int64)
    factor = multipliers[tried][:, None, None]
    over, under = (
        scales.arithmetic.rounded(arguments * gain + offsets[:, :, None], factor)
        for arguments in (wanted.above, wanted.below)
    )
    missed = (over < wanted.floors).sum(axis=2) + (under > wanted.tops).sum(axis=2)
    missed += np.abs(offsets) + reached > scales.arithmetic.reach(multipliers[tried])[:, None]
    row, column = divmod(int(missed.argmin()), offsets.shape[1])
    return Fitted(
        weight_scales[tried[row]], gain, int(offsets[row, column]), int(missed[row, column])
    )


def _offsets(least: NDArray[np.float64], greatest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whole offsets to try, (candidates, 6): 0 where it is allowed, the middle, and both ends."""
    low, high = np.ceil(least), np.floor(greatest)
    middle = np.rint((least + greatest) / 2)
    zero = np.clip(0, np.minimum(low, middle), np.maximum(high, middle))
    return np.stack([zero, middle, low, high, low - 1, high + 1], axis=1)
