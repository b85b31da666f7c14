"""What a vendor tool reported of one design at one stage, in the same fields for every tool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from flow.metric import Interval, Kind, Metric


class Stage(Enum):
    """How far a design was when it was reported, in this order."""

    C_SYNTHESIS = "C synthesis"
    COSIMULATION = "RTL co-simulation"
    LOGIC_SYNTHESIS = "logic synthesis"
    PLACED = "placement"
    ROUTED = "place and route"


class Resource(Enum):
    """What a design uses of a part. `bram_18k` counts half tiles of AMD's block RAM; `ram` blocks
    of RAM of whatever size the part has (Intel's M20K and M10K, Lattice's EBR); `lc` is an iCE40
    logic cell, of a LUT, a carry and a flip-flop."""

    LUT = "lut"
    FF = "ff"
    DSP = "dsp"
    BRAM_18K = "bram_18k"
    URAM = "uram"
    ALM = "alm"
    ALUT = "alut"
    MLAB = "mlab"
    LC = "lc"
    CARRY = "carry"
    RAM = "ram"


@dataclass(frozen=True)
class Count:
    """How much is used of what the part has; None where the report does not say what it has."""

    used: float
    available: float | None = None

    @property
    def share(self) -> float | None:
        """Infinite where something is used of which the part has none."""
        if self.available is None:
            return None
        if self.available == 0:
            return 0.0 if self.used == 0 else float("inf")
        return self.used / self.available


@dataclass(frozen=True)
class Clock:
    """A clock's period that was asked for, and the shortest one that the tool holds to work."""

    name: str
    target_ns: float | None
    achieved_ns: float | None

    @property
    def fmax_mhz(self) -> float | None:
        return 1000 / self.achieved_ns if self.achieved_ns else None

    @property
    def missed(self) -> bool:
        if self.target_ns is None or self.achieved_ns is None:
            return False
        return self.achieved_ns > self.target_ns * (1 + 1e-9)


@dataclass(frozen=True)
class Cycles:
    """From `low` to `high` clock cycles."""

    low: int
    high: int

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low} to {self.high}"


@dataclass(frozen=True)
class Power:
    """Watts, and how far the tool trusts the activity that they were computed from."""

    total_w: float
    dynamic_w: float
    static_w: float
    confidence: str


@dataclass(frozen=True)
class Module:
    """One instance or module of the design; `layer` is the network's that it is of, and `part`
    tells modules of one layer apart that do not lie inside each other, where that is known."""

    name: str
    resources: Mapping[Resource, float]
    latency: Cycles | None = None
    interval: Cycles | None = None
    layer: str | None = None
    part: str | None = None


# What is expected of one tool's counts stands under names of its own: they are not another's.
HLS_REPORT, BY_VIVADO = "in HLS report", "by Vivado"


