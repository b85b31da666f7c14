"""What vendor tools reported becomes part of a run: its pages, its data, and comparisons."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from flow.artifact import read_manifest, write_manifest
from flow.describe import with_synthesis
from flow.errors import UsageError
from flow.metric import Interval, Kind, Metric
from flow.report.compare import LimitCrossed, changes, check, read_limits, text, verdict
from flow.report.run import read_run
from flow.report.text import render
from flow.report.vendor.folder import Found
from flow.report.vendor.synthesis import Module, Resource, Stage, Synthesis
from flow.review import report_all
from flow.synthesis_report import report_synthesis
from tests.report.support import deep, made_up, metric, save
from tests.report.test_pages import Text
from tests.report.vendor.support import DATA

OPTIONS = {"clock_ns": "10.0", "part": "xc7z020-clg400-1"}
SOURCE = """
    nnet::zeropad2d_cl<input_t, layer19_t, config19>(input_codes, layer19_out); // zp2d_conv0a
    nnet::conv_2d_cl<layer19_t, layer2_t, config2>(layer19_out, layer2_out, w2, b2); // conv0a
    nnet::linear<layer2_t, layer8_t, relu_config8>(layer2_out, layer8_out); // conv0a_act
    nnet::add<layer8_t, layer2_t, layer9_t, config9>(layer8_out, layer2_out, out); // add0_top
"""
FIGURES = (
    metric("latency", 9, Kind.ESTIMATED, "cycles"),
    metric("multipliers", 70, Kind.ASSUMED),
    metric("interval", 5, Kind.ASSUMED, "cycles"),
)


def artifact(
    folder: Path, name: str = "net", lut: float | None = None, more: tuple[Metric, ...] = ()
) -> Path:
    """An artifact with a project of one file; with `lut`, that many were assumed."""
    more = more if lut is None else (metric("lut", lut, Kind.ASSUMED),)
    made = save(made_up(deep(1), figures=(*FIGURES, *more)), folder / name)
    (made / "project" / "firmware").mkdir(parents=True)
    (made / "project" / "firmware" / "dut.cpp").write_text(SOURCE)
    write_manifest(made, {"key": "c" * 64, "target": "hls4ml", "options": OPTIONS})
    return made


def synthesized(made: Path, folder: Path, lut: int = 1526, reached: str = "4.049") -> Path:
    """The artifact's project with a real C synthesis' and a real logic synthesis' numbers."""
    shutil.copytree(made / "project", folder)
    reports = folder / "dut_prj" / "solution1" / "syn" / "report"
    reports.mkdir(parents=True)
    xml = (DATA / "hls4ml" / "myproject_csynth.xml").read_text().replace(">myproject<", ">dut<")
    xml = xml.replace(">5.00<", ">10.00<").replace(">4.049<", f">{reached}<")
    (reports / "dut_csynth.xml").write_text(xml)
    used = (DATA / "hls4ml" / "vivado_synth.rpt").read_text().replace("myproject", "dut")
    for name, value, percent in (
        ("Slice LUTs*                | 1526 |     0 |     53200 |  2.87 |", lut, lut / 532),
        (
            "  LUT as Logic             | 1478 |     0 |     53200 |  2.78 |",
            lut - 48,
            (lut - 48) / 532,
        ),
    ):
        assert name in used  # the reader holds the report against itself
        left = name.partition("|")[0]
        used = used.replace(name, f"{left}|{value:>5} |     0 |     53200 |{percent:>6.2f} |")
    (folder / "vivado_synth.rpt").write_text(used)
    return folder


def test_measured_stands_beside_estimated(tmp_path: Path) -> None:
    made = artifact(tmp_path)
    report = report_synthesis(synthesized(made, tmp_path / "elsewhere"), made)
    assert report.text().endswith(f"page: {made / 'report.html'} (has these figures now)")
    read_manifest(made)  # every file is what it says
    run = read_run(made)
    told = {(m.name, m.kind): m.value for m in run.told.metrics}
    assert told["lut", Kind.MEASURED] == 1526
    assert told["lut", Kind.ESTIMATED] == 2532
    assert told["latency", Kind.ESTIMATED] == 9 and told["latency", Kind.ASSUMED] == 10
    assert told["interval", Kind.ASSUMED] == 8  # the tool's schedule, not the formula
    assert [m.value for m in run.report.metrics] == [9, 70, 5]  # what the compile said stays
    page = Text((made / "report.html").read_text()).text
    for words in (
        "What vendor tools made of it",
        "tool Vivado HLS 2020.1 Vivado 2020.1",
        "lut 1,526 2,532 [592.5, 1,952]",
        "measured inside the estimated interval",
        "lut 2532 of 53200 (4.8 %) 1526 of 53200 (2.9 %)",
    ):
        assert words in page, words
    assert "| lut | 1,526 | 2,532 \\[592.5, 1,952\\] |" in (made / "report.md").read_text()
    for name in ("report.json", "report.md", "report.html"):
        assert str(tmp_path) not in (made / name).read_text()


