"""The integer graph on da4ml's traced values, node by node; what cannot be exact is an offence."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from math import prod
from typing import Any

import numpy as np

from flow.errors import Offence
from flow.graph import Graph, Node
from flow.ops import (
    Add,
    Conv,
    Dense,
    IntArray,
    MaxPool,
    Movement,
    Mul,
    Relu,
    Requant,
    SumPool,
    Table,
    Threshold,
)
from flow.ops.base import full
from flow.ops.windows import windows_of
from targets.rtl.requants import (
    MAX_BITS,
    MAX_COMPARATORS,
    MAX_TABLE,
    balanced,
    clamped,
    comparators,
    requantized,
    staircase,
    table,
    times,
    ways,
)
from targets.rtl.solver import MAX_WEIGHT, Solver, Vars, narrowed

PAD = -1  # in an index map: padding


@dataclass(eq=False)
class Traced:
    """Every value of the graph as traced variables, in its shape, and the node of each variable."""

    values: dict[str, Vars] = field(default_factory=dict)
    owners: dict[Any, str] = field(default_factory=dict)


def products(graph: Graph, node: Node) -> int:
    """Non-zero products of a node, each of them hardware of its own."""
    op = node.op
    if isinstance(op, Dense):
        return int(np.count_nonzero(op.weight))
    if isinstance(op, Conv):
        return int(np.count_nonzero(op.weight)) * prod(node.output.shape[1:])
    if isinstance(op, SumPool | MaxPool):
        return prod(op.window) * prod(node.output.shape)
    return prod(node.output.shape) if isinstance(op, Add | Mul | Requant | Threshold | Table) else 0


def offences(graph: Graph, limit: int) -> list[Offence]:
    """What cannot be unrolled, or not exactly; at most `limit` products in all."""
    found = []
    counts = {node.name: products(graph, node) for node in graph.nodes}
    if (total := sum(counts.values())) > limit:
        most = max(counts, key=lambda name: counts[name])
        found.append(
            Offence(
                most,
                f"the network unrolled is {total} products, {counts[most]} of them here; "
                f"max_products allows {limit}",
                "use a smaller network, more zero weights, or raise max_products",
            )
        )
        return found
    for node in graph.nodes:
        reason = _reason(graph, node)
        if reason:
            found.append(Offence(node.name, *reason))
    return found


def _reason(graph: Graph, node: Node) -> tuple[str, str] | None:
    """Why a node cannot be done, and what to change."""
    op = node.op
    low, high = graph.bounds[node.output.name]
    reach = max(abs(int(low.min())), abs(int(high.max())))
    if reach.bit_length() >= MAX_BITS:
        return f"its values need more than {MAX_BITS} bits", "use fewer bits or narrower layers"
    if isinstance(op, Dense | Conv) and int(np.abs(op.weight).max(initial=0)) >= MAX_WEIGHT:
        return "its weights need more than 24 bits, which da4ml does not hold", "use fewer bits"
    if isinstance(op, Requant):
        channels, bounds = node.output.shape[0], graph.bounds[node.inputs[0]]
        count = comparators(bounds, channels, ways(op, channels, bounds))
        if count > MAX_COMPARATORS:
            return (
                f"no multiplier has its {count} steps, and as comparators they are too many "
                f"(at most {MAX_COMPARATORS})",
                "use fewer bits, power-of-two scales, or rounding that is not to even",
            )
    if isinstance(op, Table):
        ends = graph.bounds[node.inputs[0]]
        span = int(ends[1].max()) - int(ends[0].min()) + 1
        if span > MAX_TABLE:
            return (
                f"its table has {span} reachable entries, at most {MAX_TABLE} are done",
                "quantize its input to fewer bits",
            )
    if isinstance(op, Threshold) and op.cuts.shape[1] > MAX_COMPARATORS:
        span = int(graph.bounds[node.inputs[0]][1].max() - graph.bounds[node.inputs[0]][0].min())
        if span >= MAX_TABLE:
            return (
                f"it has {op.cuts.shape[1]} thresholds, at most {MAX_COMPARATORS} are done",
                "use fewer output bits",
            )
    if not isinstance(
        op,
        Add
        | Conv
        | Dense
        | MaxPool
        | Movement
        | Mul
        | Relu
        | Requant
        | SumPool
        | Table
        | Threshold,
    ):
        return f"{op.name} has no hardware here", "use another function there"
    return None


def trace(graph: Graph, solver: Solver) -> Traced:
    """Every node on traced variables; the graph must have no offence."""
    traced = Traced()
    low, high = (full(b, graph.input.shape[0]) for b in graph.bounds[graph.input.name])
    inputs = np.empty(graph.input.shape, dtype=object)
    for index in np.ndindex(*graph.input.shape):
        inputs[index] = solver.variable(int(low[index[0]]), int(high[index[0]]))
        traced.owners[inputs[index].id] = "input"
    traced.values[graph.input.name] = inputs
    for node in graph.nodes:
        sources = [traced.values[name] for name in node.inputs]
        made = _apply(graph, node, solver, sources)
        lows, highs = (full(b, made.shape[0]) for b in graph.bounds[node.output.name])
        for index in np.ndindex(*made.shape):
            narrowed(made[index], int(lows[index[0]]), int(highs[index[0]]))
            _own(traced, made[index], node.name)
        traced.values[node.output.name] = made
    return traced


def _own(traced: Traced, variable: Any, name: str) -> None:
    """The variables that are new since the last node are this node's."""
    waiting = [variable]
    while waiting:
        found = waiting.pop()
        if found.id not in traced.owners:
            traced.owners[found.id] = name
            waiting.extend(found._from)


