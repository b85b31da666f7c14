"""Verilog to a part: synthesis, the check that it fits, place and route, bitstream, numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.errors import DoesNotFit, UsageError
from flow.metric import Interval, Kind, Metric
from flow.options import require_range
from flow.report.vendor.synthesis import Count, Resource, Synthesis
from flow.tools import YOSYS, Tool, require
from targets.rtl.implement.accounts import Account, Accounts, read_accounts, write_accounts
from targets.rtl.implement.fit import TooLarge, demand, excess
from targets.rtl.implement.origins import Origins, read_parts
from targets.rtl.implement.parts import Family, Part, find_part
from targets.rtl.implement.programs import Used
from targets.rtl.implement.routing import (
    Routed,
    drop_layouts,
    pack,
    read_routed,
    require_bitstream,
    route,
    routing_tools,
)
from targets.rtl.implement.synthesis import (
    DESIGN,
    read_synthesized,
    synthesize,
    uses_multipliers,
)

SUMMARY = "implementation.json"
_SEEDS = 100
_FOUR_INPUTS = frozenset({Family.ICE40, Family.ECP5})  # whose LUTs are of 4 inputs


@dataclass(frozen=True)
class Implementation:
    """What came of a design. `synthesis` is what Yosys counted, `needed` what that takes of the
    part; `routed` are the results of the seeds, of which `best` is kept: none for a part that is
    synthesized only. `used` are the programs that ran, `accounts` what the parts of the design
    take, where their origins were given."""

    part: Part
    top: str
    clock_mhz: float
    synthesis: Synthesis
    needed: Mapping[Resource, Count]
    ports: int
    routed: tuple[Routed, ...]
    best: Routed | None
    bitstream: Path | None
    used: tuple[Used, ...]
    notes: tuple[str, ...]
    accounts: Accounts | None = None

    @property
    def synthesized_by(self) -> str:
        """Where counts are from, for sources of figures."""
        return f"{self.synthesis.by}: counted by the tool"

    @property
    def routed_by(self) -> str:
        """The router and its version. The design must have been routed."""
        router = next(one for one in self.used if one.tool.startswith("nextpnr"))
        return f"{router.tool} {router.version}"

    @property
    def counted(self) -> tuple[Resource, ...]:
        """What is counted for the part, used or not."""
        plain = (Resource.LUT, Resource.FF, Resource.CARRY, Resource.DSP)
        return (*plain, *_memories(self.part))

    def count(self, kind: Resource) -> float:
        """Cells of the netlist."""
        return self.synthesis.resources.get(kind, Count(0)).used

    @property
    def fastest(self) -> list[float]:
        """The clock of each seed, in MHz."""
        return [one.fmax_mhz for one in self.routed if one.fmax_mhz is not None]

    @property
    def spread(self) -> Interval | None:
        """From the slowest to the fastest of n seeds (MHz): one more lies between them with
        probability (n-1)/(n+1), the seeds being as good as drawn."""
        n = len(self.fastest)
        return Interval(min(self.fastest), max(self.fastest), (n - 1) / (n + 1)) if n > 1 else None

    @property
    def clock_missed(self) -> bool:
        return self.best is not None and bool(self.best.missed)

    def require_clock(self) -> None:
        """Raises DoesNotFit where the best seed is slower than the clock that was asked for; the
        files are there nevertheless, and the bitstream's name says so."""
        if self.best is None or not self.best.missed:
            return
        slow = "".join(
            f"\n  {clock_name(clock.name)}: {clock.fmax_mhz:.2f} MHz, "
            f"{1000 / clock.target_ns:g} MHz asked"
            for clock in self.best.missed
            if clock.fmax_mhz is not None and clock.target_ns is not None
        )
        seeds = len(self.routed)
        raise DoesNotFit(
            f"the design misses its clock on {self.part.name}, by the best of {seeds} "
            f"seed{'s' if seeds > 1 else ''}:{slow}"
        )

    def metrics(self) -> list[Metric]:
        """Every number, measured, with the tool that it is from."""
        return [*self.timing(), *self.counts(), *self.work()]

    def timing(self) -> list[Metric]:
        """The clock, and the paths that set it."""
        return list(_timing(self))

    def counts(self) -> list[Metric]:
        """Cells, and their share of the part."""
        return list(_counts(self))

    def work(self) -> list[Metric]:
        """What the programs took."""
        return list(_work(self))


def implement_tools(part: Part, bitstream: bool) -> tuple[Tool, ...]:
    """The programs that `implement` needs for the part.

    Raises:
        UsageError: a bitstream is asked for a part that is synthesized only.
    """
    if bitstream:
        require_bitstream(part)
    return (YOSYS, *routing_tools(part, bitstream))


