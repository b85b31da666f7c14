"""What was traced, as a list of operations in order, and the pipeline stage of each."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from math import ceil
from typing import Any

import numpy as np

from flow.graph import Graph
from targets.rtl.lower import Traced
from targets.rtl.solver import Solver, da4ml


class Kind(Enum):
    """What an operation does; the comments say with `a`, `b` and `key`, its operands."""

    INPUT = "input"  # entry `data` of the network's input
    CONSTANT = "constant"  # data
    SUM = "sum"  # a + b * 2**shift, or a - b * 2**shift where negated
    OFFSET = "offset"  # a + data
    RELU = "relu"  # max(a, 0), or max(-a, 0) where negated
    WRAP = "wrap"  # the bits of a, or of -a where negated, that the result has
    MUX = "mux"  # a where key's first bit is set, else b * 2**shift, or -b * 2**shift
    PRODUCT = "product"  # a * b
    TABLE = "table"  # table[a - data]


_KINDS = {
    -1: Kind.INPUT,
    0: Kind.SUM,
    1: Kind.SUM,
    2: Kind.RELU,
    3: Kind.WRAP,
    4: Kind.OFFSET,
    5: Kind.CONSTANT,
    6: Kind.MUX,
    7: Kind.PRODUCT,
    8: Kind.TABLE,
}


@dataclass(frozen=True)
class Operation:
    """One value of the hardware: a whole number in `width` bits times 2**-point; `least` is its
    smallest. Operands are numbers of earlier operations; `owner` is the node that it is part of."""

    kind: Kind
    name: str
    width: int
    signed: bool
    point: int
    least: int
    operands: tuple[int, ...] = ()
    data: int = 0
    shift: int = 0
    negated: bool = False
    table: tuple[int, ...] = ()
    owner: str = ""


@dataclass(frozen=True)
class Output:
    """One entry of the network's output: an operation's value times 2**shift, maybe negated."""

    operation: int
    shift: int
    negated: bool


@dataclass(frozen=True, eq=False)
class Netlist:
    """`stages[i]` is the pipeline stage of operation i, `count` how many there are; `depth` is the
    longest chain of delays within one."""

    operations: tuple[Operation, ...]
    outputs: tuple[Output, ...]
    stages: tuple[int, ...]
    count: int
    depth: int

    @property
    def latency(self) -> int:
        """Cycles from codes at the input to codes at the output: a register before every stage,
        and one behind the last."""
        return self.count + 1

    def last_use(self) -> list[int]:
        """The last stage in which each operation's value is read."""
        last = list(self.stages)
        for operation, stage in zip(self.operations, self.stages, strict=True):
            for source in operation.operands:
                last[source] = max(last[source], stage)
        for output in self.outputs:
            last[output.operation] = self.count - 1
        return last

    def below(self, operation: Operation) -> int:
        """Bits at the low end of a sum that are one operand's own."""
        if operation.kind is Kind.OFFSET:
            below = (operation.data & -operation.data).bit_length() - 1
        else:
            first, second = (self.operations[place] for place in operation.operands)
            below = operation.point - second.point + operation.shift
            if not operation.negated:
                below = max(below, operation.point - first.point)
        return min(max(below, 0), operation.width - 1)

    def adders(self) -> Counter[str]:
        """Sums, sums with constants, and comparisons, by node."""
        kinds = (Kind.SUM, Kind.OFFSET)
        return Counter(o.owner for o in self.operations if o.kind in kinds)


def netlist(
    graph: Graph, solver: Solver, traced: Traced, names: Sequence[str], cutoff: int
) -> Netlist:
    """What gives the values `names` of the graph, one after the other, in stages of at most
    `cutoff` delays; 0 is one stage."""
    inputs = traced.values[graph.input.name].reshape(-1).tolist()
    wanted = [v for name in names for v in traced.values[name].reshape(-1).tolist()]
    tracer = da4ml().tracer
    with _deep_recursion():
        variables, _ = tracer.gather_variables(inputs, wanted)
        logic = tracer.comb_trace(inputs, wanted)
    owners = [traced.owners.get(variable.id, "constant") for variable in variables]
    least = {i: solver.least(v) for i, v in enumerate(variables) if v.opr == "lookup"}
    operations = _operations(logic, owners, least)
    outputs = tuple(
        Output(int(i), int(shift), bool(negated))
        for i, shift, negated in zip(logic.out_idxs, logic.out_shifts, logic.out_negs, strict=True)
    )
    delays = [_delay(operations, o, solver.hardware.carry_size) for o in operations]
    stages, count, depth = _staged(operations, delays, cutoff)
    return Netlist(operations, outputs, stages, count, depth)


