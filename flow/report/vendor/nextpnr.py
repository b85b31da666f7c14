"""nextpnr's --report JSON and its log, for iCE40 and ECP5. Neither names design or part."""

from __future__ import annotations

import re

from flow.errors import ToolFailed
from flow.report.vendor.reading import Damaged, Form, cut, json_number, read_json, real, whole
from flow.report.vendor.synthesis import Clock, Count, Resource, Stage, Synthesis

_CELLS = {
    "ICESTORM_LC": Resource.LC,
    "ICESTORM_RAM": Resource.RAM,
    "ICESTORM_DSP": Resource.DSP,
    "TRELLIS_COMB": Resource.LUT,
    "TRELLIS_FF": Resource.FF,
    "DP16KD": Resource.RAM,
    "MULT18X18D": Resource.DSP,
}
_FAMILIES = ("ICESTORM_LC", "TRELLIS_COMB")


def read_report(text: str, where: str) -> Synthesis:
    """Raises Damaged."""
    body = read_json(text, where)
    clocks, counts = [], {}
    try:
        for name, row in body["fmax"].items():
            asked = json_number(row["constraint"], f"{where}: constraint of {name}")
            clocks.append(
                _clock(name, json_number(row["achieved"], f"{where}: {name}"), asked, where)
            )
        for cell, row in body["utilization"].items():
            if cell in _CELLS:
                numbers = [
                    json_number(row[key], f"{where}: {cell}") for key in ("used", "available")
                ]
                counts[_CELLS[cell]] = Count(*numbers)
    except (KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{where}: is not as nextpnr writes it: {error!r}") from error
    return _found(
        where, clocks, counts, [cell for cell in _FAMILIES if cell in body["utilization"]]
    )


def read_log(text: str, where: str) -> Synthesis:
    """The numbers after routing, which are the last that the log has.

    Raises:
        Damaged: as said in `reading.py`.
        ToolFailed: nextpnr stopped with an error.
    """
    if error := re.search(r"^ERROR: (.*)$", text, re.MULTILINE):
        raise ToolFailed(f"{where}: nextpnr stopped: {error[1][:200]}")
    if not text.rstrip("\n").endswith("\nInfo: Program finished normally.") or text[-1:] != "\n":
        raise cut(where, "it does not say that the program finished")
    use = text.partition("\nInfo: Device utilisation:\n")[2].partition("\n\n")[0]
    rows = re.findall(r"^Info: \t +(\w+): +(\d+)/ +(\d+) +(\d+)%$", use, re.MULTILINE)
    counts = {}
    for cell, used, available, percent in rows:
        count = Count(whole(used, f"{where}: {cell}"), whole(available, f"{where}: {cell}"))
        if abs(100 * (count.share or 0) - int(percent)) >= 1:
            raise Damaged(f"{where}: {cell}: {used} of {available} is not {percent} %")
        if cell in _CELLS:
            counts[_CELLS[cell]] = count
    last = {}
    for name, best, _, asked in re.findall(
        r"^Info: Max frequency for clock +'([^'\n]+)': "
        r"([\d.]+) MHz \((PASS|FAIL) at ([\d.]+) MHz\)$",
        text.rpartition("\nInfo: Routing complete.\n")[2],
        re.MULTILINE,
    ):
        last[name] = _clock(name, real(best, where), real(asked, where), where)
    return _found(
        where, list(last.values()), counts, [row[0] for row in rows if row[0] in _FAMILIES]
    )


def _clock(name: str, achieved: float, asked: float, where: str) -> Clock:
    if min(achieved, asked) <= 0:
        raise Damaged(f"{where}: clock {name}: frequencies must be above 0")
    return Clock(name, 1000 / asked, 1000 / achieved)


def _found(
    where: str, clocks: list[Clock], counts: dict[Resource, Count], families: list[str]
) -> Synthesis:
    if len(families) != 1:
        raise Damaged(f"{where}: must be of an iCE40 or an ECP5; other families are not read")
    notes = () if clocks else ("no clock: the design has no path from register to register",)
    return Synthesis(
        "nextpnr",
        None,
        Stage.ROUTED,
        (where,),
        clocks=tuple(clocks),
        resources=counts,
        notes=notes,
    )


FORMS = (
    Form(
        "report",
        lambda name, head: (
            name.endswith(".json") and re.match(r'\s*\{\s*"critical_paths"', head) is not None
        ),
        read_report,
    ),
    Form(
        "log",
        lambda _, head: "\nInfo: Packing " in head or "\nInfo: Device utilisation:" in head,
        read_log,
    ),
)
