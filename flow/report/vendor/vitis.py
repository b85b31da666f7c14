"""Vitis HLS and Vivado HLS: C synthesis (csynth.xml, and Vivado HLS's csynth.rpt) and RTL
co-simulation (cosim.rpt).

All numbers of C synthesis are the tool's estimates, made before logic synthesis.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import datetime

from flow.errors import Mismatch
from flow.report.vendor.reading import Damaged, Form, cut, date, real, whole
from flow.report.vendor.synthesis import Clock, Count, Cycles, Module, Resource, Stage, Synthesis
from flow.report.vendor.tables import Table, borders, read_table

_MAX_XML = 16 << 20
_MAX_DEPTH = 50
_VERSION = r"\d{4}\.\d(\.\d)?"
_RESOURCES = {
    "BRAM_18K": Resource.BRAM_18K,
    "DSP": Resource.DSP,
    "DSP48E": Resource.DSP,
    "FF": Resource.FF,
    "LUT": Resource.LUT,
    "URAM": Resource.URAM,
}
_UNKNOWN = frozenset({"undef", "?", "-", "NA"})  # loops whose number of turns depends on data


def read_csynth_xml(text: str, where: str) -> Synthesis:
    """Raises Damaged."""
    root = _xml(text, where)
    if root.tag != "profile":
        raise Damaged(f"{where}: must be a <profile>, not a <{root.tag[:40]}>")
    version = _text(root, "ReportVersion/Version", where)
    if not re.fullmatch(_VERSION, version):
        raise Damaged(f"{where}: names no version of the tool, but {version[:40]!r}")
    timing, overall = "PerformanceEstimates/SummaryOfTimingAnalysis", "SummaryOfOverallLatency"
    overall = f"PerformanceEstimates/{overall}"
    units = (("UserAssignments", "ns"), (timing, "ns"), (overall, "clock cycles"))
    for place, unit in units:
        if (found := _text(root, f"{place}/unit", where)) != unit:
            raise Damaged(f"{where}: {place} must be in {unit}, not {found[:40]!r}")
    latency = _cycles(root, f"{overall}/Best-caseLatency", f"{overall}/Worst-caseLatency", where)
    interval = _cycles(root, f"{overall}/Interval-min", f"{overall}/Interval-max", where)
    target = _real(root, "UserAssignments/TargetClockPeriod", where)
    estimated = _real(root, f"{timing}/EstimatedClockPeriod", where)
    unknown = "latency: depends on the data, the tool does not know it"
    return Synthesis(
        "Vivado HLS" if root.find("AreaEstimates/Resources/DSP48E") is not None else "Vitis HLS",
        version,
        Stage.C_SYNTHESIS,
        (where,),
        design=_text(root, "UserAssignments/TopModelName", where),
        part=_text(root, "UserAssignments/Part", where),
        clocks=(Clock("ap_clk", target, estimated),),
        latency=latency,
        interval=interval,
        resources=_area(root, where),
        notes=() if latency and interval else (unknown,),
    )


def _xml(text: str, where: str) -> ET.Element:
    """Raises Damaged. Without a document type there are no entities, and so no expansion."""
    if len(text) > _MAX_XML:
        raise Damaged(
            f"{where}: is larger than {_MAX_XML >> 20} MiB, which no csynth.xml should be"
        )
    if re.search(r"<!(?!--)", text):
        raise Damaged(f"{where}: holds a document type or a CDATA section, which no report does")
    try:
        parser = ET.XMLParser(target=_Shallow(where))
        parser.feed(text)
        return parser.close()
    except (ET.ParseError, ValueError) as error:
        raise cut(where, f"not well-formed: {error}") from error


class _Shallow(ET.TreeBuilder):
    """Refuses what is nested deeper than any report, before it is built."""

    def __init__(self, where: str):
        super().__init__()
        self._where, self._depth = where, 0

    def start(self, tag: str, attrs: dict[str, str], /) -> ET.Element:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise Damaged(f"{self._where}: is nested deeper than any report")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> ET.Element:
        self._depth -= 1
        return super().end(tag)


def _text(root: ET.Element, path: str, where: str) -> str:
    found = root.findall(path)
    if len(found) != 1 or not (found[0].text or "").strip() or len(found[0]):
        raise Damaged(f"{where}: must have {path} once, with a value")
    return (found[0].text or "").strip()


def _real(root: ET.Element, path: str, where: str) -> float:
    found = real(_text(root, path, where), f"{where}: {path}")
    if found <= 0:
        raise Damaged(f"{where}: {path} must be above 0, not {found:g}")
    return found


def _cycles(root: ET.Element, low: str, high: str, where: str) -> Cycles | None:
    return _range(_text(root, low, where), _text(root, high, where), f"{where}: {low}")


def _range(low: str, high: str, where: str) -> Cycles | None:
    if {low.strip(), high.strip()} & _UNKNOWN:
        return None
    first, last = whole(low, where), whole(high, where)
    if first > last:
        raise Damaged(f"{where}: the least, {first}, is more than the most, {last}")
    return Cycles(first, last)


def _area(root: ET.Element, where: str) -> dict[Resource, Count]:
    used = {child.tag for child in root.findall("AreaEstimates/Resources/*")}
    there = {child.tag for child in root.findall("AreaEstimates/AvailableResources/*")}
    if used != there or not {"FF", "LUT"} <= used <= set(_RESOURCES):
        raise Damaged(f"{where}: names other resources than {', '.join(_RESOURCES)}")
    found = {}
    for tag, kind in _RESOURCES.items():
        if tag in used:
            values = [
                whole(_text(root, f"AreaEstimates/{part}/{tag}", where), f"{where}: {part}/{tag}")
                for part in ("Resources", "AvailableResources")
            ]
            found[kind] = Count(*values)
    return found


def read_csynth_rpt(text: str, where: str) -> Synthesis:
    """Vivado HLS's text: what the XML says, with the date and the instances. Raises Damaged."""
    lines = text.split("\n")
    head = dict(re.findall(r"^\* ([A-Z][A-Za-z ]+): +(.*?) *$", text, re.MULTILINE))
    design = re.search(r"^== Vivado HLS Report for '([^']+)'$", text, re.MULTILINE)
    version = re.match(_VERSION + " ", head.get("Version", ""))
    if not (design and version and {"Date", "Target device"} <= set(head)):
        raise cut(where, "its head is not whole")
    timing = _part(lines, "+ Timing: ", where)
    latency = _part(lines, "+ Latency: ", where)
    use = _part(lines, "* Summary: ", where, after="== Utilization Estimates")
    _part(lines, "* Summary: ", where, after="== Interface")  # the last, so nothing is missing
    (clock,) = _rows_of(timing, 4, where)
    (cycles,) = _rows_of(latency, 7, where)
    return Synthesis(
        "Vivado HLS",
        version[0].strip(),
        Stage.C_SYNTHESIS,
        (where,),
        design=design[1],
        part=head["Target device"],
        date=date(head["Date"], f"{where}: Date"),
        clocks=(Clock(clock[0].strip(), _ns(clock[1], where), _ns(clock[2], where)),),
        latency=_range(cycles[0], cycles[1], f"{where}: Latency"),
        interval=_range(cycles[4], cycles[5], f"{where}: Interval"),
        resources=_totals(use, where),
        modules=_instances(lines, where),
    )


