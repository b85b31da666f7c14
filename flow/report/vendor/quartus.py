"""Quartus Prime's fitter report (.fit.rpt) and timing report (.sta.rpt)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from flow.errors import ToolFailed
from flow.report.vendor.reading import Damaged, Form, cut, date, real, require_end, whole
from flow.report.vendor.synthesis import Clock, Count, Resource, Stage, Synthesis
from flow.report.vendor.tables import Table, only, read_table

_PARTS = {  # devices with adaptive logic modules: Arria, Stratix, Agilex, Cyclone V and 10 GX
    Resource.ALM: "Logic utilization (in ALMs)",
    Resource.RAM: "Total RAM Blocks",
    Resource.DSP: "Total DSP Blocks",
}


def _begins(title: str, head: str) -> bool:
    return head.startswith(f"{title} report for ")


def _body(text: str, where: str) -> str:
    """What stands after the table of contents. Raises Damaged where a section that it lists is
    missing: the report ends early."""
    require_end(text, where)
    contents, legal, body = text.partition("----------------\n; Legal Notice ;\n")
    titles = re.findall(r"^ +(\d+)\. (\S.*)$", contents, re.MULTILINE)
    if not (legal and titles and [int(n) for n, _ in titles] == [*range(1, len(titles) + 1)]):
        raise cut(where, "its table of contents is not whole")
    at = 0
    for _, title in titles[1:]:
        if title == "Pin-Out File":  # a file of its own in the Pro edition
            continue
        found = re.compile(rf"^; {re.escape(title)} +;$", re.MULTILINE).search(body, at)
        if found is None:
            raise cut(where, f"section {title!r} is not there")
        at = found.end()
    if body.find("\n", at) + 1 >= len(body) - 1:
        raise cut(where, f"section {title!r} is empty")
    return body


def _table(body: str, title: str, where: str) -> Table:
    found = re.search(rf"^\+-+\+\n; {re.escape(title)} +;\n", body, re.MULTILINE)
    if found is None:
        raise Damaged(f"{where}: has no table {title!r}")
    lines = body[found.end() :].split("\n", 20_000)
    return read_table(lines, 0, ";", f"{where}: {title}")


def _head(text: str, where: str) -> tuple[str, str]:
    """Design and version."""
    found = re.match(
        r"(?:Fitter|Timing Analyzer) report for (\S+)\n([^\n]*)\n"
        r"Quartus Prime Version (\d+\.\d+(?:\.\d+)?) ",
        text,
    )
    if found is None:
        raise Damaged(f"{where}: must begin with the design, a date and the version of Quartus")
    date(found[2], f"{where}: its date")
    return found[1], found[3]


def read_fit(text: str, where: str) -> Synthesis:
    """What the placed and routed design uses.

    Raises:
        Damaged: as said in `reading.py`.
        ToolFailed: the fitter did not succeed.
    """
    _, version = _head(text, where)
    values = _table(_body(text, where), "Fitter Summary", where).values()
    status, _, when = only(values, "Fitter Status", where).partition(" - ")
    if status != "Successful":
        raise ToolFailed(f"{where}: the fitter ended with {status!r}; see its messages")
    missing = [name for name in _PARTS.values() if name not in values]
    if missing:
        raise Damaged(
            f"{where}: does not say {', '.join(missing)}; read are devices with adaptive logic "
            f"modules, not {values.get('Family', 'this family')}"
        )
    counts = {kind: _of(values[name], f"{where}: {name}") for kind, name in _PARTS.items()}
    registers = whole(only(values, "Total registers", where), f"{where}: Total registers")
    return Synthesis(
        "Quartus Prime",
        version,
        Stage.ROUTED,
        (where,),
        design=only(values, "Revision Name", where),
        part=only(values, "Device", where),
        date=date(when, f"{where}: Fitter Status"),
        resources={**counts, Resource.FF: Count(registers)},
    )


def _of(text: str, where: str) -> Count:
    """`930 / 80,330 ( 1 % )`. Raises Damaged where the percentage is another."""
    found = re.fullmatch(r"([\d,]+) / ([\d,]+) \( (< )?(\d+) % \)", text)
    if found is None:
        raise Damaged(f"{where}: must be of the form '1 / 2 ( 50 % )', not {text[:40]!r}")
    used, available = whole(found[1], where), whole(found[2], where)
    share = 100 * used / available if available else 0.0
    percent = int(found[4])
    if not (0 < share < percent if found[3] else abs(share - percent) <= 1):
        raise Damaged(f"{where}: {used} of {available} is not {percent} %")
    return Count(used, available)


def read_timing(text: str, where: str) -> Synthesis:
    """The clocks, and the least frequency that any slow corner allows them. Raises Damaged."""
    design, version = _head(text, where)
    body = _body(text, where)
    values = _table(body, "Timing Analyzer Summary", where).values()
    if values.get("Snapshot", "final") != "final":
        raise Damaged(
            f"{where}: is of the snapshot {values['Snapshot']!r}, before the design was routed"
        )
    fmax = _fmax(body, where)
    table = _table(body, "Clocks", where)
    clocks = []
    for row in table.rows:
        name = row[table.column("Clock Name")].strip()
        target = real(row[table.column("Period")], f"{where}: period of {name}")
        best = fmax.get(name)
        clocks.append(Clock(name, target, None if best is None else 1000 / best))
    if not clocks or set(fmax) - {clock.name for clock in clocks}:
        raise Damaged(f"{where}: Clocks and Fmax Summary name other clocks")
    missed = any(clock.missed for clock in clocks)
    return Synthesis(
        "Quartus Prime",
        version,
        Stage.ROUTED,
        (where,),
        violations=tuple(_violations(body, where, () if missed else ("Setup",))),
        design=design,
        part=only(values, "Device Name", where),
        date=date(text.split("\n", 2)[1], f"{where}: its date"),
        clocks=tuple(clocks),
    )


def _violations(body: str, where: str, more: tuple[str, ...]) -> Iterator[str]:
    """Negative slacks of the whole design in its worst corner, but for setup unless asked."""
    table = _table(body, "Multicorner Timing Analysis Summary", where)
    rows = {row[0].strip(): row for row in table.rows}
    if "Worst-case Slack" not in rows:
        raise Damaged(f"{where}: Multicorner Timing Analysis Summary has no worst-case slack")
    for name in (*more, "Hold", "Recovery", "Removal", "Minimum Pulse Width"):
        text = rows["Worst-case Slack"][table.column(name)].strip()
        if text != "N/A" and (slack := real(text, f"{where}: {name}", negative=True)) < 0:
            yield f"{name.lower()}: slack {slack:g} ns"


def _fmax(body: str, where: str) -> dict[str, float]:
    """The least restricted Fmax of each clock, in MHz."""
    titles = re.findall(r"^; (Slow \S+ \S+ Model Fmax Summary) +;$", body, re.MULTILINE)
    if not titles:
        raise Damaged(f"{where}: has no Fmax Summary of a slow corner")
    found: dict[str, float] = {}
    for title in titles:
        table = _table(body, title, where)
        for row in table.rows:
            name = row[table.column("Clock Name")].strip()
            number = re.fullmatch(r"([\d.]+) MHz", row[table.column("Restricted Fmax")].strip())
            if number is None:
                raise Damaged(f"{where}: {title}: must be in MHz")
            frequency = real(number[1], f"{where}: {title}")
            if frequency <= 0:
                raise Damaged(f"{where}: {title}: must be above 0")
            found[name] = min(frequency, found.get(name, frequency))
    return found


_SUMMARY = "it has no end that a cut could be seen by; give the whole report (.fit.rpt, .sta.rpt)"
FORMS = (
    Form("fitter", lambda _, head: _begins("Fitter", head), read_fit),
    Form("timing", lambda _, head: _begins("Timing Analyzer", head), read_timing),
    Form(
        "summary of Quartus",
        lambda name, head: name.endswith((".fit.summary", ".sta.summary", ".map.summary")),
        None,
        _SUMMARY,
    ),
    Form(
        "report of Quartus",
        lambda name, _: name.endswith((".pow.rpt", ".map.rpt", ".syn.rpt")),
        None,
        "of Quartus only the fitter's and the timing analyzer's are",
    ),
)