def test_modules_are_put_to_their_layers(tmp_path: Path) -> None:
    made = artifact(tmp_path)
    taken = synthesized(made, tmp_path / "elsewhere")
    reports = taken / "dut_prj" / "solution1" / "syn" / "report"
    for file in (DATA / "ravel").glob("*_config*_csynth.xml"):  # 2,157 and 5,137 LUTs
        shutil.copy(file, reports)
    report_synthesis(taken, made)
    layers = {layer.name: layer for layer in read_run(made).shown_layers}
    told = {
        name: {m.name: (m.value, m.kind) for m in layer.metrics if m.name in ("lut", "dsp")}
        for name, layer in layers.items()
    }
    assert told == {
        "conv0a": {"lut": (2157, Kind.ASSUMED)},  # its activation's; no module of its own
        "conv0b": {},
        "add0": {"lut": (5137, Kind.ASSUMED)},  # no DSP anywhere: no column for them
    }
    page = (made / "report.html").read_text()
    charts = json.loads(page.split('id="charts">')[1].split("</script>")[0])
    rows = charts["costs"]["lut (assumed)"]["data"]["values"]
    assert [(row["layer"], row["value"]) for row in rows] == [("conv0a", 2157), ("add0", 5137)]


def test_of_modules_inside_each_other_the_largest_counts() -> None:
    used = [
        ("a_config2_U0", 100),
        ("inner_config2_s", 90),
        ("relu_config3_U0", 7),
        ("config2_config3", 50),
    ]
    modules = tuple(Module(name, {Resource.LUT: lut}) for name, lut in used)
    stage = Synthesis("Vivado", "2023.2", Stage.ROUTED, ("x.rpt",), modules=modules)
    run = with_synthesis(
        made_up(deep(1)), Found((stage,), ()), {"config2": "conv0a", "config3": "conv0a_act_top"}
    )
    (found,) = [m for m in run.shown_layers[0].metrics if m.name == "lut"]
    assert (found.value, found.kind) == (107, Kind.MEASURED)
    assert [
        m.name for layer in run.shown_layers[1:] for m in layer.metrics if m.name == "lut"
    ] == []


def test_what_was_expected_of_each_tool_stands_beside_what_it_reported(tmp_path: Path) -> None:
    """C synthesis' count of LUTs is 2532, Vivado's 1526: each beside its own estimate, and where
    one did not hold every form of the report says so, and the other is not said to."""
    expected = [
        Metric(name, value, "1", kind, "made up", Interval(low, high, 0.9))
        for name, value, low, high, kind in (
            ("lut in HLS report", 2600, 2000, 3000, Kind.ESTIMATED),
            ("lut by Vivado", 2000, 1600, 2400, Kind.ESTIMATED),
            ("dsp by Vivado", 1, 1, 1, Kind.ASSUMED),
        )
    ]
    made = artifact(tmp_path, more=tuple(expected))
    report = report_synthesis(synthesized(made, tmp_path / "elsewhere"), made)
    run = read_run(made)
    figures = {(m.name, m.kind): m for m in run.told.metrics}
    assert figures["lut in HLS report", Kind.MEASURED].value == 2532
    assert figures["lut by Vivado", Kind.MEASURED].value == 1526
    assert ("dsp by Vivado", Kind.MEASURED) not in figures, "nothing was estimated"
    assert figures["lut by Vivado", Kind.ESTIMATED].value == 2000
    said = [text for text in run.told.warnings if "outside the interval" in text]
    assert said == [
        "lut by Vivado: 1,526 was measured, outside the interval of 1,600 to 2,400 that was "
        "estimated"
    ]
    assert said[0] in render(run.told) and said[0] in run.told.to_json()["warnings"]
    assert said[0] in Text((made / "report.html").read_text()).text
    assert said[0] in (made / "report.md").read_text()
    pairs = {pair.expected.name: pair for pair in report.pairs}
    assert pairs["lut by Vivado"].inside is False and pairs["lut in HLS report"].inside is True


