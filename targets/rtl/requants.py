"""Requantizations: the cheapest arithmetic that is proven, on traced values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from operator import add
from typing import Any, TypeVar

import numpy as np

from flow.ops import Requant
from flow.ops.base import Bounds, full
from flow.qtype import QType
from flow.requant import Form, Rounding, Steps, exact_form, fit
from targets.rtl.diagram import diagram
from targets.rtl.solver import Solver, peeled

MAX_COMPARATORS = 31  # of one value
MAX_TABLE = 1 << 10  # entries of one
LUTS_OF_A_GATE = 0.45
MAX_BITS = 50  # da4ml keeps ranges as float64

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Way:
    """How one channel is requantized: a proven form, or its steps, by table or by comparators."""

    steps: Steps
    form: Form | None

    @property
    def width(self) -> int:
        """Bits of the multiplier's odd part."""
        return self.form.width if self.form else 0

    def __str__(self) -> str:
        if self.form is None:
            return f"{len(self.steps.cuts)} steps"
        rounding = "floor" if self.form.rounding is Rounding.FLOOR else "half even"
        return f"multiplier {self.form.width} bit, shift {self.form.shift}, {rounding}"


def ways(op: Requant, channels: int, bounds: Bounds) -> list[Way]:
    """Every channel's cheapest form, with its own shift."""
    found: dict[int, Way] = {}
    steps = op.steps(channels, bounds)
    for step, rule in zip(steps, op.rules(channels), strict=True):
        if id(step) not in found:  # channels that are the same function share their steps
            found[id(step)] = Way(step, _cheapest(step, rule.scale, exact_form(rule)))
    return [found[id(step)] for step in steps]


def _cheapest(steps: Steps, scale: Fraction, exact: Form | None) -> Form | None:
    forms = [form for form in (fit(steps, scale), exact) if form is not None]
    forms = [form for form in forms if _bits(form, steps) <= MAX_BITS]
    for form in sorted(forms, key=adders):
        if form.proven(steps):
            return None if _cheaper_as_steps(steps, form) else form
    return None


def _cheaper_as_steps(steps: Steps, form: Form) -> bool:
    """Whether a table's gates take fewer LUTs than the form's adders and its clamp.

    In LUTs of 4 inputs: gates as measured with Yosys over accumulators of 4 to 10 bits and codes
    of 2 to 4, where a gate took 0.29 to 0.55 of one; adders by the bits that they carry through.
    """
    span = steps.high - steps.low
    if span >= MAX_TABLE:
        return False
    entries = np.searchsorted(steps.cuts, np.arange(steps.low, steps.high + 1), side="right")
    reached = QType.covering(steps.low, steps.high)
    codes = QType.covering(0, len(steps.cuts))
    made = diagram(entries.tolist(), steps.low, reached, codes.bits, "", "")
    return len(made.gates) * LUTS_OF_A_GATE <= adders(form) * reached.bits + codes.bits


def adders(form: Form) -> int:
    """Of the multiplier with its offset, and of rounding half to even."""
    return len(digits(form.multiplier)) + (form.rounding is Rounding.HALF_EVEN)


def _bits(form: Form, steps: Steps) -> int:
    reach = max(abs(steps.low), abs(steps.high)) * abs(form.multiplier) + abs(form.offset)
    return reach.bit_length() + 1


def digits(number: int) -> list[int]:
    """The signed powers of two whose sum it is, no two next to each other."""
    found, place = [], 1
    while number:
        if number % 2:
            digit = 2 - number % 4
            found.append(digit * place)
            number -= digit
        number //= 2
        place *= 2
    return found


def requantized(solver: Solver, way: Way, variable: Any, ends: tuple[int, int]) -> Any:
    """The code of one value; `ends` are the least and the greatest that it can be."""
    if way.form is None or variable.low == variable.high:
        argument = -variable if way.steps.falling else variable
        codes = range(way.steps.first, way.steps.last + 1)
        return staircase(solver, argument, way.steps.cuts, codes)
    form = way.form
    base, offset = peeled(variable)
    unit = Decimal(2) ** -form.shift
    scaled = times(base, form.multiplier, ends[0] - offset, ends[1] - offset)
    moved = scaled * unit + (offset * form.multiplier + form.offset) * unit
    if form.rounding is Rounding.HALF_EVEN and moved.step < 1:
        moved = moved + _half_even(solver, moved)
    k, i, _ = moved.kif
    return clamped(moved.quantize(k, i, 0), way.steps.floor, way.steps.ceiling)


