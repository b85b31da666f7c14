"""The kernels' arithmetic against rationals, and the search for exact multipliers."""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.ops import IntArray
from flow.requant import Rounding, Rule, Steps
from targets.tflite.arithmetic import Arithmetic, Scales
from targets.tflite.fit import Fitted, begins, fit, fit_shifted

REACH = 1500


def every_code(found: Fitted, scales: Scales, rule: Rule) -> IntArray:
    """What the kernel gives for every accumulator, as the runtime computes it."""
    accs = np.arange(-REACH, REACH + 1)
    argument = -accs if rule.scale < 0 else accs
    one = np.array([found.weight_scale])
    multiplier = scales.arithmetic.multiplier(scales.s_in, one, scales.s_out)
    sums = argument * found.gain + found.offset
    codes: IntArray = np.clip(scales.arithmetic.rounded(sums, multiplier), rule.low, rule.high)
    return codes


@settings(max_examples=60)
@given(
    arithmetic=st.sampled_from(list(Arithmetic)),
    scale=st.floats(2.0**-9, 1.0).map(lambda s: Fraction(float(np.float32(s)))),
    sign=st.sampled_from([1, -1]),
    offset=st.fractions(-20, 20, max_denominator=97),
    rounding=st.sampled_from(list(Rounding)),
    bits=st.integers(1, 8),
    ends=st.tuples(st.floats(2.0**-8, 1), st.floats(2.0**-8, 1)),
    room=st.sampled_from([1, 4, 16]),
)
def test_what_is_proven_is_the_rule_for_every_accumulator(
    arithmetic: Arithmetic,
    scale: Fraction,
    sign: int,
    offset: Fraction,
    rounding: Rounding,
    bits: int,
    ends: tuple[float, float],
    room: int,
) -> None:
    rule = Rule(scale * sign, offset, rounding, 0, True, 0, (1 << bits) - 1)
    steps = rule.steps(-REACH, REACH)
    scales = Scales(arithmetic, float(np.float32(ends[0])), float(np.float32(ends[1])))
    gains = tuple(1 << power for power in range(room.bit_length()))
    found = fit(steps, 0, float(scale), scales, gains)
    wanted = np.array([rule.code(int(acc)) for acc in range(-REACH, REACH + 1)])
    wrong = int((every_code(found, scales, rule) != wanted).sum())
    assert (wrong == 0) == found.proven


def test_powers_of_two_need_no_search_on_litert() -> None:
    """Ties to even are XNNPACK's own rounding."""
    for shift in range(12):
        rule = Rule(Fraction(1, 1 << shift), Fraction(0), Rounding.HALF_EVEN, 0, True, 0, 255)
        scales = Scales(Arithmetic.XNNPACK, 1.0, 1.0)
        found = fit(rule.steps(-REACH, REACH), 0, float(rule.scale), scales, (1,))
        assert found == Fitted(np.float32(2.0**-shift), 1, 0, 0)


def test_ties_to_even_cannot_be_had_by_ties_up() -> None:
    """A step of 8, its ties in turn up and down: no multiplier of a kernel that rounds ties up."""
    rule = Rule(Fraction(1, 8), Fraction(0), Rounding.HALF_EVEN, 0, True, 0, 15)
    scales = Scales(Arithmetic.RUY, 1.0, 1.0)
    found = fit(rule.steps(0, 200), 0, 0.125, scales, (1, 2, 4, 8))
    assert 0 < found.missed <= 8


def test_more_room_proves_more() -> None:
    """Floor by a kernel that rounds half to even needs an offset between two accumulators."""
    rule = Rule(Fraction(1, 8), Fraction(0), Rounding.FLOOR, 0, True, -8, 7)
    steps = rule.steps(-REACH, REACH)
    scales = Scales(Arithmetic.XNNPACK, 1.0, 1.0)
    assert not fit(steps, 0, 0.125, scales, (1,)).proven
    assert fit(steps, 0, 0.125, scales, (1, 2)).gain == 2


def test_a_wide_accumulator_is_not_proven_where_a_float32_is_too_short() -> None:
    """255 steps of an odd rational over 27 bits; the multiplier has 24."""
    scale = Fraction(255, 100_000_007)
    rule = Rule(scale, Fraction(1, 3), Rounding.HALF_EVEN, 0, True, 0, 255)
    steps = rule.steps(0, 100_000_007)
    assert not fit(steps, 0, float(scale), Scales(Arithmetic.XNNPACK, 0.03, 0.07), (1,)).proven


