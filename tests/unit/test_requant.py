"""Requantization against exact rational arithmetic that shares no code with it."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.requant import Form, Rounding, Rule, common_forms, exact_form, fit

ROUNDINGS = list(Rounding)


def rounded(x: Fraction, mode: Rounding) -> int:
    """The definition in words, from scratch: distances to the two neighbouring integers."""
    below, above = floor(x), ceil(x)
    if below == above:
        return below
    toward_zero, away = (below, above) if x > 0 else (above, below)
    to_below, to_above = x - below, above - x
    nearest = below if to_below < to_above else above
    tie = to_below == to_above
    even = below if below % 2 == 0 else above
    return {
        Rounding.HALF_EVEN: even if tie else nearest,
        Rounding.FLOOR: below,
        Rounding.CEIL: above,
        Rounding.TO_ZERO: toward_zero,
        Rounding.FROM_ZERO: away,
        Rounding.HALF_FROM_ZERO: away if tie else nearest,
        Rounding.HALF_TO_ZERO: toward_zero if tie else nearest,
    }[mode]


def code(rule: Rule, acc: int) -> int:
    """What the rule means, from scratch."""
    real = acc * rule.scale + rule.offset
    if rule.zero_inside:
        value = rounded(real + rule.zero_point, rule.rounding)
    else:
        value = rounded(real, rule.rounding) + rule.zero_point
    return max(rule.low, min(rule.high, value))


# Scales that make ties (small denominators), that come from float32, and that are powers of two.
simple = st.fractions(min_value=-4, max_value=4, max_denominator=24)
float32 = st.floats(2.0**-12, 4, width=32).map(Fraction)
po2 = st.integers(-10, 3).map(lambda e: Fraction(2) ** e)
scales = st.one_of(simple, float32, float32.map(lambda x: -x), po2)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    low = draw(st.integers(-140, 20))
    return Rule(
        scale=draw(scales),
        offset=draw(st.one_of(st.just(Fraction(0)), simple.map(lambda x: x * 8))),
        rounding=draw(st.sampled_from(ROUNDINGS)),
        zero_point=draw(st.integers(-9, 9)),
        zero_inside=draw(st.booleans()),
        low=low,
        high=low + draw(st.integers(0, 270)),
    )


ranges = st.tuples(st.integers(-700, 300), st.integers(0, 900)).map(lambda t: (t[0], t[0] + t[1]))


def test_steps_of_large_numbers_are_the_rule() -> None:
    """Numerators and denominators that no int64 holds together."""
    scale = Fraction(13421773, 1 << 27) * Fraction(16777213, 1 << 24) / Fraction(11184811, 1 << 20)
    for rounding in ROUNDINGS:
        rule = Rule(scale, Fraction(77777777, 99999989), rounding, 3, False, -5, 65530)
        steps = rule.steps(-(1 << 20), 1 << 24)
        for place in (0, 1, len(steps.cuts) // 2, -1):
            cut = int(steps.cuts[place])
            assert rule.code(cut) == rule.code(cut - 1) + 1


@settings(max_examples=400)
@given(rules(), ranges)
def test_steps_are_the_rule(rule: Rule, reach: tuple[int, int]) -> None:
    accs = np.arange(reach[0], reach[1] + 1)
    expected = [code(rule, int(acc)) for acc in accs]
    assert rule.steps(*reach).apply(accs).tolist() == expected


@given(st.fractions(max_denominator=12, min_value=-9, max_value=9), st.sampled_from(ROUNDINGS))
def test_rounding_modes(x: Fraction, mode: Rounding) -> None:
    assert mode.apply(x) == rounded(x, mode)


@settings(max_examples=400)
@given(rules(), ranges)
def test_a_fitted_form_is_the_rule_everywhere(rule: Rule, reach: tuple[int, int]) -> None:
    """The form's own integer arithmetic, acc by acc, against the definition."""
    steps = rule.steps(*reach)
    form = fit(steps, rule.scale, max_shift=24)
    if form is None:
        return
    assert form.proven(steps)
    for acc in range(reach[0], reach[1] + 1):
        value = (acc * form.multiplier + form.offset) >> form.shift
        assert max(rule.low, min(rule.high, value)) == code(rule, acc)