def _part(lines: list[str], title: str, where: str, after: str = "") -> Table:
    """The first table below a line."""
    try:
        start = lines.index(after) if after else 0
        start = next(i for i in range(start, len(lines)) if lines[i].strip() == title.strip())
    except (ValueError, StopIteration):
        raise cut(where, f"{after or title!r} is not there") from None
    stripped = [line.strip() for line in lines]
    first = next(borders(stripped, start, len(lines)), None)
    if first is None:
        raise cut(where, f"the table of {title.strip()!r} is not there")
    return read_table(stripped, first, "|", where)


def _rows_of(table: Table, cells: int, where: str) -> list[tuple[str, ...]]:
    if len(table.rows) != 1 or len(table.rows[0]) != cells:
        raise Damaged(f"{where}: {' '.join(table.header)!r} must have one row of {cells} cells")
    return [table.rows[0]]


def _ns(text: str, where: str) -> float:
    number = re.fullmatch(r"\s*([\d.]+) ns\s*", text)
    if number is None:
        raise Damaged(f"{where}: a period must be in ns, not {text.strip()[:40]!r}")
    return real(number[1], where)


def _totals(table: Table, where: str) -> dict[Resource, Count]:
    rows = {row[0].strip(): row for row in table.rows}
    if not {"Total", "Available"} <= set(rows):
        raise Damaged(f"{where}: Utilization Estimates must have a total")
    ends = ("Total", "Available", "Utilization (%)")
    parts = [row for name, row in rows.items() if name not in ends]
    found = {}
    for at, name in enumerate(table.header):
        if name not in _RESOURCES:
            continue
        used = whole(rows["Total"][at], f"{where}: {name}")
        if used != sum(
            whole(row[at], f"{where}: {name}") for row in parts if row[at].strip() != "-"
        ):
            raise Damaged(f"{where}: {name}: the total is not the sum of the rows")
        found[_RESOURCES[name]] = Count(used, whole(rows["Available"][at], f"{where}: {name}"))
    return found


