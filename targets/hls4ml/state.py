"""The state of one lowering: the layers so far, and which of them gives which graph value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from flow.errors import Offence
from flow.graph import Graph, Value
from flow.layout import Layout
from flow.qtype import QType
from targets.hls4ml.backends import Facts, Strategy
from targets.hls4ml.binary import Binary, carried_bits
from targets.hls4ml.layers import Layer

MAX_CONSTANT_BITS = 53  # hls4ml carries constants as float64


class Refused(Exception):
    """A node that cannot be lowered: why, and what the user can change."""

    def __init__(self, reason: str, fix: str):
        super().__init__(reason)
        self.reason, self.fix = reason, fix


@dataclass(eq=False)
class Lowered:
    """The layers, or the offences that stand in their way."""

    layers: list[Layer] = field(default_factory=list)
    offences: list[Offence] = field(default_factory=list)


class State:
    """Grown node by node; `stream` is whether the project is for io_stream, `strategy` and
    `binary` give a layer's."""

    def __init__(
        self,
        graph: Graph,
        stream: bool,
        facts: Facts,
        strategy: Callable[[str], Strategy],
        binary: Callable[[str], Binary],
    ):
        self.graph, self.stream, self.facts, self.strategy = graph, stream, facts, strategy
        self.binary = binary
        self.bits = carried_bits(graph, facts, strategy, binary)
        self.turned: dict[str, Layout] = {}  # transposed values: where they lie untransposed
        self.result = Lowered()
        self.made: dict[str, Layer] = {}
        self.lost: set[str] = set()  # values whose node was refused, or follows one that was

    def append(self, layer: Layer) -> Layer:
        """The layer, added at the end."""
        self.result.layers.append(layer)
        if layer.value is not None:
            self.made[layer.value] = layer
        return layer

    def ends(self, name: str) -> tuple[int, int]:
        """The least and the greatest code that a value can hold."""
        low, high = self.graph.bounds[name]
        return int(low.min()), int(high.max())

    def reachable(self, value: Value) -> QType:
        """The smallest type of everything that the value can be."""
        return QType.covering(*self.ends(value.name))