@dataclass(frozen=True)
class Synthesis:
    """A report, or all reports of one stage. What the reports do not say is None or empty.
    `violations` are those of timing, other than a clock's own period."""

    tool: str
    version: str | None
    stage: Stage
    files: tuple[str, ...]
    design: str | None = None
    part: str | None = None
    date: datetime | None = None
    clocks: tuple[Clock, ...] = ()
    latency: Cycles | None = None
    interval: Cycles | None = None
    resources: Mapping[Resource, Count] = field(default_factory=dict)
    modules: tuple[Module, ...] = ()
    power: Power | None = None
    violations: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def by(self) -> str:
        """The tool, its version, and the stage."""
        return f"{self.tool} {self.version or '(no version)'}, {self.stage.value}"

    @property
    def clock(self) -> Clock | None:
        """The one that is nearest to its limit, or furthest beyond it."""
        known = [c for c in self.clocks if c.target_ns is not None and c.achieved_ns is not None]
        if not known:
            return self.clocks[0] if self.clocks else None
        return max(known, key=lambda clock: (clock.achieved_ns or 0) / (clock.target_ns or 1))

    def problems(self) -> list[str]:
        """Where the design does not fit the part or misses a clock."""
        large = [
            f"{kind.value}: {count.used:.10g} of {count.available:.10g}"
            for kind, count in self.resources.items()
            if count.share is not None and count.share > 1
        ]
        slow = [
            f"clock {clock.name}: needs {clock.achieved_ns:.3f} ns, {clock.target_ns:g} ns asked"
            for clock in self.clocks
            if clock.missed
        ]
        return [*large, *slow, *(f"clock {violation}" for violation in self.violations)]

    def metrics(self) -> list[Metric]:
        """Every number with what it is worth, see `_metrics`."""
        return list(_metrics(self))

    def of_layers(self) -> dict[str, list[Metric]]:
        """What each layer uses, by the modules that are known to be of one: of modules of the same
        part the largest, as it holds the others, or is the same one at another place."""
        parts: dict[tuple[str, str], dict[Resource, float]] = {}
        for module in self.modules:
            if module.layer is not None:
                used = parts.setdefault((module.layer, module.part or module.name), {})
                for kind, count in module.resources.items():
                    used[kind] = max(used.get(kind, 0), count)
        found: dict[str, dict[Resource, float]] = {}
        for (layer, _), used in parts.items():
            total = found.setdefault(layer, {})
            for kind, count in used.items():
                total[kind] = total.get(kind, 0) + count
        counted = self.stage in _MEASURED
        kind_ = Kind.MEASURED if counted else Kind.ASSUMED
        says = "counted by the tool" if counted else "the tool's estimate"
        source = f"{self.by}: {says}, of the modules that are called after the layer"
        return {
            layer: [Metric(kind.value, count, "1", kind_, source) for kind, count in total.items()]
            for layer, total in found.items()
        }

    @property
    def account(self) -> str:
        """Behind a resource's name, what its count was expected under; empty where it was not."""
        if self.stage is Stage.C_SYNTHESIS:
            return HLS_REPORT if self.tool.endswith("HLS") else ""
        return BY_VIVADO if self.tool == "Vivado" else ""

    def to_json(self) -> dict[str, Any]:
        return {
            "tool": self.tool,
            "version": self.version,
            "stage": self.stage.value,
            "design": self.design,
            "part": self.part,
            "date": self.date and self.date.isoformat(),
            "clocks": [
                {
                    "name": clock.name,
                    "target_ns": clock.target_ns,
                    "achieved_ns": clock.achieved_ns,
                    "fmax_mhz": clock.fmax_mhz,
                }
                for clock in self.clocks
            ],
            "latency": _cycles_json(self.latency),
            "interval": _cycles_json(self.interval),
            "resources": {
                kind.value: {"used": count.used, "available": count.available}
                for kind, count in self.resources.items()
            },
            "modules": [
                {
                    "name": module.name,
                    "resources": {kind.value: used for kind, used in module.resources.items()},
                    "latency": _cycles_json(module.latency),
                    "interval": _cycles_json(module.interval),
                    "layer": module.layer,
                    "part": module.part,
                }
                for module in self.modules
            ],
            "power": self.power
            and {
                "total_w": self.power.total_w,
                "dynamic_w": self.power.dynamic_w,
                "static_w": self.power.static_w,
                "confidence": self.power.confidence,
            },
            "violations": list(self.violations),
            "metrics": [metric.to_json() for metric in self.metrics()],
            "problems": self.problems(),
            "notes": list(self.notes),
            "files": list(self.files),
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Synthesis:
        """The inverse of `to_json`; what follows from the rest is not read.

        Raises:
            KeyError, TypeError, ValueError: the row is none.
        """
        return cls(
            row["tool"],
            row["version"],
            Stage(row["stage"]),
            tuple(row["files"]),
            design=row["design"],
            part=row["part"],
            date=datetime.fromisoformat(row["date"]) if row["date"] else None,
            clocks=tuple(
                Clock(clock["name"], clock["target_ns"], clock["achieved_ns"])
                for clock in row["clocks"]
            ),
            latency=_cycles(row["latency"]),
            interval=_cycles(row["interval"]),
            resources={
                Resource(kind): Count(count["used"], count["available"])
                for kind, count in row["resources"].items()
            },
            modules=tuple(
                Module(
                    module["name"],
                    {Resource(kind): used for kind, used in module["resources"].items()},
                    _cycles(module["latency"]),
                    _cycles(module["interval"]),
                    module["layer"],
                    module["part"],
                )
                for module in row["modules"]
            ),
            power=Power(**row["power"]) if row["power"] else None,
            violations=tuple(row["violations"]),
            notes=tuple(row["notes"]),
        )


def _cycles_json(cycles: Cycles | None) -> dict[str, int] | None:
    return None if cycles is None else {"min": cycles.low, "max": cycles.high}


def _cycles(row: dict[str, int] | None) -> Cycles | None:
    return None if row is None else Cycles(row["min"], row["max"])


# What is left after implementation of what C synthesis announced: quantiles 0.05 and 0.95 of the
# ratio, designs weighing the same. Recomputed by tests/report/vendor/test_c_synthesis_error.py.
IMPLEMENTED_SHARE = {
    Resource.LUT: (0.234, 0.771),
    Resource.FF: (0.286, 0.996),
    Resource.DSP: (0.500, 1.061),
}
_IMPLEMENTED = (
    "the interval is what implementation left in 90 % of 57 generic designs (quickest, BSD-3-Clause"
)
IMPLEMENTED_COVERAGE = 0.9
# A tool's own accounts of its netlist and of the paths through it.
_MEASURED = frozenset({Stage.LOGIC_SYNTHESIS, Stage.PLACED, Stage.ROUTED})


def _metrics(found: Synthesis) -> Iterator[Metric]:
    """From logic synthesis on the tool counts its own netlist: measured. What C synthesis announces
    is an estimate, and assumed where no data say how far it is off; so is all power, which stands
    on assumed activity. Co-simulation ran the RTL: measured."""
    for kind, count in found.resources.items():
        yield _resource(found, kind, count.used)
    worst = found.clock
    if worst is not None and worst.target_ns is not None:
        source = f"{found.by}: the constraint on {worst.name}"
        yield Metric("clock target", worst.target_ns, "ns", Kind.ASSUMED, source)
    if worst is not None and worst.achieved_ns is not None:
        kind_ = Kind.MEASURED if found.stage in _MEASURED else Kind.ASSUMED
        source = f"{found.by}: static timing of {worst.name}"
        yield Metric("clock", worst.achieved_ns, "ns", kind_, source)
        yield Metric("fmax", 1000 / worst.achieved_ns, "MHz", kind_, source)
    for name, cycles in (("latency", found.latency), ("interval", found.interval)):
        if cycles is None:
            continue
        ran = found.stage is Stage.COSIMULATION
        kind_ = Kind.MEASURED if ran else Kind.ASSUMED
        ends = "" if cycles.low == cycles.high else f", from {cycles.low}"
        source = f"{found.by}: {'simulated' if ran else 'the schedule, worst case'}{ends}"
        yield Metric(name, cycles.high, "cycles", kind_, source)
    if found.power is not None:
        source = f"{found.by}: from assumed activity, confidence {found.power.confidence}"
        for name, watts in (
            ("power", found.power.total_w),
            ("dynamic power", found.power.dynamic_w),
            ("static power", found.power.static_w),
        ):
            yield Metric(name, watts, "W", Kind.ASSUMED, source)


def _resource(found: Synthesis, kind: Resource, used: float) -> Metric:
    if found.stage in _MEASURED:
        return Metric(kind.value, used, "1", Kind.MEASURED, f"{found.by}: counted by the tool")
    if kind not in IMPLEMENTED_SHARE or not found.tool.endswith("HLS"):
        return Metric(kind.value, used, "1", Kind.ASSUMED, f"{found.by}: the tool's estimate")
    low, high = IMPLEMENTED_SHARE[kind]
    source = f"{found.by}: the tool's estimate; {_IMPLEMENTED})"
    interval = Interval(low * used, high * used, IMPLEMENTED_COVERAGE)
    return Metric(kind.value, used, "1", Kind.ESTIMATED, source, interval)
