"""A netlist placed and routed by nextpnr, once for each seed, and packed into a bitstream."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flow.errors import ToolFailed, UsageError
from flow.report.vendor.nextpnr import read_report
from flow.report.vendor.reading import read_text
from flow.report.vendor.synthesis import Clock, Synthesis
from flow.tools import ECPPACK, ICEPACK, NEXTPNR_ECP5, NEXTPNR_ICE40, Tool
from targets.rtl.implement.fit import TooLarge
from targets.rtl.implement.parts import Family, Part
from targets.rtl.implement.paths import CriticalPath, read_paths
from targets.rtl.implement.programs import Circling, Job, Used, run_side_by_side, run_tool
from targets.rtl.implement.synthesis import DESIGN

MISSED = "clock-missed"  # in the name of a bitstream that is too slow
_ROUTERS = {Family.ICE40: NEXTPNR_ICE40, Family.ECP5: NEXTPNR_ECP5}
_PACKERS = {Family.ICE40: ICEPACK, Family.ECP5: ECPPACK}
_ENDINGS = {Family.ICE40: "bin", Family.ECP5: "bit"}
# Of 6,562 cells on an iCE40 it made 57.0 MHz in 67 s of processor time; nextpnr's own choice, heap,
# 52.7 MHz in 79 s.
_PLACER = "static"
# What its first router says of connections that it laid anew and for the first time. Up to a third
# of those of designs that fill their part were laid anew; of one small design that it placed like
# this it laid the same few anew for ever. Those are placed by heap.
_LAID = re.compile(rb"^Info: +\d+ \| +(\d+) +(\d+) \|", re.MULTILINE)
_ANEW, _ANEW_AT_LEAST = 5, 10_000  # times those that were laid first, and beside
_OTHER_PLACER = "heap"
# What nextpnr takes, in bytes: measured were 275 MiB for 3,986 cells of an ECP5, 333 MiB for 3,835
# of an iCE40, and 0.8 GB for 20,000 of an ECP5.
_MEMORY, _MEMORY_OF_A_CELL = 256 << 20, 40_000
# What nextpnr says where there is no room left.
_FULL = re.compile(
    r"^ERROR: (.*(?:no BELs remaining|Unable to find (?:a placement location|legal placement)"
    r"|Failed to (?:place|expand)|unable to place).*)$",
    re.MULTILINE | re.IGNORECASE,
)


@dataclass(frozen=True)
class Routed:
    """One seed's result."""

    seed: int
    found: Synthesis
    paths: tuple[CriticalPath, ...]

    @property
    def clock(self) -> Clock | None:
        """The one that is nearest to its limit, or furthest beyond it."""
        return self.found.clock

    @property
    def fmax_mhz(self) -> float | None:
        return None if self.clock is None else self.clock.fmax_mhz

    @property
    def missed(self) -> tuple[Clock, ...]:
        return tuple(clock for clock in self.found.clocks if clock.missed)

    @property
    def critical(self) -> CriticalPath | None:
        """The slowest path from register to register, which sets the clock."""
        inner = [path for path in self.paths if path.registered]
        return max(inner, key=lambda path: path.delay_ns, default=None)


def routing_tools(part: Part, bitstream: bool) -> tuple[Tool, ...]:
    """What routes designs for the part, and packs them."""
    if not part.family.routed:
        return ()
    packers = (_PACKERS[part.family],) if bitstream else ()
    return (_ROUTERS[part.family], *packers)


def route(
    part: Part,
    clock_mhz: float,
    folder: Path,
    seeds: Sequence[int],
    pins: Path | None,
    note: Callable[[str], None],
    cells: float = 0,
) -> list[Used]:
    """Place and route the design in `folder`, of so many `cells`, once for each seed; reports and
    layouts are put beside it. A clock that is missed is no failure here.

    Raises:
        ToolMissing, ToolFailed: nextpnr is not there, fails, or is killed.
        TooLarge: it finds no place for all of the design.
    """
    if pins is not None:
        (folder / _constraints(part)).write_bytes(pins.read_bytes())
    jobs = [_job(part, clock_mhz, seed, pins is not None) for seed in seeds]
    memory = _MEMORY + int(_MEMORY_OF_A_CELL * cells)
    try:
        used = _run(part, jobs, folder, note, memory)
    except ToolFailed as error:
        for log in (folder / job.log for job in jobs):
            if log.is_file() and (full := _FULL.search(read_text(log))):
                raise TooLarge(part, (), f": nextpnr says: {full[1][:200]}") from error
        raise
    for seed in seeds:
        if not (folder / _report(seed)).is_file():
            raise ToolFailed(f"nextpnr ended without an error, but wrote no {_report(seed)}")
    return used


