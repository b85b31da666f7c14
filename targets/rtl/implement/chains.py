"""The ends of an ECP5's carry chains, left open.

nextpnr takes a constant carry into a chain, and a carry out of it that nobody takes, for carries
from and to elsewhere, and spends a CCU2C of two LUTs on each. `ecp5_chains.v` makes sums that need
neither; but Yosys writes a constant and a net where a cell's pin is open, so they are opened here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flow.report.vendor.reading import read_json

_CELL = "CCU2C"
_OPEN = ["x"]  # what nextpnr takes for a pin that is not connected
_ZERO = "0000"  # how the bits of a LUT start that is 0 where its inputs C and D are 1


def open_ends(design: Path) -> None:
    """Open, in Yosys' JSON netlist, the carries of CCU2Cs that do nothing: a constant one into a
    half that takes none, and one out that nobody takes. Raises Damaged where it is no netlist."""
    body = read_json(design.read_text(), design.name)
    for module in body["modules"].values():
        cells = [cell for cell in module["cells"].values() if cell["type"] == _CELL]
        if not cells:
            continue
        used = Counter(bit for bits in _nets(module) for bit in bits)
        for cell in cells:
            _open(cell["connections"], cell["parameters"], used)
    design.write_text(json.dumps(body))


def _nets(module: dict[str, Any]) -> Iterator[list[Any]]:
    """What is connected to the module's ports and to every pin of its cells."""
    for port in module["ports"].values():
        yield port["bits"]
    for cell in module["cells"].values():
        yield from cell["connections"].values()


def _open(pins: dict[str, Any], parameters: dict[str, str], used: Counter[Any]) -> None:
    """Its first half takes the carry from before only where its LUT is 1."""
    ones = pins["C0"] == pins["D0"] == ["1"]
    if pins["CIN"] == ["0"] and ones and parameters["INIT0"].startswith(_ZERO):
        pins["CIN"] = _OPEN
    if all(used[bit] == 1 for bit in pins["COUT"]):
        pins["COUT"] = _OPEN
