"""Ops against plain Python integers; bounds against what can be reached; JSON round trips."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.errors import UsageError
from flow.graph import Graph, Node, Value
from flow.interp import Interpreter
from flow.ops import Conv, Dense, Flatten, IntArray, MaxPool, Op, Relu, Requant, Shape, Slice
from flow.qtype import QType

ONE = (Fraction(1),)


def graph_of(shape: Shape, qtype: QType, *ops: Op) -> Graph:
    """A chain of ops; the types of values are as wide as allowed unless the op says."""
    nodes, source, current = [], "x", shape
    for index, op in enumerate(ops):
        current = op.output_shape(current)
        made = op.qtype if isinstance(op, Requant) else QType(63, signed=True)
        nodes.append(Node(f"n{index}", op, (source,), Value(f"n{index}", current, made, ONE)))
        source = f"n{index}"
    return Graph.build("test", Value("x", shape, qtype, ONE), tuple(nodes))


def naive_conv(x: IntArray, op: Conv) -> IntArray:
    """The definition as nested loops over Python integers."""
    outs, height, width = op.output_shape(x.shape)
    taken = x.shape[0] // op.groups
    top, left, _, _ = op.pads
    result = np.zeros((outs, height, width), dtype=object)
    for o, i, j in itertools.product(range(outs), range(height), range(width)):
        total = int(op.bias[o])
        first = o // (outs // op.groups) * taken
        for c, di, dj in itertools.product(*(range(n) for n in op.weight.shape[1:])):
            row = i * op.stride[0] + di * op.dilation[0] - top
            column = j * op.stride[1] + dj * op.dilation[1] - left
            inside = 0 <= row < x.shape[1] and 0 <= column < x.shape[2]
            sample = int(x[first + c, row, column]) if inside else op.pad_value
            total += int(op.weight[o, c, di, dj]) * sample
        result[o, i, j] = total
    return result.astype(np.int64)


def ints(rng: np.random.Generator, shape: Shape, low: int, high: int) -> IntArray:
    return rng.integers(low, high, shape, endpoint=True, dtype=np.int64)


@settings(max_examples=80)
@given(st.data())
def test_conv_is_its_definition(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    groups = data.draw(st.sampled_from([1, 1, 2]))
    ins, outs = groups * data.draw(st.integers(1, 3)), groups * data.draw(st.integers(1, 3))
    kernel = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    op = Conv(
        ints(rng, (outs, ins // groups, *kernel), -8, 7),
        ints(rng, (outs,), -50, 50),
        stride=data.draw(st.tuples(st.integers(1, 2), st.integers(1, 3))),
        pads=data.draw(st.tuples(*[st.integers(0, 2)] * 4)),
        dilation=data.draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        groups=groups,
        pad_value=data.draw(st.integers(-2, 2)),
    )
    graph = graph_of((ins, 6, 7), QType(4, signed=True), op)
    x = ints(rng, (3, ins, 6, 7), -8, 7)
    expected = np.stack([naive_conv(sample, op) for sample in x])
    np.testing.assert_array_equal(Interpreter(graph).run(x), expected)
    low, high = graph.bounds["n0"]
    assert (expected.min(axis=(0, 2, 3)) >= low).all()
    assert (expected.max(axis=(0, 2, 3)) <= high).all()


@pytest.mark.parametrize("bits", [8, 16, 24, 28])
def test_dense_is_exact_whatever_arithmetic_it_uses(bits: int) -> None:
    """8 bits fit float32 sums, 24 float64's, 31 only integers: all must be exact at the corners."""
    rng = np.random.default_rng(bits)
    top = (1 << (bits - 1)) - 1
    weight = ints(rng, (5, 9), -top, top)
    weight[0], weight[1] = top, -top
    op = Dense(weight, np.array([top, -top, 1, 0, -1], dtype=np.int64))
    graph = graph_of((9,), QType(bits, signed=True), op)
    x = np.stack([np.full(9, -top - 1), np.full(9, top), *ints(rng, (20, 9), -top - 1, top)])
    expected = (
        np.array(
            [
                [sum(int(w) * int(v) for w, v in zip(row, sample, strict=True)) for row in weight]
                for sample in x
            ]
        )
        + op.bias
    )
    np.testing.assert_array_equal(Interpreter(graph).run(x), expected)


def test_dense_bounds_are_reached() -> None:
    rng = np.random.default_rng(1)
    op = Dense(ints(rng, (6, 10), -7, 7), ints(rng, (6,), -9, 9))
    graph = graph_of((10,), QType(5, signed=False), op)
    worst = np.concatenate([np.where(op.weight > 0, 31, 0), np.where(op.weight > 0, 0, 31)])
    out = Interpreter(graph).run(worst)
    low, high = graph.bounds["n0"]
    assert out.max(axis=0).tolist() == high.tolist()
    assert out.min(axis=0).tolist() == low.tolist()


