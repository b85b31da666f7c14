"""Variants and traces as users give them; what is wrong is told with file and field."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from flow.errors import FlowError, UsageError
from flow.graph import Graph, Node, Value
from flow.metric import Kind
from flow.ops import Conv, Dense, Flatten, MaxPool, Relu
from flow.ops.pointwise import Requant
from flow.outline import outline
from flow.qtype import QType
from flow.requant import Rounding
from flow.schedule.generators import Demand
from flow.schedule.host_table import (
    TABLE,
    fitted_predictor,
    host_predictor,
    read_predictor,
    read_table,
    shuffled,
    write_predictor,
    write_table,
)
from flow.schedule.latency import fit, leave_one_out, residual
from flow.schedule.layer_work import CALL, GATHER, PIXEL, LayerWork, network_work, outline_work
from flow.schedule.margin import margin
from flow.schedule.platform_file import load_platform
from flow.schedule.trace_spec import make_trace, stretched, told
from flow.schedule.variant_file import read_file, read_items
from flow.schedule.variants import of_designs
from flow.schedule.work import Run
from tests.bench.latency import random_network

GOOD = """
[[variants]]
model = "digits"
name = "8 bits"
target = "tflite"
accuracy = 98.5
reference_ms = 8
method = "measured"
source = "a stopwatch"

