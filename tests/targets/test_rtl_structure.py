"""What a netlist computes and holds, counted by hand; kernels side by side in one module."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from flow.graph import Graph, Node, Value
from flow.labels import read_labels
from flow.ops import Dense, Mul, Op, Relu, Slice, Table
from flow.qtype import QType
from flow.surrogate.kernels import Kernel, Kind, drawn
from flow.surrogate.unrolled import TABLE
from targets.rtl import labels
from targets.rtl.lower import trace
from targets.rtl.netlist import netlist
from targets.rtl.ports import Ports
from targets.rtl.solver import Solver
from targets.rtl.structure import Counted
from targets.rtl.verilog import register_bits

ONE = (Fraction(1),)
ROOT = Path(__file__).parents[2]


def counted(given: QType, *ops: Op, cutoff: int = 0) -> Counted:
    """Of two inputs through these ops."""
    x = Value("x", (2,), given, ONE)
    nodes, last, shape = [], "x", (2,)
    for number, op in enumerate(ops):
        shape = op.output_shape(shape)
        made = Value(f"n{number}", shape, QType(48, signed=True), ONE)
        nodes.append(Node(made.name, op, (last,), made))
        last = made.name
    return of(Graph.build("net", x, tuple(nodes)), cutoff)


def of(graph: Graph, cutoff: int = 0) -> Counted:
    solver, ports = Solver(-1, -1), Ports.of(graph)
    made = netlist(graph, solver, trace(graph, solver), (graph.output.name,), cutoff)
    found = Counted.of(made, ports)
    assert found.held <= register_bits(made, ports)
    return found


def dense(first: int, second: int, bias: int = 0) -> Dense:
    return Dense(np.array([[first, second]]), np.array([bias]))


def test_sums_count_the_bits_in_which_both_operands_are() -> None:
    """a + 2b of 3 bits is 0..21: five bits, of which the lowest is a's own."""
    found = counted(QType(3, signed=False), dense(1, 2))
    assert (found.sums, found.sum_bits, found.count_bits, found.paired_bits) == (1, 2, 2, 4)
    assert (found.held, found.latency) == (6 + 5, 2)
    narrow = counted(QType(1, signed=False), dense(1, 1))
    assert (narrow.sums, narrow.luts4, narrow.luts6) == (0, 2, 2)  # a sum without a carry


def test_a_constant_counts_from_its_lowest_bit_on() -> None:
    """a + b is three bits and a carry. Of these plus 4 two are as they were, one is inverted and
    two are functions of two bits; with 5 it is a sum along a carry."""
    found = counted(QType(3, signed=False), dense(1, 1, 4))
    assert (found.sums, found.sum_bits, found.count_bits) == (1, 3, 1)
    assert (found.luts4, found.inverted4) == (2, 1)
    longer = counted(QType(3, signed=False), dense(1, 1, 5))
    assert (longer.sums, longer.inverted4, longer.count_bits) == (2, 1, 1 + 4)


def test_clamps_tables_and_products() -> None:
    clamped = counted(QType(3, signed=True), dense(1, 1), Relu())
    assert (clamped.sums, clamped.luts4, clamped.product_bits) == (1, 0, 0)  # by resets
    table = counted(QType(2, signed=False), Table(np.array([0, 1, 1, 0]), 0))
    assert (table.luts4, table.gates4) == (2, 0)  # an exclusive or each
    x = Value("x", (2,), QType(5, signed=True), ONE)
    halves = [
        Node(f"h{i}", Slice((i,), (i + 1,), (1,)), ("x",), Value(f"h{i}", (1,), x.qtype, ONE))
        for i in range(2)
    ]
    y = Value("y", (1,), QType(48, signed=True), ONE)
    product = of(Graph.build("mul", x, (*halves, Node("y", Mul(), ("h0", "h1"), y))))
    assert (product.product_bits, product.products) == (25, 1)


def test_rows_of_registers_are_long_ones() -> None:
    """Of eight inputs one is multiplied by their sum, which is there three stages later."""
    x = Value("x", (8,), QType(2, signed=False), ONE)
    total = Value("sum", (1,), QType(48, signed=True), ONE)
    first, y = replace(total, name="a", qtype=x.qtype), replace(total, name="y")
    nodes = (
        Node("sum", Dense(np.ones((1, 8), dtype=np.int64), np.array([0])), ("x",), total),
        Node("a", Slice((0,), (1,), (1,)), ("x",), first),
        Node("y", Mul(), ("a", "sum"), y),
    )
    found = of(Graph.build("late", x, nodes), cutoff=1)
    assert (found.rows, found.rowed) == (2, 3 * 2)  # of the two bits of one input
    assert of(Graph.build("late", x, nodes), cutoff=0).rows == 0


def test_many_modules_have_ports_of_their_own() -> None:
    kernels = [kernel for kernel in drawn(12) if kernel.kind is not Kind.NETWORK][:3]
    ports = {f"network{kernel.number}": Ports.of(kernel.graph()) for kernel in kernels}
    text = labels.wrapper("kernels", ports)
    assert text.startswith("module kernels (\n  input wire clk,\n  input wire ce,\n")
    assert text.count("(* keep_hierarchy *)") == 3
    bits = ports["network1"].inputs.total
    assert f"input wire [{bits - 1}:0] network1_in" in text
    assert ".codes_out(network2_out));" in text


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: str(kind.value))
def test_every_kind_has_hardware(kind: Kind) -> None:
    """Nothing that is drawn is refused, and what it is made of shows in what is counted."""
    kernel: Kernel = next(kernel for kernel in drawn(24) if kernel.kind is kind)
    found = of(kernel.graph(), kernel.cutoff)
    shows = {
        Kind.TABLE: found.luts4 + found.leaves4,
        Kind.MUL: found.products,
        Kind.MAX_POOL: found.luts4 + found.compared_bits,
        Kind.REQUANT: found.leaves4 + found.sum_bits + found.luts4 + found.gated4,
    }
    assert shows.get(kind, found.sums + found.luts4) > 0


def test_a_network_of_constants_has_no_label() -> None:
    """Yosys would count nothing of it, and so refuse those that are counted with it."""
    with pytest.raises(ValueError, match="kernel 46: its outputs are constants"):
        labels.Laid(drawn(47)[46])


def test_the_shipped_labels_are_of_this_hardware() -> None:
    """What is counted of a kernel now is what its labels stand beside: else they are old."""
    rows = {int(row["number"]): row for row in read_labels(ROOT / TABLE)}
    known = [Kernel.read(row) for row in rows.values()]
    drawn_now = {kernel.number: kernel for kernel in drawn(max(rows) + 1)}
    assert all(kernel == drawn_now[kernel.number] for kernel in known)
    small = [kernel for kernel in known if kernel.kind is not Kind.NETWORK and kernel.work() < 100]
    for kernel in random.Random(0).sample(small, 16):
        found, row = labels.Laid(kernel).row(), rows[kernel.number]
        assert found == {name: row[name] for name in found}
