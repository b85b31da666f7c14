"""Running an artifact's .tflite file in the real runtime, in a process of its own: a file that
crashes the runtime does not crash the compile, and what the runtime prints goes to a log."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.artifact import writing_to
from flow.errors import FlowError, ToolFailed, ToolMissing, UsageError
from flow.graph import Graph
from flow.interp import check_codes
from flow.ops import IntArray
from flow.tools import run
from targets.tflite import snippet
from targets.tflite.state import Lowered, Stored

MODEL = "model.tflite"


@dataclass(frozen=True, eq=False)
class Run:
    """Outputs (n, size) in the file's order, the names of the operators by who ran them, and the
    seconds of every inference that was timed."""

    outputs: list[IntArray]
    delegated: list[str]
    builtin: list[str]
    seconds: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))


def run_file(
    model: Path, numbers: NDArray[Any], runtime: str, xnnpack: bool = False, rounds: int = 0
) -> Run:
    """Run a .tflite file on rows of numbers; `xnnpack` is tflite-runtime's. Then so many `rounds`
    of single inferences are timed, on one thread.

    Raises:
        ToolMissing: the runtime is not there, or is broken (tells by building an interpreter).
        UsageError: the file is none that it runs.
        ToolFailed: it crashed.
    """
    program = str(Path(snippet.__file__).resolve())
    with tempfile.TemporaryDirectory(prefix="bitwright-") as name:
        work = Path(name)
        with writing_to(work):
            np.save(work / "in.npy", numbers)
        files = [str(model.resolve()), str(work / "in.npy"), str(work / "out.npz")]
        options = ["--runtime", runtime, *(["--xnnpack"] if xnnpack else [])]
        options += ["--rounds", str(rounds)] if rounds else []
        run([sys.executable, program, *files, *options], work, work / "log")
        if (work / "out.json").is_file():
            raise _explained(json.loads((work / "out.json").read_text()), model, runtime)
        if not (work / "out.npz").is_file():
            raise ToolFailed(f"the runtime {runtime} ended without an error and without outputs")
        with np.load(work / "out.npz", allow_pickle=False) as read:
            count = sum(key.startswith("output") for key in read.files)
            outputs = [read[f"output{place}"] for place in range(count)]
            names = read["delegated"].tolist(), read["builtin"].tolist()
            return Run(outputs, *names, read["seconds"])


def _explained(told: dict[str, Any], model: Path, runtime: str) -> FlowError:
    if told["model"]:
        return UsageError(f"{model}: the runtime {runtime} refuses it: {told['text']}")
    return ToolMissing(
        f"the runtime {runtime} is broken here: {told['text']}. tflite-runtime 2.14 needs numpy 1; "
        f"get both: pip install 'bitwright[tflite]', or use runtime=litert"
    )


class TfliteSimulation:
    """One artifact's file, run by its runtime."""

    def __init__(
        self, graph: Graph, folder: Path, lowered: Lowered, runtime: str, xnnpack: bool = False
    ):
        """Raises FlowError where the artifact holds no file."""
        self._graph, self._lowered, self._runtime = graph, lowered, runtime
        self._xnnpack = xnnpack
        self._model = folder / MODEL
        if not self._model.is_file():
            raise FlowError(f"{folder}: {MODEL} is not there; compile again")

    def run(self, codes: IntArray) -> IntArray:
        """Output codes of input codes. Raises UsageError, ToolMissing, ToolFailed."""
        done = run_file(self._model, self._numbers(codes), self._runtime, self._xnnpack)
        if len(done.outputs) != 1:
            raise UsageError(f"{self._model} has {len(done.outputs)} outputs, not 1")
        return self._codes(done.outputs[0], self._lowered.ends[1])

    def trace(self, codes: IntArray) -> dict[str, IntArray]:
        """The codes of every graph value that is a tensor of the file, which is run with all of
        them as outputs."""
        from targets.tflite.flatbuffer import with_outputs

        known = {node.output.name for node in self._graph.nodes}
        values = {name: s for name, s in self._lowered.values.items() if name in known}
        names = list(dict.fromkeys(stored.tensor.name for stored in values.values()))
        with tempfile.TemporaryDirectory(prefix="bitwright-") as name:
            copy = Path(name) / MODEL
            with writing_to(copy.parent):
                copy.write_bytes(with_outputs(self._model, names))
            done = run_file(copy, self._numbers(codes), self._runtime, self._xnnpack)
        found = dict(zip(names, done.outputs, strict=True))
        return {
            name: self._codes(found[stored.tensor.name], stored) for name, stored in values.items()
        }

    def _numbers(self, codes: IntArray) -> NDArray[Any]:
        check_codes(self._graph, codes)
        entry = self._lowered.ends[0]
        numbers: NDArray[Any] = entry.layout.to_device(codes) + entry.zero
        return numbers.astype(entry.tensor.dtype.storage)

    def _codes(self, numbers: IntArray, stored: Stored) -> IntArray:
        if numbers.shape[1:] != stored.layout.order.shape:
            raise UsageError(
                f"{self._model}: tensor {stored.tensor.name} has {numbers.shape[1]} numbers, not "
                f"{stored.layout.order.size}"
            )
        return stored.layout.to_graph(numbers - stored.zero)
