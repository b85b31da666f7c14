"""Moving requantizations in front of what only moves codes, or takes the greatest of a channel's.

A global pool is often flattened before it is quantized. The sum's requantization belongs to the
kernel that computes the sum; codes can be moved afterwards just as well. Binary networks pool
before they take the sign: what never falls can be taken first.
"""

from __future__ import annotations

import numpy as np

from flow.graph import Graph, Node, Value
from flow.ops import MaxPool, Movement, Requant, Threshold


def requants_first(graph: Graph) -> Graph:
    """The same function, with every uniform Requant before the permutation that it follows,
    and what never falls before the MaxPool."""
    while True:
        pair = next((found for node in graph.nodes if (found := _pair(graph, node))), None)
        if pair is None:
            return graph
        graph = _swapped(graph, *pair)


def _pair(graph: Graph, node: Node) -> tuple[Node, Node] | None:
    """A permutation or MaxPool, and the requantization that alone reads it."""
    users = graph.consumers(node.output.name)
    if isinstance(node.op, MaxPool) and len(users) == 1:
        wide = graph.value(node.inputs[0]).qtype.bits > 8
        alone = len(graph.consumers(node.inputs[0])) == 1
        return (node, users[0]) if wide and alone and _never_falls(users[0]) else None
    if not isinstance(node.op, Movement) or len(node.inputs) != 1 or len(users) != 1:
        return None
    (user,) = users
    if not isinstance(user.op, Requant) or len(user.op.scale) + len(user.op.offset) > 2:
        return None
    if len(graph.consumers(node.inputs[0])) > 1 or graph.value(node.inputs[0]).qtype.bits <= 8:
        return None
    index = np.sort(node.op.index(*graph.shapes(node)).reshape(-1))
    size = int(np.prod(graph.shapes(node)[0]))
    return (node, user) if np.array_equal(index, np.arange(size)) else None


def _never_falls(node: Node) -> bool:
    if isinstance(node.op, Requant):
        return all(scale > 0 for scale in node.op.scale)
    return isinstance(node.op, Threshold)


def _swapped(graph: Graph, move: Node, requant: Node) -> Graph:
    before, after = graph.value(move.inputs[0]), requant.output
    inner = Value(f"{after.name}_before", before.shape, after.qtype, after.scale, after.zero_point)
    first = Node(requant.name, requant.op, move.inputs, inner)
    second = Node(move.name, move.op, (inner.name,), after)
    nodes = []
    for node in graph.nodes:
        if node is requant:
            nodes += [first, second]
        elif node is not move:
            nodes.append(node)
    return Graph.build(graph.name, graph.input, tuple(nodes))
