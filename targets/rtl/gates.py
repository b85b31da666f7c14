"""The synthesized netlist in simulation, by the same benches as the Verilog."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flow.errors import Mismatch
from flow.ops import IntArray
from targets.rtl import simulation, uart, verilator
from targets.rtl.implement.netlist import netlist
from targets.rtl.implement.parts import Part
from targets.rtl.ports import Ports, Timing
from targets.rtl.simulation import Beside, Simulator
from targets.rtl.uart import Serial

FOLDER = "gates"
SAMPLE = 16  # vectors: gates take some ten times as long as the Verilog


def build(
    folder: Path,
    implementation: Path,
    part: Part,
    ports: Ports,
    latency: int,
    simulator: Simulator,
    serial: Serial | None,
) -> str:
    """Build `folder`/gates of what `implement` left; why it cannot be, or an empty text.

    Raises:
        ToolMissing, ToolFailed: the cells' models or the simulator are not there, or fail.
    """
    gates = netlist(implementation, part)
    if gates.unmodelled:
        cells = ", ".join(gates.unmodelled)
        return f"the gates were not simulated: Yosys has no models of the cells {cells}"
    home = folder / FOLDER
    home.mkdir()
    sources = [str(path.resolve()) for path in gates.sources]
    options = [f"-D{name}" for name in (*gates.defines, "GATES")]
    options += [f"-I{path.resolve()}" for path in gates.folders]
    if serial is not None or simulator.chosen is Simulator.VERILATOR:
        options += verilator.GATES
    if serial is None:
        simulation.build_bench(home, sources, ports, latency, simulator, options)
    else:
        serial.build(home, sources, *options)
    return ""


def beside(folder: Path, ports: Ports, timing: Timing, serial: Serial | None) -> list[Beside]:
    """What `build` left in `folder`, to run; nothing where it could not build."""
    home = folder / FOLDER
    if not home.is_dir():
        return []
    what = "the synthesized netlist"
    if serial is not None:
        return [uart.beside(home, ports, serial, f"{what}, through its serial line,", 1)]
    program = simulation.built_bench(home)

    def run(codes: IntArray) -> IntArray:
        (fast, slow), measured = simulation.simulate(
            program, ports, codes, (simulation.FAST, simulation.SLOW)
        )
        simulation.check_cycles(timing, measured, len(codes))
        if not np.array_equal(fast, slow):
            raise Mismatch(f"{what} gives other outputs with pauses and a reset than without")
        return fast

    return [Beside(what, SAMPLE, run)]
