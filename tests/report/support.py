"""Runs for the tests of reports: one that was compiled, and made-up ones."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from flow.artifact import write_manifest
from flow.graph import Graph, Node, Value
from flow.interp import Interpreter
from flow.metric import Interval, Kind, Metric, share_interval
from flow.ops import Add, Conv, Op, Requant
from flow.qtype import QType
from flow.report.layers import Histogram, layers_of
from flow.report.pages import write_pages
from flow.report.result import Report
from flow.report.run import Origin, Run
from flow.target import LayerNote
from flow.verify import Agreement

U4 = QType(4, signed=False)


def node(name: str, op: Op, inputs: tuple[str, ...], shape: tuple[int, ...], bits: int) -> Node:
    """A node whose output has `bits` bits, signed unless it is a Requant, and scale 1/4."""
    qtype = U4 if isinstance(op, Requant) else QType(bits, signed=True)
    return Node(name, op, inputs, Value(f"{name}_out", shape, qtype, (Fraction(1, 4),)))


def shift(places: int) -> Requant:
    """A Requant to uint4 that divides by 2**places."""
    return Requant((Fraction(1, 1 << places),), (Fraction(0),), U4, 0, 15)


def deep(blocks: int) -> Graph:
    """`blocks` times two convolutions and an addition around them, 4 channels of 4x4: 3*blocks
    layers."""
    rng = np.random.default_rng(0)
    value = Value("x", (4, 4, 4), U4, (Fraction(1, 4),))
    nodes, last = [], "x"
    for block in range(blocks):
        start = last
        for part in ("a", "b"):
            weight = rng.integers(-7, 8, (4, 4, 3, 3))
            conv = Conv(weight, np.zeros(4, np.int64), pads=(1, 1, 1, 1))
            name = f"conv{block}{part}"
            nodes.append(node(name, conv, (last,), value.shape, 16))
            nodes.append(node(f"{name}_act", shift(5), (f"{name}_out",), value.shape, 4))
            last = f"{name}_act_out"
        nodes.append(node(f"add{block}", Add((1, 1)), (last, start), value.shape, 6))
        nodes.append(node(f"add{block}_act", shift(1), (f"add{block}_out",), value.shape, 4))
        last = f"add{block}_act_out"
    return Graph.build("deep", value, tuple(nodes))


def made_up(
    graph: Graph,
    *,
    model: str = "deep",
    target: str = "hls4ml",
    figures: tuple[Metric, ...] = (),
    hits: int = 380,
    total: int = 400,
    matches: bool = True,
    data: str = "d" * 64,
    given: tuple[str, ...] = (),
    folder: Path = Path("deep-hls4ml-00000000"),
) -> Run:
    """The run of a graph on random samples, with figures that nobody measured."""
    rng = np.random.default_rng(0)
    low, high = graph.input.qtype.low, graph.input.qtype.high
    codes = rng.integers(low, high + 1, (8, *graph.input.shape))
    trace = Interpreter(graph).trace(codes)
    notes = {
        node.name: LayerNote("shift 5", None, 16, (metric("multipliers", 9, Kind.ASSUMED),))
        for node in graph.nodes
        if isinstance(node.op, Conv)
    }
    counted = f"{hits} of {total} test samples"
    around = share_interval(hits, total)
    share = Metric("accuracy integer", hits / total, "1", Kind.MEASURED, counted, around)
    report = Report(
        "compile",
        model,
        target,
        folder,
        Agreement(8, 8, 80, 80) if matches else Agreement(8, 6, 80, 77, 2),
        {"integer": share},
        list(figures) or [metric("lut", 1000)],
        [],
    )
    origin = Origin(
        {"MODEL": model, "TARGET": target, "OPTS": " ".join(given)},
        {"weight_bits": "4"},
        given,
        *("a" * 64, "b" * 64, "c" * 64),
        {"bitwright": "0"},
        {"data": data},
        (),
    )
    twin = {node.name: 0.5 ** (1 + at) for at, node in enumerate(graph.nodes[:4])}
    layers = layers_of(graph, trace, notes, twin)
    outputs = Histogram.of(codes, low, high)
    confusion = ((190, 10), (10, 190))
    return Run(
        *(report, origin, "8 random samples", layers, outputs),
        *(str(graph.input.qtype), graph.input.shape, confusion, "made up", "8 random samples"),
    )


def metric(name: str, value: float, kind: Kind = Kind.MEASURED, unit: str = "1") -> Metric:
    around = Interval(value * 0.9, value * 1.1, 0.9) if kind is Kind.ESTIMATED else None
    return Metric(name, value, unit, kind, "made up", around)


def save(run: Run, folder: Path) -> Path:
    """The run as a complete artifact with nothing else in it."""
    folder.mkdir(parents=True)
    write_pages(folder, run)
    write_manifest(folder, {"key": "c" * 64})
    return folder
