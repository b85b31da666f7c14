"""The target's options and what it does with a program."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from flow.artifact import write_json
from flow.errors import FlowError, Offence, UsageError
from flow.graph import Graph
from flow.metric import Kind, Metric, Told
from flow.outline import Outline, outline
from flow.target import LayerNote, Program, Simulation, Target
from flow.tools import Tool
from flow.verify import agreement
from targets.tflite import snippet
from targets.tflite.cpp import cpp
from targets.tflite.estimate import LATENCY, estimates
from targets.tflite.lower import lower
from targets.tflite.model import DType
from targets.tflite.model import Kind as Operation
from targets.tflite.notes import notes
from targets.tflite.simulation import MODEL, Run, TfliteSimulation, run_file
from targets.tflite.state import Choices, Lowered
from targets.tflite.ways import Kernels

ROUNDS = 50  # inferences that a latency is the median of
IO = "io.json"  # where input and output lie in their tensors


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


class Activations(Enum):
    INT8 = "int8"
    INT16 = "int16"


class Weights(Enum):
    INT8 = "int8"
    INT4 = "int4"
    INT2 = "int2"


@dataclass(frozen=True)
class Tflite(Target):
    """An integer .tflite file for the runtime it will be run by: the kernels of the two round
    differently. Where no multiplier is proven for a requantization, the vectors decide
    (`exact=required`), or its steps are compared one by one, which is slower (`exact=proven`);
    `exact=measured` lets a file pass that differs, and says by how much. `activations=int16` holds
    activations of up to 16 bits, by kernels that are slower. `weights` packs dense layers whose
    weights fit. `xnnpack` runs tflite-runtime's XNNPACK, by a hook that is not
    public: it is checked on every compile, and not used where it does not give the reference's
    outputs."""

    name: ClassVar[str] = "tflite"
    if_it_differs: ClassVar[str] = (
        "exact=proven compares the steps that no multiplier gives one by one; exact=measured lets "
        "the file pass and reports by how much it differs"
    )

    runtime: Runtime = Runtime.LITERT
    exact: Exact = Exact.REQUIRED
    activations: Activations = Activations.INT8
    weights: Weights = Weights.INT8
    xnnpack: bool = False

    def __post_init__(self) -> None:
        wide = self.activations is Activations.INT16
        if wide and self.weights is not Weights.INT8:
            raise UsageError(
                f"option weights={self.weights.value} is of activations=int8: dense layers of "
                "int16 take int8 weights; leave it out"
            )
        if wide and self.xnnpack:
            raise UsageError(
                "option xnnpack is of activations=int8: XNNPACK has no kernels for int16; leave it "
                "out"
            )
        if self.xnnpack and self.runtime is Runtime.LITERT:
            raise UsageError(
                "option xnnpack is of runtime=tflite-runtime; LiteRT always runs XNNPACK, leave it "
                "out"
            )

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
        found = self._lowered(graph, self.xnnpack).offences
        return found or self._lowered(graph, False).offences  # what xnnpack=true falls back to

    def tools(self) -> tuple[Tool, ...]:
        return ()

    def packages(self) -> tuple[str, ...]:
        needed = ("ai-edge-litert", self.runtime.package, "flatbuffers", "numpy")
        return tuple(dict.fromkeys(needed))

    def emit(self, program: Program, folder: Path) -> list[str]:
        warnings = self._write(program, folder, self.xnnpack)
        if not self.xnnpack:
            return warnings
        trouble = self._trouble(program, folder)
        if trouble is None:
            return warnings
        told = f"xnnpack=true is NOT in effect: {trouble}; written for the default kernels instead"
        return [told, *self._write(program, folder, False)]

    def _trouble(self, program: Program, folder: Path) -> str | None:
        """Why tflite-runtime's XNNPACK may not run the file in `folder`; None where its kernels ran
        and gave the reference's outputs for every vector."""
        simulation = self.simulation(program.graph, folder)
        try:
            ran = self._ran_by(program.graph, folder)
            found = simulation.run(program.vectors)
        except FlowError as error:
            return f"it does not run ({error})"
        lowered = self._lowered(program.graph, True)
        inside = {tensor.name for tensor in lowered.tensors if tensor.dtype is DType.INT8}
        for kind in (
            Operation.CONV_2D,
            Operation.DEPTHWISE_CONV_2D,
            Operation.MUL,
        ):  # those that round
            wanted = sum(op.kind is kind and op.output in inside for op in lowered.operators)
            if (left := wanted - ran.delegated.count(kind.name)) > 0:
                return f"it leaves {left} of {wanted} {kind.name} to the default kernels"
        same = agreement(program.expected, found)
        return (
            None if same.matches or self.may_differ else f"it does not match the reference: {same}"
        )

    def _write(self, program: Program, folder: Path, xnnpack: bool) -> list[str]:
        from targets.tflite.flatbuffer import write
        from targets.tflite.metadata import metadata, places, with_labels

        lowered = self._lowered(program.graph, xnnpack)
        first, last = lowered.ends
        content = write(
            program.graph.name,
            lowered.tensors,
            lowered.operators,
            (first.tensor.name, last.tensor.name),
            metadata(program, lowered),
        )
        (folder / MODEL).write_bytes(with_labels(content, program.classes))
        ends = {"input": places(first), "output": places(last), "xnnpack": xnnpack}
        write_json(folder / IO, ends)
        snippet_cpp = cpp(program, lowered)
        if snippet_cpp is not None:
            (folder / "network.cpp").write_text(snippet_cpp)
        (folder / "run_tflite.py").write_text(Path(snippet.__file__).read_text())
        return self._warnings(lowered)

    def simulation(self, graph: Graph, folder: Path) -> Simulation:
        xnnpack = self._in_effect(folder)
        lowered = self._lowered(graph, xnnpack)
        return TfliteSimulation(graph, folder, lowered, self.runtime.value, xnnpack)

    def _in_effect(self, folder: Path) -> bool:
        """Whether the file in `folder` was written for tflite-runtime's XNNPACK."""
        if not self.xnnpack:
            return False
        try:
            return bool(json.loads((folder / IO).read_text())["xnnpack"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FlowError(f"{folder}: {IO} cannot be read ({error}); compile again") from error

    def _ran_by(self, graph: Graph, folder: Path) -> Run:
        """One vector's run: who ran what."""
        return self._ran(graph, folder, 0)

    def _ran(self, graph: Graph, folder: Path, rounds: int) -> Run:
        xnnpack = self._in_effect(folder)
        entry = self._lowered(graph, xnnpack).ends[0]
        one = np.zeros((1, entry.layout.order.size), entry.tensor.dtype.storage)
        return run_file(folder / MODEL, one, self.runtime.value, xnnpack, rounds)

    def host_seconds(self, graph: Graph, folder: Path, rounds: int) -> NDArray[np.float64]:
        return self._ran(graph, folder, rounds).seconds

    def estimate(self, network: Outline, graph: Graph | None) -> Told:
        measured = self._kernels(self.xnnpack) is Kernels.XNNPACK and not self.xnnpack
        return estimates(network, measured)

    def metrics(self, graph: Graph, folder: Path) -> list[Metric]:
        lowered = self._lowered(graph, self._in_effect(folder))
        weights = sum(tensor.bytes for tensor in lowered.tensors if tensor.data is not None)
        ran = self._ran(graph, folder, ROUNDS)
        ruy = self.runtime is Runtime.TFLITE_RUNTIME and self.activations is Activations.INT8
        default = "ruy" if ruy else "the runtime's own kernels"
        return [
            Metric("file size", (folder / MODEL).stat().st_size, "B", Kind.MEASURED, MODEL),
            Metric("constants", weights, "B", Kind.MEASURED, "weights, biases and shapes in it"),
            *_operators("by XNNPACK", ran.delegated, "its delegate"),
            *_operators("by runtime", ran.builtin, default),
            *self._latency(ran),
            *self.estimate(outline(graph), graph).metrics,
        ]

    def _latency(self, ran: Run) -> Iterator[Metric]:
        if ran.seconds.size:
            source = f"median of {ran.seconds.size} inferences by {self.runtime.value} here"
            micros = 1e6 * float(np.median(ran.seconds))
            yield Metric(LATENCY, micros, "us", Kind.MEASURED, source)

    def layers(self, graph: Graph, folder: Path) -> Mapping[str, LayerNote]:
        return notes(graph, self._lowered(graph, self._in_effect(folder)))

    def _kernels(self, xnnpack: bool) -> Kernels:
        litert = self.runtime is Runtime.LITERT
        if self.activations is Activations.INT16:
            return Kernels.LITERT_16 if litert else Kernels.DEFAULT_16
        return Kernels.XNNPACK if xnnpack or litert else Kernels.DEFAULT

    def _lowered(self, graph: Graph, xnnpack: bool) -> Lowered:
        litert = self.runtime is Runtime.LITERT
        proven = self.exact is Exact.PROVEN
        kernels = self._kernels(xnnpack)
        # XNNPACK misses few accumulators: a user who lets them differ gets the faster file.
        shared = not (kernels is Kernels.XNNPACK and self.may_differ)
        version = 12 if litert else 9
        return _lower(
            graph, Choices(kernels, DType[self.weights.name], version, proven, xnnpack, shared)
        )

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


@lru_cache(maxsize=4)
def _lower(graph: Graph, choices: Choices) -> Lowered:
    """A search of seconds, whose result is wanted at every step of a compile."""
    return lower(graph, choices)


def _operators(who: str, names: list[str], source: str) -> list[Metric]:
    if not names:
        return []
    counted = ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))
    return [Metric(who, len(names), "1", Kind.MEASURED, f"{source}: {counted}")]


def _some(channels: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, channels[:8]))
    return f"{shown}, ..." if len(channels) > 8 else shown
