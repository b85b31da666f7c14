"""Verilog to a netlist of a family's cells, by Yosys."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from flow.errors import ToolFailed, UsageError
from flow.report.vendor.reading import json_number, read_json, read_text
from flow.report.vendor.synthesis import Resource, Synthesis
from flow.report.vendor.yosys import read_json_modules, read_json_stat
from flow.tools import YOSYS
from targets.rtl.implement.chains import open_ends
from targets.rtl.implement.parts import Family, Part
from targets.rtl.implement.programs import Job, Used, run_tool

STATISTICS = "stat.json"
NETLIST = "netlist.v"  # of the family's cells, to be simulated
DESIGN = "design.json"  # the same for nextpnr, with the lines of Verilog that cells are from
_ADDERS = "adders.v"  # how sums become adders, for Yosys
_CHAINS = "ecp5_chains.v"  # and those an ECP5's carries
_LOG = "synthesis.log"


@dataclass(frozen=True)
class Synthesized:
    """What Yosys counted, and how many bits the design's ports have."""

    found: Synthesis
    ports: int


def synthesize(
    sources: Sequence[Path],
    top: str,
    part: Part,
    folder: Path,
    note: Callable[[str], None],
    multipliers: bool = True,
) -> Used:
    """Write statistics, netlist and design into `folder`; `multipliers` may become DSPs.

    Raises:
        ToolMissing, ToolFailed: Yosys is not there, or refuses the design.
    """
    used = _run(sources, top, _script(top, part, multipliers), part, folder, note)
    if part.family is Family.ECP5:
        open_ends(folder / DESIGN)
    return used


def count_apart(
    modules: Mapping[str, Path],
    top: Path,
    part: Part,
    folder: Path,
    note: Callable[[str], None],
) -> tuple[Used, dict[str, Synthesis]]:
    """What Yosys counts in each of these modules, all in one run: most of what a small one takes
    alone is reading the family's cells. The module that the file `top` is called after has one of
    each, with the attribute keep_hierarchy, so that each is made as it is alone.

    Raises:
        ToolMissing, ToolFailed: Yosys is not there, or refuses one of them.
    """
    script = _script(top.stem, part, True, False)
    used = _run([*modules.values(), top], top.stem, script, part, folder, note, False)
    found = read_json_modules(read_text(folder / STATISTICS), str(folder / STATISTICS))
    if missing := ", ".join(name for name in modules if name not in found):
        raise ToolFailed(f"yosys counted no cells of {missing}")
    return used, {name: found[name] for name in modules}


def _run(
    sources: Sequence[Path],
    top: str,
    synthesis: str,
    part: Part,
    folder: Path,
    note: Callable[[str], None],
    netlist: bool = True,
) -> Used:
    """Synthesis and then statistics, and the netlist too where it is wanted."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_$]{0,200}", top):  # it goes into a script
        raise UsageError(f"the top module's name must be plain Verilog, not {top!r}")
    for source in sources:
        if source.suffix not in (".v", ".sv"):
            raise UsageError(f"{source}: must be a .v or .sv file")
    script = "; ".join(
        [
            synthesis,
            # A net that nothing drives, or two things drive, is no design of ours.
            "check -assert",
            f"tee -q -o {STATISTICS} stat -json",
            *([f"write_verilog -noattr {NETLIST}"] if netlist else []),
        ]
    )
    for name in (_ADDERS, _CHAINS) if part.family is Family.ECP5 else (_ADDERS,):
        text = (resources.files("targets.rtl.implement") / name).read_text()
        (folder / name).write_text(text)
    # Yosys in the wheel has a /tmp of its own: only what lies below the folder, or is named from
    # there, is seen.
    files = [os.path.relpath(source.resolve(), folder.resolve()) for source in sources]
    arguments = ["-q", "-l", _LOG, "-p", script, *(f"./{file}" for file in files)]
    job = Job(arguments, "yosys.log", f"synthesis for {part.name}")
    used = run_tool(YOSYS, job, folder, note)
    if not (folder / STATISTICS).is_file():
        raise ToolFailed(f"yosys ended without an error, but wrote no {STATISTICS}")
    return used


def read_synthesized(folder: Path) -> Synthesized:
    """What `synthesize` left in the folder. Raises UsageError where that is damaged."""
    where = str(folder / STATISTICS)
    text = read_text(folder / STATISTICS)
    design = read_json(text, where)["design"]
    ports = json_number(design.get("num_port_bits"), f"{where}: num_port_bits")
    return Synthesized(read_json_stat(text, STATISTICS), int(ports))


def uses_multipliers(found: Synthesis) -> bool:
    count = found.resources.get(Resource.DSP)
    return count is not None and count.used > 0


def _script(top: str, part: Part, multipliers: bool, design: bool = True) -> str:
    """The synthesis script of the family, up to writing the `design`."""
    written = f" -json {DESIGN}" if design else ""
    if part.family is Family.ICE40:
        device = "u" if part.device == "up5k" else part.device[:2]
        dsp = " -dsp" if multipliers and part.has[Resource.DSP].count else ""
        return _with_adders(f"synth_ice40 -top {top} -device {device}{dsp}{written}")
    no_dsp = "" if multipliers else " -nodsp"
    if part.family is Family.ECP5:
        made = f"synth_ecp5 -top {top}{no_dsp}{written}"
        return _with_adders(made, f"map_gates; techmap -map {_CHAINS}; {made} -run map_gates:")
    # Without pads: the design is a part of another one, and is routed elsewhere.
    family = part.family.value
    made = f"synth_xilinx -top {top} -family {family} -flatten -noiopad{no_dsp}"
    return f"{made}; select {top}; write_json -selected {DESIGN}; select -clear" if design else made


def _with_adders(synthesis: str, rest: str = "") -> str:
    """The family's script, with every sum an adder before Yosys makes carry-save adders of them;
    `rest` is from where it goes on otherwise."""
    first = "proc; flatten; opt -nodffe -nosdff; wreduce; opt_clean"
    adders = f"{first}; techmap -map {_ADDERS}"
    return f"{synthesis} -run begin:coarse; {adders}; {synthesis} -run coarse:{rest}"
