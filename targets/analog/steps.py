"""Step functions of a layer's sums: what a converter that computes a table has to do."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flow.errors import Offence
from flow.graph import Graph, Node
from flow.ops import IntArray, Requant, Table


@dataclass(frozen=True, eq=False)
class StepFunction:
    """A monotone function of whole sums: it has `codes[i]` where i of the `cuts` (ascending) are at
    most the sum; `sums[i]` is such a sum. One code more than cuts."""

    cuts: IntArray
    codes: IntArray
    sums: IntArray

    @classmethod
    def of(cls, low: int, values: IntArray) -> StepFunction:
        """The function that has `values` at low, low + 1, and so on.

        Raises:
            ValueError: they rise and fall.
        """
        change = np.diff(values)
        if (change > 0).any() and (change < 0).any():
            raise ValueError
        at = np.flatnonzero(change) + 1
        starts = np.concatenate([[0], at])
        return cls(low + at, values[starts], low + starts)

    @cached_property
    def bits(self) -> int:
        """Of a counter of the cuts."""
        return max(len(self.cuts).bit_length(), 1)

    @property
    def digest(self) -> str:
        """Of all that the function is, hex."""
        hashed = hashlib.sha256()
        for array in (self.cuts, self.codes, self.sums):
            hashed.update(np.ascontiguousarray(array, dtype="<i8").tobytes() + b"|")
        return hashed.hexdigest()[:16]

    def rounded(self, bits: int) -> StepFunction:
        """With at most 2^bits codes: those nearest to as many even steps from its least code to its
        largest. The cuts that stay are where that changes."""
        most = (1 << bits) - 1
        if len(self.cuts) <= most:
            return self
        first, last = int(self.codes[0]), int(self.codes[-1])
        wanted = (self.codes - first) * most / (last - first)
        level = np.floor(wanted + 0.5).astype(np.int64)  # ties one way, so that steps stay even
        starts = np.flatnonzero(np.diff(level, prepend=level[0] - 1))
        off = np.abs(wanted - level)
        ends = [*starts[1:], len(level)]
        nearest = [a + int(np.argmin(off[a:b])) for a, b in zip(starts, ends, strict=True)]
        return StepFunction(self.cuts[starts[1:] - 1], self.codes[nearest], self.sums[nearest])


def chain_of(graph: Graph, node: Node) -> tuple[Node, ...]:
    """The table that computes a function of the node's sums, with the requantization before it,
    where there is one; nothing where something else reads the sums."""
    found: list[Node] = []
    while len(readers := graph.consumers((found or [node])[-1].output.name)) == 1:
        (reader,) = readers
        if isinstance(reader.op, Table):
            return (*found, reader)
        if found or not isinstance(reader.op, Requant):
            break
        found.append(reader)
    return ()


def steps_of(graph: Graph, node: Node, chain: tuple[Node, ...]) -> StepFunction | Offence:
    """The function that a chain is of the sums of `node`, or why a ramp cannot be it."""
    low, high = (int(end) for end in _ends(graph, node.output.name))
    *before, table = chain
    assert isinstance(table.op, Table)
    fix = f"keep it digital, by digital_layers={node.name}"
    if not before:
        values = table.op.entries[low - table.op.low : high - table.op.low + 1]
        starts = np.arange(low, low + len(values))
    else:
        op = before[0].op
        assert isinstance(op, Requant)
        if len(op.scale) > 1 or len(op.offset) > 1:
            reason = "it is requantized by channel, and its outputs share a ramp"
            return Offence(node.name, reason, f"quantize per tensor, or {fix}")
        steps = op.rules(1)[0].steps(low, high)
        starts = np.unique(np.concatenate([[low], 1 - steps.cuts if steps.falling else steps.cuts]))
        values = table.op.entries[steps.apply(starts) - table.op.low]
    try:
        found = StepFunction.of(0, values)
    except ValueError:
        reason = f"the table {table.name} rises and falls, which no ramp does"
        return Offence(node.name, reason, fix)
    return StepFunction(starts[found.cuts], found.codes, starts[found.sums])


def _ends(graph: Graph, name: str) -> tuple[int, int]:
    low, high = graph.bounds[name]
    return int(low.min()), int(high.max())