def implement(
    sources: tuple[Path, ...],
    top: str,
    part: Part,
    clock_mhz: float,
    folder: Path,
    seeds: tuple[int, ...],
    note: Callable[[str], None],
    bitstream: bool,
    pins: Path | None = None,
    origins: Origins | None = None,
    synthesized: Callable[[], None] = lambda: None,
) -> Implementation:
    """Bring the Verilog module `top` onto the part; all files, logs too, go into the empty
    `folder`. A clock that is missed is told by `Implementation.clock_missed`, not raised. `pins`
    holds constraints (PCF, LPF); without it nextpnr chooses the pins. With `origins` it is told
    what each part of the design takes. `synthesized` is called once the netlist is there and fits.

    Raises:
        UsageError: a bitstream for a part that is synthesized only, a clock or seeds out of range.
        ToolMissing, ToolFailed: a program is not there, too old, fails, or is killed.
        TooLarge: the design does not fit the part.
    """
    require_range("clock_mhz", clock_mhz, 0.01, 2000)
    if not 1 <= len(set(seeds)) == len(seeds) <= _SEEDS:
        raise UsageError(f"seeds must be 1 to {_SEEDS} different numbers, not {seeds}")
    for tool in implement_tools(part, bitstream):
        require(tool)
    used = [synthesize(sources, top, part, folder, note)]
    used += _without_multipliers(sources, top, part, folder, note)
    made = read_synthesized(folder)
    if too_much := excess(demand(made.found, part), made.ports, part):
        raise TooLarge(part, too_much)
    synthesized()
    parts = None if origins is None else read_parts(folder / DESIGN, top, origins)
    kept: tuple[int, ...] = seeds if part.family.routed else ()
    if kept:
        cells = sum(count.used for count in made.found.resources.values())
        used += route(part, clock_mhz, folder, kept, pins, note, cells)
    results = [read_routed(folder, seed) for seed in kept]
    if parts is not None:
        write_accounts(folder, parts, {one.seed: one.paths for one in results})
    best = _best(results)
    file = None
    if best is not None:
        drop_layouts(folder, kept, best.seed)
        if bitstream:
            packed, file = pack(part, folder, top, best, note)
            used.append(packed)
    notes = ["pins were chosen by nextpnr"] if best is not None and pins is None else []
    summary = {
        "part": part.name,
        "top": top,
        "clock_mhz": clock_mhz,
        "seeds": list(kept),
        "bitstream": file and file.name,
        "used": [one.to_json() for one in used],
        "notes": notes,
    }
    (folder / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n")
    return read_implementation(folder)


def read_implementation(folder: Path) -> Implementation:
    """What `implement` left in the folder; its numbers are read from the tools' own reports.

    Raises:
        UsageError: the folder holds none, or a damaged one.
    """
    try:
        body: dict[str, Any] = json.loads((folder / SUMMARY).read_text())
        part = find_part(body["part"])
        made = read_synthesized(folder)
        routed = tuple(read_routed(folder, int(seed)) for seed in body["seeds"])
        return Implementation(
            part,
            str(body["top"]),
            float(body["clock_mhz"]),
            made.found,
            demand(made.found, part),
            made.ports,
            routed,
            _best(routed),
            folder / Path(str(body["bitstream"])).name if body["bitstream"] else None,
            tuple(Used(**row) for row in body["used"]),
            tuple(str(text) for text in body["notes"]),
            read_accounts(folder),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder}/{SUMMARY} is damaged: {error!r}; compile again") from error


def _without_multipliers(
    sources: tuple[Path, ...], top: str, part: Part, folder: Path, note: Callable[[str], None]
) -> Iterator[Used]:
    """Synthesize once more, with multipliers of LUTs, where the part has too few DSPs."""
    found = read_synthesized(folder).found
    if not uses_multipliers(found):
        return
    count = demand(found, part)[Resource.DSP]
    if count.available is not None and count.used > count.available:
        note(f"{count.used:g} DSPs of {count.available:g}: synthesized again without them")
        yield synthesize(sources, top, part, folder, note, multipliers=False)


def _best(results: Sequence[Routed]) -> Routed | None:
    """The seed with the most room to its clock, the first of them; one without a clock is fine."""
    return max(results, key=lambda one: one.fmax_mhz or float("inf"), default=None)


def _counts(made: Implementation) -> Iterator[Metric]:
    by = made.synthesized_by
    for kind in made.counted:
        name = called(kind, made.part)
        yield Metric(name, made.count(kind), "1", Kind.MEASURED, by)
        needed = made.needed.get(kind)
        if needed is not None and needed.available:
            share, stock = 100 * needed.used / needed.available, made.part.has[kind]
            with_carries = needed.used != made.count(kind)
            more = f", with {needed.used:,g} for its carries too" if with_carries else ""
            source = f"{by}{more}; of the {stock.count:,} of {made.part.name}"
            yield Metric(f"{name} share", share, "%", Kind.MEASURED, source)
    bits = sum(made.count(kind) * (stock.bits or 0) for kind, stock in made.part.has.items())
    yield Metric("bram bits", bits, "bit", Kind.MEASURED, f"{by}; whole blocks")
    if made.best is not None:
        for kind, count in made.best.found.resources.items():
            source = f"{made.routed_by}: after placement"
            yield Metric(f"{kind.value} placed", count.used, "1", Kind.MEASURED, source)
            if count.used and count.share is not None:
                share, of = 100 * count.share, f"{source}; of the {count.available:,.0f} there"
                yield Metric(f"{kind.value} placed share", share, "%", Kind.MEASURED, of)


def _work(made: Implementation) -> Iterator[Metric]:
    for tool in dict.fromkeys(one.tool for one in made.used):
        runs = [one for one in made.used if one.tool == tool]
        source = f"{tool} {runs[0].version}: " + "; ".join(one.purpose for one in runs)
        seconds = sum(one.seconds for one in runs)
        yield Metric(f"{tool} time", seconds, "s", Kind.MEASURED, source)
        if peaks := [one.peak_bytes for one in runs if one.peak_bytes is not None]:
            each = "; the most of one run" if len(runs) > 1 else ""
            yield Metric(f"{tool} memory", max(peaks) / 2**20, "MiB", Kind.MEASURED, source + each)


def _timing(made: Implementation) -> Iterator[Metric]:
    """The clock of the kept seed; its interval is the spread over the seeds."""
    if made.best is None:
        return
    by = made.routed_by
    if made.best.clock is None or made.best.fmax_mhz is None:
        return
    source = f"{by}: static timing of {clock_name(made.best.clock.name)}, seed {made.best.seed}"
    if len(made.fastest) > 1:
        listed = ", ".join(f"{mhz:.2f}" for mhz in made.fastest)
        source += f", the best of {len(made.fastest)} ({listed})"
    yield Metric("fmax", made.best.fmax_mhz, "MHz", Kind.MEASURED, source, made.spread)
    target = f"option clock_mhz={made.clock_mhz:g}"
    yield Metric("clock target", 1000 / made.clock_mhz, "ns", Kind.ASSUMED, target)
    yield from _power(made)
    if made.accounts is not None:
        yield from _paths(made, made.accounts.paths.get(made.best.seed, ()))


CORE_POWER = "core power"


def _power(made: Implementation) -> Iterator[Metric]:
    """Of the core alone, from what others measured of two designs on the same part: one more lies
    between them with probability 1/3, being drawn as they were. Nothing is said of DSPs and RAM."""
    draw, best = made.part.draw, made.best
    extras = (Resource.DSP, *_memories(made.part))
    if draw is None or best is None or any(made.count(kind) for kind in extras):
        return
    cells = best.found.resources[Resource.LC].used
    low, high = draw.milliwatts(cells, made.clock_mhz)
    model = (
        f"model: {draw.static_ua:g} uA + {draw.clock_ua_per_mhz:g} uA/MHz + "
        f"{draw.cell_ua_per_mhz[0]:g} (counters) to {draw.cell_ua_per_mhz[1]:g} uA/MHz "
        f"(a multiplier) for each of {cells:,.0f} cells, at {made.clock_mhz:g} MHz and "
        f"{draw.volts:g} V"
    )
    yield Metric(
        CORE_POWER,
        math.sqrt(low * high),
        "mW",
        Kind.ESTIMATED,
        f"{model}; {draw.source}",
        Interval(low, high, 1 / 3),
    )


def _paths(made: Implementation, accounts: Sequence[Account]) -> Iterator[Metric]:
    """The critical path of every clock, first that of the one which is nearest to its limit."""
    worst = made.best and made.best.clock and made.best.clock.name
    for each in sorted(accounts, key=lambda one: one.clock != worst):
        name = "critical path"
        if each.clock != worst:
            name += f" of {clock_name(each.clock)}"
        listed = "; ".join(map(str, each.spent))
        source = f"{made.routed_by}, ns: {listed}"
        yield Metric(name, each.delay_ns, "ns", Kind.MEASURED, source)


def _memories(part: Part) -> tuple[Resource, ...]:
    return tuple(kind for kind, stock in part.has.items() if stock.bits is not None)


def called(kind: Resource, part: Part) -> str:
    """What a resource is called in figures: LUTs of 4 inputs say so."""
    four = kind is Resource.LUT and part.family in _FOUR_INPUTS
    return "lut4" if four else kind.value


def clock_name(net: str) -> str:
    """What the Verilog calls a clock that nextpnr calls `clk$SB_IO_IN_$glb_clk`."""
    return net.removeprefix("$glbnet$").partition("$")[0] or net
