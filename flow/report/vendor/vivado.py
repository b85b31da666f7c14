"""Vivado's report_utilization, report_timing_summary and report_power."""

from __future__ import annotations

import re
from dataclasses import replace

from flow.report.vendor.reading import Damaged, Form, close, cut, date, real, require_end, whole
from flow.report.vendor.synthesis import Clock, Count, Module, Power, Resource, Stage, Synthesis
from flow.report.vendor.tables import Table, borders, depth, only, read_table

_STAGES = {
    "synthesized": Stage.LOGIC_SYNTHESIS,
    "fully placed": Stage.PLACED,
    "routed": Stage.ROUTED,
}
# Before 2020 a timing report does not say how far the design was; its own name, as Vivado's runs
# give it, does.
_NAMES = {
    "routed": Stage.ROUTED,
    "post_route": Stage.ROUTED,
    "placed": Stage.PLACED,
    "post_place": Stage.PLACED,
    "synth": Stage.LOGIC_SYNTHESIS,
}
_ROWS = {  # a row of each kind for each family of parts
    Resource.LUT: ("Slice LUTs", "CLB LUTs"),
    Resource.FF: ("Slice Registers", "CLB Registers"),
    Resource.DSP: ("DSPs",),
    Resource.BRAM_18K: ("Block RAM Tile",),
    Resource.URAM: ("URAM",),
}


def _begins(command: str, head: str) -> bool:
    found = re.search(r"^\| Command +: (\S+)", head, re.MULTILINE)
    return "| Tool Version" in head and found is not None and found[1] == command


def _header(text: str, where: str) -> tuple[Synthesis, dict[str, str]]:
    """What stands above the report, without a stage of its own where there is none."""
    found = {
        key.strip(): value.strip()
        for key, value in re.findall(r"^\| ([A-Z][A-Za-z ]+?) *: (.*)$", text[:4096], re.MULTILINE)
    }
    version = re.match(r"Vivado v\.(\d{4}\.\d(?:\.\d)?) ", only(found, "Tool Version", where))
    if version is None:
        raise Damaged(f"{where}: names no version of Vivado, but {found['Tool Version']!r}")
    base = Synthesis(
        "Vivado",
        version[1],
        _stage(found, where),
        (where,),
        design=only(found, "Design", where),
        part=only(found, "Device", where),
        date=date(only(found, "Date", where), f"{where}: Date"),
    )
    return base, found


def _stage(header: dict[str, str], where: str) -> Stage:
    state = header.get("Design State", "").lower()
    if state in _STAGES:
        return _STAGES[state]
    if state:
        raise Damaged(
            f"{where}: the design's state must be one of {', '.join(_STAGES)}, not {state!r}"
        )
    written = re.search(r"-file (\S+)", only(header, "Command", where))
    name = written[1].rpartition("/")[2] if written else ""
    for part, stage in _NAMES.items():
        if part in name:
            return stage
    raise Damaged(
        f"{where}: does not say whether the design was placed and routed; write it again with "
        f"Vivado 2020.2 or newer, or as Vivado's runs name it (…_routed.rpt)"
    )


def _sections(text: str, where: str) -> dict[str, list[str]]:
    """The lines of each section that the table of contents lists. Raises Damaged where one is
    missing: the report ends early."""
    require_end(text, where)
    _, listed, rest = text.partition("\nTable of Contents\n-----------------\n")
    contents, blank, body = rest.partition("\n\n")
    titles = contents.split("\n")
    if not (listed and blank and all(re.fullmatch(r"[\d.]+ \S.*", t) for t in titles)):
        raise cut(where, "it has no table of contents")
    found: dict[str, list[str]] = {}
    lines = body.split("\n")
    starts = []
    at = 0
    for title in titles:
        while at < len(lines) - 1 and not (
            lines[at] == title and re.fullmatch("-{3,}", lines[at + 1])
        ):
            at += 1
        if at >= len(lines) - 1:
            raise cut(where, f"section {title!r} is not there")
        starts.append(at)
    for title, start, stop in zip(titles, starts, [*starts[1:], len(lines)], strict=True):
        found[title.split(" ", 1)[1]] = lines[start + 2 : stop]
    return found


def _table(section: list[str], where: str) -> Table:
    start = next(borders(section, 0, len(section)), None)
    if start is None:
        raise cut(where, "a section has no table")
    return read_table(section, start, "|", where)


