"""TARGET=rtl with a part: its options, and what becomes of an artifact, with stand-ins for the
tools."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flow.driver import compile_model
from flow.errors import DoesNotFit, ToolFailed, UsageError
from flow.plan import Events, Request
from flow.tools import ICEPACK, NEXTPNR_ICE40, YOSYS
from targets.rtl import estimate
from targets.rtl.estimate import COUNTED, Row, Work
from targets.rtl.implement.parts import Family
from targets.rtl.target import Rtl
from tests.targets.rtl_tools import DATA, Tools, dense_net


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return dense_net(tmp_path / "net.onnx")


def compiled(file: Path, part: str, mhz: str, note: list[str]) -> Path:
    """The artifact's folder, `out` beside the file, also where compiling ends in an error."""
    options = {"part": part, "bitstream": "true", "clock_mhz": mhz, "gates": "false"}
    out = file.parent / "out"
    compile_model(Request(str(file), "rtl", options, out, file.parent), Events(note=note.append))
    return out


def test_a_part_gives_measured_numbers_and_a_bitstream(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = Tools(tmp_path / "bin", monkeypatch, "hx8k")
    said: list[str] = []
    out = compiled(file, "hx8k", "100", said)
    report = json.loads((out / "report.json").read_text())
    found = {row["name"]: row for row in report["metrics"]}
    assert found["fmax"]["value"] == pytest.approx(123.05, abs=0.01)
    assert found["fmax"]["kind"] == found["latency"]["kind"] == "measured"
    cycles = found["latency_cycles"]["value"]
    assert found["latency"]["value"] == pytest.approx(1000 * cycles / found["fmax"]["value"])
    assert (out / "implementation" / "network_stream.bin").is_file()
    assert any("yosys" in text for text in said)
    assert "synth_ice40 -top network_stream" in tools.calls(YOSYS)[0][4]


def test_speed_is_of_the_clock_that_was_routed(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inferences follow each other every cycle, and through bytes as was simulated."""
    Tools(tmp_path / "bin", monkeypatch, "hx8k", seconds=0.3)
    options = {"part": "hx8k", "seeds": "2", "clock_mhz": "100", "gates": "false"}
    out = tmp_path / "out"
    compile_model(Request(str(file), "rtl", options, out, tmp_path), Events())
    report = json.loads((out / "report.json").read_text())
    found = {(row["name"], row["unit"]): row for row in report["metrics"]}
    fmax = found["fmax", "MHz"]
    assert fmax["interval"]["low"] < fmax["value"] == fmax["interval"]["high"]
    every = found["interval through bytes", "cycles"]["value"]
    assert every > 1
    for name, cycles in (("throughput", 1), ("stream throughput", every)):
        rate = found[name, "1/s"]
        assert rate["value"] == pytest.approx(1e6 * fmax["value"] / cycles)
        assert rate["interval"]["low"] == pytest.approx(1e6 * fmax["interval"]["low"] / cycles)
    time = found["stream latency", "ns"]
    assert time["interval"]["high"] == pytest.approx(
        1000 * found["latency through bytes", "cycles"]["value"] / fmax["interval"]["low"]
    )
    assert found["lut4 share", "%"]["value"] == pytest.approx(100 * 174 / 7680)
    assert {found[f"{tool} memory", "MiB"]["kind"] for tool in ("yosys", "nextpnr-ice40")} == {
        "measured"
    }


def test_what_cannot_fit_is_refused_before_synthesis(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if Yosys had made a million cells of each bit, so far."""
    tools = Tools(tmp_path / "bin", monkeypatch, "hx8k")
    huge = dict.fromkeys(COUNTED, 10**6)
    rows = tuple(Row(name, Family.ICE40, Work(1, 1), huge) for name in "ab")
    monkeypatch.setattr(estimate, "table", lambda: rows)
    with pytest.raises(
        DoesNotFit,
        match=r"before synthesis\n  lut: at least [\d,]+ needed, 7,680 there(.*\n)+"
        r"of \d+ adders \d+ are of the layer fc: give it fewer bits",
    ):
        compiled(file, "hx8k", "100", [])
    assert tools.calls(YOSYS) == [] and not (tmp_path / "out").exists()


@pytest.mark.parametrize("work", ["kill -KILL $$\n", "echo 'std::bad_alloc'; exit 1\n"])
def test_a_tool_that_dies_leaves_no_artifact(
    work: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = Tools(tmp_path / "bin", monkeypatch, "hx8k")
    tools.put(YOSYS, work)
    with pytest.raises(ToolFailed, match="out of memory"):
        compiled(file, "hx8k", "100", [])
    assert not (tmp_path / "out").exists()


def test_a_missed_clock_leaves_the_artifact_and_says_so(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = Tools(tmp_path / "bin", monkeypatch, "hx8k")
    slow = (DATA / "hx8k_route_1.json").read_text()
    (tmp_path / "slow.json").write_text(slow.replace('"constraint": 100', '"constraint": 300'))
    work = f"cp '{tmp_path}/slow.json' route_1.json; echo layout > route_1.layout\n"
    tools.put(NEXTPNR_ICE40, work)
    for _ in range(2):  # compiled, and found there
        with pytest.raises(DoesNotFit, match=r"300 MHz asked\nthe artifact is in .*out"):
            compiled(file, "hx8k", "300", [])
        assert len(tools.calls(YOSYS)) == 1
    assert "MISSED" in (tmp_path / "out" / "report.md").read_text()
    assert (tmp_path / "out" / "implementation" / "network_stream.clock-missed.bin").is_file()


def test_what_does_not_fit_names_the_layer_that_takes_most(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = Tools(tmp_path / "bin", monkeypatch, "hx8k")  # whose reports have 50 pins
    with pytest.raises(
        DoesNotFit, match=r"pins: 50 needed.*\nof \d+ adders \d+ are of the layer fc"
    ):
        compiled(file, "up5k", "100", [])
    assert tools.calls(ICEPACK) == [] and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bitstream": "true"}, "option bitstream is of a part"),
        ({"part": "hx9k"}, "unknown part 'hx9k'"),
        ({"part": "xc7z020", "bitstream": "true"}, "bitstream must be false with part=xc7z020"),
        ({"seeds": "0"}, "seeds must be from 1"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Rtl().with_options(options)


def test_a_part_needs_its_tools() -> None:
    names = [tool.name for tool in Rtl(part="hx8k", bitstream=True).tools()]
    assert {YOSYS.name, NEXTPNR_ICE40.name, ICEPACK.name} <= set(names)
    assert not {YOSYS.name, NEXTPNR_ICE40.name} & {tool.name for tool in Rtl().tools()}
