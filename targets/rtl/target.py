"""The target's options and what it does with a program."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from flow.errors import DoesNotFit, FlowError, Offence, UsageError
from flow.graph import Graph
from flow.metric import Fit, Kind, Metric, Told, Verdict
from flow.ops import Conv, Dense, IntArray, Requant
from flow.options import require_range
from flow.outline import Outline, outline
from flow.qtype import QType
from flow.report.layers import groups
from flow.surrogate.energy import ALONE, no_board, shipped_energies
from flow.surrogate.shift import NO_YOSYS
from flow.surrogate.store import shipped
from flow.target import LayerNote, Program, Simulation, Target
from flow.tools import Aside, Tool
from targets.rtl import gates, simulation, uart
from targets.rtl.counts import count_estimates
from targets.rtl.estimate import (
    Work,
    core_energy,
    energies,
    estimate_metrics,
    fit_of,
    require_room,
)
from targets.rtl.figures import hardware, of_layer, speed
from targets.rtl.implement.fit import TooLarge
from targets.rtl.implement.implement import (
    CORE_POWER,
    Implementation,
    implement,
    implement_tools,
    read_implementation,
)
from targets.rtl.implement.origins import Origins
from targets.rtl.implement.parts import Family, Part, find_part, part_names
from targets.rtl.lower import offences, trace
from targets.rtl.netlist import Netlist, netlist
from targets.rtl.origins import origins
from targets.rtl.ports import Ports, Timing
from targets.rtl.requants import ways
from targets.rtl.simulation import Simulator
from targets.rtl.solver import Solver
from targets.rtl.stream import MODULE, stream
from targets.rtl.structure import Counted
from targets.rtl.uart import Serial, Wrapper
from targets.rtl.verilog import emit, register_bits

FACTS = "rtl.json"
IMPLEMENTATION = "implementation"  # the folder of what Yosys and nextpnr left
NUMBERS = ("latency", "stages", "depth", "register_bits")


@dataclass(frozen=True)
class Rtl(Target):
    """Pipelined Verilog of the whole network, unrolled: a new input every clock cycle.

    `clock_mhz` is what the clock is meant to be; it changes no Verilog. With a `part` the byte
    stream's module is synthesized for it by Yosys, and, for iCE40 and ECP5, placed and routed by
    nextpnr with the seeds 1 to `seeds`, of which the fastest is kept; `bitstream` packs that one.
    `latency_cutoff` is the most adders behind each other in one pipeline stage (0: no pipeline);
    `carry_size` the bits of carry that count as one adder of delay and `adder_size` those that
    count as one of cost, both as da4ml has them, -1 for adders of any width. Networks of more than
    `max_products` products are refused.

    The `wrapper` is the top module, with its bytes as ports, or behind a serial line of `baud`.
    With `gates` the synthesized netlist is simulated too, on some vectors.
    """

    name: ClassVar[str] = "rtl"

    clock_mhz: float = 48.0
    latency_cutoff: int = 5
    carry_size: int = -1
    adder_size: int = -1
    max_products: int = 300_000
    simulator: Simulator = Simulator.AUTO
    wrapper: Wrapper = Wrapper.STREAM
    baud: int = 115_200
    part: str = ""
    gates: bool = True
    seeds: int = 1
    bitstream: bool = False

    def __post_init__(self) -> None:
        require_range("clock_mhz", self.clock_mhz, 1, 1000)
        require_range("latency_cutoff", self.latency_cutoff, 0, 1000)
        require_range("carry_size", self.carry_size, -1, 1000)
        require_range("adder_size", self.adder_size, -1, 1000)
        require_range("max_products", self.max_products, 1, 10_000_000)
        require_range("seeds", self.seeds, 1, 16)
        _ = self._serial  # refuses a rate
        if (part := self._part) is not None:
            implement_tools(part, self.bitstream)
        elif self.bitstream:
            raise UsageError(
                f"option bitstream is of a part: set part to one of {', '.join(part_names())}"
            )

    @property
    def _part(self) -> Part | None:
        """Raises UsageError where it is none that is known."""
        return find_part(self.part) if self.part else None

    @property
    def _serial(self) -> Serial | None:
        """Raises UsageError where the clock cannot make the rate."""
        if self.wrapper is Wrapper.STREAM:
            return None
        return Serial.of(self.clock_mhz, self.baud)

    @property
    def _sources(self) -> tuple[str, ...]:
        """The files that are synthesized."""
        return ("network.v", "stream.v", *([] if self._serial is None else ["uart.v"]))

    def check(self, graph: Graph) -> list[Offence]:
        return offences(graph, self.max_products) or self.simulator.offences(graph)

    def tools(self) -> tuple[Tool, ...]:
        part = self._part
        made = () if part is None else implement_tools(part, self.bitstream)
        pins = () if self._serial is None else Simulator.VERILATOR.tools()
        return tuple(dict.fromkeys((*self.simulator.tools(), *pins, *made)))

    def packages(self) -> tuple[str, ...]:
        pins = () if self._serial is None else Simulator.VERILATOR.packages()
        return tuple(dict.fromkeys(("da4ml", "numba", "numpy", *self.simulator.packages(), *pins)))

    def emit(self, program: Program, folder: Path) -> list[str]:
        graph = program.graph
        made, ports = self._network(graph, ()), Ports.of(graph)
        work = Work.of(made, ports)
        part = self._part
        if part is not None:  # before any tool runs
            with _named(made.adders()):
                require_room(work, part)
        self._write(made, ports, folder)
        if (serial := self._serial) is not None:
            uart.write(folder, serial)
        adders = dict(made.adders())
        facts = {
            "latency": made.latency,
            "stages": made.count,
            "depth": made.depth,
            "register_bits": register_bits(made, ports),
            "adders": adders,
            "work": vars(work),
        }
        (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
        size = (folder / "rtl" / "network.v").stat().st_size
        program.note(f"building the simulation of {size / 1e6:.1f} MB of Verilog")
        with Aside() as aside:
            aside.start(lambda: simulation.build(folder, ports, made.latency, self.simulator))
            if serial is not None:
                aside.start(lambda: uart.build(folder, serial))
            if part is None:
                return []
            network = folder / "rtl" / "network.v"
            others = frozenset(name for name in self._sources if name != network.name)
            known = origins(made, _layer_of(graph), network, others)
            with _named(adders):
                return self._implement(
                    folder, part, made.latency, ports, known, program.note, aside
                )

    def _implement(
        self,
        folder: Path,
        part: Part,
        latency: int,
        ports: Ports,
        known: Origins,
        note: Callable[[str], None],
        aside: Aside,
    ) -> list[str]:
        """Synthesis, place and route in `folder`, the gates' simulation aside; gives warnings for
        the user."""
        home = folder / IMPLEMENTATION
        home.mkdir()
        said: list[Future[str]] = []

        def synthesized() -> None:
            if self.gates:
                note("building the simulation of the gates")
                how = self.simulator, self._serial
                build = partial(gates.build, folder, home, part, ports, latency, *how)
                said.append(aside.start(build))

        made = implement(
            tuple(folder / "rtl" / name for name in self._sources),
            MODULE if self._serial is None else uart.MODULE,
            part,
            self.clock_mhz,
            home,
            tuple(range(1, self.seeds + 1)),
            note,
            self.bitstream,
            origins=known,
            synthesized=synthesized,
        )
        missed = ["the clock that was asked for is MISSED: see fmax"] if made.clock_missed else []
        return [*made.notes, *missed, *(text for one in said if (text := one.result()))]

    def require_done(self, folder: Path) -> None:
        if self.part:
            try:
                read_implementation(folder / IMPLEMENTATION).require_clock()
            except DoesNotFit as error:
                raise DoesNotFit(f"{error}\nthe artifact is in {folder}, and says so") from error

    def _network(self, graph: Graph, names: tuple[str, ...]) -> Netlist:
        """The hardware, with the values `names` as outputs instead of the graph's, where any are
        given."""
        solver = Solver(self.adder_size, self.carry_size)
        wanted = names or (graph.output.name,)
        return netlist(graph, solver, trace(graph, solver), wanted, self.latency_cutoff)

    def _write(self, made: Netlist, ports: Ports, folder: Path) -> None:
        """Write the hardware into `folder`."""
        timing = Timing.of(made.latency, ports)
        (folder / "rtl").mkdir()
        family = None if self._part is None else self._part.family
        (folder / "rtl" / "network.v").write_text(emit(made, ports, family=family))
        (folder / "rtl" / "stream.v").write_text(stream(ports, made.latency))
        (folder / "rtl" / "io.json").write_text(
            json.dumps(_described(ports, timing, self._serial), indent=2)
        )

    def simulation(self, graph: Graph, folder: Path) -> Simulation:
        ports, serial = Ports.of(graph), self._serial
        timing = Timing.of(_facts(folder)["latency"], ports)
        beside = [] if serial is None else [uart.beside(folder / uart.FOLDER, ports, serial)]
        beside += gates.beside(folder, ports, timing, serial)
        return simulation.RtlSimulation(
            graph, folder, timing, lambda codes: self._trace(graph, codes), beside
        )

    def _trace(self, graph: Graph, codes: IntArray) -> dict[str, IntArray]:
        """The codes of every layer, from hardware with all of them as outputs."""
        names = tuple(node.output.name for node in graph.nodes)
        ports = Ports.of(graph, names)
        with tempfile.TemporaryDirectory(prefix="bitwright-") as work:
            made = self._network(graph, names)
            self._write(made, ports, Path(work))
            program = simulation.build(Path(work), ports, made.latency, self.simulator)
            (flat,), _ = simulation.simulate(program, ports, codes, (simulation.ALONE,))
        shapes = [graph.value(name).shape for name in names]
        parts = np.split(flat, np.cumsum([prod(shape) for shape in shapes])[:-1], axis=1)
        return {
            name: part.reshape(len(codes), *shape)
            for name, part, shape in zip(names, parts, shapes, strict=True)
        }

    def estimate(self, network: Outline, graph: Graph | None) -> Told:
        """With a graph its hardware is laid out, which takes as long as in a compile."""
        every = "a new input every cycle, whatever the network is"
        interval = Metric("interval", 1, "cycles", Kind.MEASURED, every)
        if network.unknown:
            why = network.why_unknown
            return self._untold((), why)
        if graph is None:
            why = "the sums depend on the weights; give a trained network as a file"
            return self._untold((interval, *self._energies(network, None, None)), why)
        made, ports = self._network(graph, ()), Ports.of(graph)
        timing, laid = Timing.of(made.latency, ports), "counted in the pipeline as it is laid out"
        counts = {
            "latency_cycles": (timing.latency, "cycles"),
            "latency through bytes": (timing.stream_latency, "cycles"),
            "interval through bytes": (timing.stream_interval, "cycles"),
            "register bits": (register_bits(made, ports), "1"),
            "adders": (sum(made.adders().values()), "1"),
        }
        found = [
            Metric(name, count, unit, Kind.MEASURED, laid) for name, (count, unit) in counts.items()
        ]
        work = Work.of(made, ports)
        energies = self._energies(network, work, timing)
        part = self._part
        families = list(Family) if part is None else [part.family]
        told = count_estimates(Counted.of(made, ports), families, shipped())
        if part is None:
            return Told((*found, interval, *told.metrics, *energies), told.unknown)
        unknown = dict(told.unknown)
        if not part.family.routed:
            unknown["lut by Vivado"] = NO_YOSYS
        if part.device not in shipped_energies().boards and part.draw is None:
            unknown[ALONE] = no_board(part.device)
        metrics = (*found, interval, *told.metrics, *estimate_metrics(work, part), *energies)
        return Told(metrics, unknown, fit_of(work, part))

    def _untold(self, metrics: tuple[Metric, ...], why: str) -> Told:
        """Where no pipeline can be laid out."""
        fit = Verdict(self.part, Fit.MAY_NOT, why) if self.part else None
        return Told(metrics, dict.fromkeys(("latency_cycles", "adders", ALONE), why), fit)

    def _energies(
        self, network: Outline, work: Work | None, timing: Timing | None
    ) -> tuple[Metric, ...]:
        return tuple(energies(network, work, self._part, self.clock_mhz, timing))

    def metrics(self, graph: Graph, folder: Path) -> list[Metric]:
        facts = _facts(folder)
        ports = Ports.of(graph)
        timing = Timing.of(facts["latency"], ports)
        made = read_implementation(folder / IMPLEMENTATION) if self.part else None
        work = Work(**facts["work"])
        simulated = "simulated, and as predicted"
        counted = "counted in the Verilog, before synthesis"
        return [
            Metric("latency_cycles", timing.latency, "cycles", Kind.MEASURED, simulated),
            Metric("interval", timing.interval, "cycles", Kind.MEASURED, simulated),
            Metric(
                "latency through bytes",
                timing.stream_latency,
                "cycles",
                Kind.MEASURED,
                f"first byte in to last byte out; {simulated}",
            ),
            Metric(
                "interval through bytes", timing.stream_interval, "cycles", Kind.MEASURED, simulated
            ),
            Metric("register bits", facts["register_bits"], "1", Kind.MEASURED, counted),
            Metric("adders", sum(facts["adders"].values()), "1", Kind.MEASURED, counted),
            *speed(timing, self.clock_mhz, made),
            *([] if made is None else (*estimate_metrics(work, made.part), *hardware(made))),
            *self._energy(graph, work, timing, made),
        ]

    def _energy(
        self, graph: Graph, work: Work, timing: Timing, made: Implementation | None
    ) -> Iterator[Metric]:
        """As estimated before; of the core by the cells that it has, where they were counted."""
        for metric in self._energies(outline(graph), work, timing):
            if not metric.name.startswith("core "):
                yield metric
        if made is not None:
            seconds = timing.stream_interval / (1e6 * made.clock_mhz)
            yield from (core_energy(m, seconds) for m in made.timing() if m.name == CORE_POWER)

    def layers(self, graph: Graph, folder: Path) -> Mapping[str, LayerNote]:
        adders = _facts(folder)["adders"]
        made = read_implementation(folder / IMPLEMENTATION) if self.part else None
        heads = set(_layer_of(graph).values())
        found = {}
        for node in graph.nodes:
            counted = "sums and comparisons in the Verilog, before synthesis"
            metric = Metric("adders", adders.get(node.name, 0), "1", Kind.MEASURED, counted)
            form, width = "", None
            if isinstance(node.op, Requant):
                chosen = ways(node.op, node.output.shape[0], graph.bounds[node.inputs[0]])
                widest = max(chosen, key=lambda way: way.width)
                form, width = str(widest), widest.width
            low, high = graph.bounds[node.output.name]
            bits = QType.covering(int(low.min()), int(high.max())).bits
            accumulator = bits if isinstance(node.op, Dense | Conv) else None
            more = of_layer(made, node.name) if made and node.name in heads else ()
            found[node.name] = LayerNote(form, width, accumulator, (metric, *more))
        return found


@contextmanager
def _named(adders: Mapping[str, int]) -> Iterator[None]:
    """Where a design is too large, the layer that takes most of it is named."""
    try:
        yield
    except TooLarge as error:
        most = max(adders, key=lambda layer: adders[layer])
        raise DoesNotFit(
            f"{error}\nof {sum(adders.values())} adders {adders[most]} are of the layer {most}: "
            f"give it fewer bits or outputs, or take a larger part"
        ) from error


def _layer_of(graph: Graph) -> dict[str, str]:
    """The layer of the reports that each node is of."""
    return {node.name: group[0].name for group in groups(graph) for node in group}


def _facts(folder: Path) -> dict[str, Any]:
    """Raises FlowError where the artifact does not hold them."""
    try:
        facts = json.loads((folder / FACTS).read_text())
        numbers = {name: int(facts[name]) for name in NUMBERS}
        counts = ((key, facts[key].items()) for key in ("adders", "work"))
        return {**numbers, **{key: {str(k): int(v) for k, v in of} for key, of in counts}}
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise FlowError(f"{folder / FACTS} cannot be read: {error!r}; compile again") from error


def _described(ports: Ports, timing: Timing, serial: Serial | None) -> dict[str, Any]:
    """io.json: how a host packs codes, and when outputs come."""
    return {
        "packing": "entry j of the flattened shape is `bits` bits from bit j*bits on, two's "
        "complement where signed; byte i is bits 8*i to 8*i+7, bit 8*i its lowest; the last byte "
        "is filled up with zeros",
        "input": ports.inputs.to_json(),
        "output": ports.outputs.to_json(),
        "cycles": {
            "network latency": timing.latency,
            "network interval": timing.interval,
            "stream latency": timing.stream_latency,
            "stream interval": timing.stream_interval,
        },
        **({} if serial is None else {"uart": serial.to_json()}),
    }
