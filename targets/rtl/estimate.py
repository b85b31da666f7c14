"""How much of a part a network will take, told from its operations, before any synthesis.

What Yosys makes of them goes with the bits that are added, chosen and held; how much it takes for
one depends on what it can simplify. `estimate.csv` holds both for several designs, as counted by
`make rtl-estimate`. Between the least and the most of these ratios, each moved outwards by `WIDER`,
lies the estimate. Only where even its lower end is more than the part has is a design refused.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from math import sqrt

from flow.metric import Fit, Interval, Kind, Metric, Verdict
from flow.outline import Outline
from flow.qtype import QType
from flow.report.vendor.synthesis import Resource
from flow.surrogate import energy
from flow.surrogate.fits import Need, verdict
from flow.surrogate.structure import Range
from targets.rtl.diagram import diagram
from targets.rtl.implement.fit import Excess, TooLarge, taken
from targets.rtl.implement.implement import CORE_POWER, called
from targets.rtl.implement.parts import Family, Part
from targets.rtl.netlist import Kind as Does
from targets.rtl.netlist import Netlist, Operation
from targets.rtl.ports import Ports, Timing
from targets.rtl.verilog import register_bits

TABLE = "estimate.csv"
COUNTED = (Resource.LUT, Resource.FF, Resource.CARRY)
WIDER = 1.5  # the factor by which either end of the table is moved outwards


@dataclass(frozen=True)
class Work:
    """Bits that a design computes, in sums, choices and gates of tables, and bits that it holds, in
    the network and in the byte stream around it."""

    logic: int
    held: int

    @classmethod
    def of(cls, made: Netlist, ports: Ports) -> Work:
        stream = 8 * (ports.inputs.bytes + ports.outputs.bytes) + made.latency
        others = (o for o in made.operations if o.kind is not Does.TABLE)
        logic = sum(_bits(made.operations, operation) for operation in others)
        tables = (o for o in made.operations if o.kind is Does.TABLE)
        gates = table_gates(made.operations, tables)
        return cls(logic + gates, register_bits(made, ports) + stream)

    def bits(self, kind: Resource) -> int:
        """Those with which a resource's count goes; at least 1."""
        return max(self.held if kind is Resource.FF else self.logic, 1)


@dataclass(frozen=True)
class Row:
    """One design of the table, as Yosys counted it for a part of the family."""

    design: str
    family: Family
    work: Work
    counted: Mapping[Resource, int]

    @property
    def taken(self) -> dict[Resource, float]:
        """What it takes of a part."""
        return taken(self.counted, self.family)


def estimates(work: Work, family: Family, rows: Sequence[Row]) -> dict[Resource, Interval]:
    """What a design will take of a part; `coverage` is that of the n designs of the table: one more
    lies between the least and the most with probability (n-1)/(n+1), being drawn as they are."""
    known = [row for row in rows if row.family is family]
    coverage = (len(known) - 1) / (len(known) + 1)
    found = {}
    for kind in known[0].taken:
        ratios = [row.taken[kind] / row.work.bits(kind) for row in known]
        low, high = min(ratios) / WIDER, max(ratios) * WIDER
        found[kind] = Interval(low * work.bits(kind), high * work.bits(kind), coverage)
    return found


def estimate_metrics(work: Work, part: Part) -> list[Metric]:
    """The estimates as shares of the part, under the names of what is counted later; their value is
    the interval's geometric middle."""
    rows = table()
    source = (
        f"bits in the Verilog, times what Yosys made of those of "
        f"{sum(row.family is part.family for row in rows)} other designs, from the least to the "
        f"most, either moved outwards by {WIDER:g} times"
    )
    return [
        Metric(
            f"{called(kind, part)} share",
            100 * sqrt(found.low * found.high) / part.has[kind].count,
            "%",
            Kind.ESTIMATED,
            source,
            Interval(
                100 * found.low / part.has[kind].count,
                100 * found.high / part.has[kind].count,
                found.coverage,
            ),
        )
        for kind, found in estimates(work, part.family, rows).items()
    ]


