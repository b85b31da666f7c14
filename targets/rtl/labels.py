"""What Yosys, and nextpnr, make of a single layer: the labels that estimates are fitted on."""

from __future__ import annotations

import tempfile
from pathlib import Path

from flow.outline import outline
from flow.report.vendor.synthesis import Resource
from flow.surrogate.kernels import Kernel
from flow.surrogate.structure import adder_bits, additions, digits, products
from flow.tools import Tool, version
from targets.rtl.estimate import Work
from targets.rtl.implement.parts import Family, find_part
from targets.rtl.implement.routing import read_routed, route, routing_tools
from targets.rtl.implement.synthesis import read_synthesized, synthesize
from targets.rtl.lower import offences, trace
from targets.rtl.netlist import Netlist, netlist
from targets.rtl.ports import Ports
from targets.rtl.solver import Solver
from targets.rtl.stream import MODULE as STREAM
from targets.rtl.stream import stream
from targets.rtl.verilog import MODULE, emit

PARTS = {
    Family.ICE40: "hx8k",
    Family.ECP5: "lfe5u-25f",
    Family.XC7: "xc7a100t",
    Family.XCUP: "xcku5p",
}
COUNTED = (Resource.LUT, Resource.FF, Resource.CARRY, Resource.DSP, Resource.RAM, Resource.BRAM_18K)
STRUCTURE = ("products", "digits", "additions", "adder_bits", "logic", "held", "adders", "latency")
CLOCK_MHZ, SEED = 48.0, 1


def labels(kernel: Kernel, routed: bool) -> list[dict[str, str]]:
    """A row for every family: the kernel, its structure, what was counted, and what counted it.
    With `routed` the families that nextpnr knows have the clock of the layer in its byte stream.

    Raises:
        FlowError: a tool is missing or fails, or the kernel cannot be done.
    """
    graph = kernel.graph()
    if found := offences(graph, 10_000):
        raise ValueError(f"kernel {kernel.number}: {found[0]}")
    solver, ports = Solver(-1, -1), Ports.of(graph)
    made = netlist(graph, solver, trace(graph, solver), (graph.output.name,), kernel.cutoff)
    with tempfile.TemporaryDirectory(prefix="bitwright-") as folder:
        network, bytewise = Path(folder) / "network.v", Path(folder) / "stream.v"
        network.write_text(emit(made, ports))
        bytewise.write_text(stream(ports, made.latency))
        known = {**kernel.row(), **_structure(kernel, made, ports)}
        return [{**known, **_of_family(family, network, bytewise, routed)} for family in PARTS]


def _structure(kernel: Kernel, made: Netlist, ports: Ports) -> dict[str, str]:
    (step,) = outline(kernel.graph()).steps
    work = Work.of(made, ports)
    values = (
        *(products(step), digits(step).likely, additions(step).likely, adder_bits(step).likely),
        *(work.logic, work.held, sum(made.adders().values()), made.latency),
    )
    return {name: f"{value:.10g}" for name, value in zip(STRUCTURE, values, strict=True)}


def _of_family(family: Family, network: Path, bytewise: Path, routed: bool) -> dict[str, str]:
    part = find_part(PARTS[family])
    home = network.parent / family.value
    home.mkdir()
    used = synthesize((network,), MODULE, part, home, lambda _: None)
    cells = read_synthesized(home).found.resources
    counts = {kind.value: str(int(cells[kind].used) if kind in cells else 0) for kind in COUNTED}
    fmax, router = "", ""
    if routed and family.routed:
        there = network.parent / f"{family.value}-routed"
        there.mkdir()
        synthesize((network, bytewise), STREAM, part, there, lambda _: None)
        route(part, CLOCK_MHZ, there, (SEED,), None, lambda _: None)
        clock = read_routed(there, SEED).fmax_mhz
        fmax, router = (
            ("" if clock is None else f"{clock:.2f}"),
            _version(*routing_tools(part, False)),
        )
    return {
        "family": family.value,
        "part": part.name,
        **counts,
        "fmax_mhz": fmax,
        "yosys": used.version,
        "nextpnr": router,
        "seconds": f"{used.seconds:.1f}",
    }


def _version(tool: Tool) -> str:
    return version(tool) or ""
