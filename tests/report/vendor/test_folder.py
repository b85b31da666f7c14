"""Folders of reports: what belongs together is joined, what does not is refused with its reason."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from flow.errors import DoesNotFit, UsageError
from flow.metric import Kind
from flow.report.vendor import folder as module
from flow.report.vendor.folder import Found, read_folder
from flow.report.vendor.joining import same_part
from flow.report.vendor.synthesis import Clock, Count, Cycles, Resource, Stage
from flow.synthesis_report import report_synthesis
from tests.report.vendor.support import (
    DATA,
    READERS,
    content,
    hls4ml_project,
    parsed,
    ravel_project,
)

CSYNTH = "myproject_prj/solution1/syn/report/myproject_csynth"


def change(file: Path, old: str, new: str) -> None:
    before = file.read_text()
    assert old in before
    file.write_text(before.replace(old, new))


def refused(folder: Path) -> str:
    with pytest.raises(UsageError) as error:
        read_folder(folder)
    return str(error.value)


def test_stages_of_one_design_are_joined(tmp_path: Path) -> None:
    found = read_folder(ravel_project(tmp_path))
    csynth, cosim, routed = found.stages
    assert [s.stage for s in found.stages] == [
        Stage.C_SYNTHESIS,
        Stage.COSIMULATION,
        Stage.ROUTED,
    ]
    assert {s.design for s in found.stages} == {"final_f12"}
    # The modules inside are told from the whole by the project's folder.
    assert csynth.latency == Cycles(71, 71)
    assert {m.resources[Resource.LUT] for m in csynth.modules} == {2157, 5137}
    assert cosim.design == "final_f12"
    # Utilization, hierarchy and timing are three files of one stage.
    assert len(routed.files) == 3
    assert routed.resources[Resource.LUT] == Count(27974, 216960)
    assert routed.clocks == (Clock("ap_clk", 5.0, 4.269),)
    assert routed.part == "xcku5p-ffvb676-2-e"
    assert len(routed.modules) == 13
    assert found.problems() == []


def test_xml_and_text_are_one_report(tmp_path: Path) -> None:
    found = read_folder(hls4ml_project(tmp_path))
    csynth, synthesized = found.stages
    assert csynth.files == (f"{CSYNTH}.rpt", f"{CSYNTH}.xml")
    assert csynth.date == datetime(2023, 3, 18, 22, 59, 37)
    assert len(csynth.modules) == 2
    assert synthesized.stage is Stage.LOGIC_SYNTHESIS


@pytest.mark.parametrize("name", READERS)
def test_what_was_read_can_be_kept(name: str) -> None:
    stage = parsed(name)
    body = json.loads(json.dumps({"stages": [stage.to_json()], "notes": ["so"]}))
    assert Found.from_json(body) == Found((stage,), ("so",))
    assert Found.from_json(body).to_json() == body


def test_the_furthest_stage_s_numbers_stand(tmp_path: Path) -> None:
    found = {(m.name, m.kind): m for m in read_folder(ravel_project(tmp_path)).metrics()}
    assert found["lut", Kind.MEASURED].value == 27974
    assert found["lut", Kind.ESTIMATED].value > 27974  # of C synthesis
    assert found["latency", Kind.ASSUMED].value == 71  # co-simulation took no measure of it
    assert found["clock", Kind.MEASURED].value == 4.269


def test_one_report_alone(tmp_path: Path) -> None:
    (stage,) = read_folder(DATA / "ravel/utilization.rpt").stages
    assert stage.resources[Resource.DSP] == Count(64, 1824)


def test_oneapi_and_open_source_tools(tmp_path: Path) -> None:
    compiled, fitted = read_folder(DATA / "oneapi").stages
    (dense,) = (module for module in compiled.modules if module.name == "bias_t)")
    assert dense.resources[Resource.RAM] == 71  # of one file
    assert dense.latency == Cycles(200, 200)  # of another
    assert fitted.resources[Resource.ALM].used == 4520.5
    for file in (DATA / "opensource").glob("ecp5*"):
        shutil.copy(file, tmp_path)
    mapped, routed = read_folder(tmp_path).stages
    assert len(mapped.files) == len(routed.files) == 2  # JSON and text agree
    assert routed.resources[Resource.FF] == Count(40, 24288)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda p: shutil.rmtree(p / "myproject_prj"), ""),
        (lambda p: (p / f"{CSYNTH}.xml").write_text(""), "does not begin as such a report does"),
        (
            lambda p: change(p / f"{CSYNTH}.xml", "<LUT>2532", "<LUT>2533"),
            "disagree on lut: 2532 and 2533",
        ),
        (
            lambda p: change(p / "vivado_synth.rpt", ": myproject", ": other"),
            "are of two designs: myproject and other",
        ),
        (
            lambda p: change(p / "vivado_synth.rpt", "7z020clg400-1", "7z030clg400-1"),
            "are for two parts: xc7z020-clg400-1 and 7z030clg400-1",
        ),
        (
            lambda p: change(p / "vivado_synth.rpt", "v.2020.1", "v.2019.2"),
            "were made by two releases of the tools",
        ),
        (
            lambda p: change(p / "vivado_synth.rpt", "Sun Mar 19 07:48:36", "Sat Mar 18 07:48:36"),
            "vivado_synth.rpt is stale: logic synthesis is of 2023-03-18 07:48:36, before",
        ),
        (
            lambda p: shutil.copytree(p / "myproject_prj/solution1", p / "myproject_prj/again"),
            "holds 2 solutions, myproject_prj/again, myproject_prj/solution1; give one of them",
        ),
        (
            lambda p: shutil.copy(DATA / "ravel/utilization.rpt", p / "other.rpt"),
            "are of two designs: myproject and final_f12",
        ),
        (
            lambda p: shutil.copy(DATA / "hls4ml/vivado_synth.rpt", p / "same.rpt"),
            "",
        ),
    ],
)
def test_what_does_not_belong_together(
    tmp_path: Path, spoil: Callable[[Path], object], says: str
) -> None:
    """An empty `says` is the control: that change is fine."""
    project = hls4ml_project(tmp_path / "p")
    spoil(project)
    if says:
        assert says in refused(project)
    else:
        assert read_folder(project).stages


def test_a_solution_can_be_given(tmp_path: Path) -> None:
    project = hls4ml_project(tmp_path)
    shutil.copytree(project / "myproject_prj/solution1", project / "myproject_prj/solution2")
    (stage,) = read_folder(project / "myproject_prj/solution2").stages
    assert stage.design == "myproject"


def test_which_module_is_the_whole(tmp_path: Path) -> None:
    """By the project's file, else by its folder's name, else refused."""
    project = ravel_project(tmp_path / "r") / "hls"
    (project / "final_f12_prj").rename(project / "renamed")
    assert "nothing says which is the whole" in refused(project)
    app = '<project top="final_f12"><solutions/></project>'
    (project / "renamed" / "hls.app").write_text(app)
    assert read_folder(project).stages[0].latency == Cycles(71, 71)


def test_the_report_of_all_modules_alone(tmp_path: Path) -> None:
    """Vitis HLS writes csynth.xml beside that of the top function; here it is all there is."""
    shutil.copy(DATA / "ravel/final_f12_csynth.xml", tmp_path / "csynth.xml")
    assert read_folder(tmp_path).stages[0].design == "final_f12"
    shutil.copy(DATA / "ravel/final_f12_csynth.xml", tmp_path)
    assert read_folder(tmp_path).stages[0].files == ("final_f12_csynth.xml",)


def test_nothing_to_read(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "none")
    assert "holds no report that is read" in refused(tmp_path)
    (tmp_path / "p.fit.summary").write_text("Fitter Status : Successful - now\n")
    assert "it has no end that a cut could be seen by" in refused(tmp_path)
    (tmp_path / "report.json").write_text("{}")  # anything else is passed over
    (tmp_path / "link.rpt").symlink_to(DATA / "ravel/utilization.rpt")
    assert "holds no report that is read" in refused(tmp_path)


def test_forms_without_a_reader_are_named(tmp_path: Path) -> None:
    shutil.copy(DATA / "ravel/utilization.rpt", tmp_path)
    (tmp_path / "p.pow.rpt").write_text("Power Analyzer report for p\n")
    (note,) = read_folder(tmp_path).notes
    assert note.startswith("p.pow.rpt is not read: of Quartus only the fitter's and")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lib/report_data.js", "no real file to test a reader with; run Quartus on its project"),
        ("rtl.rpt", "no real file of Catapult"),
        ("dut_csynth.rpt", "give the csynth.xml that the tool wrote beside it"),
        ("p.sta.summary", "give the whole report"),
    ],
)
def test_forms_without_a_reader_are_refused(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    head = "\n== Vitis HLS Report for 'dut'\n" if "csynth" in name else "anything\n"
    (tmp_path / name).write_text(head)
    assert says in refused(tmp_path)


def test_a_cut_report_is_named(tmp_path: Path) -> None:
    project = ravel_project(tmp_path)
    file = project / "ooc/utilization.rpt"
    file.write_bytes(file.read_bytes()[:9000])
    assert "ooc/utilization.rpt: ends early" in refused(project)


def sources(project: Path, reported: datetime, changed: datetime) -> None:
    """The folder's times: of C synthesis, and of the newest source."""
    (project / "firmware/weights").mkdir(parents=True)
    for name, date in (("myproject.cpp", reported), ("weights/w2.h", changed)):
        (project / "firmware" / name).write_text("// source\n")
        os.utime(project / "firmware" / name, (date.timestamp(),) * 2)
    for ending in ("xml", "rpt"):
        os.utime(project / f"{CSYNTH}.{ending}", (reported.timestamp(),) * 2)