def _half_even(solver: Solver, moved: Any) -> Any:
    """What is added before the floor: a half where the code below is odd, else a step less."""
    odd = moved.quantize(0, 1, 0)  # the last bit of the floor
    half = Decimal(1) / 2
    if odd.low == odd.high:
        return half if odd.low else half - moved.step
    return odd.msb_mux(float(half), float(half - moved.step))


def times(variable: Any, factor: int, low: int, high: int) -> Any:
    """factor * variable, which can be low..high, as a balanced tree of sums."""
    terms = [(variable * digit, digit) for digit in digits(factor)]

    def summed(first: tuple[Any, int], second: tuple[Any, int]) -> tuple[Any, int]:
        (a, p), (b, q) = first, second
        found, factor = a + b, p + q
        if found.low < found.high:
            found.low, found.high = (Decimal(end) for end in sorted((low * factor, high * factor)))
        return found, factor

    return balanced(summed, terms)[0] if terms else variable * 0


def balanced(combine: Callable[[T, T], T], items: Sequence[T]) -> T:
    """At least one item, combined pair by pair."""
    while len(items) > 1:
        pairs = [items[i : i + 2] for i in range(0, len(items), 2)]
        items = [reduce(combine, pair) for pair in pairs]
    return items[0]


def clamped(variable: Any, low: int, high: int) -> Any:
    """min(max(variable, low), high). The comparison is with a power of two where one does."""
    if variable.low < low:
        if low == 0:
            variable = variable.relu()
        elif variable.high <= low:
            return variable * 0 + low
        else:
            ends = Decimal(low), variable.high, Decimal(1)
            variable = (variable - low).msb_mux(low, variable, ends)
    if variable.high > high:
        if variable.low >= high:
            return variable * 0 + high
        ends = variable.low, Decimal(high), Decimal(1)
        if variable._factor < 0:  # da4ml turns a negated key, and 0 then goes the other way
            return (-variable + high).msb_mux(high, variable, ends)
        above = high + 1 if high > 0 and high & (high + 1) == 0 else high
        variable = (variable - above).msb_mux(variable, high, ends)
    return variable


def staircase(solver: Solver, variable: Any, cuts: Any, codes: Sequence[int]) -> Any:
    """codes[number of cuts that are at most the value]."""
    base, offset = peeled(variable)
    if base is not None and int(base.step) == base.step:  # a comparison needs no sum before it
        variable, cuts = base, cuts - offset
    low, high, unit = int(variable.low), int(variable.high), int(variable.step)
    if low == high or (high - low < MAX_TABLE * unit and len(cuts) > 1):
        reached = np.arange(low, high + 1, max(unit, 1))
        places = np.searchsorted(cuts, reached, side="right")
        return table(solver, variable, np.array(codes)[places])
    total, terms = int(codes[0]), []
    for cut, step in zip(cuts, np.diff(codes), strict=True):
        if step and cut <= high:
            total += int(step)
            if cut > low:
                terms.append((variable - int(cut)).is_negative() * -int(step))
    return balanced(add, terms) + total if terms else solver.constant(total)


def table(solver: Solver, variable: Any, entries: Any) -> Any:
    """entries[(value - least value) / its step]."""
    if len(set(entries.tolist())) == 1:
        return solver.constant(int(entries[0]))
    if len(entries) == 2:  # two codes are a sum
        step = Decimal(int(entries[1] - entries[0])) / variable.step
        return (variable - int(variable.low)) * step + int(entries[0])
    return solver.lookup(variable, entries)


def comparators(bounds: Bounds, channels: int, way: Sequence[Way]) -> int:
    """The most comparators that one value needs, 0 where all have forms or tables."""
    lows, highs = (full(b, channels) for b in bounds)
    return max(
        len(w.steps.cuts) if w.form is None and int(high) - int(low) >= MAX_TABLE else 0
        for w, low, high in zip(way, lows, highs, strict=True)
    )
