"""Rows of layers: closed forms on a network that can be reckoned by hand."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow.graph import Graph, Node, Value
from flow.interp import Interpreter
from flow.metric import Kind
from flow.ops import Dense, Flatten, Relu, Requant
from flow.qtype import QType
from flow.report.layers import BINS, Accumulator, Histogram, Layer, layers_of, scale_text
from flow.target import LayerNote, node_of
from tests.report.support import deep, metric

INT8 = QType(8, signed=True)


def _dense(scale: Fraction, low: int = 0, high: int = 15) -> tuple[Graph, Layer]:
    """Two inputs of scale 1/4, weights 3 and -2 of scale 1/8, a Requant by `scale`; run on the
    codes (1, 0), (0, 1), (8, 0), (4, 3)."""
    x = Value("x", (2,), QType(4, signed=False), (Fraction(1, 4),))
    acc = Value("acc", (1,), INT8, (Fraction(1, 32),))
    out = Value("out", (1,), QType.covering(low, high), (Fraction(1, 32) / scale,))
    dense = Dense(np.array([[3, -2]]), np.array([0]))
    requant = Requant((scale,), (Fraction(0),), out.qtype, low, high)
    nodes = (Node("fc", dense, ("x",), acc), Node("fc_act", requant, ("acc",), out))
    graph = Graph.build("g", x, nodes)
    trace = Interpreter(graph).trace(np.array([[1, 0], [0, 1], [8, 0], [4, 3]]))
    (row,) = layers_of(graph, trace, {}, {})
    return graph, row


def test_a_dense_layer_by_hand() -> None:
    _, row = _dense(Fraction(1, 2))  # sums 3, -2, 24, 6: exactly 1.5, -1, 12, 3; codes 2, 0, 12, 3
    assert (row.name, row.op, row.nodes, row.inputs) == ("fc", "dense", ("fc", "fc_act"), ("x",))
    assert (row.shape, row.type, row.scale, row.macs) == ((1,), "uint4", "2^-4", 2)
    assert row.accumulator == Accumulator(-30, 45, 7, None, -2, 24)
    assert row.weights is not None
    assert (row.weights.count, row.weights.zeros, row.weights.bits) == (2, 0, 3)
    assert row.weights.scale == "2^-3"
    assert row.weights.histogram == Histogram(-4, 1, (0, 0, 1, 0, 0, 0, 0, 1))
    assert row.outputs == Histogram(0, 1, (1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0))
    assert row.error is not None and row.error.sqnr is not None
    # The -1 becomes 0 as in a ReLU; only 1.5 is rounded, by half a step.
    assert row.error.rms == pytest.approx(math.sqrt(0.25 / 4))
    assert row.error.sqnr == pytest.approx(10 * math.log10((1.5**2 + 12**2 + 3**2) / 0.25))
    assert row.error.clipped == 0 and row.requant == "shift"


def test_what_is_clipped_is_an_error() -> None:
    _, row = _dense(Fraction(1, 2), 0, 7)  # 12 becomes 7
    assert row.error is not None and row.error.clipped == 0.25
    assert row.error.rms == pytest.approx(math.sqrt((0.25 + 25) / 4))


def test_a_signed_output_has_no_relu() -> None:
    _, row = _dense(Fraction(1), -1, 30)  # -2 becomes -1
    assert row.error is not None and row.error.clipped == 0.25
    assert row.error.rms == pytest.approx(math.sqrt(1 / 4))


def test_without_loss_there_is_no_ratio() -> None:
    _, row = _dense(Fraction(1), -30, 45)
    assert row.error is not None and (row.error.sqnr, row.error.rms) == (None, 0)


def test_a_scale_that_is_no_power_of_two_is_a_multiplication() -> None:
    _, row = _dense(Fraction(1, 3))
    assert row.requant == "multiplication and shift" and row.multiplier_bits is None


def test_a_branch_ends_a_layer() -> None:
    graph = deep(2)
    trace = Interpreter(graph).trace(np.zeros((1, 4, 4, 4), np.int64))
    rows = layers_of(graph, trace, {}, {})
    assert [row.name for row in rows] == [
        *("conv0a", "conv0b", "add0", "conv1a", "conv1b", "add1"),
    ]
    assert rows[2].inputs == ("conv0b", "x") and rows[5].inputs == ("conv1b", "add0")
    assert sum(row.macs for row in rows) == 4 * 4 * 4 * 9 * 4 * 4
    assert rows[2].weights is None and rows[2].accumulator is not None
    assert {name for row in rows for name in row.nodes} == {node.name for node in graph.nodes}


def test_two_readers_make_two_layers() -> None:
    x = Value("x", (2,), INT8, (Fraction(1),))
    relu = Value("r", (2,), QType(7, signed=False), (Fraction(1),))
    nodes = (
        Node("r1", Relu(), ("x",), relu),
        Node("f1", Flatten(), ("r",), Value("a", (2,), relu.qtype, relu.scale)),
        Node("f2", Flatten(), ("r",), Value("b", (2,), relu.qtype, relu.scale)),
    )
    graph = Graph.build("g", x, nodes)
    trace = Interpreter(graph).trace(np.zeros((1, 2), np.int64))
    rows = layers_of(graph, trace, {}, {})
    assert [row.nodes for row in rows] == [("r1",), ("f1",), ("f2",)]
    assert all(row.accumulator is None and row.error is None for row in rows)


def test_what_the_target_says_is_taken_and_added() -> None:
    graph, _ = _dense(Fraction(1, 2))
    trace = Interpreter(graph).trace(np.array([[1, 0]]))
    bytes_ = metric("constants", 5, unit="B")
    notes = {
        "fc": LayerNote("", None, 16, (bytes_, metric("lut", 10, Kind.ESTIMATED))),
        "fc_act": LayerNote("multiplier 9 bit", 9, None, (bytes_, metric("lut", 2))),
    }
    (row,) = layers_of(graph, trace, notes, {})
    assert (row.requant, row.multiplier_bits) == ("multiplier 9 bit", 9)
    assert row.accumulator is not None and row.accumulator.width == 16
    assert [(m.name, m.kind, m.value) for m in row.metrics] == [
        ("constants", Kind.MEASURED, 10),
        ("lut", Kind.ESTIMATED, 10),
        ("lut", Kind.MEASURED, 2),
    ]


def test_the_longest_node_name_owns() -> None:
    nodes = {"conv1", "conv1_act"}
    assert node_of("conv1_act_top", nodes) == node_of("conv1_act", nodes) == "conv1_act"
    assert node_of("conv1_weight_2", nodes) == "conv1"
    assert node_of("input_codes", nodes) is None and node_of("conv10", nodes) is None


@given(
    st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=50),
    st.integers(0, 5),
    st.booleans(),
)
def test_a_histogram_counts_every_code_once(codes: list[int], more: int, few: bool) -> None:
    array = np.array(codes) % 50 if few else np.array(codes)
    low, high = int(array.min()) - more, int(array.max()) + more
    found = Histogram.of(array, low, high)
    assert sum(found.counts) == len(codes) and len(found.counts) <= BINS
    for index, count in enumerate(found.counts):
        first = found.first + index * found.width
        assert count == ((array >= first) & (array < first + found.width)).sum()


@pytest.mark.parametrize(
    ("scale", "text"),
    [
        ((Fraction(1, 32),), "2^-5"),
        ((Fraction(8),), "2^3"),
        ((Fraction(1),), "1"),
        ((Fraction(1, 3),), "0.3333"),
        ((Fraction(1, 4), Fraction(1, 8)), "2^-3 to 2^-2, per channel"),
        ((Fraction(1, 4), Fraction(1, 4)), "2^-2, per channel"),
    ],
)
def test_scales_as_text(scale: tuple[Fraction, ...], text: str) -> None:
    assert scale_text(scale) == text
