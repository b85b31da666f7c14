"""Verilog to a part: synthesis, the check that it fits, place and route, bitstream, numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.errors import DoesNotFit, UsageError
from flow.metric import Interval, Kind, Metric
from flow.options import require_range
from flow.report.vendor.synthesis import Count, Resource, Synthesis
from flow.tools import YOSYS, Tool, require
from targets.rtl.implement.fit import TooLarge, demand, excess
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
from targets.rtl.implement.synthesis import read_synthesized, synthesize, uses_multipliers

SUMMARY = "implementation.json"
_SEEDS = 100
_FOUR_INPUTS = frozenset({Family.ICE40, Family.ECP5})  # whose LUTs are of 4 inputs


@dataclass(frozen=True)
class Implementation:
    """What came of a design. `synthesis` is what Yosys counted, `needed` what that takes of the
    part; `routed` are the results of the seeds, of which `best` is kept: none for a part that is
    synthesized only. `used` are the programs that ran."""

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

    @property
    def clock_missed(self) -> bool:
        return self.best is not None and bool(self.best.missed)

    def require_clock(self) -> None:
        """Raises DoesNotFit where the best seed is slower than the clock that was asked for; the
        files are there nevertheless, and the bitstream's name says so."""
        if self.best is None or not self.best.missed:
            return
        slow = "".join(
            f"\n  {clock.name}: {clock.fmax_mhz:.2f} MHz, {1000 / clock.target_ns:g} MHz asked"
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
        return list(_metrics(self))


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
) -> Implementation:
    """Bring the Verilog module `top` onto the part; all files, logs too, go into the empty
    `folder`. A clock that is missed is told by `Implementation.clock_missed`, not raised. `pins`
    holds constraints (PCF, LPF); without it nextpnr chooses the pins.

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
    kept: tuple[int, ...] = seeds if part.family.routed else ()
    used += route(part, clock_mhz, folder, kept, pins, note) if kept else []
    results = [read_routed(folder, seed) for seed in kept]
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


def _metrics(made: Implementation) -> Iterator[Metric]:
    synthesis = made.synthesis
    by = f"{synthesis.by}: counted by the tool"
    lut = "lut4" if made.part.family in _FOUR_INPUTS else "lut"
    for kind in (Resource.LUT, Resource.FF, Resource.CARRY, Resource.DSP, *_memories(made.part)):
        count = synthesis.resources.get(kind, Count(0))
        name = lut if kind is Resource.LUT else kind.value
        yield Metric(name, count.used, "1", Kind.MEASURED, by)
    bits = sum(
        synthesis.resources.get(kind, Count(0)).used * (stock.bits or 0)
        for kind, stock in made.part.has.items()
    )
    yield Metric("bram bits", bits, "bit", Kind.MEASURED, f"{by}; whole blocks")
    for kind, needed in made.needed.items():
        if needed.available and needed.used:
            share, stock = needed.used / needed.available, made.part.has[kind]
            source = f"{by}; of the {stock.count} of {made.part.name}"
            yield Metric(f"{_called(kind, lut)} share", share, "1", Kind.MEASURED, source)
    yield from _timing(made)
    for tool in dict.fromkeys(one.tool for one in made.used):
        runs = [one for one in made.used if one.tool == tool]
        source = f"{tool} {runs[0].version}: " + "; ".join(one.purpose for one in runs)
        seconds = sum(one.seconds for one in runs)
        yield Metric(f"{tool} time", seconds, "s", Kind.MEASURED, source)
    peaks = [one for one in made.used if one.peak_bytes is not None]
    if peaks:
        most = max(peaks, key=lambda one: one.peak_bytes or 0)
        assert most.peak_bytes is not None
        source = f"{most.tool} {most.version}: {most.purpose}"
        yield Metric("peak memory", most.peak_bytes, "B", Kind.MEASURED, source)


def _timing(made: Implementation) -> Iterator[Metric]:
    """The clock of the kept seed; its interval is the spread over the seeds."""
    if made.best is None:
        return
    router = next(one for one in made.used if one.tool.startswith("nextpnr"))
    by = f"{router.tool} {router.version}"
    for kind, count in made.best.found.resources.items():
        source = f"{by}: after placement"
        yield Metric(f"{kind.value} placed", count.used, "1", Kind.MEASURED, source)
    fastest = [one.fmax_mhz for one in made.routed if one.fmax_mhz is not None]
    if made.best.clock is None or made.best.fmax_mhz is None:
        return
    listed = ", ".join(f"{mhz:.2f}" for mhz in fastest)
    source = f"{by}: static timing of {made.best.clock.name}, seed {made.best.seed}"
    if len(fastest) > 1:
        source += f", the best of {len(fastest)} ({listed})"
    yield Metric("fmax", made.best.fmax_mhz, "MHz", Kind.MEASURED, source, _spread(fastest))
    target = f"option clock_mhz={made.clock_mhz:g}"
    yield Metric("clock target", 1000 / made.clock_mhz, "ns", Kind.ASSUMED, target)


def _spread(values: list[float]) -> Interval | None:
    """From the least to the most of n seeds: one more lies between them with probability
    (n-1)/(n+1), the seeds being as good as drawn."""
    n = len(values)
    return Interval(min(values), max(values), (n - 1) / (n + 1)) if n > 1 else None


def _memories(part: Part) -> tuple[Resource, ...]:
    return tuple(kind for kind, stock in part.has.items() if stock.bits is not None)


def _called(kind: Resource, lut: str) -> str:
    return lut if kind is Resource.LUT else kind.value