def read_utilization(text: str, where: str) -> Synthesis:
    """Raises Damaged."""
    base, _ = _header(text, where)
    sections = _sections(text, where)
    if "Utilization by Hierarchy" in sections:
        return _read_hierarchy(base, _table(sections["Utilization by Hierarchy"], where), where)
    for section in sections.values():
        _table(section, where)
    rows: dict[str, tuple[Table, tuple[str, ...]]] = {}
    for title, section in sections.items():
        table = _table(section, f"{where}: {title}")
        if "Site Type" in table.header and "Available" in table.header:
            rows |= {row[0].strip().rstrip("*"): (table, row) for row in reversed(table.rows)}
    counts = {}
    for kind, names in _ROWS.items():
        for name in names:
            if name in rows:
                counts[kind] = _count(rows[name], f"{where}: {name}")
    missing = [kind.value for kind in (Resource.LUT, Resource.FF) if kind not in counts]
    if missing:
        raise Damaged(
            f"{where}: has no row for {', '.join(missing)}; read are 7 series, UltraScale and "
            f"UltraScale+"
        )
    _check_luts({name: row for name, (_, row) in rows.items()}, where)
    if Resource.BRAM_18K in counts:  # a tile is of two
        tiles = counts[Resource.BRAM_18K]
        counts[Resource.BRAM_18K] = Count(2 * tiles.used, 2 * (tiles.available or 0))
    return replace(base, resources=counts, notes=_pins(rows, where))


def _count(found: tuple[Table, tuple[str, ...]], where: str) -> Count:
    """Raises Damaged where the percentage is another."""
    table, row = found
    used = real(row[table.column("Used")], where)
    available = real(row[table.column("Available")], where)
    percent = row[table.column("Util%")].strip()
    share = 100 * used / available if available else 0.0
    if percent == "<0.01":
        same = 0 < share < 0.01
    else:
        same = close(share, real(percent, where), 0.0051)
    if not same:
        raise Damaged(f"{where}: {used:g} of {available:g} is not {percent} %")
    return Count(used, available)


def _check_luts(rows: dict[str, tuple[str, ...]], where: str) -> None:
    """Raises Damaged where a total is not the sum of its two kinds."""
    for totals, parts in (
        (_ROWS[Resource.LUT], ("LUT as Logic", "LUT as Memory")),
        (_ROWS[Resource.FF], ("Register as Flip Flop", "Register as Latch")),
    ):
        total = next(rows[name] for name in totals if name in rows)
        if all(part in rows for part in parts):
            named = f"{where}: {total[0].strip()}"
            if whole(total[1], named) != sum(whole(rows[part][1], named) for part in parts):
                raise Damaged(f"{named}: is not the sum of {' and '.join(parts)}")


def _pins(rows: dict[str, tuple[Table, tuple[str, ...]]], where: str) -> tuple[str, ...]:
    """More pins than the part has is what a block that goes into a larger design looks like."""
    if "Bonded IOB" not in rows:
        return ()
    pins = _count(rows["Bonded IOB"], f"{where}: Bonded IOB")
    if (pins.share or 0) <= 1:
        return ()
    return (
        f"{pins.used:g} pins of {pins.available:g}: this can only be a block inside a larger "
        f"design; synthesize it out of context",
    )


def _read_hierarchy(base: Synthesis, table: Table, where: str) -> Synthesis:
    """The whole and the instances right inside it."""
    columns = {
        Resource.LUT: ("Total LUTs",),
        Resource.FF: ("FFs",),
        Resource.DSP: ("DSP Blocks",) if "DSP Blocks" in table.header else ("DSP48 Blocks",),
        Resource.URAM: ("URAM",) if "URAM" in table.header else (),
    }
    halves, wholes = table.column("RAMB18"), table.column("RAMB36")
    if not table.rows or table.rows[0][1].strip() != "(top)":
        raise Damaged(f"{where}: the first instance must be the design, marked (top)")
    modules = []
    for row in table.rows:
        name = row[0].strip()
        used: dict[Resource, float] = {
            kind: whole(row[table.column(names[0])], f"{where}: {name}: {names[0]}")
            for kind, names in columns.items()
            if names
        }
        ram = f"{where}: {name}: RAMB"
        used[Resource.BRAM_18K] = whole(row[halves], ram) + 2 * whole(row[wholes], ram)
        if depth(row[0]) <= 1 and not name.startswith("("):
            modules.append(Module(name, used))
    top, *inside = modules
    if top.name != base.design:
        raise Damaged(f"{where}: is of {base.design}, but its first instance is {top.name}")
    resources = {kind: Count(amount) for kind, amount in top.resources.items()}
    return replace(base, resources=resources, modules=tuple(inside))


