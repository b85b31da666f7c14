"""Yosys' `stat`, as JSON (`stat -json`, any version) and as the text of Yosys 0.4x and newer."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from flow.report.vendor.reading import Damaged, Form, cut, json_number, read_json, whole
from flow.report.vendor.synthesis import Count, Resource, Stage, Synthesis

_CELLS = {  # patterns of mapped cells, and how many of the resource one is
    r"SB_LUT4|LUT4|LUT[1-6]|SRLC?(16|32)E": (Resource.LUT, 1),  # a shift register is a LUT
    r"SB_DFF\w*|TRELLIS_FF|FD[RSCP]E(_1)?": (Resource.FF, 1),
    r"SB_CARRY|CCU2C|CARRY[48]": (Resource.CARRY, 1),
    r"SB_RAM40_4K\w*|DP16KD": (Resource.RAM, 1),
    r"SB_MAC16|MULT18X18D|DSP48E[12]?": (Resource.DSP, 1),
    r"RAMB18E[12]": (Resource.BRAM_18K, 1),
    r"RAMB36E[12]": (Resource.BRAM_18K, 2),
    r"URAM288\w*": (Resource.URAM, 1),
}
_NO_CELL = "$scopeinfo"  # says where flattened cells are from


@cache
def resource_of(cell: str) -> tuple[Resource, int] | None:
    """The resource that a mapped cell takes, and how many of it; None for other cells."""
    found = (kind for pattern, kind in _CELLS.items() if re.fullmatch(pattern, cell))
    return next(found, None)


def read_json_stat(text: str, where: str) -> Synthesis:
    """Raises Damaged."""
    body = read_json(text, where)
    try:
        version = _version(body, where)
        names = [str(name).removeprefix("\\") for name in body["modules"]]
        cells, total = _cells(body["design"], where)
    except (KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{where}: is not as `stat -json` writes it: {error!r}") from error
    name = names[0] if len(names) == 1 else None
    return _found(where, version, name, cells, total)


def read_json_modules(text: str, where: str) -> dict[str, Synthesis]:
    """Each module by its name, without the modules in it; those without cells of a device are left
    out. Raises Damaged."""
    body = read_json(text, where)
    try:
        version = _version(body, where)
        modules = {
            str(name).removeprefix("\\"): _cells(module, where)
            for name, module in body["modules"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{where}: is not as `stat -json` writes it: {error!r}") from error
    return {
        name: _found(where, version, name, cells, total)
        for name, (cells, total) in modules.items()
        if any(resource_of(cell) for cell in cells)
    }


def _version(body: Any, where: str) -> str:
    version = re.match(r"Yosys (\d+\.\d+\S*) ", body["creator"])
    if version is None:
        raise Damaged(f"{where}: names no version of Yosys")
    return version[1]


def _cells(counted: Any, where: str) -> tuple[dict[str, float], float]:
    """By kind, and all together."""
    cells = {
        str(cell): json_number(count, f"{where}: {cell}")
        for cell, count in counted["num_cells_by_type"].items()
    }
    return cells, json_number(counted["num_cells"], f"{where}: num_cells")


def read_text_stat(text: str, where: str) -> Synthesis:
    """One module. Raises Damaged."""
    found = re.search(r"^=== (\S+) ===\n", text, re.MULTILINE)
    if text.count("\n=== ") != 1 or found is None:
        raise Damaged(
            f"{where}: must be of one module; for more of them write it with `stat -json`"
        )
    if not text.endswith("\n\n"):
        raise cut(where, "no blank line ends it")
    rows = re.findall(r"^ +(\d+) (\w[\w ]*|  \$?\w+)$", text[found.end() :], re.MULTILINE)
    totals = [whole(count, where) for count, name in rows if name == "cells"]
    if len(totals) != 1:
        raise Damaged(
            f"{where}: must have one line of cells; older versions' text is not read: write it "
            f"with `stat -json`"
        )
    cells = {
        name.strip(): float(whole(count, where)) for count, name in rows if name.startswith("  ")
    }
    return _found(where, None, found[1], cells, totals[0])


def _found(
    where: str, version: str | None, design: str | None, cells: dict[str, Any], total: float
) -> Synthesis:
    if sum(cells.values()) != total:
        raise Damaged(f"{where}: {total:g} cells are not the sum of the kinds listed")
    counts: dict[Resource, float] = {}
    others = []
    for cell, count in cells.items():
        if known := resource_of(cell):
            counts[known[0]] = counts.get(known[0], 0) + known[1] * count
        elif cell != _NO_CELL:
            others.append(f"{count:g} {cell}")
    if not counts:
        raise Damaged(
            f"{where}: has no cells of iCE40, ECP5 or AMD devices; run synth_ice40, synth_ecp5 or "
            f"synth_xilinx before stat"
        )
    return Synthesis(
        "Yosys",
        version,
        Stage.LOGIC_SYNTHESIS,
        (where,),
        design=design,
        resources={kind: Count(count) for kind, count in counts.items()},
        notes=(f"other cells: {', '.join(others)}",) if others else (),
    )


FORMS = (
    Form(
        "statistics",
        lambda name, head: (
            name.endswith(".json") and '"creator": "Yosys' in head and '"num_cells"' in head
        ),
        read_json_stat,
    ),
    Form(
        "statistics",
        lambda _, head: re.match(r"\s*\d+\. Printing statistics\.\n", head) is not None,
        read_text_stat,
    ),
)
