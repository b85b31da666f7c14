"""The target's options and what it does with a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import ClassVar

import numpy as np

from flow.artifact import write_json
from flow.errors import Offence
from flow.graph import Graph
from flow.metric import Kind, Metric
from flow.target import LayerNote, Program, Simulation, Target
from flow.tools import Tool
from targets.tflite import snippet
from targets.tflite.arithmetic import Arithmetic
from targets.tflite.cpp import cpp
from targets.tflite.lower import lower
from targets.tflite.model import DType
from targets.tflite.notes import notes
from targets.tflite.simulation import MODEL, TfliteSimulation, run_file
from targets.tflite.state import Choices, Lowered


class Runtime(Enum):
    LITERT = "litert"
    TFLITE_RUNTIME = "tflite-runtime"

    @property
    def package(self) -> str:
        return "ai-edge-litert" if self is Runtime.LITERT else "tflite-runtime"


class Exact(Enum):
    PROVEN = "proven"
    REQUIRED = "required"
    MEASURED = "measured"


class Weights(Enum):
    INT8 = "int8"
    INT4 = "int4"
    INT2 = "int2"


@dataclass(frozen=True)
class Tflite(Target):
    """An integer .tflite file for the runtime it will be run by: the kernels of the two round
    differently. Where no multiplier is proven for a requantization, the vectors decide
    (`exact=required`), or its steps are compared one by one, which is slower (`exact=proven`);
    `exact=measured` lets a file pass that differs, and says by how much. `weights` packs dense
    layers whose weights fit."""

    name: ClassVar[str] = "tflite"
    if_it_differs: ClassVar[str] = (
        "exact=proven compares the steps that no multiplier gives one by one; exact=measured lets "
        "the file pass and reports by how much it differs"
    )

    runtime: Runtime = Runtime.LITERT
    exact: Exact = Exact.REQUIRED
    weights: Weights = Weights.INT8

    @property
    def may_differ(self) -> bool:
        return self.exact is Exact.MEASURED

    def check(self, graph: Graph) -> list[Offence]:
        if self.weights is not Weights.INT8 and self.runtime is Runtime.TFLITE_RUNTIME:
            return [
                Offence(
                    f"option weights={self.weights.value}",
                    "tflite-runtime 2.14 has no dense kernel for packed weights",
                    "use runtime=litert, or weights=int8",
                )
            ]
        return self._lowered(graph).offences

    def tools(self) -> tuple[Tool, ...]:
        return ()

    def packages(self) -> tuple[str, ...]:
        needed = ("ai-edge-litert", self.runtime.package, "flatbuffers", "numpy")
        return tuple(dict.fromkeys(needed))

    def emit(self, program: Program, folder: Path) -> list[str]:
        from targets.tflite.flatbuffer import write
        from targets.tflite.metadata import metadata, places

        lowered = self._lowered(program.graph)
        first, last = lowered.ends
        content = write(
            program.graph.name,
            lowered.tensors,
            lowered.operators,
            (first.tensor.name, last.tensor.name),
            metadata(program, lowered),
        )
        (folder / MODEL).write_bytes(content)
        write_json(folder / "io.json", {"input": places(first), "output": places(last)})
        snippet_cpp = cpp(program, lowered)
        if snippet_cpp is not None:
            (folder / "network.cpp").write_text(snippet_cpp)
        (folder / "run_tflite.py").write_text(Path(snippet.__file__).read_text())
        return self._warnings(lowered)

    def simulation(self, graph: Graph, folder: Path) -> Simulation:
        return TfliteSimulation(graph, folder, self._lowered(graph), self.runtime.value)

    def metrics(self, graph: Graph, folder: Path) -> list[Metric]:
        lowered = self._lowered(graph)
        weights = sum(tensor.bytes for tensor in lowered.tensors if tensor.data is not None)
        one = np.zeros((1, lowered.ends[0].layout.order.size), np.int8)
        ran = run_file(folder / MODEL, one, self.runtime.value)
        default = "ruy" if self.runtime is Runtime.TFLITE_RUNTIME else "the runtime's own kernels"
        return [
            Metric("file size", (folder / MODEL).stat().st_size, "B", Kind.MEASURED, MODEL),
            Metric("constants", weights, "B", Kind.MEASURED, "weights, biases and shapes in it"),
            *_operators("by XNNPACK", ran.delegated, "its delegate"),
            *_operators("by runtime", ran.builtin, default),
        ]

    def layers(self, graph: Graph, folder: Path) -> Mapping[str, LayerNote]:
        return notes(graph, self._lowered(graph), self._arithmetic)

    @property
    def _arithmetic(self) -> Arithmetic:
        return Arithmetic.XNNPACK if self.runtime is Runtime.LITERT else Arithmetic.RUY

    def _lowered(self, graph: Graph) -> Lowered:
        litert = self.runtime is Runtime.LITERT
        proven = self.exact is Exact.PROVEN
        # On LiteRT few accumulators of a layer differ, so a user who lets them has the faster file.
        shared = not (litert and self.may_differ)
        weights, version = DType[self.weights.name], 12 if litert else 9
        return lower(graph, Choices(self._arithmetic, weights, version, proven, shared))

    def _warnings(self, lowered: Lowered) -> list[str]:
        found = [
            f"layer {row.node}: {len(row.channels)} channels are not proven ({_some(row.channels)}"
            f"; at most {row.missed} accumulators of one differ): the vectors decide"
            for row in lowered.unproven
        ]
        if self.weights is Weights.INT8:
            return found
        packed = [name for name, dtype in lowered.packed.items() if dtype is not DType.INT8]
        rest = [name for name, dtype in lowered.packed.items() if dtype is DType.INT8]
        found.append(f"weights packed as {self.weights.value}: {', '.join(packed) or 'none'}")
        if rest:
            found.append(f"weights left in int8: {', '.join(rest)}")
        return found


def _operators(who: str, names: list[str], source: str) -> list[Metric]:
    if not names:
        return []
    counted = ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))
    return [Metric(who, len(names), "1", Kind.MEASURED, f"{source}: {counted}")]


def _some(channels: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, channels[:8]))
    return f"{shown}, ..." if len(channels) > 8 else shown