def test_sources_changed_after_synthesis(tmp_path: Path) -> None:
    made = datetime(2023, 3, 18, 22, 59, 37)
    stale = hls4ml_project(tmp_path / "stale")
    sources(stale, made, datetime(2023, 3, 20))
    assert "is stale: firmware/weights/w2.h was changed after C synthesis" in refused(stale)
    fresh = hls4ml_project(tmp_path / "fresh")
    sources(fresh, made, datetime(2023, 3, 18, 22))
    assert read_folder(fresh).notes == ()
    # Copied without its times: nothing is claimed.
    copied = hls4ml_project(tmp_path / "copied")
    sources(copied, datetime(2026, 1, 1), datetime(2026, 1, 2))
    assert "times are of a copy" in read_folder(copied).notes[0]


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_FILES", 5)
    assert "holds more than 5 files" in refused(ravel_project(tmp_path))


def test_the_furthest_stage_decides_what_fits(tmp_path: Path) -> None:
    project = ravel_project(tmp_path)
    xml = project / "hls/final_f12_prj/solution1/syn/report/final_f12_csynth.xml"
    change(xml, "<LUT>56457", "<LUT>556457")
    assert read_folder(project).problems() == []  # it was routed
    shutil.rmtree(project / "ooc")
    assert read_folder(project).problems() == [
        "Vitis HLS 2023.2, C synthesis: lut: 556457 of 216960"
    ]
    with pytest.raises(DoesNotFit, match="lut: 556457 of 216960"):
        report_synthesis(project, None).require_fit()


