"""What Yosys makes of several networks' Verilog, and what their operations tell before: the table
of `targets/rtl/estimate.py`, written anew by `make rtl-estimate` (about ten minutes).

The networks differ in what decides how well Yosys can simplify: bits, zeros among the weights,
scales, windows, and the depth of pipeline stages; one has binary weights.
"""

from __future__ import annotations

import csv
import itertools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flow.importer import import_qonnx
from flow.onnx_file import read
from targets.rtl.estimate import COUNTED, TABLE, Row, Work
from targets.rtl.implement.parts import Family, find_part
from targets.rtl.implement.synthesis import read_synthesized, synthesize
from targets.rtl.lower import trace
from targets.rtl.netlist import netlist
from targets.rtl.ports import Ports
from targets.rtl.solver import Solver
from targets.rtl.stream import MODULE, stream
from targets.rtl.verilog import emit
from tests.network.nets import Net

PARTS = ("hx8k", "lfe5u-25f", "xc7a100t", "xcku5p")
Builder = Callable[[Path], Path]


def dense(
    widths: tuple[int, ...], bits: int, zeros: float = 0.0, scale: float = 0.25, step: float = 1.0
) -> Builder:
    """Layers of random weights with so many bits, a share of them 0; inputs and activations have
    as many bits. `scale` is that of weights, `step` that of activations."""

    def build(path: Path) -> Path:
        rng, net = np.random.default_rng(0), Net((widths[0],))
        last, half = net.quant("x", 0.25, bits, signed=False), 1 << (bits - 1)
        for number, (into, out) in enumerate(itertools.pairwise(widths), start=1):
            codes = rng.integers(-half + 1, half, (out, into)) * (rng.random((out, into)) >= zeros)
            if bits == 1:
                codes = rng.choice([-1, 1], (out, into))
            weight = net.quant(net.constant(codes * scale), scale, max(bits, 2))
            last = net.node("Gemm", [last, weight], f"fc{number}", transB=1)
            if number < len(widths) - 1:
                last = net.node("Relu", [last], f"act{number}")
                last = net.quant(last, step, bits, signed=False)
        return net.save(path, last)

    return build


def convolved(path: Path) -> Path:
    """A convolution, a pool, and a dense layer."""
    rng, net = np.random.default_rng(0), Net((1, 6, 6))
    last = net.quant("x", 0.25, 3, signed=False)
    weight = net.quant(net.constant(rng.integers(-3, 4, (3, 1, 3, 3)) / 4), 0.25, 3)
    last = net.node("Conv", [last, weight], "conv", kernel_shape=[3, 3])
    last = net.quant(net.node("Relu", [last], "relu"), 0.5, 3, signed=False)
    last = net.node("MaxPool", [last], "pool", kernel_shape=[2, 2], strides=[2, 2])
    last = net.node("Flatten", [last], "flat", axis=1)
    weight = net.quant(net.constant(rng.integers(-3, 4, (5, 12)) / 4), 0.25, 3)
    return net.save(path, net.node("Gemm", [last, weight], "fc", transB=1))


# Builder, and the most adders behind each other in one stage.
DESIGNS: dict[str, tuple[Builder, int]] = {
    "8-4-3, 2 bit": (dense((8, 4, 3), 2), 5),
    "8-6-3, 3 bit": (dense((8, 6, 3), 3), 5),
    "12-6-4, 6 bit": (dense((12, 6, 4), 6), 5),
    "16-8-5, 4 bit": (dense((16, 8, 5), 4), 5),
    "16-8-5, 4 bit, stages of 1": (dense((16, 8, 5), 4), 1),
    "16-8-5, 4 bit, stages of 2": (dense((16, 8, 5), 4), 2),
    "16-8-5, 4 bit, float scales": (dense((16, 8, 5), 4, scale=0.173, step=0.77), 5),
    "16-16-16-4, 2 bit, half zeros": (dense((16, 16, 16, 4), 2, zeros=0.5), 5),
    "24-16-4, binary weights": (dense((24, 16, 4), 1), 5),
    "32-12-6, 5 bit, 80 % zeros": (dense((32, 12, 6), 5, zeros=0.8), 5),
    "64-16-10, 3 bit, half zeros": (dense((64, 16, 10), 3, zeros=0.5), 5),
    "convolution and pool, 3 bit": (convolved, 5),
}


def counted(design: str, folder: Path) -> list[Row]:
    """One design for every family."""
    build, cutoff = DESIGNS[design]
    graph = import_qonnx(read(build(folder / "net.onnx")), "net").graph
    solver = Solver(-1, -1)
    made = netlist(graph, solver, trace(graph, solver), (graph.output.name,), cutoff)
    ports = Ports.of(graph)
    (folder / "stream.v").write_text(stream(ports, made.latency))
    sources, rows = (folder / "network.v", folder / "stream.v"), []
    for name in PARTS:
        part, home = find_part(name), folder / name
        home.mkdir()
        (folder / "network.v").write_text(emit(made, ports, family=part.family))
        synthesize(sources, MODULE, part, home, lambda _: None, multipliers=False)
        cells = read_synthesized(home).found.resources
        counts = {kind: int(cells[kind].used) if kind in cells else 0 for kind in COUNTED}
        rows.append(Row(design, part.family, Work.of(made, ports), counts))
        print(f"{design}, {part.family.value}: {counts}", file=sys.stderr)
    return rows


def main() -> None:
    """Write the table."""
    rows = []
    for design in DESIGNS:
        with tempfile.TemporaryDirectory(prefix="bitwright-") as folder:
            rows += counted(design, Path(folder))
    order = list(Family)
    rows.sort(key=lambda row: order.index(row.family))
    path = Path(__file__).parents[2] / "targets" / "rtl" / TABLE
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["family", "design", "logic", "held", *(kind.value for kind in COUNTED)])
        for row in rows:
            counts = [row.counted[kind] for kind in COUNTED]
            writer.writerow([row.family.value, row.design, row.work.logic, row.work.held, *counts])


if __name__ == "__main__":
    main()
