"""What is simulated beside the Verilog in a compile: the netlist of a part, and the serial line.
A stand-in for Yosys gives the Verilog itself as its netlist, or a wrong one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flow.driver import compile_model
from flow.errors import Mismatch, UsageError
from flow.plan import Events, Request
from flow.report.vendor.reading import read_json
from flow.tools import GXX, YOSYS
from targets.rtl import gates, iverilog, uart
from targets.rtl.implement.netlist import Netlist
from targets.rtl.implement.parts import find_part
from targets.rtl.ports import Port, Ports
from targets.rtl.simulation import Beside, Simulator
from targets.rtl.target import Rtl
from targets.rtl.uart import Serial, Wrapper
from tests.targets.rtl_tools import DATA, DESIGN, Tools, dense_net

# The faster one for so little.
QUICK = {"simulator": "iverilog" if iverilog.usable() else "auto"}
COPY = 'for f in "$@"; do case "$f" in ./*) cat "$f";; esac; done'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return dense_net(tmp_path / "net.onnx")


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    """Stand-ins, with empty models of all cells that the recorded statistics have."""
    made = Tools(tmp_path / "bin", monkeypatch, "hx8k")
    models = tmp_path / "share" / "yosys" / "ice40"
    models.mkdir(parents=True)
    statistics = read_json((DATA / "hx8k_stat.json").read_text(), "statistics")
    cells = sorted(statistics["design"]["num_cells_by_type"])
    text = "".join(f"module {cell} ();\nendmodule\n" for cell in cells)
    (models / "cells_sim.v").write_text(text)
    return made


def synthesis(change: str) -> str:
    """What the stand-in for Yosys does; `change` is sed's, of its netlist."""
    stat = "cp '@DATA@/@PART@_stat.json' stat.json; echo '" + DESIGN + "' > design.json"
    return f"{stat}\n{COPY} | sed -e '{change}' > netlist.v\n"


def compiled(file: Path, options: dict[str, str]) -> tuple[Path, list[str]]:
    """The artifact's folder, and what the user was told."""
    out, said = file.parent / "out", list[str]()
    request = Request(str(file), "rtl", {**QUICK, **options}, out, file.parent)
    compile_model(request, Events(note=said.append))
    return out, said


def test_the_netlist_runs_beside_the_verilog(file: Path, tools: Tools) -> None:
    tools.put(YOSYS, synthesis(""))
    out, said = compiled(file, {"part": "hx8k", "clock_mhz": "100"})
    assert any("simulation of the gates" in text for text in said)
    assert (out / "gates").is_dir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "s/codes <= codes_in;/codes <= codes_in ^ 1;/",
            r"the synthesized netlist gives other outputs than the Verilog for \d+ of 16 vectors, "
            r"first for vector \d+: \[",
        ),
        ("s/out_valid = out_count != 0;/out_valid = 0;/", "it stood still after 0 of 16 outputs"),
        ("s/localparam LATENCY = [0-9]*;/localparam LATENCY = 5;/", r"takes \d+ cycles .* not \d+"),
        ("s/if (rst) in_count <= 0;/if (0) in_count <= 0;/", "pauses|still"),
    ],
    ids=["a bit", "nothing comes", "later", "no reset"],
)  # fmt: skip
def test_a_netlist_that_differs_ends_the_compile(
    change: str, message: str, file: Path, tools: Tools
) -> None:
    if not iverilog.usable() and not message.startswith("the synthesized"):
        pytest.skip("one of them is enough with Verilator, which takes longer")
    tools.put(YOSYS, synthesis(change))
    with pytest.raises(Mismatch, match=message) as caught:
        compiled(file, {"part": "hx8k", "clock_mhz": "100"})
    assert caught.value.exit_code == 4
    assert not (file.parent / "out").exists()


def test_cells_without_models_are_said(
    file: Path, tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Netlist((), (), (), ("MULT18X18D",))
    monkeypatch.setattr(gates, "netlist", lambda *_: gone)
    ports = Ports(Port((1,), 4, False), Port((1,), 4, False))
    part = find_part("lfe5u-25f")
    said = gates.build(tmp_path, tmp_path, part, ports, 3, Simulator.AUTO, None)
    assert said.endswith("Yosys has no models of the cells MULT18X18D")
    assert not (tmp_path / gates.FOLDER).exists()


def test_other_hardware_that_differs_is_named_with_its_vector() -> None:
    codes = np.arange(6).reshape(3, 2)
    other = Beside("a thing", 2, lambda some: some + (some == 3))
    other.check(codes[:1], codes[:1])
    with pytest.raises(
        Mismatch, match=r"a thing gives .* 1 of 2 .* vector 1: \[2, 4\], not \[2, 3"
    ):
        other.check(codes, codes)


def test_a_serial_line_is_simulated_in_a_compile_and_its_script_is_in_the_artifact(
    file: Path, tools: Tools
) -> None:
    part = {"part": "hx8k", "gates": "false", "clock_mhz": "1.85"}
    out, _ = compiled(file, {"wrapper": "uart", "baud": "115200", **part})
    (call,) = tools.calls(YOSYS)
    assert "synth_ice40 -top network_uart" in call[4]
    assert call[-1].endswith("rtl/uart.v")
    described = json.loads((out / "rtl" / "io.json").read_text())
    assert described["uart"]["clocks per bit"] == 16
    assert "parameter BAUD = 115200" in (out / "rtl" / "uart.v").read_text()
    pins = out / uart.FOLDER / uart.MODULE
    with uart.line(pins, file.parent / "log") as path:
        argv = [sys.executable, "-P", str(out / "run_uart.py"), path, "--seconds", "20"]
        bare = {"PATH": os.environ["PATH"]}
        done = subprocess.run(
            [*argv, "--count", "40"], cwd="/", env=bare, capture_output=True, text=True, timeout=120
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "40 of 40 vectors match, 0 do not\n"


def test_options_of_the_line() -> None:
    with pytest.raises(UsageError, match="baud must be one of"):
        Rtl(wrapper=Wrapper.UART, baud=300)
    assert Rtl(baud=300).wrapper is Wrapper.STREAM  # where it is of no matter
    both = Rtl(wrapper=Wrapper.UART, simulator=Simulator.IVERILOG)
    assert GXX in both.tools() and "verilator" in both.packages()
    assert Serial.of(48, 4_000_000).clocks == 12
