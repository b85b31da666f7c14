"""The search for the multipliers and offsets that make a kernel exact.

`fit` searches the weights' scale (a float32) and an integer in the bias so that the kernel has the
wanted steps over every reachable accumulator. A kernel is monotone, so two evaluations at every
step prove it: the code at the step, and the one before.

Codes of 16 bits have up to 65,535 steps. What a kernel does is a straight line before its rounding,
so that each candidate is first held against few of the steps, and only those near enough to all of
them are evaluated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.ops import IntArray
from flow.requant import Steps
from targets.tflite.arithmetic import Arithmetic, Scales

_LEAST, _GREATEST = 2.0**-31, 255.0  # multipliers that XNNPACK takes: from 2**-32, below 256
_ULPS = np.array(sorted(range(-64, 65), key=abs))
_WIDE = np.geomspace(2.0**-17, 2.0**-8, 40)  # relative changes of the scale, for few steps
_FEASIBLE = 1.5  # accumulators of slack before a candidate is not even tried: float32 rounding
_TINY = 2.0**-20  # the same where the line is exact, but for these sums in float64
_SAMPLE, _SPREAD = 24, 240  # steps that every candidate is held against, see _some
_TRIED = 1 << 21  # evaluations at a time: bounds the memory
_SMALL = 1 << 10  # conditions up to which candidates are tried of which none is near enough
_FEW = 4  # candidates of which every shift is tried


@dataclass(frozen=True)
class Fitted:
    """One channel's kernel: code = base + rounded((argument*gain + offset) * multiplier), where the
    argument is the accumulator, negated if falling. `missed` accumulators next to a step get
    another code than wanted; none: proven. Its codes are `shift` too high."""

    weight_scale: np.float32
    gain: int
    offset: int
    missed: int
    shift: int = 0

    @property
    def proven(self) -> bool:
        return not self.missed


@dataclass(frozen=True, eq=False)
class _Wanted:
    """Conditions on the kernel's codes (relative to `base`): at least `floors` at `above`, at most
    `tops` at `below` (arguments)."""

    above: IntArray
    floors: IntArray
    below: IntArray
    tops: IntArray

    @classmethod
    def of(cls, steps: Steps, base: int, clamped: bool) -> _Wanted:
        codes = np.arange(steps.first + 1, steps.last + 1, dtype=np.int64) - base
        above, floors = [steps.cuts], [codes]
        below, tops = [steps.cuts - 1], [codes - 1]
        if steps.first > steps.floor or not clamped:
            above.append(np.array([steps.low]))
            floors.append(np.array([steps.first - base]))
        if steps.last < steps.ceiling or not clamped:
            below.append(np.array([steps.high]))
            tops.append(np.array([steps.last - base]))
        joined = [np.concatenate(part).astype(np.int64) for part in (above, floors, below, tops)]
        return cls(*joined)

    def few(self) -> _Wanted:
        """A sample of the conditions."""
        over, under = _some(len(self.above)), _some(len(self.below))
        return _Wanted(self.above[over], self.floors[over], self.below[under], self.tops[under])

    def offsets(
        self, gain: int, slope: NDArray[np.float64], lead: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The least and the greatest offset of each line, where (argument*gain + offset + lead) *
        slope crosses floors - 1/2 and tops + 1/2; infinite where nothing bounds it."""
        slope, lead = slope[:, None], lead[:, None]
        least = (self.floors - 0.5) / slope - lead - self.above * gain
        greatest = (self.tops + 0.5) / slope - lead - self.below * gain
        return least.max(axis=1, initial=-np.inf), greatest.min(axis=1, initial=np.inf)


