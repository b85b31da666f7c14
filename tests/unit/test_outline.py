"""A network by its shapes and bits: of a recipe and of the graph that came of it, the same."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flow.cost import bit_operations, weight_memory
from flow.graph import Graph, Node, Value
from flow.metric import Kind
from flow.ops import Add, Conv, Dense, Flatten, MaxPool, Op, Requant, Shape
from flow.outline import INPUT, Role, Step, outline, signed_digits
from flow.qtype import QType
from flow.requant import Rounding
from flow.surrogate.recipes import recipe_outline
from flow.surrogate.structure import (
    activation_memory,
    additions,
    cell_bytes,
    digits,
    products,
    structure,
)
from models import MODELS
from tests.network.unknown_op import Unknown

ONE = (Fraction(1),)


def graph_of(shape: Shape, bits: int, *steps: tuple[str, Op, tuple[str, ...]]) -> Graph:
    """Named nodes on named values; INPUT is the input, of so many unsigned bits."""
    values = {INPUT: Value(INPUT, shape, QType(bits, signed=False), ONE)}
    nodes = []
    for name, op, sources in steps:
        made = op.output_shape(*(values[source].shape for source in sources))
        wide = op.qtype if isinstance(op, Requant) else QType(62, signed=True)
        values[name] = Value(name, made, wide, ONE)
        nodes.append(Node(name, op, sources, values[name]))
    return Graph.build("net", values[INPUT], tuple(nodes))


def requant(bits: int, scale: Fraction = Fraction(1, 4)) -> Requant:
    qtype = QType(bits, signed=False)
    return Requant((scale,), (Fraction(0),), qtype, 0, qtype.high, Rounding.HALF_EVEN)


def weights(*shape: int, bits: int = 4, seed: int = 0) -> np.ndarray:
    half = 1 << (bits - 1)
    return np.random.default_rng(seed).integers(-half + 1, half, shape)


def convolved() -> Graph:
    conv = Conv(weights(3, 1, 3, 3), np.zeros(3, np.int64))
    return graph_of(
        (1, 6, 6),
        4,
        ("conv", conv, (INPUT,)),
        ("act", requant(3), ("conv",)),
        ("pool", MaxPool((2, 2), (2, 2)), ("act",)),
        ("flat", Flatten(), ("pool",)),
        ("fc", Dense(weights(5, 12), np.zeros(5, np.int64)), ("flat",)),
    )


def fewest_digits(number: int) -> int:
    """By trying: of all sums of signed powers of two, the shortest."""
    reached, count = {0}, 0
    while number not in reached:
        count += 1
        reached |= {r + sign * 2**k for r in reached for k in range(9) for sign in (-1, 1)}
    return count


@pytest.mark.parametrize("number", [*range(-40, 41), 85, -107, 171, 127, -128, 255])
def test_the_shortest_signed_form(number: int) -> None:
    assert signed_digits(np.array([number])) == fewest_digits(number)


@given(bits=st.integers(2, 12), data=st.data())
def test_what_may_be_of_weights_holds_what_is(bits: int, data: st.DataObject) -> None:
    half = 1 << (bits - 1)
    drawn = data.draw(arrays(np.int64, (3, 5), elements=st.integers(-half, half - 1)))
    graph = graph_of((5,), 4, ("fc", Dense(drawn, np.zeros(3, np.int64)), (INPUT,)))
    (known,) = outline(graph).steps
    declared = replace(known, known=None, weight_bits=bits)
    for of in (digits, additions):
        assert of(declared).low <= of(known).low == of(known).high <= of(declared).high


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_likely_digits_are_those_of_evenly_spread_weights(bits: int) -> None:
    half = 1 << (bits - 1)
    every = np.arange(-half, half)[None, :]
    step = Step("fc", Role.DENSE, (INPUT,), every.size, 1, 1, 8, 20, bits)
    assert digits(step).likely == pytest.approx(signed_digits(every))
    assert digits(step).high >= every.size * max(signed_digits(np.array([n])) for n in every[0])


def test_a_graph_is_counted_as_elsewhere() -> None:
    graph = convolved()
    found = {metric.name: metric for metric in structure(outline(graph)).metrics}
    assert all(metric.kind is Kind.MEASURED for metric in found.values())
    assert found["macs"].value == sum(n.op.macs(*graph.shapes(n)) for n in graph.nodes) == 492
    assert found["bit operations"].value == sum(bit_operations(graph).values())
    assert found["weight memory"].value == sum(weight_memory(graph).values())
    assert found["parameters"].value == 3 * 9 + 5 * 12


def test_additions_by_hand() -> None:
    """7x + 0y + 5z is 8x - x + 4z + z: three additions; nothing is none."""
    dense = Dense(np.array([[7, 0, 5], [0, 0, 0]]), np.zeros(2, np.int64))
    (step,) = outline(graph_of((3,), 4, ("fc", dense, (INPUT,)))).steps
    assert additions(step).low == additions(step).high == 3


def test_memory_by_hand() -> None:
    """36 bytes in, 48 of the convolution's codes, 12 of the pool's, 20 of five sums in 32 bits."""
    made = activation_memory(outline(convolved()))
    assert (made.total, made.peak) == (36 + 48 + 12 + 5 * cell_bytes(9), 36 + 48)


def test_what_is_read_later_is_held() -> None:
    """A sum over a branch: the input's copy stays while the branch is computed."""
    eye = Dense(np.eye(8, dtype=np.int64), np.zeros(8, np.int64))
    graph = graph_of(
        (8,),
        4,
        ("a", eye, (INPUT,)),
        ("b", eye, ("a",)),
        ("c", eye, ("b",)),
        ("sum", Add((1, 1)), ("c", "a")),
    )
    made = activation_memory(outline(graph))
    assert made.peak == 3 * 8  # while c is made of b, a waits; and while the sum is made of both
    straight = replace(outline(graph), steps=outline(graph).steps[:3])
    assert activation_memory(straight).peak == 2 * 8