[[demands]]
model = "digits"
deadline_ms = 60
min_accuracy = 97
"""


def test_what_was_typed_is_what_is_known(tmp_path: Path) -> None:
    path = tmp_path / "v.toml"
    path.write_text(GOOD)
    (item,), (demand,) = read_file(path)
    assert item.known is not None
    variant = item.known.variant
    assert (variant.model, variant.name, variant.accuracy) == ("digits", "8 bits", 98.5)
    assert variant.reference_us == 8000 and item.known.latency.value == 8
    assert item.known.latency.kind is Kind.MEASURED
    assert item.known.latency.source == item.known.accuracy.source == "a stopwatch"
    assert demand == Demand("digits", 60_000, 1.0, 97.0)


def test_a_batch_may_be_typed(tmp_path: Path) -> None:
    path = tmp_path / "v.toml"
    batch = "runs.fabric = { time_ms = [1.5], energy_mj = [0.1], next_ms = [0.2] }"
    path.write_text(GOOD.replace("reference_ms = 8", batch))
    (item,), _ = read_file(path)
    assert item.known is not None and item.known.variant.runs is not None
    assert item.known.variant.runs["fabric"] == Run((1500.0,), (0.1,), (200.0,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("reference_ms = 8", "runs.big = { time_ms = [2], next_ms = [-1] }"), r"from 0 to 1e\+09"),
        (("accuracy = 98.5", "accuracy = nan"), r"variants\[0\].accuracy must be a number from 0"),
        (("accuracy = 98.5", "accuracy = 101"), "from 0 to 100, not 101"),
        (("reference_ms = 8", "reference_ms = -8"), r"variants\[0\].reference_ms must be a number"),
        (("reference_ms = 8", ""), "give either reference_ms or runs"),
        (("reference_ms = 8", "runs = {}"), "runs must be a table of clusters"),
        (("reference_ms = 8", "runs.big = { time_ms = [] }"), "a number for each point"),
        (('source = "a stopwatch"', ""), "source must be given: where the numbers are from"),
        (('"measured"', '"estimated"'), "method must be one of measured, assumed"),
        (('"measured"', '"guessed"'), "not 'guessed'"),
        (("name =", "nom ="), "unknown nom"),
        (('name = "8 bits"', ""), "name must be given"),
        (("accuracy =", 'colour = "red"\naccuracy ='), r"variants\[0\]: unknown colour"),
        (("deadline_ms = 60", "deadline_ms = -1"), r"demands\[0\].deadline_ms must be a number"),
        (("min_accuracy = 97", "share = 0"), r"demands\[0\]: digits: share must be above 0"),
        (("min_accuracy = 97", "priority = 1.5"), "priority must be a whole number"),
        (('target = "tflite"', 'target = "tflite"\nload = "heavy"'), "load must be one of compute"),
        (('name = "8 bits"', 'artifact = "none"'), "target: the artifact tells"),
        (("[[variants]]", "[[variant]]"), "variants must be given"),
        (("[[variants]]", "[variants]"), "must be at most 256 tables"),
        (("model", "\x00"), "cannot be read"),
    ],
)
def test_a_wrong_file_is_told_with_the_field(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    path = tmp_path / "v.toml"
    path.write_text(GOOD.replace(*change, 1))
    with pytest.raises(UsageError, match=message) as caught:
        read_file(path)
    assert str(path) in str(caught.value)


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder nowhere, nor one of that name in"):
        read_items("nowhere", tmp_path)
    with pytest.raises(UsageError, match="MODELS must be 1 to 256 folders"):
        read_items(" , ", tmp_path)
    (tmp_path / "one").mkdir()
    items, demands = read_items("digits=one, designs=keyword spotting ,designs", tmp_path)
    assert [(i.model, i.designs) for i in items] == [
        ("digits", False),
        ("keyword spotting", True),
        ("", True),
    ]
    assert items[0].folder == tmp_path / "one" and demands == []


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("poison:n=5", "did you mean 'poisson'"),
        ("poisson:n=5", "deadline_ms must be given"),
        ("poisson:n=5,n=6,deadline_ms=1", "each key once"),
        ("poisson:n", "must be of the form key=value"),
        ("poisson:n=five,deadline_ms=1", "option n must be a whole number"),
        ("poisson:gap=3,deadline_ms=1", "TRACE=poisson.*unknown option 'gap'"),
        ("poisson:mean_ms=nan,deadline_ms=1", "must be a finite number"),
        ("poisson:mean_ms=-3,deadline_ms=1", "must be a number from 0"),
        ("poisson:n=0,deadline_ms=1", "must be 1 to"),
        ("poisson:deadline_ms=-1", "deadline_us must not be negative"),
        ("poisson:seed=-1,deadline_ms=1", "seed must be from 0"),
        ("nowhere.csv", "no trace nowhere.csv"),
    ],
)
def test_a_wrong_trace_is_told(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_trace(spec, ["digits"], [])


def test_a_trace_is_asked_for_in_words() -> None:
    spec = "poisson:mean_ms=120,n=5000,seed=3,deadline_ms=60,min_accuracy=95"
    trace = make_trace(spec, ["a", "b"], [])
    assert len(trace) == 5000 and told(trace)["seed"] == 3 and trace.generator == spec
    assert trace.arrival_us[-1] / 5000 == pytest.approx(120_000, rel=0.05)
    assert set((trace.deadline_us - trace.arrival_us).tolist()) == {60_000}
    assert set(trace.min_accuracy.tolist()) == {95.0}
    assert np.mean(trace.model) == pytest.approx(0.5, abs=0.05)
    assert make_trace(spec, ["a", "b"], []).sha256 == trace.sha256
    assert make_trace(spec, ["a", "b"], [], training=True).sha256 != trace.sha256
    with pytest.raises(UsageError, match="has demands, with deadlines and accuracies of their own"):
        make_trace(spec, ["a"], [Demand("a", 1)])


def test_a_stretched_trace_keeps_its_deadlines() -> None:
    trace = make_trace("bursty:mean_ms=50,n=200,deadline_ms=30", ["a"], [])
    slow = stretched(trace, 2.0)
    assert (slow.arrival_us == 2 * trace.arrival_us).all()
    assert set((slow.deadline_us - slow.arrival_us).tolist()) == {30_000}


def test_designs_are_what_was_measured_on_their_board() -> None:
    """What is above the idle board is the energy less the board's power over as long."""
    values = {
        "p_deep_mw": 0.0,
        "fabric.gated.power_mw": 0.0,
        "fabric.gated.exit_us": 1e5,
        "fabric.gated.residency_us": 1e6,
    }
    board = load_platform("pynq-z2", values)
    found = {known.variant.name: known for known in of_designs(board, "image classification")}
    assert set(found) == {"RN07", "CNV-W1A1"}
    known = found["CNV-W1A1"]
    assert known.latency.value == pytest.approx(1000 / 661)
    assert known.energy is not None and known.energy.kind is Kind.MEASURED
    assert known.energy.value == pytest.approx(2.530 - 1583 / 661)
    assert "mlcommons/tiny_results_v0.7" in known.accuracy.source


