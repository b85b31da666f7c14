"""What rounding costs: the incrementer is as wide as the code, and floor needs none."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow.cost import bit_operations, held_bits, rounding_bits, weight_memory
from flow.graph import Graph, Node, Value
from flow.ops import Conv, Dense, Flatten, MaxPool, Threshold
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


@pytest.mark.parametrize(
    ("codes", "bits"),
    [([-1, 1], 1), ([-1, 0, 1], 2), ([0, 7], 3), ([-8, 7], 4), ([0, 0], 1), ([1], 1)],
)
def test_the_fewest_bits_that_hold_weights(codes: list[int], bits: int) -> None:
    assert held_bits(np.array(codes)) == bits


def test_products_and_weights_by_hand() -> None:
    """A convolution of 5-bit codes, a sign, a pool, and a dense layer on signs."""
    one = (Fraction(1),)
    x = Value("x", (1, 4, 4), QType(5, signed=False), one)
    conv = Conv(np.array([[[[3, 0], [-4, 1]]], [[[1, 1], [1, 1]]]]), np.zeros(2, np.int64))
    sign = Threshold(np.array([[0]]), np.array([-1, 1]))
    dense = Dense(np.where(np.arange(6).reshape(3, 2) % 2 == 0, 1, -1), np.zeros(3, np.int64))
    pm1 = QType(2, signed=True)
    nodes = (
        Node("conv", conv, ("x",), Value("a", (2, 3, 3), QType(10, signed=True), one)),
        Node("sign", sign, ("a",), Value("b", (2, 3, 3), pm1, one)),
        Node("pool", MaxPool((3, 3), (3, 3)), ("b",), Value("c", (2, 1, 1), pm1, one)),
        Node("flat", Flatten(), ("c",), Value("d", (2,), pm1, one)),
        Node("fc", dense, ("d",), Value("y", (3,), QType(4, signed=True), one)),
    )
    made = Graph.build("net", x, nodes)
    # 7 of 8 weights are not 0, each used at 9 positions: 3 bits hold -4..3, 5 bits the input.
    assert bit_operations(made) == {"conv": 7 * 9 * 3 * 5, "fc": 6}
    assert weight_memory(made) == {"conv": 8 * 3, "fc": 6}
