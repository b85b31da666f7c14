"""A network by the shapes and bits of its steps: what is known of it before it is trained, too.

`outline` reads one off an integer graph, with what the actual weights tell; that of a recipe, which
has no weights yet, is `flow.surrogate.recipes`'. An operation that is not known here stays one of
which nothing is known: no figure counts it as nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import prod

import numpy as np

from flow.cost import given_bits, held_bits
from flow.graph import Graph, Node
from flow.ops import (
    Add,
    Conv,
    Dense,
    Flatten,
    IntArray,
    MaxPool,
    Movement,
    Mul,
    Relu,
    Requant,
    Reshape,
    SumPool,
    Table,
    Threshold,
)
from flow.qtype import QType

INPUT = "input"  # what the network's input is called among a step's sources


class Role(Enum):
    """What a step does to codes."""

    DENSE = "dense"
    CONV = "conv"
    DEPTHWISE = "depthwise"
    ADD = "add"
    MUL = "mul"
    MAX_POOL = "max_pool"
    SUM_POOL = "sum_pool"
    REQUANT = "requant"
    TABLE = "table"
    CLAMP = "clamp"
    VIEW = "view"  # the same codes in the same order
    MOVE = "move"
    UNKNOWN = "unknown"


WEIGHTED = (Role.DENSE, Role.CONV, Role.DEPTHWISE)
# What a device does while it writes the outputs of the step before.
FUSED = (Role.REQUANT, Role.TABLE, Role.CLAMP, Role.VIEW)


@dataclass(frozen=True)
class Known:
    """What actual weights tell: how many are not 0, of how many outputs any is not 0, and the
    digits of their shortest signed forms, of which each but an output's first is an addition."""

    nonzero: int
    rows: int
    digits: int


@dataclass(frozen=True)
class Step:
    """One operation. `taken` is how many values one output takes: the inputs of a matrix's row, the
    places of a window, the operands of a sum; a convolution's are at `window` places. There are
    `channels` * `positions` outputs. Bits are those of one input, one output and one weight. A
    requantization is `scaled` where it is more than a shift and a clamp."""

    name: str
    role: Role
    sources: tuple[str, ...]
    taken: int
    channels: int
    positions: int
    given_bits: int
    made_bits: int
    weight_bits: int | None = None
    known: Known | None = None
    scaled: bool = False
    window: int = 1

    @property
    def outputs(self) -> int:
        return self.channels * self.positions

    @property
    def weights(self) -> int:
        """How many weights it holds, zeros too."""
        return self.taken * self.channels if self.role in WEIGHTED else 0


@dataclass(frozen=True)
class Outline:
    """A network's steps in order of execution; `inputs` values of `input_bits` bits come in."""

    name: str
    inputs: int
    input_bits: int
    steps: tuple[Step, ...]

    @property
    def unknown(self) -> tuple[str, ...]:
        """Steps of which nothing is known."""
        return tuple(step.name for step in self.steps if step.role is Role.UNKNOWN)

    @property
    def why_unknown(self) -> str:
        """Why what depends on the `unknown` steps cannot be told."""
        return f"nothing is known of what {', '.join(self.unknown)} does"


def outline(graph: Graph) -> Outline:
    """That of a graph: bits are those that each value's reachable range needs, but of inputs of
    products those that `flow.cost` counts."""
    named, given = {graph.input.name: INPUT}, given_bits(graph)
    steps = []
    for node in graph.nodes:
        named[node.output.name] = node.name
        sources = tuple(named[name] for name in node.inputs)
        bits = given.get(node.name) or max(_bits(graph, name) for name in node.inputs)
        steps.append(_step(graph, node, sources, bits))
    bits = _bits(graph, graph.input.name)
    return Outline(graph.name, prod(graph.input.shape), bits, tuple(steps))


def signed_digits(weights: IntArray) -> int:
    """Digits that are not 0 in the canonical signed forms of integers, all together: no form with
    digits -1, 0 and 1 has fewer.

    Source: H. Prodinger, "On binary representations of integers with digits -1, 0, 1", INTEGERS 0
    (2000): the digits are the ones of 3n XOR n.
    """
    large = np.abs(weights).astype(np.uint64)
    changed = (3 * large) ^ large
    return int(np.unpackbits(changed.reshape(-1).view(np.uint8)).sum())


def _bits(graph: Graph, value: str) -> int:
    low, high = graph.bounds[value]
    return QType.covering(int(low.min()), int(high.max())).bits


def _step(graph: Graph, node: Node, sources: tuple[str, ...], given: int) -> Step:
    op, shape = node.op, node.output.shape
    role, taken = _role(op, len(sources))
    weight_bits, known = None, None
    if isinstance(op, Dense | Conv):
        weight_bits = held_bits(op.weight)
        rows = op.weight.reshape(len(op.weight), -1).any(axis=1)
        known = Known(int(np.count_nonzero(op.weight)), int(rows.sum()), signed_digits(op.weight))
    return Step(
        node.name,
        role,
        sources,
        taken,
        shape[0],
        prod(shape[1:]),
        given,
        _bits(graph, node.output.name),
        weight_bits,
        known,
        _scaled(op),
        prod(op.weight.shape[2:]) if isinstance(op, Conv) else 1,
    )


def _scaled(op: object) -> bool:
    if isinstance(op, Requant):
        parts = (part for scale in op.scale for part in (scale.numerator, scale.denominator))
        return any(part.bit_count() != 1 for part in parts)
    return isinstance(op, Threshold)


def _role(op: object, operands: int) -> tuple[Role, int]:
    """What an op does, and of how many values it makes one."""
    if isinstance(op, Dense):
        return Role.DENSE, op.weight.shape[1]
    if isinstance(op, Conv):
        return Role.DEPTHWISE if op.depthwise else Role.CONV, prod(op.weight.shape[1:])
    if isinstance(op, MaxPool | SumPool):
        return Role.MAX_POOL if isinstance(op, MaxPool) else Role.SUM_POOL, prod(op.window)
    if isinstance(op, Add | Mul):
        return Role.ADD if isinstance(op, Add) else Role.MUL, operands
    if isinstance(op, Movement):
        return Role.VIEW if isinstance(op, Flatten | Reshape) else Role.MOVE, 1
    roles: dict[type, Role] = {
        Relu: Role.CLAMP,
        Requant: Role.REQUANT,
        Threshold: Role.REQUANT,
        Table: Role.TABLE,
    }
    return roles.get(type(op), Role.UNKNOWN), 1
