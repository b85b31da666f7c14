"""Tables as gates, and which sums are written inverted: the same values, in fewer LUTs."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow.qtype import QType
from flow.surrogate.kernels import drawn
from targets.rtl.diagram import Diagram, diagram
from targets.rtl.implement.parts import Family
from targets.rtl.labels import Laid
from targets.rtl.netlist import Kind, Netlist, Operation, Output
from targets.rtl.polarity import polarity
from targets.rtl.requants import balanced
from targets.rtl.verilog import emit


def evaluated(made: Diagram, code: int) -> int:
    """The value of a diagram over `x` with nodes `g`, as Verilog reads its gates."""
    nodes: dict[str, bool] = {}

    def term(text: str) -> bool:
        if text.startswith("~"):
            return not term(text[1:])
        if text in ("1'b0", "1'b1"):
            return text == "1'b1"
        found = re.fullmatch(r"x\[(\d+)\]", text)
        return bool(code >> int(found[1]) & 1) if found else nodes[text]

    for number, gate in enumerate(made.gates):
        first, operator, second, *rest = gate.split(" ")
        a, b = term(first), term(second)
        if operator == "?":
            colon, third = rest
            assert colon == ":"
            nodes[f"g{number}"] = b if a else term(third)
        else:
            assert not rest
            nodes[f"g{number}"] = {"&": a and b, "|": a or b, "^": a != b}[operator]
    return sum(term(text) << bit for bit, text in enumerate(made.outputs))


@given(st.data())
def test_a_table_s_gates_are_the_table(data: st.DataObject) -> None:
    width = data.draw(st.integers(1, 6))
    signed = data.draw(st.booleans())
    low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if signed else (0, (1 << width) - 1)
    least = data.draw(st.integers(low, high))
    size = data.draw(st.integers(1, high - least + 1))
    bits = data.draw(st.integers(1, 4))
    entries = st.integers(0, (1 << bits) - 1)
    table = data.draw(st.lists(entries, min_size=size, max_size=size))
    made = diagram(table, least, QType(width, signed), bits, "x", "g")
    for place, entry in enumerate(table):
        assert evaluated(made, (least + place) & ((1 << width) - 1)) == entry


def test_a_comparison_is_a_chain_that_all_bits_share() -> None:
    """Steps 64 apart over 10 bits: their lower 6 bits are compared once, by 5 gates."""
    steps = [min(max((value + 41) >> 6, 0), 3) for value in range(-512, 512)]
    made = diagram(steps, -512, QType(10, signed=True), 2, "x", "g")
    assert len(made.gates) == 14
    assert sum("x[0]" in gate for gate in made.gates) == 1


def sums(*rows: tuple[int, int, bool], inputs: int, outputs: tuple[int, ...]) -> Netlist:
    """Inputs of 4 bits, then sums of (a, b, subtracted), in one stage."""
    made = [Operation(Kind.INPUT, f"x{i}", 4, True, 0, -8, data=i) for i in range(inputs)]
    for number, (a, b, negated) in enumerate(rows, start=inputs):
        made.append(Operation(Kind.SUM, f"s{number}", 8, True, 0, -99, (a, b), negated=negated))
    ends = tuple(Output(number, 0, False) for number in outputs)
    return Netlist(tuple(made), ends, (0,) * len(made), 1, 3)


def test_of_two_inputs_that_are_subtracted_from_each_other_one_is_inverted() -> None:
    """x0 - x1 and x1 + x2 and x0 - x2 invert two inputs as they stand; with x0 inverted in both
    differences it is one, of 4 bits."""
    made = sums((0, 1, True), (1, 2, False), (0, 2, True), inputs=3, outputs=(3, 4, 5))
    found = polarity(made)
    assert (found.inverters, 3 in found.sums, 5 in found.sums) == (4, True, True)


def test_a_sum_that_is_only_subtracted_needs_no_inverter() -> None:
    made = sums((0, 1, False), (0, 2, False), (3, 4, True), inputs=3, outputs=(5,))
    assert polarity(made).inverters == 0
    both = sums((0, 1, False), (0, 2, False), (3, 4, True), inputs=3, outputs=(3, 4, 5))
    assert polarity(both).inverters == 8


@pytest.mark.parametrize("negated", [False, True])
def test_a_register_holds_what_is_needed_behind_it(negated: bool) -> None:
    operations = (
        Operation(Kind.INPUT, "x0", 4, True, 0, -8, data=0),
        Operation(Kind.INPUT, "x1", 4, True, 0, -8, data=1),
        Operation(Kind.SUM, "s2", 5, True, 0, -16, (0, 1)),
        Operation(Kind.OFFSET, "s3", 6, True, 0, -17, (0,), data=-1),
        Operation(Kind.SUM, "s4", 7, True, 0, -33, (3, 2), negated=negated),
    )
    made = Netlist(operations, (Output(4, 0, False), Output(3, 0, False)), (0, 0, 0, 0, 1), 2, 2)
    assert polarity(made).registers == ({(2, 1)} if negated else frozenset())


@given(st.integers(1, 200))
def test_a_balanced_tree_has_every_item_in_order_and_no_depth_to_spare(count: int) -> None:
    def over(a: tuple[list[int], int], b: tuple[list[int], int]) -> tuple[list[int], int]:
        return a[0] + b[0], 1 + max(a[1], b[1])

    items, depth = balanced(over, [([number], 0) for number in range(count)])
    assert items == list(range(count)) and depth == (count - 1).bit_length()


def test_an_ecp5s_sums_come_out_as_they_were_found() -> None:
    """Its carry cells invert nothing; for other parts some sums are written the other way."""
    laid = Laid(drawn(14)[13])
    plain, chosen = (emit(laid.made, laid.ports, family=f) for f in (Family.ECP5, Family.ICE40))
    assert "~(~" in chosen and "~" not in plain
    assert chosen == emit(laid.made, laid.ports)
