"""Requantization: what it means exactly, and the cheapest arithmetic proven to be the same.

A requantization maps an integer accumulator to a code, clamp(round(acc*s + t)), with rational s and
t. It is monotone in acc, so over the reachable accumulators it *is* its steps: the first code, and
the accumulator at which each next code begins. Two requantizations with the same steps are the same
function; that is how every cheaper form is proven here, by comparing integers and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
HALF = Fraction(1, 2)
MAX_STEPS = 1 << 20  # codes per channel; 16-bit outputs need 65,535


class Rounding(Enum):
    """How a rational becomes an integer; the names are QONNX's."""

    HALF_EVEN = "ROUND"
    FLOOR = "FLOOR"
    CEIL = "CEIL"
    TO_ZERO = "DOWN"  # Brevitas calls this ROUND_TO_ZERO
    FROM_ZERO = "UP"
    HALF_FROM_ZERO = "HALF_UP"
    HALF_TO_ZERO = "HALF_DOWN"

    @property
    def breaks_at_halves(self) -> bool:
        """Whether the rounded value jumps between two integers, or at an integer."""
        return self.name.startswith("HALF")

    def apply(self, x: Fraction) -> int:
        """`x` rounded."""
        if self is Rounding.HALF_EVEN:
            return round(x)
        if self is Rounding.FLOOR:
            return floor(x)
        if self is Rounding.CEIL:
            return ceil(x)
        magnitude, sign = abs(x), -1 if x < 0 else 1
        if self is Rounding.TO_ZERO:
            return sign * floor(magnitude)
        if self is Rounding.FROM_ZERO:
            return sign * ceil(magnitude)
        if self is Rounding.HALF_FROM_ZERO:
            return sign * floor(magnitude + HALF)
        return sign * ceil(magnitude - HALF)

    def boundaries(self, k: IntArray) -> tuple[IntArray, NDArray[np.bool_]]:
        """Where the rounded value first reaches each k: (2*b, inclusive), so that rounding gives at
        least k exactly for x >= b if inclusive, else for x > b."""
        every, above = np.ones(k.shape, dtype=bool), k > 0
        if self is Rounding.HALF_EVEN:
            return 2 * k - 1, k % 2 == 0
        if self is Rounding.FLOOR:
            return 2 * k, every
        if self is Rounding.CEIL:
            return 2 * k - 2, ~every
        if self is Rounding.TO_ZERO:
            return np.where(above, 2 * k, 2 * k - 2), above
        if self is Rounding.FROM_ZERO:
            return np.where(above, 2 * k - 2, 2 * k), ~above
        if self is Rounding.HALF_FROM_ZERO:
            return 2 * k - 1, above
        return 2 * k - 1, ~above