def test_max_pool_is_its_definition() -> None:
    rng = np.random.default_rng(2)
    x = ints(rng, (4, 3, 7, 6), -8, 7)
    op = MaxPool((3, 2), (2, 2), (1, 0, 1, 1))
    out = Interpreter(graph_of((3, 7, 6), QType(4, signed=True), op)).run(x)
    for n, c, i, j in itertools.product(*(range(extent) for extent in out.shape)):
        rows = [r for r in range(i * 2 - 1, i * 2 + 2) if 0 <= r < 7]
        columns = [q for q in range(j * 2, j * 2 + 2) if 0 <= q < 6]
        assert out[n, c, i, j] == max(x[n, c, r, q] for r in rows for q in columns)


@pytest.mark.parametrize("span", [10, 1 << 18])
def test_requant_by_table_and_by_count_agree_with_the_rule(span: int) -> None:
    op = Requant(
        (Fraction(15, span), Fraction(-7, span)),
        (Fraction(1, 3), Fraction(9)),
        QType(4, signed=False),
        0,
        15,
    )
    bits = span.bit_length()
    graph = graph_of((2, 1, 1), QType(bits, signed=True), op)
    rng = np.random.default_rng(3)
    x = ints(rng, (500, 2, 1, 1), graph.input.qtype.low, graph.input.qtype.high)
    out = Interpreter(graph).run(x)
    for channel, rule in enumerate(op.rules(2)):
        expected = [rule.code(int(acc)) for acc in x[:, channel, 0, 0]]
        assert out[:, channel, 0, 0].tolist() == expected


def test_a_graph_reads_back_from_json() -> None:
    rng = np.random.default_rng(4)
    graph = graph_of(
        (2, 6, 6),
        QType(5, signed=False),
        Conv(ints(rng, (3, 2, 3, 3), -4, 4), ints(rng, (3,), -9, 9), pads=(1, 1, 1, 1)),
        Requant((Fraction(1, 7),) * 3, (Fraction(0),), QType(4, signed=False), 0, 15),
        MaxPool((2, 2), (2, 2)),
        Flatten(),
        Dense(ints(rng, (4, 27), -4, 4), ints(rng, (4,), -9, 9)),
        Relu(),
    )
    again = Graph.from_json(graph.to_json())
    assert again.to_json() == graph.to_json()
    x = ints(rng, (8, 2, 6, 6), 0, 31)
    np.testing.assert_array_equal(Interpreter(again).run(x), Interpreter(graph).run(x))


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"schema": 1}', '{"schema": 2, "nodes": 3}'])
def test_damaged_json_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="graph JSON"):
        Graph.from_json(text)


def test_accumulators_beyond_63_bits_are_refused() -> None:
    weight = np.full((1, 4), 1 << 31, dtype=np.int64)
    op = Dense(weight, np.zeros(1, dtype=np.int64))
    with pytest.raises(UsageError, match=r"node n0.*63 bits"):
        graph_of((4,), QType(40, signed=True), op)


def test_a_value_outside_its_type_is_refused() -> None:
    node = Node(
        "n0",
        Dense(np.array([[100]]), np.array([0])),
        ("x",),
        Value("n0", (1,), QType(4, signed=True), ONE),
    )
    with pytest.raises(UsageError, match="int4 does not hold"):
        Graph.build("test", Value("x", (1,), QType(4, signed=False), ONE), (node,))


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((2, 4), dtype=np.int64), "shape"),
        (np.zeros((2, 3)), "integer"),
        (np.full((2, 3), 16), "codes 0..15"),
        (np.full((2, 3), -1), "codes 0..15"),
    ],
)
def test_wrong_codes_are_refused(codes: IntArray, message: str) -> None:
    graph = graph_of((3,), QType(4, signed=False), Relu())
    with pytest.raises(UsageError, match=message):
        Interpreter(graph).run(codes)


@pytest.mark.parametrize(("start", "stop"), [(0, 4), (0, 2), (0, 1), (1, 4), (1, 3)])
def test_a_slice_takes_what_numpy_takes(start: int, stop: int) -> None:
    """The first ones too, which lie in the order of the whole."""
    x = np.arange(2 * 4 * 3).reshape(2, 4, 3)
    graph = graph_of((4, 3), QType(8, signed=False), Slice((start, 0), (stop, 3), (1, 1)))
    assert np.array_equal(Interpreter(graph).run(x), x[:, start:stop])