@settings(max_examples=300)
@given(rules(), ranges)
def test_an_exact_form_is_the_rule_everywhere(rule: Rule, reach: tuple[int, int]) -> None:
    form = exact_form(rule)
    if form is None:
        return
    for acc in range(reach[0], reach[1] + 1, 7):
        real = Fraction(acc * form.multiplier + form.offset, 1 << form.shift)
        value = rounded(real, form.rounding)
        assert max(rule.low, min(rule.high, value)) == code(rule, acc)


@settings(max_examples=200)
@given(float32, st.integers(1, 8), st.sampled_from([Rounding.HALF_EVEN, Rounding.FLOOR]))
def test_float_scales_always_have_a_form(scale: Fraction, bits: int, mode: Rounding) -> None:
    rule = Rule(scale, Fraction(0), mode, 0, True, 0, (1 << bits) - 1)
    steps = rule.steps(-(1 << 15), 1 << 15)
    form = fit(steps, scale) or exact_form(rule)
    assert form is not None
    assert form.proven(steps)


@settings(max_examples=100)
@given(st.lists(float32, min_size=1, max_size=5), st.integers(2, 6))
def test_common_forms_share_their_shift(many: list[Fraction], bits: int) -> None:
    steps = [
        Rule(s, Fraction(0), Rounding.FLOOR, 0, True, 0, (1 << bits) - 1).steps(-4096, 4096)
        for s in many
    ]
    forms = common_forms(steps, many)
    assert forms is not None
    assert len({form.shift for form in forms}) == 1
    assert all(form.proven(s) for form, s in zip(forms, steps, strict=True))


def test_alternating_ties_have_no_floor_form() -> None:
    """acc/4 rounded half to even needs steps of 5 and 3 in turn, which one floor cannot have; the
    exact form rounds convergently instead."""
    rule = Rule(Fraction(1, 4), Fraction(0), Rounding.HALF_EVEN, 0, True, 0, 15)
    steps = rule.steps(-100, 100)
    assert np.diff(steps.cuts).tolist()[:4] == [3, 5, 3, 5]
    assert fit(steps, rule.scale) is None
    form = exact_form(rule)
    assert form == Form(1, 0, 2, Rounding.HALF_EVEN)
    assert form.proven(steps)


def test_ties_of_a_third_party_ratio_have_no_form_at_all() -> None:
    """acc/6 has ties, and 1/6 is no fraction over a power of two: neither form is exact."""
    rule = Rule(Fraction(1, 6), Fraction(0), Rounding.HALF_EVEN, 0, True, 0, 15)
    assert fit(rule.steps(-100, 100), rule.scale) is None
    assert exact_form(rule) is None


@pytest.mark.parametrize("field", ["multiplier", "offset"])
def test_a_wrong_form_is_not_proven(field: str) -> None:
    """Negative control: one unit off in the multiplier, or a step's worth in the offset."""
    rule = Rule(Fraction(3, 100), Fraction(1, 7), Rounding.HALF_EVEN, 0, True, 0, 31)
    steps = rule.steps(-2000, 2000)
    form = fit(steps, rule.scale)
    assert form is not None
    delta = 1 if field == "multiplier" else 1 << form.shift
    wrong = Form(
        form.multiplier + (delta if field == "multiplier" else 0),
        form.offset + (delta if field == "offset" else 0),
        form.shift,
    )
    assert not wrong.proven(steps)


def test_the_multiplier_is_the_narrowest() -> None:
    """Brute force over every smaller shift and every multiplier and offset finds nothing."""
    rule = Rule(Fraction(13, 64) + Fraction(1, 999), Fraction(0), Rounding.HALF_EVEN, 0, True, 0, 7)
    steps = rule.steps(-60, 60)
    form = fit(steps, rule.scale)
    assert form is not None
    for shift in range(form.shift):
        for multiplier in range(1 << (shift + 1)):
            for offset in range(-(8 << shift), 8 << shift):
                assert not Form(multiplier, offset, shift).proven(steps)
