"""Programs that stand in for Yosys, nextpnr and the packers: they leave recorded reports; and a
network that is small enough for them all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flow.tools import ECPPACK, ICEPACK, NEXTPNR_ECP5, NEXTPNR_ICE40, YOSYS, Tool
from tests.network.nets import Net

DATA = Path(__file__).parent / "data" / "rtl"
MADD = DATA / "madd.v"

# Tells its version, writes down what it was called with, and then does its work.
_HEAD = """\
#!/bin/sh
case "$1" in -V|--version) echo "it is version @VERSION@ of 2026"; exit 0;; esac
for word in "$@"; do printf '%s\\n' "$word"; done >> "$0.called"
printf '%s\\n' -- >> "$0.called"
"""
_EMPTY = '{"cells": {}, "ports": {}, "netnames": {}}'
DESIGN = f'{{"modules": {{"network_stream": {_EMPTY}, "network_uart": {_EMPTY}}}}}'
_YOSYS = (
    "cp '@DATA@/@PART@_stat.json' stat.json; echo > netlist.v\n"
    + f"echo '{DESIGN}' > design.json\n"
)
NEXTPNR = """\
while [ $# -gt 0 ]; do
  case "$1" in
    --report) cp "@DATA@/@PART@_$2" "$2";;
    --asc|--textcfg) echo layout > "$2";;
  esac
  shift
done
"""
_PACK = 'echo bits > "$2"\n'


class Tools:
    """Stand-ins in a folder, taken in place of the real programs."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, part: str, seconds: float = 0
    ):
        """Each takes so many `seconds`: memory is told of what runs long enough to be looked at."""
        self._folder, self._monkeypatch, self._part = folder, monkeypatch, part
        self._wait = f"sleep {seconds}\n" if seconds else ""
        folder.mkdir()
        self.put(YOSYS, _YOSYS)
        for router in (NEXTPNR_ICE40, NEXTPNR_ECP5):
            self.put(router, NEXTPNR)
        for packer in (ICEPACK, ECPPACK):
            self.put(packer, _PACK)

    def put(self, tool: Tool, work: str, version: str = "") -> None:
        """A program for the tool that does `work`, a shell script."""
        text = (_HEAD + self._wait + work).replace("@VERSION@", version or tool.minimum or "1.0")
        path = self._folder / tool.name
        path.write_text(text.replace("@DATA@", str(DATA)).replace("@PART@", self._part))
        path.chmod(0o755)
        self._monkeypatch.setenv(tool.variable, str(path))

    def calls(self, tool: Tool) -> list[list[str]]:
        """The arguments of every run of the tool."""
        called = self._folder / f"{tool.name}.called"
        text = called.read_text() if called.is_file() else ""
        return [run.splitlines() for run in text.split("--\n")[:-1]]


def dense_net(path: Path) -> Path:
    """Four inputs and two outputs."""
    net = Net((4,))
    x = net.quant("x", 0.25, 4)
    w = net.quant(net.constant(np.arange(8).reshape(2, 4) / 4), 0.25, 4)
    return net.save(path, net.node("Gemm", [x, w], "fc", transB=1))