def energies(
    network: Outline, work: Work | None, part: Part | None, clock_mhz: float, timing: Timing | None
) -> Iterator[Metric]:
    """Of one inference: of the logic, of the part's core where its currents were measured, and of a
    board where one with the part was. What depends on the weights is told with `work` and
    `timing`."""
    yield energy.switching(energy.unrolled(network), fabric=True)
    if part is None or work is None or timing is None:
        return
    latency, interval = (
        Range.exactly(cycles / (1e6 * clock_mhz))
        for cycles in (timing.stream_latency, timing.stream_interval)
    )
    yield from energy.boards(part.device, latency, interval)
    if part.draw is None or fit_of(work, part).fit is Fit.DOES_NOT:
        return
    found = estimates(work, part.family, table())
    least = max(each.low for each in found.values())
    most = sum(each.high for each in found.values())
    low, _ = part.draw.milliwatts(least, clock_mhz)
    _, high = part.draw.milliwatts(most, clock_mhz)
    source = (
        f"of {least:,.0f} to {most:,.0f} logic cells, as their LUTs, carries and flip-flops share "
        f"them, at clock_mhz={clock_mhz:g}; {part.draw.source}"
    )
    between = Interval(low, high, 1 / 3)
    power = Metric(CORE_POWER, sqrt(low * high), "mW", Kind.ESTIMATED, source, between)
    yield power
    yield core_energy(power, interval.low)


def core_energy(power: Metric, seconds: float) -> Metric:
    """Of one inference every so many seconds, of a core's power in milliwatts."""
    assert power.interval is not None
    times = 1e3 * seconds
    ends = times * power.interval.low, times * power.interval.high
    between = Interval(*ends, power.interval.coverage)
    source = f"{CORE_POWER} for {1e6 * seconds:.4g} us; {power.source}"
    return Metric("core energy", times * power.value, "uJ", Kind.ESTIMATED, source, between)


def fit_of(work: Work, part: Part) -> Verdict:
    """Whether the design fits, decided on the ends of the estimates: it has no DSPs and no RAM."""
    needs = {
        called(kind, part): Need(found.low, found.high, part.has[kind].count)
        for kind, found in estimates(work, part.family, table()).items()
    }
    return verdict(part.name, needs)


def require_room(work: Work, part: Part) -> None:
    """Raises TooLarge where the part has less than the lower end of an estimate: no synthesis is
    needed to tell. What is above that may or may not fit."""
    excess = [
        Excess(kind.value, int(found.low), part.has[kind].count, least=True)
        for kind, found in estimates(work, part.family, table()).items()
        if int(found.low) > part.has[kind].count
    ]
    if excess:
        raise TooLarge(part, excess, ", as an estimate from its Verilog tells before synthesis")


@cache
def table() -> tuple[Row, ...]:
    """The designs that were counted."""
    text = (resources.files("targets.rtl") / TABLE).read_text()
    return tuple(
        Row(
            row["design"],
            Family(row["family"]),
            Work(int(row["logic"]), int(row["held"])),
            {kind: int(row[kind.value]) for kind in COUNTED},
        )
        for row in csv.DictReader(text.splitlines())
    )


Table = tuple[tuple[int, ...], int, QType, int]  # entries, of which least value, its type, width


def table_gates(operations: Sequence[Operation], tables: Iterable[Operation]) -> int:
    """Gates of these tables among the operations."""
    # Equal ones, as at all places of a convolution, are looked at once.
    different = Counter(table_of(operations, table) for table in tables)
    return sum(count * _gates(table) for table, count in different.items())


def table_of(operations: Sequence[Operation], operation: Operation) -> Table:
    """What a table looks up."""
    source = operations[operation.operands[0]]
    given = QType(source.width, source.signed)
    return operation.table, operation.data, given, operation.width


def _gates(table: Table) -> int:
    return len(diagram(*table, "", "").gates)


def _bits(operations: Sequence[Operation], operation: Operation) -> int:
    """What an operation but a table adds or chooses."""
    kind, width = operation.kind, operation.width
    if kind is Does.PRODUCT:
        first, second = (operations[i].width for i in operation.operands)
        return first * second
    adds = kind in (Does.SUM, Does.OFFSET, Does.MUX, Does.RELU) or operation.negated
    return width if adds else 0