def _run(
    part: Part, jobs: Sequence[Job], folder: Path, note: Callable[[str], None], memory: int
) -> list[Used]:
    """All of them; where one went in circles, all again, that one placed otherwise."""
    try:
        return run_side_by_side(_ROUTERS[part.family], jobs, folder, note, memory)
    except Circling as found:
        if _PLACER not in found.job.arguments:
            raise
        note(f"{found}; again, placed by {_OTHER_PLACER}")
        again = [_elsewhere(job) if job == found.job else job for job in jobs]
    return _run(part, again, folder, note, memory)


def _elsewhere(job: Job) -> Job:
    arguments = [_OTHER_PLACER if each == _PLACER else each for each in job.arguments]
    return replace(job, arguments=arguments, purpose=f"{job.purpose}, placed by {_OTHER_PLACER}")


def circles(end: bytes) -> bool:
    """Whether nextpnr, of whose log this is the end, lays the same connections for ever."""
    if not (told := _LAID.findall(end)):
        return False
    anew, first = map(int, told[-1])
    return anew > _ANEW * first + _ANEW_AT_LEAST


def _job(part: Part, clock_mhz: float, seed: int, pins: bool) -> Job:
    layout = {Family.ICE40: "--asc", Family.ECP5: "--textcfg"}[part.family]
    arguments = [f"--{part.device}", "--package", part.package]
    arguments += ["--speed", part.speed] if part.speed else []
    arguments += ["--freq", f"{clock_mhz:g}", "--seed", str(seed), "--timing-allow-fail"]
    arguments += ["--placer", _PLACER]
    arguments += ["--json", DESIGN, "--report", _report(seed), layout, _layout(seed)]
    if pins:
        option = {Family.ICE40: "--pcf", Family.ECP5: "--lpf"}[part.family]
        arguments += [option, _constraints(part)]
    purpose = f"place and route for {part.name} at {clock_mhz:g} MHz, seed {seed}"
    return Job(arguments, f"route_{seed}.log", purpose, circles)


def read_routed(folder: Path, seed: int) -> Routed:
    """What `route` left in the folder. Raises UsageError where that is damaged."""
    text = read_text(folder / _report(seed))
    return Routed(seed, read_report(text, _report(seed)), read_paths(text, _report(seed)))


def pack(
    part: Part, folder: Path, top: str, best: Routed, note: Callable[[str], None]
) -> tuple[Used, Path]:
    """The bitstream of one seed, named so that nobody takes one that is too slow for a good one.

    Raises:
        ToolMissing, ToolFailed: the packer is not there, or fails.
    """
    mark = f".{MISSED}" if best.missed else ""
    name = f"{top}{mark}.{_ENDINGS[part.family]}"
    job = Job([_layout(best.seed), name], "pack.log", "bitstream")
    used = run_tool(_PACKERS[part.family], job, folder, note)
    if not (folder / name).is_file() or not (folder / name).stat().st_size:
        raise ToolFailed(f"{used.tool} ended without an error, but wrote no {name}")
    return used, folder / name


def drop_layouts(folder: Path, seeds: tuple[int, ...], best: int) -> None:
    """Remove the layouts, megabytes each, of all seeds but the best."""
    for seed in seeds:
        if seed != best:
            (folder / _layout(seed)).unlink(missing_ok=True)


def require_bitstream(part: Part) -> None:
    """Raises UsageError where no free tool makes bitstreams for the part."""
    if not part.family.routed:
        raise UsageError(
            f"option bitstream must be false with part={part.name}: {part.family.value} devices "
            f"are synthesized here, and neither placed nor routed; give the Verilog to Vivado, or "
            f"take an iCE40 or ECP5 part"
        )


def _report(seed: int) -> str:
    return f"route_{seed}.json"


def _layout(seed: int) -> str:
    return f"route_{seed}.layout"


def _constraints(part: Part) -> str:
    return {Family.ICE40: "pins.pcf", Family.ECP5: "pins.lpf"}[part.family]
