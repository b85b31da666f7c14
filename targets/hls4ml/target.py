"""The target's options and what it does with a program."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from flow.errors import Offence, ToolFailed, ToolMissing, UsageError
from flow.graph import Graph
from flow.metric import Kind, Metric, Told
from flow.ops import Conv, Dense, Flatten, Relu, Requant
from flow.options import require_range
from flow.outline import WEIGHTED, Outline, Role, outline
from flow.report.vendor.folder import read_folder
from flow.spans import Swept
from flow.surrogate.hls4ml import matrix, nearest_reuse, valid_reuse_factors
from flow.target import Design, LayerNote, Matrix, Program, Simulation, Target
from flow.tools import GXX, Tool, require, run
from targets.hls4ml import csim
from targets.hls4ml.backends import FACTS, Backend, Strategy
from targets.hls4ml.binary import Binary, Product
from targets.hls4ml.estimate import Build, estimates, timing, whole
from targets.hls4ml.layers import Kind as LayerKind
from targets.hls4ml.layers import Layer
from targets.hls4ml.lower import lower
from targets.hls4ml.notes import notes
from targets.hls4ml.project import TOP, write_project
from targets.hls4ml.state import Lowered
from targets.hls4ml.sweep import swept
from targets.hls4ml.totals import Setting

AUTO = "auto"


class IoType(Enum):
    PARALLEL = "io_parallel"
    STREAM = "io_stream"


@dataclass(frozen=True)
class Hls4ml(Target):
    """An HLS project. `clock_ns` is the target period; `reuse_factor` says how often one multiplier
    is used per inference (with strategy=resource the nearest factor that a layer allows is taken,
    and said; set for one layer it must be one that the layer allows). `part` auto is a common
    device of the backend. `binary` says how weights and activations of -1 and 1 are multiplied:
    by the cheapest exact product that hls4ml has (auto), by XNOR or refused, as integers."""

    name: ClassVar[str] = "hls4ml"
    layer_options: ClassVar[tuple[str, ...]] = ("reuse_factor", "strategy", "binary")

    backend: Backend = Backend.VITIS
    part: str = AUTO
    clock_ns: float = 10.0
    io_type: IoType = IoType.PARALLEL
    strategy: Strategy = Strategy.LATENCY
    reuse_factor: int = 1
    binary: Binary = Binary.AUTO
    synthesize: bool = False

    def __post_init__(self) -> None:
        if self.backend not in FACTS:
            raise ToolMissing(
                "option backend=oneAPI: its projects are SYCL, which only Intel's icpx with FPGA "
                "support (oneAPI 2025.0 or older) simulates, and no run with that has been proven "
                "here; use backend=Quartus for Intel devices"
            )
        facts = FACTS[self.backend]
        if self.part != AUTO and not re.fullmatch(facts.part_form, self.part):
            raise UsageError(
                f"option part must be a device name such as {facts.part}, not {self.part!r}"
            )
        require_range("clock_ns", self.clock_ns, 0.5, 1000)
        require_range("reuse_factor", self.reuse_factor, 1, 1 << 20)
        if self.synthesize and facts.synthesizer is None:
            raise UsageError(
                f"option synthesize must be false with backend={self.backend.value}: its tools are "
                f"not run from here; run them in the artifact's project/"
            )
        layers = [f"{layer}." for layer in dict.fromkeys(name for name, _, _ in self.overrides)]
        for where in ("", *layers):
            self._refuse_wrong_strategy(where)

    def _refuse_wrong_strategy(self, where: str) -> None:
        """Raises UsageError where the backend has not the strategy, or that not the reuse."""
        strategy = self.layer_option(where[:-1], "strategy")
        valid = [kind.value for kind in FACTS[self.backend].strategies]
        if strategy.value not in valid:
            raise UsageError(
                f"option {where}strategy must be {' or '.join(valid)} with "
                f"backend={self.backend.value}, not {strategy.value}"
            )
        reuse = self.layer_option(where[:-1], "reuse_factor")
        if strategy is Strategy.DISTRIBUTED_ARITHMETIC and reuse != 1:
            raise UsageError(
                f"option {where}reuse_factor must be 1 with {where}strategy={strategy.value}, "
                f"which has no multipliers to reuse, not {reuse}"
            )

    def check(self, graph: Graph) -> list[Offence]:
        lowered = self._lowered(graph)
        if not lowered.offences:
            matrices = {layer.name: layer.matrix for layer in lowered.layers if layer.inputs}
            self.check_layers(graph, tuple(matrices))
            self.check_matrices(matrices)
        return lowered.offences

    def tools(self) -> tuple[Tool, ...]:
        synthesizer = FACTS[self.backend].synthesizer
        return (GXX, synthesizer) if self.synthesize and synthesizer else (GXX,)

    def packages(self) -> tuple[str, ...]:
        used = (self.strategy, *(value for _, _, value in self.overrides))
        return ("hls4ml", "numpy", *(["da4ml"] if Strategy.DISTRIBUTED_ARITHMETIC in used else []))

    def emit(self, program: Program, folder: Path) -> list[str]:
        layers = self._lowered(program.graph).layers
        (folder / "project").mkdir()
        printed = write_project(
            folder / "project",
            layers,
            program,
            {
                "Backend": self.backend.value,
                "Part": self.design.part,
                "ClockPeriod": self.clock_ns,
                "IOType": self.io_type.value,
            },
            self._layer_settings,
        )
        (folder / "hls4ml.log").write_text(printed)
        csim.build(folder, layers, self.backend, self.io_type.value)
        if self.synthesize:
            self._run_synthesis(folder)
        return self._warnings(layers)

    @property
    def design(self) -> Design:
        part = FACTS[self.backend].part if self.part == AUTO else self.part
        return Design(TOP, part, self.clock_ns)

    def simulation(self, graph: Graph, folder: Path) -> Simulation:
        return csim.CSimulation(graph, folder, self._lowered(graph).layers)

    def metrics(self, graph: Graph, folder: Path) -> list[Metric]:
        layers = self._lowered(graph).layers
        multipliers = sum(
            math.ceil(layer.products / self._reuse(layer))
            for layer in layers
            if layer.inputs and not self._adders_only(layer) and not one_bit(layer)
        )
        aside = "; 1-bit products aside" if any(one_bit(layer) for layer in layers) else ""
        found = [
            Metric(
                "multipliers",
                multipliers,
                "1",
                Kind.ASSUMED,
                "sum over layers of ceil(weights/reuse factor); zero weights not taken off" + aside,
            )
        ]
        network = outline(graph)
        told = whole(network, self._settings(network), self._built).metrics
        times = self._cycles(graph, layers)
        counts = [metric for metric in told if metric.name not in ("latency", "interval")]
        return [*found, *self._signs(layers), *times, *counts]

    def estimate(self, network: Outline, graph: Graph | None) -> Told:
        return estimates(network, self._settings(network), self._built)

    def sweep(self, network: Outline, variants: Sequence[Self]) -> Swept:
        weighted = [step.name for step in network.steps if step.role in WEIGHTED]
        ways = []
        for variant in variants:
            settings = variant._settings(network)
            ways.append(([settings[name] for name in weighted], variant._built))
        return swept(network, ways)

    @property
    def _built(self) -> Build:
        vendor = FACTS[self.backend].synthesizer is not None
        return Build(self.design.part, self.clock_ns, self.io_type is IoType.STREAM, vendor)

    def _settings(self, network: Outline) -> dict[str, Setting]:
        """Of every layer with weights."""
        return {
            step.name: Setting(
                self.layer_option(step.name, "strategy"),
                self._reuse_of(
                    step.name, Matrix(*matrix(step), convolved=step.role is not Role.DENSE)
                ),
            )
            for step in network.steps
            if step.role in WEIGHTED
        }

    def _signs(self, layers: list[Layer]) -> list[Metric]:
        """What each layer costs whose weights or inputs are only -1 and 1, and how it is done."""
        found = []
        for layer in layers:
            choice, reuse = layer.choice, self._reuse(layer)
            if choice is None:
                continue
            how = choice.product.value
            if choice.why_not:
                how += f" ({choice.why_not})"
            if choice.product is not Product.INTEGER:
                how += f"; {math.ceil(choice.integers / reuse)} with integers"
            source = f"{how}; a LUT a bit of each product and sum, nothing folded"
            luts = math.ceil(choice.luts / reuse)
            found.append(Metric(f"{layer.name} sums", luts, "LUT", Kind.ASSUMED, source))
        return found

    def synthesized(self, folder: Path) -> Path | None:
        return folder / "project" if self.synthesize else None

    def modules(self, folder: Path) -> Mapping[str, str]:
        """hls4ml's functions have a layer's configuration as template argument, and HLS tools put
        it into the names of the modules that they make of them."""
        source = (folder / "project" / "firmware" / f"{TOP}.cpp").read_text()
        calls = re.findall(
            r"(config\d+)>\(.*\);.*// (?:zp[12]d_|clone_)?(\w+)$", source, re.MULTILINE
        )
        return dict(calls)

    def layers(self, graph: Graph, folder: Path) -> Mapping[str, LayerNote]:
        def adders(layer: Layer) -> bool:
            return self._adders_only(layer) or one_bit(layer)

        return notes(graph, self._lowered(graph).layers, self._reuse, adders)

    def _adders_only(self, layer: Layer) -> bool:
        return self.layer_option(layer.name, "strategy") is Strategy.DISTRIBUTED_ARITHMETIC

    def _layer_settings(self, layer: Layer) -> dict[str, Any]:
        """hls4ml's own keys; a strategy only where there is a matrix that it is for."""
        if not layer.inputs:
            return {"ReuseFactor": 1}
        strategy = self.layer_option(layer.name, "strategy").value
        return {"ReuseFactor": self._reuse(layer), "Strategy": strategy}

    def _lowered(self, graph: Graph) -> Lowered:
        return lower(
            graph,
            stream=self.io_type is IoType.STREAM,
            backend=self.backend,
            strategy=lambda layer: self.layer_option(layer, "strategy"),
            binary=lambda layer: self.layer_option(layer, "binary"),
        )

    def _cycles(self, graph: Graph, layers: list[Layer]) -> list[Metric]:
        """Latency and initiation interval from hls4ml's structure."""
        weighted = [layer for layer in layers if layer.inputs]
        reuse = [self._reuse(layer) for layer in weighted]
        if any(isinstance(node.op, Conv) for node in graph.nodes):
            positions = [int(np.prod(layer.layout.shape[1:], initial=1)) for layer in weighted]
            interval = max(p * r for p, r in zip(positions, reuse, strict=True))
            source = "largest of output positions * reuse factor over the layers; not checked"
            return [Metric("interval", interval, "cycles", Kind.ASSUMED, source)]
        like_those = (
            FACTS[self.backend].synthesizer is not None
            and not any(self._adders_only(layer) for layer in weighted)
            and all(isinstance(n.op, Dense | Requant | Flatten | Relu) for n in graph.nodes)
        )
        if not like_those:
            source = "largest reuse factor over the layers; not checked for such designs"
            return [Metric("interval", max(reuse, default=1), "cycles", Kind.ASSUMED, source)]
        return timing(reuse, sum(isinstance(node.op, Requant) for node in graph.nodes))

    def _reuse(self, layer: Layer) -> int:
        """The reuse factor that a layer gets."""
        return self._reuse_of(layer.name, layer.matrix if layer.inputs else None)

    def _reuse_of(self, layer: str, matrix: Matrix | None) -> int:
        asked = int(self.layer_option(layer, "reuse_factor"))
        if matrix is None or self.layer_option(layer, "strategy") is not Strategy.RESOURCE:
            return asked
        return nearest_reuse(self._reuse_factors(matrix), asked)

    def check_matrices(self, matrices: Mapping[str, Matrix]) -> None:
        for name, option, value in self.overrides:
            strategy = self.layer_option(name, "strategy")
            if option != "reuse_factor" or strategy is not Strategy.RESOURCE:
                continue
            if name in matrices and value not in (valid := self._reuse_factors(matrices[name])):
                raise UsageError(
                    f"OPTS: {name}.reuse_factor must be one of {', '.join(map(str, valid))} with "
                    f"strategy=resource, not {value}"
                )

    def _reuse_factors(self, matrix: Matrix) -> list[int]:
        """With strategy=resource. hls4ml's io_parallel convolutions are wrong (Vitis), or stop in
        an assertion (Vivado), above a row of the matrix; the other backends are held to it too."""
        factors = valid_reuse_factors(matrix.inputs, matrix.outputs)
        if matrix.convolved and self.io_type is IoType.PARALLEL:
            return [factor for factor in factors if factor <= matrix.inputs]
        return factors

    def _warnings(self, layers: list[Layer]) -> list[str]:
        found = []
        for layer in layers:
            if layer.inputs and self._reuse(layer) != self.layer_option(layer.name, "reuse_factor"):
                found.append(
                    f"layer {layer.name}: reuse factor {self._reuse(layer)}, the nearest to "
                    f"{self.reuse_factor} that its {layer.inputs}x{layer.outputs} matrix allows"
                )
            latency = self.layer_option(layer.name, "strategy") is Strategy.LATENCY
            if latency and layer.kind is LayerKind.DENSE and layer.inputs * layer.outputs > 4096:
                found.append(
                    f"layer {layer.name}: {layer.inputs}x{layer.outputs} weights are unrolled "
                    f"whole, which HLS tools refuse or take hours for; use strategy=resource"
                )
        return found

    def _run_synthesis(self, folder: Path) -> None:
        """Run the vendor's tool in the project.

        Raises:
            ToolMissing, ToolFailed: the tool is not there, fails, or reported no such design.
        """
        facts = FACTS[self.backend]
        assert facts.synthesizer is not None
        argv = [str(require(facts.synthesizer)), *facts.synthesis]
        run(argv, folder / "project", folder / "synthesis.log")
        try:
            found = read_folder(folder / "project")
        except UsageError as error:
            raise ToolFailed(
                f"{facts.synthesizer.name} ended without an error, but left no report that can be "
                f"read: {error}"
            ) from error
        top, part, clock_ns = self.design.top, self.design.part, self.design.clock_ns
        if differences := found.differences(top, part, clock_ns):
            raise ToolFailed(f"{facts.synthesizer.name}: {'; '.join(differences)}")


def one_bit(layer: Layer) -> bool:
    return layer.choice is not None and layer.choice.product is not Product.INTEGER