@pytest.mark.parametrize("name", MODELS)
def test_a_recipe_needs_no_training(name: str) -> None:
    recipe = MODELS[name]()
    made = recipe_outline(recipe)
    assert not made.unknown
    shapes = {row.name: row.output_shape for row in recipe.summary()}
    assert {s.name: s.outputs for s in made.steps if ":" not in s.name} == {
        layer: prod(shape) for layer, shape in shapes.items()
    }
    told = {metric.name: metric for metric in structure(made).metrics}
    assert told["macs"].kind is Kind.MEASURED
    assert told["adder bits"].kind is Kind.ESTIMATED
    interval = told["bit operations"].interval
    assert interval is not None and interval.coverage == 1 and interval.low == 0


def test_mlperf_tinys_networks_have_their_parameters() -> None:
    """Weights of 640-128x4-8-128x4-640, and of the DS-CNN with ten classes: without biases and
    BatchNorm."""
    made = {name: recipe_outline(MODELS[name]()) for name in ("ad_autoencoder", "kws_dscnn")}
    counts = {name: sum(step.weights for step in each.steps) for name, each in made.items()}
    dense = 2 * (640 * 128 + 3 * 128 * 128 + 128 * 8)
    assert counts["ad_autoencoder"] == dense
    assert counts["kws_dscnn"] == 10 * 4 * 64 + 4 * (9 * 64 + 64 * 64) + 64 * 10


def test_what_is_not_known_is_not_counted_as_nothing() -> None:
    made = graph_of(
        (3,),
        4,
        ("fc", Dense(weights(3, 3), np.zeros(3, np.int64)), (INPUT,)),
        ("odd", Unknown(), ("fc",)),
    )
    told = structure(outline(made))
    assert told.metrics == ()
    why = "nothing is known of what odd does"
    assert told.unknown["macs"] == told.unknown["peak activation memory"] == why


def test_products_of_a_step() -> None:
    steps = {step.name: products(step) for step in outline(convolved()).steps}
    assert steps == {"conv": 9 * 48, "act": 0, "pool": 0, "flat": 0, "fc": 60}
