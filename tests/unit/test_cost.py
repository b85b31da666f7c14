"""What rounding costs: the incrementer is as wide as the code, and floor needs none."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow.cost import rounding_bits
from flow.graph import Graph, Node, Value
from flow.ops.pointwise import Requant
from flow.qtype import QType
from flow.requant import Rounding

ACC = QType(10, signed=True)


def graph(rounding: Rounding, scale: Fraction, bits: int = 5, channels: int = 3) -> Graph:
    """One requantization of (channels, 2, 4) accumulators."""
    made = QType(bits, signed=False)
    op = Requant((scale,), (Fraction(0),), made, 0, made.high, rounding)
    shape = (channels, 2, 4)
    out = Value("y", shape, made, (Fraction(1),), 0)
    x = Value("x", shape, ACC, (Fraction(1),), 0)
    return Graph.build("net", x, (Node("act", op, ("x",), out),))


@given(bits=st.integers(2, 8), channels=st.integers(1, 5))
def test_half_even_costs_an_adder_a_code_bit_and_floor_none(bits: int, channels: int) -> None:
    scale = Fraction(1, 8)
    nearest = rounding_bits(graph(Rounding.HALF_EVEN, scale, bits, channels))
    assert nearest == {"act": channels * 2 * 4 * bits}
    assert rounding_bits(graph(Rounding.FLOOR, scale, bits, channels)) == {}


@pytest.mark.parametrize("scale", [Fraction(1), Fraction(4)])
def test_what_lies_on_codes_already_is_not_rounded(scale: Fraction) -> None:
    assert rounding_bits(graph(Rounding.HALF_EVEN, scale)) == {}


@given(
    acc=st.integers(-(2**12), 2**12 - 1),
    shift=st.integers(1, 8),
    bits=st.integers(1, 6),
    signed=st.booleans(),
)
def test_an_incrementer_of_the_codes_width_rounds(
    acc: int, shift: int, bits: int, signed: bool
) -> None:
    """Clamp what is cut off, then add one or not: the hardware whose half adders are counted."""
    code = QType(bits + signed, signed)
    cut, rest = acc >> shift, acc & ((1 << shift) - 1)
    half, below = rest >> (shift - 1), rest & ((1 << (shift - 1)) - 1)
    inside = code.low <= cut < code.high
    up = inside and bool(half and (below or cut & 1))
    clamped = min(max(cut, code.low), code.high)
    rounded = min(max(round(Fraction(acc, 1 << shift)), code.low), code.high)
    assert clamped + up == rounded
