"""Comparing what an artifact computes with the reference, and finding where the two part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flow.graph import Graph
from flow.ops import IntArray


@dataclass(frozen=True)
class Agreement:
    """How many vectors, and how many single outputs, are equal."""

    vectors: int
    vectors_equal: int
    outputs: int
    outputs_equal: int
    largest: int = 0  # difference of one output, in codes

    @property
    def matches(self) -> bool:
        """True only if something was compared and all of it is equal."""
        return self.outputs > 0 and self.outputs_equal == self.outputs

    def __str__(self) -> str:
        if self.matches:
            return f"yes ({self.vectors} of {self.vectors} vectors, all outputs)"
        return (
            f"NO ({self.vectors_equal} of {self.vectors} vectors, "
            f"{self.outputs_equal} of {self.outputs} outputs equal, "
            f"largest difference {self.largest})"
        )


@dataclass(frozen=True)
class Difference:
    """The first place where two traces part: in order of layers, then vectors, then entries."""

    layer: str
    vector: int
    channel: int
    position: tuple[int, ...]
    expected: int
    found: int
    wrong: int
    total: int

    def __str__(self) -> str:
        inside = f", position {self.position}" if self.position else ""
        return (
            f"first difference: layer {self.layer}, vector {self.vector}, channel {self.channel}"
            f"{inside}: reference {self.expected}, artifact {self.found} "
            f"({self.wrong} of {self.total} values of this layer differ)"
        )


def agreement(expected: IntArray, found: IntArray) -> Agreement:
    """Compare outputs (n, ...) entry by entry; shapes that differ count as all different."""
    if expected.shape != found.shape:
        return Agreement(len(expected), 0, expected.size, 0)
    equal = (expected == found).reshape(len(expected), -1)
    return Agreement(
        len(equal),
        int(equal.all(axis=1).sum()),
        equal.size,
        int(equal.sum()),
        int(np.abs(expected - found).max(initial=0)),
    )


def first_difference(
    graph: Graph,
    expected: Mapping[str, IntArray],
    found: Mapping[str, IntArray],
    vectors: IntArray,
) -> Difference | None:
    """The first value of the graph's order that is in both traces and differs.

    `vectors` (n,) holds the numbers under which the user knows the traced vectors.
    """
    for node in graph.nodes:
        name = node.output.name
        if name not in found:
            continue
        wrong = np.argwhere(expected[name] != found[name])
        if len(wrong):
            where = tuple(int(i) for i in wrong[0])
            return Difference(
                layer=name,
                vector=int(vectors[where[0]]),
                channel=where[1],
                position=where[2:],
                expected=int(expected[name][where]),
                found=int(found[name][where]),
                wrong=len(wrong),
                total=expected[name].size,
            )
    return None
