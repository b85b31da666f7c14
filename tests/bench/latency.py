"""Latency of many networks on this machine, by LiteRT on one thread: what the predictor of
`flow/schedule/latency.py` is fitted to, and how far off it is for a network that it has not seen.

64 networks of seeded random shapes (plain, residual, depthwise, dense; the weights are random
too, as speed does not depend on them), and the shipped models with untrained weights. Each is timed
in a process of its own, in three turns of 300 inferences at three different times, all networks
having their turn before the next; the median of the fastest turn counts, as a busy machine only
ever makes a turn slower. Run with `make bench SUITE=latency`; writes
flow/schedule/host_latency.csv, the predictor that it gives beside it, and
reports/baseline/latency_errors.csv.
"""

from __future__ import annotations

import csv
import io
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from fractions import Fraction
from importlib import metadata
from pathlib import Path

import numpy as np

from flow.graph import Graph, Node, Value
from flow.ops import Add, Conv, Dense, Flatten, MaxPool, Op
from flow.ops.pointwise import Requant
from flow.qtype import QType
from flow.requant import Rounding
from flow.schedule.host_table import (
    FITTED,
    TABLE,
    Row,
    fitted_predictor,
    read_table,
    shuffled,
    write_predictor,
    write_table,
)
from flow.schedule.latency import fit, leave_one_out, residual
from flow.schedule.layer_work import network_work
from flow.schedule.margin import margin
from targets.tflite.flatbuffer import write
from targets.tflite.simulation import run_file
from targets.tflite.target import Tflite

NETWORKS, TURNS, ROUNDS, SPLITS = 64, 3, 300, 200
DENSE = 4096  # inputs of a dense layer, at most: of more no cache of a small processor holds them
ERRORS = Path("reports/baseline/latency_errors.csv")
SHIPPED = (
    *("digits_mlp", "digits_cnn", "digits_resnet", "digits_hx8k", "mnist_cnn", "jet_mlp"),
    *("kws_dscnn", "ic_resnet8", "vww_mobilenet", "ad_autoencoder"),
)
_CODE = QType(8, signed=False)
_ONE = (Fraction(1),)