def _instances(lines: list[str], where: str) -> tuple[Module, ...]:
    """The instances of the design, from the details of latency and of use."""
    at = [i for i, line in enumerate(lines) if line.strip() == "* Instance:"]
    if len(at) != 2:
        raise Damaged(f"{where}: must give the instances twice: their latency and their use")
    if any(lines[i + 1].strip() == "N/A" for i in at):
        return ()
    stripped = [line.strip() for line in lines]
    timed, used = (read_table(stripped, i + 1, "|", where) for i in at)
    cycles = {row[0].strip(): row for row in timed.rows}
    found = []
    for row in used.rows:
        name = row[0].strip()
        if name == "Total":
            continue
        resources = {
            _RESOURCES[kind]: float(whole(row[i], f"{where}: {name}: {kind}"))
            for i, kind in enumerate(used.header)
            if kind in _RESOURCES
        }
        if name not in cycles:
            raise Damaged(f"{where}: instance {name} has no latency")
        time = cycles[name]
        latency = _range(time[2], time[3], f"{where}: {name}: latency")
        interval = _range(time[6], time[7], f"{where}: {name}: interval")
        found.append(Module(name, resources, latency, interval))
    return tuple(found)


def read_cosim(text: str, where: str) -> Synthesis:
    """What the simulated RTL took. `design` is not in the report.

    Raises:
        Damaged: as said in `reading.py`.
        Mismatch: the RTL failed: it does not compute what the C code does.
    """
    lines = text.split("\n")
    first = next(borders(lines, 0, len(lines)), None)
    time = re.search(r"^Report time +: (.*)\.$", text, re.MULTILINE)
    if first is None or time is None:
        raise cut(where, "its table is not there")
    end = max(i for i, line in enumerate(lines) if line.strip())
    last = re.fullmatch(r"(\+-+)+\+", lines[end])
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines[first : end + 1]
        if re.match(r"\| +(VHDL|Verilog)\|", line)
    ]
    if last is None or not lines[-1] == "" or len(rows) != 2 or {len(row) for row in rows} != {9}:
        raise cut(where, "its table must have a row for VHDL and one for Verilog, and a border")
    found = Synthesis(
        "co-simulation", None, Stage.COSIMULATION, (where,), date=_clock_date(time[1], where)
    )
    ran = [row for row in rows if row[1] != "NA"]
    if not ran:
        return replace(found, notes=("no RTL was simulated",))
    for row in ran:
        if row[1] == "Fail":
            raise Mismatch(f"{where}: co-simulation failed: the {row[0]} differs from the C code")
        if row[1] != "Pass":
            raise Damaged(f"{where}: status must be Pass, Fail or NA, not {row[1][:40]!r}")
    row = ran[0]
    latency = _range(row[2], row[4], f"{where}: latency")
    notes = () if latency else (f"co-simulation passed ({row[0]}), and took no measure of cycles",)
    return replace(
        found, latency=latency, interval=_range(row[5], row[7], f"{where}: interval"), notes=notes
    )


def _clock_date(text: str, where: str) -> datetime:
    """`Wed Sep 16 11:48:02 AM PDT 2026` or `Wed Sep 16 11:48:02 PDT 2026`."""
    found = re.fullmatch(r"(\w{3} \w{3} +\d+) (\d+):(\d\d:\d\d) (?:([AP]M) )?\w+ (\d{4})", text)
    if found is None:
        raise Damaged(f"{where}: must have a date, not {text[:40]!r}")
    day, hour, rest, half, year = found.groups()
    hours = int(hour) % 12 + (12 if half == "PM" else 0) if half else int(hour)
    return date(f"{day} {hours:02d}:{rest} {year}", where)


FORMS = (
    Form(
        "C synthesis",
        lambda name, head: name.endswith("csynth.xml") and "<profile>" in head,
        read_csynth_xml,
    ),
    Form(
        "C synthesis",
        lambda name, head: "== Vivado HLS Report for '" in head,
        read_csynth_rpt,
    ),
    Form(
        "C synthesis as text of Vitis HLS",
        lambda name, head: "== Vitis HLS Report for '" in head or "== Vitis HLS Report:" in head,
        None,
        "give the csynth.xml that the tool wrote beside it",
    ),
    Form(
        "co-simulation",
        lambda name, head: head.startswith("Report time ") and "Simulation tool" in head,
        read_cosim,
    ),
)