@dataclass(frozen=True)
class Rule:
    """One channel's requantization, exactly: clamp(round(acc*scale + offset) ...) to [low, high].

    The zero-point is added before rounding where `zero_inside` (QONNX), after it otherwise (QDQ
    files); the two differ on ties with an odd zero-point.
    """

    scale: Fraction
    offset: Fraction
    rounding: Rounding
    zero_point: int
    zero_inside: bool
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"requant range must have low <= high, not {self.low} > {self.high}")

    def code(self, acc: int) -> int:
        """The code of one accumulator, in rational arithmetic: the definition."""
        real = acc * self.scale + self.offset
        if self.zero_inside:
            rounded = self.rounding.apply(real + self.zero_point)
        else:
            rounded = self.rounding.apply(real) + self.zero_point
        return min(max(rounded, self.low), self.high)

    def steps(self, acc_low: int, acc_high: int) -> Steps:
        """The steps over the reachable accumulators acc_low..acc_high.

        Raises:
            ValueError: the range is empty, or there are more than MAX_STEPS steps.
        """
        if acc_low > acc_high:
            raise ValueError(f"accumulators from {acc_low} to {acc_high}: the range is empty")
        falling = self.scale < 0
        ends = (self.code(acc_low), self.code(acc_high))
        first, last = min(ends), max(ends)
        if last - first > MAX_STEPS:
            raise ValueError(f"{last - first} codes are reachable, at most {MAX_STEPS} can be kept")
        cuts = self._cuts(range(first + 1, last + 1))
        low, high = (-acc_high, -acc_low) if falling else (acc_low, acc_high)
        return Steps(falling, first, cuts, low, high, self.low, self.high)

    def _cuts(self, codes: range) -> IntArray:
        """For each code k the smallest accumulator (negated for a falling scale) whose code is at
        least k: where acc*|scale| + shift reaches or passes the rounding's boundary."""
        below = 0 if self.zero_inside else self.zero_point
        shift = self.offset + (self.zero_point if self.zero_inside else 0)
        scale = abs(self.scale)
        # In whole numbers, because Fractions are an order of magnitude slower: with the boundary
        # d/2, acc reaches (d/2 - shift) / scale = (d*unit - start) / divisor.
        unit = shift.denominator * scale.denominator
        start = 2 * shift.numerator * scale.denominator
        divisor = 2 * shift.denominator * scale.numerator
        doubled, inclusive = self.rounding.boundaries(np.arange(codes.start, codes.stop) - below)
        largest = max(abs(int(doubled[0])), abs(int(doubled[-1]))) if len(doubled) else 0
        if largest * unit + abs(start) + divisor >= 1 << 62:
            doubled = doubled.astype(object)  # Python's own whole numbers
        place = doubled * unit - start
        cuts: IntArray = np.where(inclusive, -(-place // divisor), place // divisor + 1)
        return cuts.astype(np.int64)


@dataclass(frozen=True, eq=False)
class Steps:
    """A monotone step function on the integers low..high: its code is `first` plus the number of
    `cuts` (ascending) that are at most the argument. The argument is the accumulator, negated where
    `falling`. `floor` and `ceiling` are the clamp's codes."""

    falling: bool
    first: int
    cuts: IntArray
    low: int
    high: int
    floor: int
    ceiling: int

    @property
    def last(self) -> int:
        """The code at `high`."""
        return self.first + len(self.cuts)

    def apply(self, acc: IntArray) -> IntArray:
        """Codes of accumulators (any shape, int64) inside the reachable range."""
        argument = -acc if self.falling else acc
        return self.first + np.searchsorted(self.cuts, argument, side="right")

    def same_as(self, other: Steps) -> bool:
        """Whether both are the same function on the same range (the caller's to ensure for a
        constant function, where the sign of the argument does not show)."""
        if self.first != other.first or not np.array_equal(self.cuts, other.cuts):
            return False
        constant = len(self.cuts) == 0
        return constant or (self.falling, self.low, self.high) == (
            other.falling,
            other.low,
            other.high,
        )


@dataclass(frozen=True)
class Form:
    """clamp(round((acc*multiplier + offset) / 2**shift)): a multiplication, an addition, a shift.

    `rounding` is FLOOR (a plain shift) or HALF_EVEN (convergent rounding in hardware).
    """

    multiplier: int
    offset: int
    shift: int
    rounding: Rounding = Rounding.FLOOR

    @property
    def width(self) -> int:
        """Bits of the multiplier's odd part; 0 or 1 need no multiplier at all."""
        magnitude = abs(self.multiplier)
        while magnitude and magnitude % 2 == 0:
            magnitude //= 2
        return magnitude.bit_length()

    def rule(self, low: int, high: int) -> Rule:
        """The same arithmetic as an exact rule, clamped to [low, high]."""
        unit = Fraction(1, 1 << self.shift)
        return Rule(self.multiplier * unit, self.offset * unit, self.rounding, 0, False, low, high)

    def proven(self, steps: Steps) -> bool:
        """Whether this form has exactly the given steps."""
        low, high = (-steps.high, -steps.low) if steps.falling else (steps.low, steps.high)
        return self.rule(steps.floor, steps.ceiling).steps(low, high).same_as(steps)


def exact_form(rule: Rule) -> Form | None:
    """The rule itself as a Form, where scale and offset are fractions over a power of two and the
    rounding is one that hardware has; None otherwise. Exact for every accumulator."""
    if rule.rounding not in (Rounding.FLOOR, Rounding.HALF_EVEN):
        return None
    if rule.rounding is Rounding.HALF_EVEN and not rule.zero_inside and rule.zero_point % 2:
        return None  # an odd zero-point after the rounding turns the ties the other way
    shift = max(_log2(rule.scale.denominator), _log2(rule.offset.denominator))
    if shift < 0:
        return None
    if min(_log2(rule.scale.denominator), _log2(rule.offset.denominator)) < 0:
        return None
    multiplier = rule.scale * (1 << shift)
    offset = (rule.offset + rule.zero_point) * (1 << shift)
    return Form(int(multiplier), int(offset), shift, rule.rounding)


def _log2(power: int) -> int:
    """log2 of a power of two, -1 for anything else."""
    return power.bit_length() - 1 if power & (power - 1) == 0 else -1


def fit(steps: Steps, scale: Fraction, max_shift: int = 56) -> Form | None:
    """The cheapest floor((acc*M + B) / 2**S), clamped, with exactly the given steps.

    Goes through shifts upward, so the first M that can be proven has the fewest bits. None where no
    shift up to `max_shift` has one (ties that alternate between even and odd codes cannot be had by
    one floor; `exact_form` may do then).
    """
    for shift in range(max_shift + 1):
        found = fit_at(steps, scale, shift)
        if found is not None:
            return found
    return None


def fit_at(steps: Steps, scale: Fraction, shift: int) -> Form | None:
    """Like `fit`, for one shift S.

    For a multiplier M > 0, code k begins at cut a exactly when a*M + B reaches k*2**S and
    (a-1)*M + B does not, which bounds B from both sides; at the two ends of the range the code must
    not run past the first and the last one unless the clamp holds it there.
    """
    target = abs(scale) * (1 << shift)
    for multiplier in sorted({max(floor(target), 0), ceil(target)}):
        bounds = _offset_bounds(steps, multiplier, shift)
        if bounds is None:
            continue
        offset = _roundest(*bounds)
        return Form(-multiplier if steps.falling else multiplier, offset, shift)
    return None


def _offset_bounds(steps: Steps, multiplier: int, shift: int) -> tuple[int, int] | None:
    """All offsets B that prove the form, as (least, greatest); None if there are none."""
    one = 1 << shift
    # Python integers where int64 could overflow: k*2**S and a*M are the largest terms.
    reach = max(abs(steps.low), abs(steps.high), 1) * max(multiplier, 1)
    level = (max(abs(steps.first), abs(steps.last)) + 1) * one
    dtype = np.int64 if max(reach, level) < 1 << 61 else object
    cuts = steps.cuts.astype(dtype)
    levels = np.arange(steps.first + 1, steps.last + 1).astype(dtype) * one
    at_cut = levels - cuts * multiplier
    least = [int(at_cut.max())] if len(cuts) else []
    greatest = [int((at_cut + multiplier).min()) - 1] if len(cuts) else []
    if steps.first > steps.floor:
        least.append(steps.first * one - steps.low * multiplier)
    if steps.last < steps.ceiling:
        greatest.append((steps.last + 1) * one - 1 - steps.high * multiplier)
    if not least and not greatest:
        return 0, 0  # every offset will do
    # A side without a bound is held by the clamp: any value there will do.
    least = least or [min(greatest) - one]
    greatest = greatest or [max(least) + one]
    bounds = max(least), min(greatest)
    return bounds if bounds[0] <= bounds[1] else None


def _roundest(least: int, greatest: int) -> int:
    """The integer in least..greatest with the most trailing zeros: the cheapest constant."""
    if least <= 0 <= greatest:
        return 0
    step = 1 << (greatest - least).bit_length()
    while True:
        candidate = -(-least // step) * step
        if candidate <= greatest:
            return candidate
        step >>= 1


def common_forms(
    steps: Sequence[Steps], scales: Sequence[Fraction], max_shift: int = 56
) -> tuple[Form, ...] | None:
    """One proven floor form for every channel, all with the same, smallest possible, shift."""
    shift = 0
    found: list[Form] = []
    while shift <= max_shift:
        found = []
        for channel, scale in zip(steps, scales, strict=True):
            form = fit_at(channel, scale, shift)
            if form is None:
                break
            found.append(form)
        else:
            return tuple(found)
        shift += 1
    return None
