"""Icarus Verilog: the Verilog as a program of its own simulator, for small networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flow.errors import ToolFailed
from flow.tools import IVERILOG, VVP, Tool, find, require, run

ENDING = ".vvp"


def programs() -> tuple[Tool, ...]:
    """The programs that a simulation needs."""
    return IVERILOG, VVP


def usable() -> bool:
    """Whether they are there."""
    return all(find(tool) is not None for tool in programs())


def build(folder: Path, sources: Sequence[str], top: str, *options: str) -> Path:
    """Make `folder`/`top`.vvp, which vvp runs, from Verilog `sources`, names in or from `folder`;
    `options` are iverilog's.

    Raises:
        ToolMissing, ToolFailed: iverilog is not there, or fails.
    """
    made = f"{top}{ENDING}"
    argv = [str(require(IVERILOG)), "-g2005", "-s", top, "-o", made, *options, *sources]
    run(argv, folder, folder / "iverilog.log")
    if not (folder / made).is_file():
        raise ToolFailed(f"iverilog ended without an error, but did not write {made}")
    return folder / made