def test_the_work_of_a_networks_layers() -> None:
    """8-bit codes take a byte, biases four; what is fused is no call of its own."""
    code, one = QType(8, signed=False), (Fraction(1),)
    requant = Requant((Fraction(1, 64),), (Fraction(0),), code, 0, 255, Rounding.HALF_EVEN)
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        return rng.integers(-7, 8, shape)

    wide = QType(32, signed=True)
    steps = (
        (Conv(weights(3, 1, 3, 3), weights(3), pads=(1, 1, 1, 1), groups=3), wide),
        (requant, code),
        (MaxPool((2, 2), (2, 2)), code),
        (Flatten(), code),
        (Dense(weights(10, 12), weights(10)), wide),
        (Relu(), wide),
    )
    nodes, last = [], Value("x", (3, 4, 4), code, one)
    first = last
    for number, (op, qtype) in enumerate(steps):
        made = Value(f"v{number}", op.output_shape(last.shape), qtype, one)
        nodes.append(Node(f"n{number}", op, (last.name,), made))
        last = made
    assert network_work(Graph.build("net", first, tuple(nodes))) == (
        LayerWork(CALL, 0, 0),
        # 16 channels at a time
        LayerWork("depthwise", 27 * 16 * 16 // 3, 48 + 48 + 27 + 12),
        LayerWork(PIXEL, 16, 0),
        LayerWork("pool", 0, 48 + 12),
        # 8 inputs and 8 outputs at a time
        LayerWork("dense", 16 * 16, 12 + 40 + 120 + 40),
    )


def test_patches_are_gathered_unless_they_are_pixels() -> None:
    """Of 5 channels and 6 x 6 positions, 3 x 3 patches; of 1 x 1 there is nothing to gather."""
    one, wide = (Fraction(1),), QType(32, signed=True)
    first = Value("x", (5, 6, 6), QType(8, signed=False), one)
    for size, gathered in ((3, [LayerWork(GATHER, 0, 5 * 9 * 36)]), (1, [])):
        op = Conv(
            np.ones((9, 5, size, size), np.int64), np.zeros(9, np.int64), pads=(size // 2,) * 4
        )
        node = Node("n", op, ("x",), Value("y", op.output_shape(first.shape), wide, one))
        _, conv, *around = network_work(Graph.build("net", first, (node,)))
        assert conv.macs == 16 * 8 * size * size * 36
        assert around == [LayerWork(PIXEL, 36, 0), *gathered]


def test_latencies_of_real_networks_are_predicted_as_well_as_is_said() -> None:
    """The committed measurements: the margin covers others as often as it says, on average over
    random splits; half of all networks are told within 30 % by the others, and of twenty all
    but one within twice."""
    seen = shuffled(read_table(TABLE))
    assert len(seen) > 60
    off = np.abs(np.exp(leave_one_out(seen)) - 1)
    assert np.median(off) < 0.3 and np.percentile(off, 95) < 1.0
    covered, coverage = [], 0.8
    third = len(seen) // 3
    for seed in range(40):
        order = np.random.default_rng(seed).permutation(len(seen))
        model = fit([seen[k] for k in order[third:-third]])
        errors = [residual(model, seen[k]) for k in (*order[:third], *order[-third:])]
        bounds = margin(errors[:third], coverage)
        covered.append(np.mean(np.exp(errors[third:]) <= bounds.upper))
    assert np.mean(covered) >= coverage - 3 * math.sqrt(coverage * (1 - coverage) / len(seen))
    assert host_predictor().margin.high > host_predictor().margin.upper > 1


def test_the_shipped_predictor_is_the_tables(tmp_path: Path) -> None:
    path, shipped = tmp_path / "p.json", host_predictor()
    assert fitted_predictor(read_table(TABLE), shipped.measured) == shipped
    write_predictor(path, shipped)
    assert read_predictor(path) == shipped
    text = path.read_text()
    for wrong in (
        *("", "[]", text[:-3], text.replace('"margin"', '"m"')),
        *(text.replace('"count": ', '"count": -'), text.replace(shipped.measured, "")),
    ):
        path.write_text(wrong)
        with pytest.raises(FlowError, match=r"p.json cannot be read: .*; fit it again"):
            read_predictor(path)
    with pytest.raises(FlowError, match="fit it again"):
        read_predictor(tmp_path / "nothing.json")


@pytest.mark.parametrize("seed", range(12))
def test_an_outline_has_its_graphs_work(seed: int) -> None:
    """Differential: of the same network by shapes and bits alone."""
    graph = random_network(seed)
    assert outline_work(outline(graph)) == network_work(graph)


def test_a_damaged_table_is_told_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = read_table(TABLE)[:3]
    write_table(path, rows)
    assert [row.network for row in read_table(path)] == [row.network for row in rows]
    for wrong in ("net,-3,call:0:0", "net,3,call:0", "net,3", "net,3,call:x:0"):
        path.write_text(f"network,us,layers\n{wrong}\n")
        with pytest.raises(UsageError, match="line 2"):
            read_table(path)
    path.write_text("a,b\n")
    with pytest.raises(UsageError, match="its first line must name"):
        read_table(path)
