"""C simulation: builds the project with g++ and runs it on integer codes.

The simulation is a program of its own, so that it can be moved, killed and run many times over
without a trace in this process.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow.artifact import writing_to
from flow.errors import FlowError, ToolFailed
from flow.graph import Graph
from flow.interp import check_codes
from flow.ops import IntArray
from flow.tools import GXX, Programs, require, run
from targets.hls4ml.backends import FACTS, Backend
from targets.hls4ml.layers import Layer
from targets.hls4ml.precompiled import begin_with
from targets.hls4ml.project import TOP, fill, traced_layers

PROGRAM = "csim"
_FLAGS = ("-O1", "-w")


def build(folder: Path, layers: list[Layer], backend: Backend, io_type: str) -> None:
    """Build `folder`/csim/csim from `folder`/project.

    Raises:
        ToolMissing, ToolFailed: g++ is not there, or fails.
    """
    gxx = require(GXX)
    project, csim = folder / "project", folder / "csim"
    csim.mkdir()
    (csim / "csim.cpp").write_text(fill("csim.cpp", project, layers, backend, io_type))
    # The weights' folder is given at run time, so that the artifact can be moved.
    declaration = "#include <string>\nstd::string bitwright_weights_dir();\n"
    declare = csim / "weights_dir.h"
    declare.write_text(declaration)
    facts = FACTS[backend]
    flags = (*_FLAGS, *facts.flags, "-DWEIGHTS_DIR=bitwright_weights_dir()")
    first = begin_with(gxx, flags, facts.headers, declaration, project) or declare.absolute()
    # Two compilers side by side: the firmware takes most of the time, the bridge the rest.
    with Programs() as programs:
        running = []
        for source, name in ((f"firmware/{TOP}.cpp", "firmware"), ("../csim/csim.cpp", "csim")):
            what = ["-include", str(first), "-c", source, "-o", f"../csim/{name}.o"]
            args = [str(gxx), *flags, *what]
            running.append(programs.start(args, project, csim / f"{name}.log"))
        for process in running:
            _need(csim, process.wait().argv[-1])
    objects = ["csim/firmware.o", "csim/csim.o"]
    run([str(gxx), *objects, "-o", f"csim/{PROGRAM}"], folder, csim / "link.log")
    _need(csim, PROGRAM)
    for name in objects:
        (folder / name).unlink()


def _need(folder: Path, name: str) -> None:
    """Raises ToolFailed where a compiler said nothing and wrote nothing."""
    if not (folder / Path(name).name).is_file():
        raise ToolFailed(f"g++ ended without an error, but did not write {Path(name).name}")


class CSimulation:
    """The built C simulation of one artifact."""

    def __init__(self, graph: Graph, folder: Path, layers: list[Layer]):
        """Raises FlowError where the artifact holds no simulation."""
        self._graph, self._layers = graph, layers
        self._program = (folder / "csim" / PROGRAM).resolve()
        self._weights = (folder / "project" / "firmware" / "weights").resolve()
        if not self._program.is_file():
            raise FlowError(f"{folder}: the C simulation is not there; compile again")

    def run(self, codes: IntArray) -> IntArray:
        """Output codes of input codes. Raises UsageError, ToolFailed."""
        last = self._layers[-1].layout
        out = self._simulate(codes, np.dtype(np.int64), last.order.size, ())
        return last.to_graph(out)

    def trace(self, codes: IntArray) -> dict[str, IntArray]:
        """The codes of every layer by graph value. Raises UsageError, ToolFailed."""
        layers = traced_layers(self._layers)
        sizes = [layer.layout.order.size for layer in layers]
        out = self._simulate(codes, np.dtype(np.float64), sum(sizes), ("trace",))
        parts = np.split(out, np.cumsum(sizes)[:-1], axis=1)
        found = {}
        for layer, part in zip(layers, parts, strict=True):
            codes = layer.layout.to_graph(part).astype(np.int64)
            found[str(layer.value)] = 2 * codes - 1 if layer.signs else codes
        return found

    def _simulate(
        self, codes: IntArray, dtype: np.dtype[np.generic], size: int, mode: tuple[str, ...]
    ) -> NDArray[np.generic]:
        check_codes(self._graph, codes)
        flat = self._layers[0].layout.to_device(codes).astype(np.int64)
        with tempfile.TemporaryDirectory(prefix="bitwright-") as name:
            work = Path(name)
            with writing_to(work):
                (work / "in").write_bytes(flat.tobytes())
            files = [str(work / "in"), str(work / "out")]
            run([str(self._program), str(self._weights), *files, *mode], work, work / "log")
            out = np.fromfile(work / "out", dtype=dtype)
        if out.size != len(flat) * size:
            raise FlowError(f"the C simulation gave {out.size} values, not {len(flat) * size}")
        return out.reshape(len(flat), size)