@settings(max_examples=40)
@given(
    arithmetic=st.sampled_from(list(Arithmetic)),
    scale=st.floats(2.0**-9, 0.5),
    offset=st.integers(-50, 50),
    ends=st.tuples(st.integers(-REACH, 0), st.integers(0, REACH)),
    values=st.lists(st.integers(-40, 300), min_size=1, max_size=9),
)
def test_where_a_kernel_begins_a_code_is_found(
    arithmetic: Arithmetic,
    scale: float,
    offset: int,
    ends: tuple[int, int],
    values: list[int],
) -> None:
    """Against every accumulator, one by one."""
    steps = Steps(False, 0, np.array([0]), *ends, 0, 1)
    scales = Scales(arithmetic, 0.25, float(np.float32(0.3)))
    fitted = Fitted(np.float32(scale), 2, offset, 1)
    found = begins(np.array(values), steps, fitted, scales)
    accs = np.arange(ends[0], ends[1] + 1)
    factor = arithmetic.multiplier(0.25, fitted.weight_scale.reshape(1), scales.s_out)
    codes = arithmetic.rounded(accs * 2 + offset, factor)
    for value, begin in zip(values, found, strict=True):
        reached = accs[codes >= value]
        assert begin == (reached[0] if len(reached) else ends[1] + 1)


def test_two_kernels_round_ties_to_even_where_one_cannot() -> None:
    """Every other step of ties to even is evenly spaced: a kernel that rounds ties up has them."""
    rule = Rule(Fraction(1, 8), Fraction(0), Rounding.HALF_EVEN, 0, True, 0, 15)
    steps = rule.steps(0, 200)
    scales = Scales(Arithmetic.RUY, 1.0, 1.0)
    for first in (0, 1):
        part = Steps(False, 0, steps.cuts[first::2], 0, 200, 0, len(steps.cuts[first::2]))
        assert fit(part, 0, 1 / 16, scales, (1,)).proven


LINES = [Arithmetic.RUY, Arithmetic.REDUCED, Arithmetic.FLOAT64]


@settings(max_examples=40)
@given(
    arithmetic=st.sampled_from(LINES),
    scale=st.floats(2.0**-7, 0.5).map(lambda s: Fraction(float(np.float32(s)))),
    sign=st.sampled_from([1, -1]),
    offset=st.fractions(-20, 20, max_denominator=97),
    bits=st.integers(4, 9),
)
def test_codes_that_are_moved_are_the_rule_for_every_accumulator(
    arithmetic: Arithmetic, scale: Fraction, sign: int, offset: Fraction, bits: int
) -> None:
    """An addition takes the shift off again, and clamps."""
    rule = Rule(scale * sign, offset, Rounding.HALF_EVEN, 0, True, 0, (1 << bits) - 1)
    steps = rule.steps(-REACH, REACH)
    scales = Scales(arithmetic, 1.0, 1.0)
    shifts = range(-(1 << 15) + 1, (1 << 15) - (1 << bits))
    found = fit_shifted(steps, 0, float(scale), scales, (1,), shifts, 1 << 30)
    if found is None:
        return
    assert found.shift in shifts
    accs = np.arange(-REACH, REACH + 1)
    multiplier = arithmetic.multiplier(1.0, found.weight_scale.reshape(1), 1.0)
    sums = (accs if sign > 0 else -accs) * found.gain + found.offset
    codes = arithmetic.rounded(sums, multiplier).clip(-(1 << 15), (1 << 15) - 1) - found.shift
    wanted = [rule.code(int(acc)) for acc in accs]
    assert np.array_equal(codes.clip(rule.low, rule.high), wanted)


@pytest.mark.parametrize("arithmetic", [Arithmetic.RUY, Arithmetic.FLOAT64])
def test_codes_that_are_moved_have_steps_between_two_accumulators(arithmetic: Arithmetic) -> None:
    """A third of an accumulator off, 2,048 steps: no whole offset does, a shift does."""
    scale = Fraction(float(np.float32(0.317)))
    rule = Rule(scale, scale / 3, Rounding.HALF_EVEN, 0, True, 0, 2047)
    steps, scales = rule.steps(-99, 7000), Scales(arithmetic, 1.0, 1.0)
    assert not fit(steps, 0, float(scale), scales, (1,)).proven
    assert fit_shifted(steps, 0, float(scale), scales, (1,), range(-9000, 9000), 1 << 30)


def test_many_steps_are_searched_in_bounded_time() -> None:
    """65,535 of ties to even, which no line has: given up after a sample of them."""
    rule = Rule(Fraction(1, 8), Fraction(0), Rounding.HALF_EVEN, 0, True, 0, 65535)
    steps = rule.steps(0, 1 << 19)
    start = time.process_time()
    for arithmetic in LINES:
        scales = Scales(arithmetic, 1.0, 1.0)
        assert not fit(steps, 32768, 0.125, scales, (1, 2, 4, 8, 16, 32, 64)).proven
    assert time.process_time() - start < 2