@contextmanager
def _deep_recursion() -> Iterator[None]:
    """da4ml follows values from output to input by calls within calls."""
    kept = sys.getrecursionlimit()
    sys.setrecursionlimit(max(kept, 100_000))
    try:
        yield
    finally:
        sys.setrecursionlimit(kept)


def _operations(
    logic: Any, owners: Sequence[str], least_of: Mapping[int, float]
) -> tuple[Operation, ...]:
    minimal = da4ml().types._minimal_kif
    found: list[Operation] = []
    for number, (op, owner) in enumerate(zip(logic.ops, owners, strict=True)):
        signed, integer, point = (int(part) for part in minimal(op.qint))
        width = signed + integer + point
        kind, opcode = _KINDS[abs(op.opcode) if op.opcode != -1 else -1], op.opcode
        negated = opcode == 1 or opcode < -1
        operands: tuple[int, ...] = ()
        data = shift = 0
        table: tuple[int, ...] = ()
        if kind in (Kind.INPUT, Kind.CONSTANT):
            data = int(op.id0 if kind is Kind.INPUT else op.data)
        elif kind is Kind.MUX:
            operands = (op.id0, op.id1, op.data & 0xFFFFFFFF)
            shift = _signed32(op.data >> 32)
        else:
            operands = (op.id0, op.id1) if kind in (Kind.SUM, Kind.PRODUCT) else (op.id0,)
            shift = int(op.data) if kind is Kind.SUM else 0
            data = int(op.data) if kind is Kind.OFFSET else 0
        if kind is Kind.TABLE:
            entries = logic.lookup_tables[op.data].float_table
            table = tuple(round(float(entry) * 2.0**point) for entry in entries)
            data = round(least_of[number] * 2.0 ** found[op.id0].point)
        least = round(op.qint.min * 2.0**point) if width else 0
        found.append(
            Operation(
                kind,
                f"{_word(owner)}_{number}",
                width,
                bool(signed),
                point,
                least,
                tuple(int(i) for i in operands),
                data,
                shift,
                negated,
                table,
                owner,
            )
        )
    return tuple(found)


def _signed32(number: int) -> int:
    number &= 0xFFFFFFFF
    return number - (1 << 32) if number >> 31 else number


def _word(name: str) -> str:
    """The name as part of a Verilog identifier."""
    kept = re.sub(r"[^A-Za-z0-9_]", "_", name)[:48]
    return kept if kept[:1].isalpha() else f"n{kept}"


def _delay(operations: Sequence[Operation], operation: Operation, carry_size: int) -> int:
    """In adders of `carry_size` bits, or of any width where that is -1."""
    kind, width = operation.kind, operation.width
    if kind in (Kind.SUM, Kind.OFFSET, Kind.MUX) or operation.negated:
        return 1 if carry_size < 0 else max(ceil(width / carry_size), 1)
    if kind is Kind.PRODUCT:  # a tree of the shorter operand's partial products
        narrow = min(operations[i].width for i in operation.operands)
        return max((narrow - 1).bit_length(), 1)
    if kind is Kind.TABLE:
        given = operations[operation.operands[0]].width
        rising = list(operation.table) in (sorted(operation.table), sorted(operation.table)[::-1])
        return max(ceil(given / 4) if rising else given - 5, 1)  # steps are comparisons
    return 0


def _staged(
    operations: Sequence[Operation], delays: Sequence[int], cutoff: int
) -> tuple[tuple[int, ...], int, int]:
    """The stage of each operation, how many there are, and the longest delay of one: as few stages
    as `cutoff` allows, then the shortest delay that needs no more."""
    if cutoff == 0:
        cutoff = sum(delays) + 1
    stages, count, depth = _greedy(operations, delays, cutoff)
    low, high = 0, depth
    while high - low > 1:
        middle = (low + high) // 2
        tried = _greedy(operations, delays, middle)
        if tried[1] > count or tried[2] > middle:
            low = middle
        else:
            (stages, _, depth), high = tried, middle
    return stages, count, depth


def _greedy(
    operations: Sequence[Operation], delays: Sequence[int], cutoff: int
) -> tuple[tuple[int, ...], int, int]:
    """Every operation as early as its operands and `cutoff` let it."""
    stages, reached = [0] * len(operations), [0] * len(operations)
    for i, (operation, delay) in enumerate(zip(operations, delays, strict=True)):
        stage = max((stages[s] for s in operation.operands), default=0)
        before = max((reached[s] for s in operation.operands if stages[s] == stage), default=0)
        if before and before + delay > cutoff:
            stage, before = stage + 1, 0
        stages[i], reached[i] = stage, before + delay
    constants = {i for i, o in enumerate(operations) if o.kind is Kind.CONSTANT}
    count = 1 + max((s for i, s in enumerate(stages) if i not in constants), default=0)
    return tuple(stages), count, int(np.max(reached, initial=0))
