"""Sums of two activations whose scales no small integers relate.

Float scales give factors like 12366643 and 9423187, and sums that int32 does not hold. But all that
becomes of a sum is a code, and for that only the order of the sums counts: the best fraction with
small parts (a convergent of the factors' ratio) nearly always has the same one, and whether it does
is asked for every pair of codes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np

from flow.graph import Graph, Node
from flow.ops import Add, IntArray, Requant, Threshold
from flow.qtype import QType
from targets.tflite.arithmetic import MAX_ACCUMULATOR
from targets.tflite.kernels import MAX_WEIGHT

_MAX_PAIRS = 1 << 20  # of codes, each of which is asked


def with_small_factors(graph: Graph) -> Graph:
    """The same function: an Add of two values with a factor that int8 does not hold, and the
    Requant that alone reads it, become an Add with small factors and a Threshold, where one gives
    the same code for every pair."""
    replaced: dict[str, Node] = {}
    for node in graph.nodes:
        users = graph.consumers(node.output.name)
        if isinstance(node.op, Add) and len(users) == 1:
            for old, new in zip((node, users[0]), _smaller(graph, node, users[0]), strict=False):
                replaced[old.name] = new
    if not replaced:
        return graph
    nodes = tuple(replaced.get(node.name, node) for node in graph.nodes)
    return Graph.build(graph.name, graph.input, nodes)


def _smaller(graph: Graph, node: Node, user: Node) -> tuple[Node, ...]:
    """What stands for both nodes; nothing where they are fine, or no factors are found."""
    add, requant = node.op, user.op
    assert isinstance(add, Add)
    if not isinstance(requant, Requant) or len(requant.scale) + len(requant.offset) > 2:
        return ()
    bounds = [graph.bounds[name] for name in node.inputs]
    if len(bounds) != 2:
        return ()
    if max(map(abs, add.multipliers)) <= MAX_WEIGHT or 0 in add.multipliers:
        return ()
    (a, b), (c, d) = ((int(low.min()), int(high.max())) for low, high in bounds)
    if (b - a + 1) * (d - c + 1) > _MAX_PAIRS:
        return ()
    first, second = np.arange(a, b + 1)[:, None], np.arange(c, d + 1)
    sums = add.multipliers[0] * first + add.multipliers[1] * second + add.bias
    (steps,) = requant.steps(1, (np.array([sums.min()]), np.array([sums.max()])))
    codes = steps.apply(sums)
    room = MAX_ACCUMULATOR // (max(abs(a), abs(b)) + max(abs(c), abs(d)))
    for p, q in _factors(add.multipliers, steps.falling, (MAX_WEIGHT, room)):
        step = _step(p * first + q * second, codes)
        if step is not None:
            low, high = (int(end) for end in (min(p * a, p * b), max(p * a, p * b)))
            low, high = low + min(q * c, q * d), high + max(q * c, q * d)
            total = replace(node.output, qtype=QType.covering(low, high))
            return replace(node, op=Add((p, q)), output=total), replace(user, op=step)
    return ()


def _factors(
    multipliers: tuple[int, ...], falling: bool, most: tuple[int, ...]
) -> Iterator[tuple[int, int]]:
    """Pairs in nearly the ratio of the multipliers, no part larger than each of `most`; the sums
    rise where the codes do."""
    m, n = multipliers
    sign = -1 if falling else 1
    for limit in most:
        if abs(m) <= abs(n):
            ratio = Fraction(m, n).limit_denominator(limit)
            p, q = ratio.numerator, ratio.denominator
            turn = sign if n > 0 else -sign
        else:
            ratio = Fraction(n, m).limit_denominator(limit)
            p, q = ratio.denominator, ratio.numerator
            turn = sign if m > 0 else -sign
        yield turn * p, turn * q


def _step(sums: IntArray, codes: IntArray) -> Threshold | None:
    """The step function that gives the codes of the sums; None where there is none."""
    found, place = np.unique(codes, return_inverse=True)
    least = np.full(len(found), np.iinfo(np.int64).max)
    most = np.full(len(found), np.iinfo(np.int64).min)
    np.minimum.at(least, place.reshape(-1), sums.reshape(-1))
    np.maximum.at(most, place.reshape(-1), sums.reshape(-1))
    if (most[:-1] >= least[1:]).any():
        return None
    return Threshold(least[1:][None], found)