def test_newer_reports_take_the_place_of_older_ones(tmp_path: Path) -> None:
    made = artifact(tmp_path)
    first = synthesized(made, tmp_path / "first")
    report_synthesis(first, made)
    before = {path.name: path.read_bytes() for path in made.glob("*.*")}
    report_synthesis(first, made)
    assert before == {path.name: path.read_bytes() for path in made.glob("*.*")}
    slow = synthesized(made, tmp_path / "slow", lut=60000, reached="11.000")
    report_synthesis(slow, made)
    *warnings, outside = read_run(made).told.warnings
    assert outside.startswith("lut: 60,000 was measured, outside the interval of ")
    assert [warning.split("; ")[-1] for warning in warnings] == [
        "use a larger part, a higher reuse_factor or a longer clock_ns"
    ] * len(warnings)
    assert "lut: 60000 of 53200" in warnings[0]
    assert "clock ap_clk: needs 11.000 ns, 10 ns asked" in warnings[1]
    assert "To know" in Text((made / "report.html").read_text()).text


def test_reports_of_another_design_change_nothing(tmp_path: Path) -> None:
    made = artifact(tmp_path)
    other = synthesized(made, tmp_path / "other")
    (other / "firmware" / "dut.cpp").write_text("int other;")
    before = {path.name: path.read_bytes() for path in made.glob("*.*")}
    with pytest.raises(UsageError, match=r"is of another design than .*dut.cpp differs"):
        report_synthesis(other, made)
    assert before == {path.name: path.read_bytes() for path in made.glob("*.*")}


def test_a_report_of_the_first_schema_takes_none(tmp_path: Path) -> None:
    made = artifact(tmp_path)
    old = read_run(made).report.to_json()
    (made / "report.json").write_text(json.dumps(old))
    write_manifest(made, {"key": "c" * 64, "target": "hls4ml", "options": OPTIONS})
    with pytest.raises(UsageError, match="no place for these figures; compile again"):
        report_synthesis(synthesized(made, tmp_path / "elsewhere"), made)


def test_measured_is_compared_before_estimated(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    a, b = artifact(runs, "a"), artifact(runs, "b")
    report_synthesis(synthesized(a, tmp_path / "sa", lut=2000), a)
    report_synthesis(synthesized(b, tmp_path / "sb", lut=1500), b)
    one, two = read_run(a), read_run(b)
    (lut,) = [row for row in changes(one, two) if row.name == "lut"]
    assert (lut.kind, lut.difference) == ("measured", -500)
    assert verdict(one, two) == "B is better: lut -25.0 % (measured); the same accuracy"
    (line,) = [line for line in text(one, two).splitlines() if line.startswith("lut ")]
    assert line.split() == ["lut", "measured", "2,000", "1,500", "-25.0", "%"]
    check(read_limits("lut>+0%"), one, two)
    with pytest.raises(LimitCrossed, match="lut: "):
        check(read_limits("lut>+5%"), two, one)
    page = Text(report_all(runs).page.read_text()).text
    assert "lut (measured): deep" in page  # drawn by kind
    assert "lut (estimated): deep" not in page  # no difference


def test_measured_against_assumed_is_said(tmp_path: Path) -> None:
    a, b = artifact(tmp_path, "a", lut=5000), artifact(tmp_path, "b")
    report_synthesis(synthesized(b, tmp_path / "sb"), b)
    one, two = read_run(a), read_run(b)
    (row,) = [row for row in changes(one, two) if row.name == "lut"]
    assert row.mixed and row.text == "-69.5 %, assumed against measured"
    assert not row.clear
    assert "not clear: lut -69.5 % (assumed against measured)" in verdict(one, two)
    with pytest.raises(UsageError, match="lut is assumed against measured, which tells nothing"):
        check(read_limits("lut>+5%"), one, two)
    check(read_limits("lut>1600"), one, two)  # a bound of B's own figure