def test_a_missed_clock(tmp_path: Path) -> None:
    name = "picorv32_wrap_0_1.fit.rpt"
    (tmp_path / name).write_bytes(content(f"edalize/{name}.gz"))
    shutil.copy(DATA / "edalize/picorv32_wrap_0_1.sta.rpt", tmp_path)
    report = report_synthesis(tmp_path, None)
    with pytest.raises(DoesNotFit, match=r"clock clk: needs 7\.600 ns, 5\.714 ns asked"):
        report.require_fit()
    assert report.to_json()["problems"]
    lines = {line.split("  ")[0]: line for line in report.text().splitlines()}
    assert "930 of 80330 (1.2 %)" in lines["alm"]
    assert "131.6 MHz" in lines["Fmax"]


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("xc7z020-clg400-1", "7z020clg400-1", True),
        ("xcku5p-ffvb676-2-e", "xcku5p-ffvb676-2", True),
        ("xc7z020-clg400-1", "xc7z020-clg400-2", False),
        ("xc7z020-clg400-1", None, True),
        ("10CX220YF780E5G", "10cx220yf780e5g", True),
        ("10CX220YF780E5G", "10CX105YF780E5G", False),
    ],
)
def test_names_of_parts(a: str | None, b: str | None, same: bool) -> None:
    assert same_part(a, b) is same
