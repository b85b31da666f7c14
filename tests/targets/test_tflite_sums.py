"""Sums of two scales that no small integers relate: the same codes, and the real interpreter's."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.driver import compile_model
from flow.graph import Graph, Node, Value
from flow.ops import Add, Requant, Threshold
from flow.plan import Events, Request
from flow.qtype import QType
from targets.tflite.estimate import LATENCY
from targets.tflite.sums import with_small_factors
from tests.network.nets import Net

ONE = Fraction(1)
SIDE = 16  # 16 x 16 places hold all pairs of 8-bit codes


def residual(factors: tuple[int, int], bits: int, offset: int = 0) -> Graph:
    """Two inputs as two channels of one, taken apart by 1x1 rows, added and requantized to 8
    bits."""
    shape = (1, SIDE, SIDE)
    low, high = sorted([0, 255 * factors[0]]), sorted([0, 255 * factors[1]])
    total = QType.covering(low[0] + high[0], low[1] + high[1])
    scale = Fraction(256, total.high - total.low)
    code = QType(8, signed=False)
    x = Value("x", shape, code, (ONE,), 0)
    turned = Value("turned", shape, QType(bits, signed=False), (ONE,), 0)
    summed = Value("sum", shape, total, (ONE,), 0)
    y = Value("y", shape, QType(8, signed=True), (ONE,), 0)
    # 85 codes become one, in another order than x: the pairs are not on a line.
    cut = Requant((-Fraction(5, 7),), (Fraction(200),), turned.qtype, 0, turned.qtype.high)
    out = Requant((scale,), (Fraction(offset),), y.qtype, -128, 127)
    nodes = (
        Node("turn", cut, ("x",), turned),
        Node("add", Add(factors), ("x", "turned"), summed),
        Node("out", out, ("sum",), y),
    )
    return Graph.build("residual", x, nodes)


FACTORS = st.integers(-(1 << 24), 1 << 24).filter(bool)


@settings(max_examples=50)
@given(FACTORS, FACTORS, st.sampled_from((3, 8)), st.integers(-64, 64))
def test_small_factors_give_the_same_codes(first: int, second: int, bits: int, offset: int) -> None:
    """For every pair, not only those that the graph reaches."""
    graph = residual((first, second), bits, offset)
    changed = with_small_factors(graph)
    _, before, requant = (node.op for node in graph.nodes)
    _, add, step = (node.op for node in changed.nodes)
    assert isinstance(before, Add) and isinstance(add, Add)
    if add is before:
        assert max(abs(first), abs(second)) <= 127  # else nearly always found, see below
        return
    (a, b), (c, d) = ((int(e.min()) for e in graph.bounds[name]) for name in ("x", "turned"))
    pairs = np.meshgrid(np.arange(a, b + 1), np.arange(c, d + 1))
    x, y = (part.reshape(1, 1, -1) for part in pairs)
    sums, small = (op.multipliers[0] * x + op.multipliers[1] * y for op in (before, add))
    assert abs(small).max() <= np.iinfo(np.int32).max
    assert isinstance(requant, Requant) and isinstance(step, Threshold)
    rule = requant.rules(1)[0].steps(int(sums.min()), int(sums.max()))
    (cuts,) = step.cuts
    np.testing.assert_array_equal(
        rule.apply(sums), step.codes[np.searchsorted(cuts, small, side="right")]
    )


def test_sums_that_int8_holds_stay_as_they_are() -> None:
    graph = residual((3, 127), 8)
    assert with_small_factors(graph) is graph


def test_another_order_of_sums_is_no_solution() -> None:
    """1000:1001 as 1:1 would join pairs whose codes differ."""
    graph = residual((1000, 1001), 8)
    assert isinstance(with_small_factors(graph).nodes[1].op, Add)
    fine = Requant((ONE,), (Fraction(-500_000),), QType(20, signed=True), -(1 << 19), (1 << 19) - 1)
    last = graph.nodes[2]
    y = Value("y", last.output.shape, QType(20, signed=True), (ONE,), 0)
    nodes = (*graph.nodes[:2], Node("out", fine, last.inputs, y))
    every = with_small_factors(Graph.build("every", graph.input, nodes)).nodes[1].op
    assert isinstance(every, Add) and every.multipliers == (1000, 1001)


@pytest.mark.parametrize("runtime", ["litert", "tflite-runtime"])
def test_the_real_interpreters_add_two_float_scales_of_8_bits(tmp_path: Path, runtime: str) -> None:
    net = Net((1, SIDE, SIDE))
    x = net.quant("x", 0.0531, 8)
    y = net.quant(x, 0.0277, 8, signed=False)
    net.save(tmp_path / "net.onnx", net.quant(net.node("Add", [x, y], "add"), 0.0713, 8))
    options = {"runtime": runtime}
    request = Request(str(tmp_path / "net.onnx"), "tflite", options, tmp_path / "out", tmp_path)
    report = compile_model(request, Events())
    # How long it takes is this machine's, and no matter here.
    said = [text for text in report.warnings if not text.startswith(LATENCY)]
    assert report.agreement.matches and not said
    with np.load(tmp_path / "out" / "vectors.npz") as vectors:
        assert len(np.unique(vectors["expected"])) > 150