class Builder:
    """A network of int8 weights and 8-bit codes, layer by layer. Weights are small, so that every
    requantization is proven at once."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...]):
        self.rng = rng
        self.input = Value("x", shape, _CODE, _ONE)
        self.nodes: list[Node] = []
        self.last = self.input

    def add(self, op: Op, qtype: QType, *others: Value) -> None:
        name = f"{op.name}{len(self.nodes)}"
        given = (self.last, *others)
        made = Value(f"{name}.out", op.output_shape(*(v.shape for v in given)), qtype, _ONE)
        self.nodes.append(Node(name, op, tuple(v.name for v in given), made))
        self.last = made

    def codes(self, shift: int) -> None:
        """Back to codes by a power of two."""
        scale = (Fraction(1, 1 << shift),)
        self.add(Requant(scale, (Fraction(0),), _CODE, 0, 255, Rounding.HALF_EVEN), _CODE)

    def weighted(self, op: Conv | Dense) -> None:
        self.add(op, QType(32, signed=True))
        self.codes(max(4, int(np.log2(op.weight[0].size)) + 5))

    def residual(self, size: int) -> None:
        """A convolution of as many channels, added to what it read."""
        before = self.last
        self.conv(before.shape[0], size, 1)
        self.add(Add((1, 1)), QType(9, signed=False), before)
        self.codes(1)

    def weights(self, *shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        return self.rng.integers(-7, 8, shape)

    def conv(self, outs: int, size: int, stride: int, groups: int = 1) -> None:
        taken = self.last.shape[0] // groups
        weight, bias = self.weights(outs, taken, size, size), self.weights(outs)
        pad = size // 2
        self.weighted(Conv(weight, bias, (stride, stride), (pad,) * 4, groups=groups))

    def dense(self, outs: int) -> None:
        (taken,) = self.last.shape
        self.weighted(Dense(self.weights(outs, taken), self.weights(outs)))

    def graph(self, name: str) -> Graph:
        return Graph.build(name, self.input, tuple(self.nodes))


def random_network(seed: int) -> Graph:
    """Some convolutions, plain, residual, or depthwise with one of 1 x 1 behind, pools, dense
    layers; or dense layers alone."""
    rng = np.random.default_rng(seed)
    if seed % 4 == 0:
        made = Builder(rng, (int(rng.integers(16, 800)),))
    else:
        size = int(rng.integers(8, 65))
        made = Builder(rng, (int(rng.integers(1, 5)), size, size))
        for _ in range(int(rng.integers(1, 7))):
            outs, stride = int(rng.integers(4, 65)), int(rng.choice([1, 1, 2]))
            if seed % 4 == 1 and made.nodes:
                made.conv(made.last.shape[0], 3, stride, made.last.shape[0])
                made.conv(outs, 1, 1)
            elif seed % 4 == 2 and made.nodes:
                made.residual(3)
            else:
                made.conv(outs, int(rng.choice([1, 3, 5])), stride)
            if made.last.shape[1] >= 8 and rng.random() < 0.3:
                made.add(MaxPool((2, 2), (2, 2)), _CODE)
        while int(np.prod(made.last.shape)) > DENSE:
            made.add(MaxPool((2, 2), (2, 2)), _CODE)
        made.add(Flatten(), _CODE)
    for _ in range(int(rng.integers(1, 5))):
        made.dense(int(rng.integers(8, 513)))
    return made.graph(f"random{seed}")


def shipped(work: Path) -> Iterator[Graph]:
    from flow.plan import Events, Plan, Request

    for name in SHIPPED:
        yield Plan(
            Request(name, "tflite", {"untrained": "true"}, None, work), Events()
        ).imported.graph


def main() -> int:
    target, times = Tflite(), dict[str, list[float]]()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        graphs = [*(random_network(seed) for seed in range(NETWORKS)), *shipped(work)]
        files = {graph.name: file_of(graph, target, work) for graph in graphs}
        for turn in range(TURNS):
            for graph in graphs:
                path, entry = files[graph.name]
                ran = run_file(path, entry, "litert", rounds=ROUNDS)
                times.setdefault(graph.name, []).append(float(np.median(ran.seconds)))
            print(f"turn {turn + 1} of {TURNS}", file=sys.stderr)
    rows = [Row(g.name, min(times[g.name]), network_work(g)) for g in graphs]
    write_table(TABLE, rows)
    write_predictor(FITTED, fitted_predictor(read_table(TABLE), measured()))
    return errors()


def measured() -> str:
    """Where, by what and when."""
    cpu = "a processor that does not tell its name"
    if (info := Path("/proc/cpuinfo")).is_file():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    version = metadata.version("ai-edge-litert")
    return f"LiteRT {version} on one thread of {cpu}, {date.today().isoformat()}"


def file_of(
    graph: Graph, target: Tflite, work: Path
) -> tuple[Path, np.ndarray[tuple[int, ...], np.dtype[np.int8]]]:
    """The network's .tflite file and an input for it."""
    lowered = target._lowered(graph, False)
    assert not lowered.offences, lowered.offences
    first, last = lowered.ends
    ends = (first.tensor.name, last.tensor.name)
    path = work / f"{graph.name}.tflite"
    path.write_bytes(write(graph.name, lowered.tensors, lowered.operators, ends, {}))
    return path, np.zeros((1, first.layout.order.size), np.int8)


def errors() -> int:
    """The predictor's errors on networks that it has not seen, from the table alone."""
    seen = shuffled(read_table(TABLE))
    left_out = np.abs(np.exp(leave_one_out(seen)) - 1)
    covered, uppers = [], []
    for seed in range(SPLITS):
        order = np.random.default_rng(seed).permutation(len(seen))
        third = len(seen) // 3
        model = fit([seen[k] for k in order[third:-third]])
        errors = np.array([residual(model, seen[k]) for k in (*order[:third], *order[-third:])])
        bounds = margin(errors[:third].tolist(), 0.8)
        uppers.append(bounds.upper)
        covered.append(float(np.mean(np.exp(errors[third:]) <= bounds.upper)))
    rows = [
        ["what", "value"],
        ["networks", str(len(seen))],
        ["leave one out, mean absolute error", f"{np.mean(left_out):.3f}"],
        ["leave one out, median absolute error", f"{np.median(left_out):.3f}"],
        ["leave one out, 95th percentile", f"{np.percentile(left_out, 95):.3f}"],
        ["margin of coverage 0.8, median upper factor", f"{np.median(uppers):.3f}"],
        [f"covered of the last third, mean of {SPLITS} splits", f"{np.mean(covered):.3f}"],
    ]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    ERRORS.write_text(text.getvalue())
    print(text.getvalue(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(errors() if "errors" in sys.argv[1:] else main())
