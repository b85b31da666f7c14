"""The real reports in `data/`, each with what reads it."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

from flow.report.vendor import nextpnr, oneapi, quartus, vitis, vivado, yosys
from flow.report.vendor.reading import decode
from flow.report.vendor.synthesis import Synthesis

DATA = Path(__file__).parent / "data"

READERS: dict[str, Callable[[str, str], Synthesis]] = {
    "hls4ml/myproject_csynth.xml": vitis.read_csynth_xml,
    "hls4ml/myproject_csynth.rpt": vitis.read_csynth_rpt,
    "hls4ml/vivado_synth.rpt": vivado.read_utilization,
    "ravel/final_f12_csynth.xml": vitis.read_csynth_xml,
    "ravel/final_f12_cosim.rpt": vitis.read_cosim,
    "ravel/ravel_window_f12_p4_cosim.rpt": vitis.read_cosim,
    "ravel/utilization.rpt": vivado.read_utilization,
    "ravel/utilization_hierarchical.rpt": vivado.read_utilization,
    "ravel/timing.rpt": vivado.read_timing,
    "edalize/top_utilization_placed.rpt": vivado.read_utilization,
    "edalize/top_timing_summary_routed.rpt.gz": vivado.read_timing,
    "edalize/picorv32_wrap_0_1.fit.rpt.gz": quartus.read_fit,
    "edalize/picorv32_wrap_0_1.sta.rpt": quartus.read_timing,
    "blinky/post_route_power.rpt": vivado.read_power,
    "oneapi/summary.ndjson": oneapi.read_summary,
    "oneapi/loop_attr.ndjson": oneapi.read_loops,
    "oneapi/quartus.ndjson": oneapi.read_quartus,
    "opensource/ice40_report.json": nextpnr.read_report,
    "opensource/ecp5_report.json": nextpnr.read_report,
    "opensource/ice40_pnr.log": nextpnr.read_log,
    "opensource/ecp5_pnr.log": nextpnr.read_log,
    "opensource/ice40_stat.json": yosys.read_json_stat,
    "opensource/ecp5_stat.json": yosys.read_json_stat,
    "opensource/ice40_stat.txt": yosys.read_text_stat,
    "opensource/ecp5_stat.txt": yosys.read_text_stat,
}


def content(name: str) -> bytes:
    """The report as its tool wrote it."""
    stored = (DATA / name).read_bytes()
    return gzip.decompress(stored) if name.endswith(".gz") else stored


def parsed(name: str, changed: bytes | None = None) -> Synthesis:
    """A report, or other bytes in its place, as its reader reads it."""
    return READERS[name](decode(content(name) if changed is None else changed, name), name)


def text(name: str) -> str:
    return content(name).decode("latin-1")


def hls4ml_project(folder: Path) -> Path:
    """The reports where Vivado HLS and hls4ml's script put them."""
    reports = folder / "myproject_prj" / "solution1" / "syn" / "report"
    reports.mkdir(parents=True)
    shutil.copy(DATA / "hls4ml/vivado_hls.app", folder / "myproject_prj")
    for name in ("myproject_csynth.xml", "myproject_csynth.rpt"):
        shutil.copy(DATA / "hls4ml" / name, reports)
    shutil.copy(DATA / "hls4ml/vivado_synth.rpt", folder)
    return folder


def ravel_project(folder: Path) -> Path:
    """A design from C synthesis to place and route, as Vitis HLS and Vivado lay it out."""
    solution = folder / "hls" / "final_f12_prj" / "solution1"
    for name, place in (("syn", "*csynth.xml"), ("sim", "final_f12_cosim.rpt")):
        (solution / name / "report").mkdir(parents=True)
        for file in (DATA / "ravel").glob(place):
            shutil.copy(file, solution / name / "report")
    (folder / "ooc").mkdir()
    for file in ("utilization.rpt", "utilization_hierarchical.rpt", "timing.rpt"):
        shutil.copy(DATA / "ravel" / file, folder / "ooc")
    return folder
