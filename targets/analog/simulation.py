"""The proof: the arrays of an artifact, without noise, with converters that lose nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flow.graph import Graph
from flow.ops import IntArray
from targets.analog.build import run_all
from targets.analog.engine import Engine, Layer
from targets.analog.steps import chain_of


def between(graph: Graph, layer: Layer) -> tuple[str, ...]:
    """The values between a layer's array and the table that its ramp computes."""
    if layer.ramp is None:
        return ()
    node = layer.mapped.product.node
    return tuple(each.output.name for each in (node, *chain_of(graph, node)[:-1]))


class AnalogSimulation:
    """Runs codes through the arrays' targets: every sum is one of conductances."""

    def __init__(self, graph: Graph, layers: Sequence[Layer]):
        self._graph = graph
        self._engine = Engine(graph, [layer.exact for layer in layers], None)
        # Between an array and the table that its ramp computes there are no sums.
        self._missing = {name for layer in layers for name in between(graph, layer)}

    def run(self, codes: IntArray) -> IntArray:
        """Output codes of input codes. Raises UsageError where they do not fit."""
        last = self._graph.output.name
        return self._values(codes, (last,))[last]

    def trace(self, codes: IntArray) -> dict[str, IntArray]:
        """The codes of every node that there are, by the name of its value."""
        names = (node.output.name for node in self._graph.nodes)
        return self._values(codes, tuple(name for name in names if name not in self._missing))

    def _values(self, codes: IntArray, names: tuple[str, ...]) -> dict[str, IntArray]:
        parts: list[dict[str, IntArray]] = []
        engine = self._engine

        def run(part: IntArray) -> None:
            found = engine.follow(part, [0], 0, lambda name: name in names)
            parts.append({name: values[0] for name, values in found.items()})

        run_all(engine, codes, run)
        return {name: np.concatenate([part[name] for part in parts]) for name in names}
