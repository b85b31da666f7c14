"""The reference interpreter: what a graph computes, by definition. Integers only, no tolerance."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from flow.errors import UsageError
from flow.graph import Graph, Node
from flow.ops import Conv, IntArray

BATCH = 256  # samples at a time, at most: keeps convolution windows inside the cache's reach
BUDGET = 256 << 20  # bytes that a batch may take, where one sample does not take more


class Interpreter:
    """Runs a graph on batches of codes; constants are prepared once."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.batch = max(1, min(BATCH, BUDGET // _sample_bytes(graph)))
        self._kernels = [
            node.op.kernel(graph.shapes(node), tuple(graph.bounds[name] for name in node.inputs))
            for node in graph.nodes
        ]

    def run(self, codes: IntArray) -> IntArray:
        """Output codes (n, *output shape) of input codes (n, *input shape).

        Raises:
            UsageError: the codes are not integers of the input's shape and type.
        """
        return self.trace(codes, keep=())[self.graph.output.name]

    def trace(self, codes: IntArray, keep: tuple[str, ...] | None = None) -> dict[str, IntArray]:
        """Every value by name; with `keep`, those and the output only."""
        check_codes(self.graph, codes)
        wanted = {self.graph.output.name, *(keep or ())}
        parts = [
            {
                name: x
                for name, x in self._batch(codes[start : start + self.batch]).items()
                if keep is None or name in wanted
            }
            for start in range(0, max(len(codes), 1), self.batch)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def follow(self, codes: IntArray, see: Callable[[Node, IntArray], IntArray]) -> None:
        """Run all codes at once; later nodes read what `see` gives for a node and its output. The
        caller keeps to `batch` samples.

        Raises:
            UsageError: as `run`.
        """
        check_codes(self.graph, codes)
        self._batch(codes, see)

    def _batch(
        self, codes: IntArray, see: Callable[[Node, IntArray], IntArray] = lambda node, made: made
    ) -> dict[str, IntArray]:
        values = {self.graph.input.name: codes.astype(np.int64, copy=False)}
        for node, kernel in zip(self.graph.nodes, self._kernels, strict=True):
            values[node.output.name] = see(node, kernel(*(values[name] for name in node.inputs)))
        return values


def _sample_bytes(graph: Graph) -> int:
    """Memory for one sample: every value, and twice the largest convolution's columns (as they are
    gathered, and in order for the product)."""
    held = sum(prod(value.shape) for value in (graph.input, *(n.output for n in graph.nodes)))
    columns = (
        prod(node.op.weight.shape[1:]) * prod(node.output.shape[1:])
        for node in graph.nodes
        if isinstance(node.op, Conv)
    )
    return 8 * (held + 2 * max(columns, default=0))


def check_codes(graph: Graph, codes: IntArray) -> None:
    """Raises UsageError unless `codes` are integers that the graph's input takes."""
    value = graph.input
    if codes.shape[1:] != value.shape:
        raise UsageError(
            f"input {value.name} must have shape (n, {_show(value.shape)}), not "
            f"({_show(codes.shape)})"
        )
    if not np.issubdtype(codes.dtype, np.integer):
        raise UsageError(f"input {value.name} must hold integer codes, not {codes.dtype}")
    if codes.size and not (value.qtype.low <= codes.min() and codes.max() <= value.qtype.high):
        raise UsageError(
            f"input {value.name} must hold codes {value.qtype.low}..{value.qtype.high}, "
            f"not {codes.min()}..{codes.max()}"
        )


def _show(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