def _apply(graph: Graph, node: Node, solver: Solver, sources: list[Vars]) -> Vars:
    op, x = node.op, sources[0]
    if isinstance(op, Dense):
        return solver.product(op.weight, op.bias, x)
    if isinstance(op, Conv):
        return _convolve(solver, op, x, node.output.shape)
    if isinstance(op, Movement):
        return _move(solver, op, sources)
    if isinstance(op, MaxPool):
        return _pool(solver, op, x, None, lambda a, b: a.max_of(b))
    if isinstance(op, SumPool):
        return _pool(solver, op, x, op.pad_value, lambda a, b: a + b)
    out = np.empty(node.output.shape, dtype=object)
    if isinstance(op, Requant):
        bounds = graph.bounds[node.inputs[0]]
        chosen = ways(op, x.shape[0], bounds)
        low, high = (full(b, x.shape[0]) for b in bounds)
        for index in np.ndindex(*x.shape):
            ends = int(low[index[0]]), int(high[index[0]])
            out[index] = requantized(solver, chosen[index[0]], x[index], ends)
        return out
    for index in np.ndindex(*x.shape):
        out[index] = _pointwise(op, solver, [source[index] for source in sources], index[0])
    return out


def _pointwise(op: Any, solver: Solver, xs: list[Any], channel: int) -> Any:
    if isinstance(op, Relu):
        return clamped(xs[0], op.zero, int(max(xs[0].high, op.zero)))
    if isinstance(op, Threshold):
        cuts = op.cuts[channel if len(op.cuts) > 1 else 0]
        return staircase(solver, xs[0], cuts, op.codes.tolist())
    if isinstance(op, Table):
        low, high = (int(end) - op.low for end in (xs[0].low, xs[0].high))
        return table(solver, xs[0], op.entries[low : high + 1 : max(int(xs[0].step), 1)])
    if isinstance(op, Mul):
        return (xs[0] - op.zeros[0]) * (xs[1] - op.zeros[1])
    assert isinstance(op, Add)
    terms = [
        times(x, factor, int(x.low), int(x.high))
        for factor, x in zip(op.multipliers, xs, strict=True)
    ]
    return reduce(lambda a, b: a + b, terms) + op.bias


def _move(solver: Solver, op: Movement, sources: list[Vars]) -> Vars:
    index = op.index(*(source.shape for source in sources))
    flat = np.concatenate([source.reshape(-1) for source in sources])
    out = np.empty(index.size, dtype=object)
    for place, where in enumerate(index.reshape(-1)):
        out[place] = solver.constant(op.fill) if where < 0 else flat[where]
    return out.reshape(index.shape)


def _padded(x: Vars, pads: tuple[int, int, int, int]) -> IntArray:
    """Where each entry of the padded image is in the flattened one; PAD for padding."""
    places = np.arange(x.size).reshape(x.shape)
    top, left, bottom, right = pads
    return np.pad(places, ((0, 0), (top, bottom), (left, right)), constant_values=PAD)


def _convolve(solver: Solver, op: Conv, x: Vars, shape: tuple[int, ...]) -> Vars:
    places = windows_of(_padded(x, op.pads)[None], op.weight.shape[2:], op.stride, op.dilation)[0]
    flat, padding = x.reshape(-1), solver.constant(op.pad_value)
    each, taken = shape[0] // op.groups, op.weight.shape[1]
    out = np.empty(shape, dtype=object)
    for group in range(op.groups):
        rows = slice(group * each, (group + 1) * each)
        weight = op.weight[rows].reshape(each, -1)
        for r, c in np.ndindex(*shape[1:]):
            window = places[group * taken : (group + 1) * taken, r, c].reshape(-1)
            inputs = np.empty(len(window), dtype=object)
            for k, where in enumerate(window):
                inputs[k] = padding if where < 0 else flat[where]
            out[rows, r, c] = solver.product(weight, op.bias[rows], inputs)
    return out


def _pool(
    solver: Solver, op: MaxPool | SumPool, x: Vars, pad_value: int | None, combine: Any
) -> Vars:
    """Every window combined as a balanced tree; without a `pad_value` padding is left out."""
    places = windows_of(_padded(x, op.pads)[None], op.window, op.stride, (1, 1))[0]
    flat, out = x.reshape(-1), np.empty(places.shape[:3], dtype=object)
    for index in np.ndindex(*out.shape):
        window = places[index].reshape(-1)
        items = [flat[where] for where in window if where >= 0]
        if pad_value is not None:
            items += [solver.constant(pad_value) for where in window if where < 0]
        out[index] = balanced(combine, items)
    return out