def read_timing(text: str, where: str) -> Synthesis:
    """Every clock with the period that its worst path would allow: the constraint less the slack.

    Raises:
        Damaged: as said in `reading.py`.
    """
    base, header = _header(text, where)
    require_end(text, where)
    parts = re.split(r"^-{10,}\n\| ([^\n]+)\n\| -+\n-{10,}\n", text, flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    for name in ("Design Timing Summary", "Intra Clock Table", "Timing Details"):
        if name not in found:
            raise cut(where, f"section {name!r} is not there")
    worst = _rows(found["Design Timing Summary"], f"{where}: Design Timing Summary")
    if len(worst) != 1 or len(worst[0]) != 12:
        raise Damaged(f"{where}: Design Timing Summary must have one row of 12 numbers")
    if "Clock Summary" not in found or worst[0][0] == "NA":
        note = "no clock is constrained: the tool did not say how fast this is"
        return replace(base, notes=(note,))
    slacks = {}
    for row in _rows(found["Intra Clock Table"], f"{where}: Intra Clock Table"):
        if len(row) not in (1, 5, 9, 13):
            raise Damaged(
                f"{where}: Intra Clock Table: {' '.join(row)[:60]!r} has {len(row)} cells"
            )
        slacks[row[0]] = real(row[1], f"{where}: WNS of {row[0]}", True) if len(row) == 13 else None
    clocks = _clocks(found["Clock Summary"], slacks, where)
    last = found["Timing Details"]
    for name in slacks:
        if not re.search(rf"^Clock Name: +{re.escape(name)}$", last, re.MULTILINE):
            raise cut(where, f"the pulse width checks of clock {name} are not there")
    known = [slack for slack in slacks.values() if slack is not None]
    total = real(worst[0][0], f"{where}: WNS", negative=True)
    if known and not total <= min(known) + 0.0005:
        raise Damaged(f"{where}: a clock has less slack than the design")
    violations = []
    if total < 0 and not any(clock.missed for clock in clocks):
        violations.append(f"setup between clocks or to pins: slack {total:g} ns")
    for name, at in (("hold", 4), ("pulse width", 8)):
        slack = real(worst[0][at], f"{where}: {name} slack", negative=True)
        if slack < 0:
            violations.append(f"{name}: slack {slack:g} ns")
    device = f"{base.part}{_speed(header)}"
    return replace(base, part=device, clocks=clocks, violations=tuple(violations))


def _speed(header: dict[str, str]) -> str:
    """Timing reports give the part without its speed grade, and that in a line of its own."""
    grade = re.match(r"-\d\w*", header.get("Speed File", ""))
    return grade[0] if grade else ""


def _clocks(section: str, slacks: dict[str, float | None], where: str) -> tuple[Clock, ...]:
    clocks = []
    for name, period, frequency in re.findall(
        r"^ *(\S+) +\{[^}\n]*\} +([\d.]+) +([\d.]+) *$", section, re.MULTILINE
    ):
        target = real(period, f"{where}: period of {name}")
        given = real(frequency, f"{where}: frequency of {name}")
        if target <= 0 or not close(1000 / target, given, 0.001 + 0.51 / target**2):
            raise Damaged(f"{where}: clock {name}: {period} ns is not {frequency} MHz")
        slack = slacks.get(name)
        achieved = None if slack is None else round(target - slack, 6)
        if achieved is not None and achieved <= 0:
            raise Damaged(f"{where}: clock {name}: a slack of {slack} ns is more than the period")
        clocks.append(Clock(name, target, achieved))
    if not clocks or set(slacks) - {clock.name for clock in clocks}:
        raise Damaged(f"{where}: Clock Summary and Intra Clock Table name other clocks")
    return tuple(clocks)


def _rows(section: str, where: str) -> list[list[str]]:
    """The cells of the rows below a line of dashes, up to a blank line."""
    lines = section.split("\n")
    rule = next((i for i, line in enumerate(lines) if re.fullmatch(r" *(-+ +)+-+ *", line)), None)
    if rule is None:
        raise cut(where, "its table is not there")
    rows: list[list[str]] = []
    for line in lines[rule + 1 :]:
        if not line.strip():
            return rows
        rows.append(line.split())
    raise cut(where, "its table has no end")


def read_power(text: str, where: str) -> Synthesis:
    """Raises Damaged."""
    base, _ = _header(text, where)
    sections = _sections(text, where)
    for title in ("Summary", "By Hierarchy"):
        if title not in sections:
            raise Damaged(f"{where}: has no section {title!r}")
        _table(sections[title], where)
    values = _table(sections["Summary"], where).values()
    watts, notes = [], []
    for name in ("Total On-Chip Power (W)", "Dynamic (W)", "Device Static (W)"):
        number = re.fullmatch(r"(\S+)( \((.+)\))?", only(values, name, where))
        if number is None:
            raise Damaged(f"{where}: {name} must be a number, not {values[name]!r}")
        watts.append(real(number[1], f"{where}: {name}"))
        notes += [f"power: {number[3]}"] if number[3] else []
    total, dynamic, static = watts
    if not close(total, dynamic + static, 0.0016):
        raise Damaged(f"{where}: {total} W is not the sum of {dynamic} W and {static} W")
    confidence = only(values, "Confidence Level", where)
    if confidence not in ("Low", "Medium", "High"):
        raise Damaged(f"{where}: the confidence must be Low, Medium or High, not {confidence!r}")
    power = Power(total, dynamic, static, confidence)
    return replace(base, power=power, notes=tuple(dict.fromkeys(notes)))


FORMS = (
    Form("utilization", lambda _, head: _begins("report_utilization", head), read_utilization),
    Form("timing", lambda _, head: _begins("report_timing_summary", head), read_timing),
    Form("power", lambda _, head: _begins("report_power", head), read_power),
)
