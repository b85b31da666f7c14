"""The simulated hardware: every vector through the network alone and through its byte stream."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flow.artifact import writing_to
from flow.errors import FlowError, Mismatch
from flow.graph import Graph
from flow.interp import check_codes
from flow.ops import IntArray
from flow.tools import run
from targets.rtl import verilator
from targets.rtl.ports import Ports, Timing
from targets.rtl.stream import filled

FOLDER = "simulation"
PROGRAM = "simulation"
RUNS = ("a vector every cycle", "the byte stream", "the byte stream with pauses and a reset")


def build(folder: Path, ports: Ports, latency: int) -> None:
    """Build `folder`/simulation from `folder`/rtl. Raises ToolMissing, ToolFailed."""
    home = folder / FOLDER
    home.mkdir()
    values = {
        "IN_BITS": ports.inputs.total,
        "OUT_BITS": ports.outputs.total,
        "IN_BYTES": ports.inputs.bytes,
        "OUT_BYTES": ports.outputs.bytes,
        "LATENCY": latency,
    }
    for name in ("simulation.v", "simulate.cpp"):
        (home / name).write_text(filled(name, values))
    sources = ("simulation.v", "../rtl/stream.v", "../rtl/network.v")
    verilator.build(home, sources, PROGRAM, "simulate.cpp")


class RtlSimulation:
    """The built simulation of one artifact; `traced` gives the values of the layers, from hardware
    that is made anew with them as outputs."""

    def __init__(
        self,
        graph: Graph,
        folder: Path,
        timing: Timing,
        traced: Callable[[IntArray], dict[str, IntArray]],
    ):
        """Raises FlowError where the artifact holds no simulation."""
        self._graph, self._timing, self._traced = graph, timing, traced
        self._ports = Ports.of(graph)
        self._program = (folder / FOLDER / PROGRAM).resolve()
        if not self._program.is_file():
            raise FlowError(f"{folder}: the simulation is not there; compile again")

    def run(self, codes: IntArray) -> IntArray:
        """Output codes of input codes, the same in all three runs.

        Raises:
            UsageError: the codes do not fit.
            ToolFailed: the simulation fails.
            Mismatch: the runs differ, or take other cycles than predicted.
        """
        check_codes(self._graph, codes)
        found, measured = simulate(self._program, self._ports, codes)
        for name, outputs in zip(RUNS[1:], found[1:], strict=True):
            # Each wrong by itself is for the caller to find; here they must be one hardware.
            if not np.array_equal(found[0], outputs):
                vector = int(np.argwhere((found[0] != outputs).reshape(len(codes), -1))[0][0])
                raise Mismatch(
                    f"the hardware gives other outputs with {RUNS[0]} than with {name}, first for "
                    f"vector {vector}: {found[0][vector].tolist()}, {outputs[vector].tolist()}"
                )
        check_cycles(self._timing, measured, len(codes))
        return found[0]

    def trace(self, codes: IntArray) -> dict[str, IntArray]:
        """The codes of every layer by graph value. Raises ToolFailed."""
        return self._traced(codes)


def simulate(program: Path, ports: Ports, codes: IntArray) -> tuple[list[IntArray], dict[str, int]]:
    """The outputs of the three runs, and the cycles that were measured."""
    with tempfile.TemporaryDirectory(prefix="bitwright-") as name:
        work = Path(name)
        with writing_to(work):
            (work / "in").write_bytes(ports.inputs.pack(codes).tobytes())
        done = run([str(program), "in", "out"], work, work / "log")
        measured: dict[str, int] = json.loads(done.log.read_text())
        data = np.fromfile(work / "out", dtype=np.uint8)
    expected = len(RUNS) * len(codes) * ports.outputs.bytes
    if data.size != expected:
        raise FlowError(f"the simulation gave {data.size} bytes, not {expected}")
    parts = data.reshape(len(RUNS), len(codes), ports.outputs.bytes)
    return [ports.outputs.unpack(part) for part in parts], measured


def check_cycles(timing: Timing, measured: dict[str, int], count: int) -> None:
    """Raises Mismatch where the measured cycles of `count` vectors are not the predicted ones."""
    if measured["stuck"]:
        raise Mismatch("the byte stream stood still before all outputs had come")
    if measured["first_latency"] != timing.stream_latency:
        raise Mismatch(
            f"the byte stream takes {measured['first_latency']} cycles from an input's first byte "
            f"to its output's last, not {timing.stream_latency} as predicted"
        )
    ends = measured["interval_least"], measured["interval_most"]
    if count > 1 and set(ends) != {timing.stream_interval}:
        raise Mismatch(
            f"outputs follow each other after {ends[0]} to {ends[1]} cycles, not "
            f"{timing.stream_interval} as predicted"
        )