def _some(count: int) -> IntArray:
    """The places of a sample of so many values: some next to each other at both ends and in the
    middle, and some all over."""
    taken = np.arange(_SAMPLE)
    spread = np.linspace(0, count - 1, _SPREAD).astype(np.int64)
    places = np.concatenate([taken, count // 2 + taken, count - 1 - taken, spread])
    inside: IntArray = np.unique(places[(places >= 0) & (places < count)])
    return inside


def fit(
    steps: Steps,
    base: int,
    slope: float,
    scales: Scales,
    gains: tuple[int, ...],
    free: bool = True,
    clamped: bool = True,
) -> Fitted:
    """The first proven kernel, the nearest to the nominal one; where there is none, the one that
    misses the fewest steps.

    Args:
        base: the code that the kernel's 0 stands for.
        slope: codes per accumulator, nominally.
        gains: whole factors that the channel's weights have room for, in order of preference.
        free: whether there is a bias that takes an offset.
        clamped: whether the kernel's clamp holds the first and the last code.
    """
    wanted = _Wanted.of(steps, base, clamped)
    few = wanted.few()
    best: Fitted | None = None
    for gain in gains:
        if max(abs(steps.low), abs(steps.high)) * gain > scales.room:
            continue
        possible = not scales.arithmetic.straight
        for weight_scales in _candidates(slope / gain, scales):
            found, gap = _best(steps, wanted, few, gain, weight_scales, scales, free)
            if found is not None and (best is None or found.missed < best.missed):
                best = found
            if best is not None and best.proven:
                return best
            possible = possible or gap > 0
        if not possible and best is None:  # no line crosses between all steps, at any gain
            break
    if best is None:
        nominal = next(_candidates(slope / gains[0], scales))
        best = _tried(steps, wanted, gains[0], nominal, scales, free, hopeless=True)
    assert best is not None, "what is hopeless is tried"
    return best


def fit_shifted(
    steps: Steps,
    base: int,
    slope: float,
    scales: Scales,
    gains: tuple[int, ...],
    shifts: range,
    limit: int,
) -> Fitted | None:
    """The first proven kernel whose codes are one of `shifts` too high, None where there is none.

    An offset of whole accumulators and a shift of whole codes together move the steps by a fraction
    of an accumulator, any fraction where there are many shifts.

    Args:
        limit: the greatest offset.
    """
    wanted = _Wanted.of(steps, base, clamped=True)
    few = wanted.few()
    higher = np.arange(shifts.start, shifts.stop)
    for gain in gains:
        for weight_scales in _candidates(slope / gain, scales):
            multipliers = scales.arithmetic.multiplier(scales.s_in, weight_scales, scales.s_out)
            slopes, leads = scales.arithmetic.line(multipliers)
            least, greatest = few.offsets(gain, slopes, leads)
            for row in np.flatnonzero(least < greatest)[:_FEW].tolist():
                one = slice(row, row + 1)
                ends = wanted.offsets(gain, slopes[one], leads[one])
                low, high = (float(end[0]) + higher / slopes[row] for end in ends)
                offsets = np.ceil(low)
                inside = np.minimum(offsets - low, high - offsets)
                inside[np.abs(offsets) > limit] = -np.inf
                best = int(inside.argmax())
                if not np.isfinite(inside[best]) or inside[best] <= 0:
                    continue
                offset, shift = int(offsets[best]), int(higher[best])
                found = Fitted(weight_scales[row], gain, offset, 0, shift)
                if _holds(steps, wanted, found, scales):
                    return found
    return None


def _holds(steps: Steps, wanted: _Wanted, found: Fitted, scales: Scales) -> bool:
    """Whether a kernel has all steps."""
    arithmetic, one = scales.arithmetic, found.weight_scale.reshape(1)
    multiplier = arithmetic.multiplier(scales.s_in, one, scales.s_out)
    over, under = (
        arithmetic.rounded(arguments * found.gain + found.offset, multiplier) - found.shift
        for arguments in (wanted.above, wanted.below)
    )
    reached = max(abs(steps.low), abs(steps.high)) * found.gain + abs(found.offset)
    fits = reached <= int(arithmetic.reach(multiplier)[0])
    return fits and bool((over >= wanted.floors).all() and (under <= wanted.tops).all())


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
    few: _Wanted,
    gain: int,
    weight_scales: NDArray[np.float32],
    scales: Scales,
    free: bool,
) -> tuple[Fitted | None, float]:
    """The first proven one or that which misses least, None where none is near and there are many
    steps; and by how many accumulators the line that is the furthest from any step is off it."""
    multipliers = scales.arithmetic.multiplier(scales.s_in, weight_scales, scales.s_out)
    least, greatest = few.offsets(gain, *scales.arithmetic.line(multipliers))
    near = np.flatnonzero(_near(scales.arithmetic, least, greatest, gain, free))
    size = len(wanted.above) + len(wanted.below) + 1
    best: Fitted | None = None
    start, count = 0, 1  # the nominal one first, which mostly does
    while start < len(near) and not (best and best.proven):
        tried = weight_scales[near[start : start + count]]
        found = _tried(steps, wanted, gain, tried, scales, free)
        if found is not None and (best is None or found.missed < best.missed):
            best = found
        start, count = start + count, max(_TRIED // (2 * size), 1)
    if best is None and size <= _SMALL:
        best = _tried(steps, wanted, gain, weight_scales, scales, free, hopeless=True)
    return best, float((greatest - least).max())


def _tried(
    steps: Steps,
    wanted: _Wanted,
    gain: int,
    weight_scales: NDArray[np.float32],
    scales: Scales,
    free: bool,
    hopeless: bool = False,
) -> Fitted | None:
    """The kernel that misses least, of these weight scales that are near enough to all steps (or of
    all, if hopeless); None where none is."""
    arithmetic = scales.arithmetic
    multipliers = arithmetic.multiplier(scales.s_in, weight_scales, scales.s_out)
    least, greatest = wanted.offsets(gain, *arithmetic.line(multipliers))
    if not hopeless:
        near = _near(arithmetic, least, greatest, gain, free)
        least, greatest, multipliers = least[near], greatest[near], multipliers[near]
        weight_scales = weight_scales[near]
        if not len(multipliers):
            return None
    least = np.where(np.isinf(least), np.where(np.isinf(greatest), 0, greatest - gain), least)
    greatest = np.where(np.isinf(greatest), least + gain, greatest)
    offsets = np.zeros((len(multipliers), 1))
    if free:
        known = arithmetic.straight and not hopeless
        offsets = (_between if known else _offsets)(least, greatest)
    reached = max(abs(steps.low), abs(steps.high)) * gain
    room = np.maximum(arithmetic.reach(multipliers) - reached, 0)[:, None]
    offsets = np.clip(offsets, -room, room).astype(np.int64)
    factor = multipliers[:, None, None]
    over, under = (
        arithmetic.rounded(arguments * gain + offsets[:, :, None], factor)
        for arguments in (wanted.above, wanted.below)
    )
    missed = (over < wanted.floors).sum(axis=2) + (under > wanted.tops).sum(axis=2)
    missed += np.abs(offsets) + reached > arithmetic.reach(multipliers)[:, None]
    row, column = divmod(int(missed.argmin()), offsets.shape[1])
    return Fitted(weight_scales[row], gain, int(offsets[row, column]), int(missed[row, column]))


def _near(
    arithmetic: Arithmetic,
    least: NDArray[np.float64],
    greatest: NDArray[np.float64],
    gain: int,
    free: bool,
) -> NDArray[np.bool_]:
    """Whether there is a whole offset from `least` to below `greatest`, or, of lines that say only
    so much, whether there may be one."""
    if not arithmetic.straight:
        rough: NDArray[np.bool_] = least <= greatest + _FEASIBLE * gain
        return rough
    first = np.ceil(least - _TINY) if free else np.where(least <= _TINY, 0.0, np.inf)
    # Of ties away from 0 both ends may be inside.
    room = _TINY if arithmetic is Arithmetic.FLOAT64 else -_TINY
    near: NDArray[np.bool_] = first <= greatest + room
    return near


def _between(least: NDArray[np.float64], greatest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whole offsets to try of lines, (candidates, 3): the nearest to 0 from `least` to below
    `greatest`, and where ties are not rounded up, the next of either end."""
    first = np.ceil(least - _TINY)
    last = np.maximum(np.ceil(greatest - _TINY) - 1, first)
    return np.stack([np.clip(0, first, last), first + 1, last + 1], axis=1)


def _offsets(least: NDArray[np.float64], greatest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whole offsets to try, (candidates, 6): 0 where it is allowed, the middle, and both ends."""
    low, high = np.ceil(least), np.floor(greatest)
    middle = np.rint((least + greatest) / 2)
    zero = np.clip(0, np.minimum(low, middle), np.maximum(high, middle))
    return np.stack([zero, middle, low, high, low - 1, high + 1], axis=1)
