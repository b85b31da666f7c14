"""What Yosys, and nextpnr, make of drawn kernels: the labels that estimates are fitted on.

Most of the time that Yosys takes for a small module goes into reading the family's cells, so that
many kernels are synthesized in one run, each a module of its own, and counted apart.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from flow.errors import FlowError, ToolFailed
from flow.report.vendor.synthesis import Resource, Synthesis
from flow.surrogate.kernels import TURN, Kernel
from flow.tools import YOSYS, Tool, version
from targets.rtl.implement.parts import Family, find_part
from targets.rtl.implement.routing import read_routed, route, routing_tools
from targets.rtl.implement.synthesis import count_apart, synthesize
from targets.rtl.lower import offences, trace
from targets.rtl.netlist import netlist
from targets.rtl.ports import Ports
from targets.rtl.solver import Solver
from targets.rtl.stream import MODULE as STREAM
from targets.rtl.stream import stream
from targets.rtl.structure import Counted
from targets.rtl.verilog import MODULE, emit

PARTS = {
    Family.ICE40: "hx8k",
    Family.ECP5: "lfe5u-25f",
    Family.XC7: "xc7a100t",
    Family.XCUP: "xcku5p",
}
COUNTED = (Resource.LUT, Resource.FF, Resource.CARRY, Resource.DSP, Resource.RAM, Resource.BRAM_18K)
# What tools tell of a kernel, behind its numbers and its structure.
TOLD = ("family", "part", *(kind.value for kind in COUNTED), "fmax_mhz", "yosys", "nextpnr")
CLOCK_MHZ, SEED = 48.0, 1
# Of so many kernels one, of every kind in turn, is placed and routed too, which takes longer than
# all the rest.
ROUTED = 71
# UltraScale+ is counted like Xilinx 7 as far as was seen: of so many turns of kernels one is
# counted for it too.
AGAIN = 8
MOST_PRODUCTS = 20_000
TOP = "kernels"
Rows = list[dict[str, str]]


def labels(kernels: Sequence[Kernel]) -> list[Rows | str]:
    """Of each kernel a row for every family: the kernel, its structure, what was counted, and what
    counted it; or why it has none. Of some, families that nextpnr knows have the clock of the
    kernel in its byte stream.

    Raises:
        ToolMissing: a tool is not there.
    """
    with tempfile.TemporaryDirectory(prefix="bitwright-") as folder:
        return _labels(kernels, Path(folder))


def _labels(kernels: Sequence[Kernel], folder: Path) -> list[Rows | str]:
    laid: dict[int, Laid] = {}
    found: dict[int, Rows | str] = {}
    for kernel in kernels:
        try:
            laid[kernel.number] = Laid(kernel)
        except (FlowError, ValueError) as error:
            found[kernel.number] = str(error).splitlines()[0]
    try:
        found.update(_of_families(list(laid.values()), folder))
    except ToolFailed as error:
        if len(laid) == 1:
            (number,) = laid
            found[number] = str(error).splitlines()[0]
        else:  # one that Yosys refuses keeps no other from its labels
            for kernel in kernels:
                if kernel.number in laid:
                    alone = folder / f"alone{kernel.number}"
                    alone.mkdir()
                    (found[kernel.number],) = _labels([kernel], alone)
    return [found[kernel.number] for kernel in kernels]


class Laid:
    """A kernel's hardware."""

    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        graph = kernel.graph()
        if found := offences(graph, MOST_PRODUCTS):
            raise ValueError(f"kernel {kernel.number}: {found[0]}")
        solver, self.ports = Solver(-1, -1), Ports.of(graph)
        self.made = netlist(
            graph, solver, trace(graph, solver), (graph.output.name,), kernel.cutoff
        )
        self.counted = Counted.of(self.made, self.ports)
        if not self.counted.held:
            raise ValueError(f"kernel {kernel.number}: its outputs are constants")
        self.module = f"{MODULE}{kernel.number}"

    def write(self, family: Family, folder: Path) -> Path:
        """Its Verilog for parts of the family, in a file of its own."""
        path = folder / f"{self.module}.v"
        path.write_text(emit(self.made, self.ports, self.module, family))
        return path

    def row(self) -> dict[str, str]:
        structure = asdict(self.counted)
        return {**self.kernel.row(), **{name: str(count) for name, count in structure.items()}}

    def fmax(self, family: Family, folder: Path) -> tuple[str, str]:
        """The clock in MHz, empty where it does not fit or cannot be routed, and what found it."""
        part = find_part(PARTS[family])
        folder.mkdir()
        network, bytewise = folder / "network.v", folder / "stream.v"
        network.write_text(emit(self.made, self.ports, family=family))
        bytewise.write_text(stream(self.ports, self.made.latency))
        router = _version(*routing_tools(part, False))
        try:
            synthesize((network, bytewise), STREAM, part, folder, lambda _: None)
            route(part, CLOCK_MHZ, folder, (SEED,), None, lambda _: None)
            clock = read_routed(folder, SEED).fmax_mhz
        except FlowError:
            return "", router
        return ("" if clock is None else f"{clock:.2f}"), router


def _of_families(laid: Sequence[Laid], folder: Path) -> dict[int, Rows]:
    rows: dict[int, Rows] = {each.kernel.number: [] for each in laid}
    known = {each.kernel.number: each.row() for each in laid}
    for family, name in PARTS.items():
        taken = [each for each in laid if family is not Family.XCUP or _again(each.kernel)]
        if not taken:
            continue
        home = folder / family.value
        home.mkdir()
        found = counted(taken, name, home)
        for each in taken:
            number = each.kernel.number
            fmax, router = "", ""
            if number % ROUTED == 0 and family.routed:
                fmax, router = each.fmax(family, home / f"routed{number}")
            rows[number].append(
                {
                    **known[number],
                    "family": family.value,
                    "part": name,
                    **_cells(found[each.module]),
                    "fmax_mhz": fmax,
                    "yosys": _version(YOSYS),
                    "nextpnr": router,
                }
            )
    return rows


def _again(kernel: Kernel) -> bool:
    return kernel.number // len(TURN) % AGAIN == 0


def counted(laid: Sequence[Laid], part: str, folder: Path) -> dict[str, Synthesis]:
    """By module, in one run of Yosys."""
    top = folder / f"{TOP}.v"
    top.write_text(wrapper(TOP, {each.module: each.ports for each in laid}))
    known = find_part(part)
    modules = {each.module: each.write(known.family, folder) for each in laid}
    _, found = count_apart(modules, top, known, folder, lambda _: None)
    return found


def wrapper(name: str, modules: dict[str, Ports]) -> str:
    """A module with one of each of these in it, whose ports are its own; they stay apart."""
    ports, lines = ["  input wire clk", "  input wire ce"], []
    for module, each in modules.items():
        ports.append(f"  input wire [{each.inputs.total - 1}:0] {module}_in")
        ports.append(f"  output wire [{each.outputs.total - 1}:0] {module}_out")
        lines.append(
            f"  (* keep_hierarchy *) {module} of_{module} "
            f"(.clk(clk), .ce(ce), .codes_in({module}_in), .codes_out({module}_out));\n"
        )
    joined = ",\n".join(ports)
    return f"module {name} (\n{joined}\n);\n{''.join(lines)}endmodule\n"


def _cells(found: Synthesis) -> dict[str, str]:
    cells = found.resources
    return {kind.value: str(int(cells[kind].used) if kind in cells else 0) for kind in COUNTED}


def _version(tool: Tool) -> str:
    return version(tool) or ""
