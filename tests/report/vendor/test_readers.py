"""Every reader against a real report; the expected numbers were typed from reading the files."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from flow.errors import FlowError, Mismatch, ToolFailed, UsageError
from flow.metric import Kind
from flow.report.vendor import vivado, yosys
from flow.report.vendor.reading import Damaged
from flow.report.vendor.synthesis import Clock, Count, Cycles, Power, Resource, Stage, Synthesis
from tests.report.vendor.support import parsed, text

R = Resource


def used(found: Synthesis) -> dict[Resource, float]:
    return {kind: count.used for kind, count in found.resources.items()}


def available(found: Synthesis) -> dict[Resource, float | None]:
    return {kind: count.available for kind, count in found.resources.items()}


def test_vivado_hls_xml() -> None:
    found = parsed("hls4ml/myproject_csynth.xml")
    assert (found.tool, found.version, found.stage) == ("Vivado HLS", "2020.1", Stage.C_SYNTHESIS)
    assert (found.design, found.part) == ("myproject", "xc7z020-clg400-1")
    assert found.clocks == (Clock("ap_clk", 5.0, 4.049),)
    assert (found.latency, found.interval) == (Cycles(10, 10), Cycles(8, 8))
    assert used(found) == {R.BRAM_18K: 0, R.DSP: 73, R.FF: 7969, R.LUT: 2532, R.URAM: 0}
    assert available(found) == {R.BRAM_18K: 280, R.DSP: 220, R.FF: 106400, R.LUT: 53200, R.URAM: 0}


def test_vivado_hls_text_says_what_its_xml_says_and_the_instances() -> None:
    xml, found = parsed("hls4ml/myproject_csynth.xml"), parsed("hls4ml/myproject_csynth.rpt")
    assert found.date == datetime(2023, 3, 18, 22, 59, 37)
    for name in ("tool", "version", "design", "part", "latency", "interval", "resources", "clocks"):
        assert getattr(found, name) == getattr(xml, name), name
    dense, relu = found.modules
    assert dense.name == "dense_array_array_ap_fixed_16_6_5_3_0_5u_config2_U0"
    assert dense.resources == {R.BRAM_18K: 0, R.DSP: 73, R.FF: 7860, R.LUT: 2134, R.URAM: 0}
    assert (dense.latency, dense.interval) == (Cycles(7, 7), Cycles(7, 7))
    assert (relu.resources[R.LUT], relu.latency, relu.interval) == (256, Cycles(2, 2), Cycles(1, 1))


def test_vitis_hls_xml() -> None:
    found = parsed("ravel/final_f12_csynth.xml")
    assert (found.tool, found.version, found.design) == ("Vitis HLS", "2023.2", "final_f12")
    assert found.part == "xcku5p-ffvb676-2-e"
    assert found.clocks == (Clock("ap_clk", 5.0, 4.289),)
    assert (found.latency, found.interval) == (Cycles(71, 71), Cycles(63, 63))
    assert used(found) == {R.BRAM_18K: 155, R.DSP: 48, R.FF: 24900, R.LUT: 56457, R.URAM: 0}


def test_a_latency_that_depends_on_data_is_not_guessed() -> None:
    known = text("ravel/final_f12_csynth.xml")
    undefined = known.replace(
        "<Worst-caseLatency>71</Worst-caseLatency>", "<Worst-caseLatency>undef</Worst-caseLatency>"
    )
    found = parsed("ravel/final_f12_csynth.xml", undefined.encode())
    assert found.latency is None
    assert found.interval == Cycles(63, 63)
    assert "depends on the data" in found.notes[0]


def test_cosimulation() -> None:
    found = parsed("ravel/ravel_window_f12_p4_cosim.rpt")
    assert (found.stage, found.date) == (Stage.COSIMULATION, datetime(2026, 9, 16, 10, 50, 10))
    assert (found.latency, found.interval) == (Cycles(94, 99), Cycles(77, 82))
    unmeasured = parsed("ravel/final_f12_cosim.rpt")
    assert unmeasured.latency is unmeasured.interval is None
    assert unmeasured.notes == ("co-simulation passed (Verilog), and took no measure of cycles",)
    failed = text("ravel/final_f12_cosim.rpt").replace("Pass", "Fail").encode()
    with pytest.raises(Mismatch, match="Verilog differs from the C code"):
        parsed("ravel/final_f12_cosim.rpt", failed)


def test_vivado_after_logic_synthesis() -> None:
    found = parsed("hls4ml/vivado_synth.rpt")
    assert (found.tool, found.version) == ("Vivado", "2020.1")
    assert (found.stage, found.design) == (Stage.LOGIC_SYNTHESIS, "myproject")
    assert found.date == datetime(2023, 3, 19, 7, 48, 36)
    assert used(found) == {R.LUT: 1526, R.FF: 2428, R.DSP: 66, R.BRAM_18K: 0}
    assert available(found) == {R.LUT: 53200, R.FF: 106400, R.DSP: 220, R.BRAM_18K: 280}
    assert "384 pins of 125" in found.notes[0]


def test_vivado_after_placement() -> None:
    found = parsed("edalize/top_utilization_placed.rpt")
    assert (found.version, found.stage) == ("2019.2", Stage.PLACED)
    assert (found.design, found.part) == ("top", "xcku3pffva676-2")
    assert used(found) == {R.LUT: 999, R.FF: 920, R.DSP: 0, R.BRAM_18K: 0, R.URAM: 0}
    assert available(found)[R.LUT] == 162720
    assert available(found)[R.BRAM_18K] == 720  # of 360 tiles


def test_vivado_after_routing() -> None:
    found = parsed("ravel/utilization.rpt")
    assert (found.version, found.stage) == ("2023.2", Stage.ROUTED)
    assert used(found) == {R.LUT: 27974, R.FF: 19260, R.DSP: 64, R.BRAM_18K: 0, R.URAM: 0}
    assert found.resources[R.DSP] == Count(64, 1824)


def test_half_a_tile_of_block_ram_is_one_of_18k() -> None:
    rows = text("ravel/utilization.rpt")
    old = "| Block RAM Tile |    0 |     0 |          0 |       480 |  0.00 |"
    assert old in rows
    new = "| Block RAM Tile | 29.5 |     0 |          0 |       480 |  6.15 |"
    found = parsed("ravel/utilization.rpt", rows.replace(old, new).encode())
    assert found.resources[R.BRAM_18K] == Count(59, 960)


def test_vivado_by_hierarchy() -> None:
    found = parsed("ravel/utilization_hierarchical.rpt")
    assert used(found) == used(parsed("ravel/utilization.rpt"))
    assert len(found.modules) == 13
    relu = next(module for module in found.modules if module.name.startswith("relu_array"))
    assert relu.name == "relu_array_ap_fixed_48u_array_ap_ufixed_17_8_5_3_0_48u_relu_config8_U0"
    assert (relu.resources[R.LUT], relu.resources[R.FF]) == (394, 824)
    assert sum(module.resources[R.DSP] for module in found.modules) == 64


def test_vivado_timing() -> None:
    found = parsed("ravel/timing.rpt")
    assert (found.stage, found.part) == (Stage.ROUTED, "xcku5p-ffvb676-2")
    assert found.clocks == (Clock("ap_clk", 5.0, 4.269),)  # slack 0.731 ns
    old = parsed(
        "edalize/top_timing_summary_routed.rpt.gz"
    )  # does not say its state: its name does
    assert (old.version, old.stage, old.clocks) == (
        "2019.2",
        Stage.ROUTED,
        (Clock("clk", 5.0, 4.816),),  # slack 0.184 ns
    )


def test_hold_and_paths_between_clocks_count() -> None:
    """The period of each clock is met, and the design still does not work."""
    timing = text("ravel/timing.rpt")
    row = "\n      0.731        0.000                      0                54716        0.007 "
    assert timing.count(row) == 1
    assert parsed("ravel/timing.rpt").problems() == []
    hold = timing.replace(row, row.replace(" 0.007", "-0.007"))
    assert parsed("ravel/timing.rpt", hold.encode()).problems() == ["clock hold: slack -0.007 ns"]
    between = timing.replace(row, row.replace(" 0.731", "-0.031"))
    found = parsed("ravel/timing.rpt", between.encode())
    assert found.problems() == ["clock setup between clocks or to pins: slack -0.031 ns"]
    name = "edalize/picorv32_wrap_0_1.sta.rpt"
    assert len(parsed(name).problems()) == 1
    slow = text(name).replace(
        "Worst-case Slack ; -1.886 ; 0.019 ", "Worst-case Slack ; -1.886 ; -0.02 "
    )
    assert parsed(name, slow.encode("latin-1")).problems()[1] == "clock hold: slack -0.02 ns"


def test_a_timing_report_of_an_unknown_stage_is_refused() -> None:
    name = "edalize/top_timing_summary_routed.rpt.gz"
    unnamed = text(name).replace("top_timing_summary_routed.rpt", "timing.rpt")
    with pytest.raises(UsageError, match="does not say whether the design was placed and routed"):
        parsed(name, unnamed.encode())


def test_vivado_power_is_assumed() -> None:
    found = parsed("blinky/post_route_power.rpt")
    assert (found.version, found.stage, found.design) == ("2022.1", Stage.ROUTED, "blinky")
    assert found.power == Power(0.063, 0.002, 0.062, "Medium")
    assert {metric.kind for metric in found.metrics()} == {Kind.ASSUMED}
    assert "confidence Medium" in found.metrics()[0].source


def test_quartus() -> None:
    found = parsed("edalize/picorv32_wrap_0_1.fit.rpt.gz")
    assert (found.tool, found.version, found.stage) == ("Quartus Prime", "19.1.0", Stage.ROUTED)
    assert (found.design, found.part) == ("picorv32_wrap_0_1", "10CX220YF780E5G")
    assert found.date == datetime(2019, 12, 4, 12, 52, 28)
    assert dict(found.resources) == {
        R.ALM: Count(930, 80330),
        R.RAM: Count(2, 587),
        R.DSP: Count(0, 192),
        R.FF: Count(761),
    }
    timing = parsed("edalize/picorv32_wrap_0_1.sta.rpt")
    (clock,) = timing.clocks
    assert (clock.name, clock.target_ns, clock.missed) == ("clk", 5.714, True)
    assert clock.fmax_mhz == pytest.approx(131.58)  # the slower of the two slow corners
    # Setup slack says the same.
    assert clock.achieved_ns == pytest.approx(5.714 + 1.886, abs=1e-3)


def test_a_fitter_that_failed_is_said_to_have() -> None:
    name = "edalize/picorv32_wrap_0_1.fit.rpt.gz"
    failed = text(name).replace("; Successful - ", "; Failed - Er  ")
    with pytest.raises(ToolFailed, match="the fitter ended with 'Failed'"):
        parsed(name, failed.encode("latin-1"))


def test_oneapi() -> None:
    estimate = parsed("oneapi/summary.ndjson")
    assert used(estimate) == {R.ALUT: 2462, R.FF: 7938, R.RAM: 77, R.DSP: 0, R.MLAB: 92}
    assert available(estimate)[R.ALUT] == 974400
    assert [m.name for m in estimate.modules] == ["relu_config3>()", "bias_t)", "Myproject"]
    assert estimate.modules[1].resources[R.RAM] == 71
    loops = parsed("oneapi/loop_attr.ndjson")
    assert loops.clock is not None
    assert loops.clock.fmax_mhz == pytest.approx(480)
    assert {m.name: (m.latency, m.interval) for m in loops.modules} == {
        "Myproject": (Cycles(176, 176), Cycles(1, 1)),
        "relu_config3>()": (Cycles(159, 159), Cycles(1, 1)),
        "bias_t)": (Cycles(200, 200), Cycles(1, 1)),
    }
    assert loops.latency is None  # kernels run side by side
    fitted = parsed("oneapi/quartus.ndjson")
    assert (fitted.stage, fitted.design) == (Stage.ROUTED, "Myproject")
    assert fitted.clock is not None
    assert fitted.clock.fmax_mhz == pytest.approx(597.73)
    assert used(fitted) == {
        **{R.ALM: 4520.5, R.ALUT: 4182, R.FF: 16419},
        **{R.DSP: 40, R.RAM: 36, R.MLAB: 52},
    }
    assert fitted.modules[0].resources[R.ALM] == 4520


@pytest.mark.parametrize("name", ["opensource/ice40_report.json", "opensource/ice40_pnr.log"])
def test_nextpnr_ice40(name: str) -> None:
    found = parsed(name)
    assert (found.tool, found.stage) == ("nextpnr", Stage.ROUTED)
    assert dict(found.resources) == {R.LC: Count(201, 1280), R.RAM: Count(1, 16)}
    assert found.clock is not None
    assert found.clock.fmax_mhz == pytest.approx(81.47, abs=0.005)  # 83.57 before routing
    assert found.clock.target_ns == pytest.approx(1000 / 30)


@pytest.mark.parametrize("name", ["opensource/ecp5_report.json", "opensource/ecp5_pnr.log"])
def test_nextpnr_ecp5(name: str) -> None:
    found = parsed(name)
    assert dict(found.resources) == {
        R.LUT: Count(53, 24288),
        R.FF: Count(40, 24288),
        R.RAM: Count(0, 56),
        R.DSP: Count(1, 28),
    }
    assert found.clock is not None
    assert found.clock.fmax_mhz == pytest.approx(113.66, abs=0.005)
    assert not found.clock.missed


@pytest.mark.parametrize("ending", ["json", "txt"])
def test_yosys(ending: str) -> None:
    found = parsed(f"opensource/ice40_stat.{ending}")
    assert (found.tool, found.stage, found.design) == ("Yosys", Stage.LOGIC_SYNTHESIS, "mac")
    assert used(found) == {R.LUT: 191, R.FF: 32, R.CARRY: 20, R.RAM: 1}
    found = parsed(f"opensource/ecp5_stat.{ending}")
    assert used(found) == {R.LUT: 23, R.FF: 40, R.CARRY: 12, R.DSP: 1}
    assert found.notes == ("other cells: 4 L6MUX21, 8 PFUMX",)
    assert parsed("opensource/ice40_stat.json").version == "0.70"


def test_a_shift_register_of_amds_is_a_lut() -> None:
    stat = text("opensource/ecp5_stat.json").replace('"L6MUX21"', '"SRL16E"')
    found = yosys.read_json_stat(stat.replace('"PFUMX"', '"SRLC32E"'), "stat.json")
    assert used(found)[R.LUT] == 23 + 4 + 8
    assert found.notes == ()


def test_where_cells_are_from_is_no_cell() -> None:
    stat = text("opensource/ecp5_stat.json").replace('"L6MUX21"', '"$scopeinfo"')
    assert yosys.read_json_stat(stat, "stat.json").notes == ("other cells: 8 PFUMX",)


def test_what_a_number_is_worth() -> None:
    """C synthesis estimates, with an interval where data say how far off it is; the netlist's own
    numbers are measured; so are simulated cycles."""
    kinds = {m.name: m.kind for m in parsed("ravel/final_f12_csynth.xml").metrics()}
    assert kinds["lut"] is kinds["ff"] is kinds["dsp"] is Kind.ESTIMATED
    assert kinds["latency"] is kinds["bram_18k"] is kinds["clock"] is Kind.ASSUMED
    lut = next(m for m in parsed("ravel/final_f12_csynth.xml").metrics() if m.name == "lut")
    assert lut.interval is not None
    assert lut.interval.low < 27974 < lut.interval.high < lut.value  # what was routed in the end
    assert {m.kind for m in parsed("ravel/utilization.rpt").metrics()} == {Kind.MEASURED}
    cycles = parsed("ravel/ravel_window_f12_p4_cosim.rpt").metrics()
    assert [(m.name, m.value, m.kind) for m in cycles] == [
        ("latency", 99, Kind.MEASURED),
        ("interval", 82, Kind.MEASURED),
    ]
    for metric in parsed("oneapi/summary.ndjson").metrics():
        assert metric.kind is Kind.ASSUMED


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("hls4ml/vivado_synth.rpt", "| 1526 |", "| 1626 |", "1626 of 53200 is not 2.87 %"),
        ("hls4ml/vivado_synth.rpt", "| 1478 |", "| 1578 |", "is not the sum of LUT as Logic"),
        ("hls4ml/vivado_synth.rpt", "Vivado v.2020.1", "Vivado v.x", "names no version of Vivado"),
        ("hls4ml/vivado_synth.rpt", "Synthesized", "Imagined   ", "must be one of synthesized"),
        (
            "ravel/utilization_hierarchical.rpt",
            "(top)",
            "(pot)",
            "must be the design, marked (top)",
        ),
        (
            "ravel/timing.rpt",
            "5.000           200.000",
            "4.000           200.000",
            "is not 200.000",
        ),
        (
            "ravel/timing.rpt",
            "ap_clk              0.731",
            "ap_clk              0.631",
            "less slack",
        ),
        ("blinky/post_route_power.rpt", "| 0.062 ", "| 0.162 ", "is not the sum of"),
        ("blinky/post_route_power.rpt", "| 0.062 ", "| 0..62 ", "must be a number"),
        ("hls4ml/myproject_csynth.rpt", "|     73|    7944|", "|     72|    7944|", "not the sum"),
        ("hls4ml/myproject_csynth.xml", "<unit>ns", "<unit>us", "must be in ns"),
        ("hls4ml/myproject_csynth.xml", "<LUT>2532", "<LUT>-2532", "must be a whole number"),
        ("hls4ml/myproject_csynth.xml", "<LUT>2532", "<LUT>1e99", "must be a whole number"),
        ("edalize/picorv32_wrap_0_1.fit.rpt.gz", "80,330 ( 1 % )", "80,330 ( 9 % )", "is not 9 %"),
        ("edalize/picorv32_wrap_0_1.sta.rpt", "; final   ", "; placed  ", "before the design was"),
        ("oneapi/summary.ndjson", "2462", "2463", "the total is not the sum of the rows"),
        ("opensource/ice40_stat.json", '"SB_LUT4": 191', '"SB_LUT4": 190', "are not the sum"),
        ("opensource/ice40_stat.txt", "191   SB_LUT4", "190   SB_LUT4", "are not the sum"),
        ("opensource/ice40_pnr.log", "201/   1280", "401/   1280", "401 of 1280 is not 15 %"),
        ("opensource/ice40_report.json", "81.47303009033203", "NaN", "NaN is no number"),
        ("opensource/ice40_report.json", '"used": 201', '"used": 201, "used": 2', "stands twice"),
    ],
)
def test_what_cannot_be_is_refused(name: str, old: str, new: str, says: str) -> None:
    before = text(name)
    assert old in before
    with pytest.raises(UsageError) as refused:
        parsed(name, before.replace(old, new).encode("latin-1"))
    assert says in str(refused.value)


def test_a_tool_that_stopped_is_said_to_have() -> None:
    stopped = text("opensource/ice40_pnr.log") + "ERROR: Max frequency for clock missed\n"
    with pytest.raises(ToolFailed, match="nextpnr stopped: Max frequency for clock missed"):
        parsed("opensource/ice40_pnr.log", stopped.encode())


@pytest.mark.parametrize(
    "document",
    [
        '<!DOCTYPE profile [<!ENTITY a "aaaaaaaaaa">]><profile>&a;</profile>',
        "<a>" * 100_000,
        "<a>x" * 1_000_000,
        "<profile>" + "<a>" * 100_000 + "</a>" * 100_000 + "</profile>",
        '<?xml version="1.0" encoding="utf-16"?><profile/>',
        "<profile></profile>",
    ],
)
def test_hostile_xml_is_refused(document: str) -> None:
    with pytest.raises(UsageError):
        parsed("hls4ml/myproject_csynth.xml", document.encode())


@pytest.mark.parametrize("document", ["[" * 100_000, "[1]", "{}", '{"fmax": 3}', "1" * 5000])
def test_hostile_json_is_refused(document: str) -> None:
    for name in ("opensource/ice40_report.json", "opensource/ice40_stat.json"):
        with pytest.raises(UsageError):
            parsed(name, document.encode())
    for name in ("summary", "loop_attr", "quartus"):
        with pytest.raises(UsageError):
            parsed(f"oneapi/{name}.ndjson", document.encode() + b"\n")


def test_no_text_is_refused() -> None:
    with pytest.raises(UsageError, match="is no text"):
        parsed("hls4ml/vivado_synth.rpt", b"\x00" * 100)


def test_a_family_that_is_not_read_is_refused() -> None:
    versal = text("ravel/utilization.rpt").replace("| CLB LUTs   ", "| Tile LUTs  ")
    with pytest.raises(FlowError, match="has no row for lut; read are 7 series, UltraScale"):
        vivado.read_utilization(versal, "versal.rpt")


def test_yosys_counts_by_module() -> None:
    """Each by itself; a module without cells of a device is none."""
    modules: dict[str, dict[str, object]] = {
        "\\a": {"num_cells": 5, "num_cells_by_type": {"SB_LUT4": 3, "SB_CARRY": 2}},
        "\\b": {"num_cells": 1, "num_cells_by_type": {"SB_DFFE": 1}},
        "\\top": {"num_cells": 2, "num_cells_by_type": {"a": 1, "b": 1}},
    }
    body = {"creator": "Yosys 0.70 (git)", "modules": modules}
    found = yosys.read_json_modules(json.dumps(body), "stat.json")
    assert {name: each.design for name, each in found.items()} == {"a": "a", "b": "b"}
    assert found["a"].resources == {Resource.LUT: Count(3), Resource.CARRY: Count(2)}
    modules["\\a"]["num_cells"] = 4
    with pytest.raises(Damaged, match="4 cells are not the sum"):
        yosys.read_json_modules(json.dumps(body), "stat.json")
    with pytest.raises(Damaged, match="not as `stat -json`"):
        yosys.read_json_modules('{"creator": "Yosys 0.70 (git)"}', "stat.json")
