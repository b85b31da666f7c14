"""What weights, their products and rounding cost the hardware, counted in the integer graph."""

from __future__ import annotations

from math import prod

import numpy as np

from flow.graph import Graph
from flow.ops import Conv, Dense, IntArray, MaxPool, Movement, Pad, Threshold
from flow.ops.pointwise import Requant
from flow.qtype import QType
from flow.requant import Rounding


def held_bits(weight: IntArray) -> int:
    """The fewest bits that hold all codes of an array: 1 where they are only -1 and 1."""
    if bool((np.abs(weight) == 1).all()):
        return 1
    return QType.covering(min(int(weight.min()), 0), int(weight.max())).bits


def weight_memory(graph: Graph) -> dict[str, int]:
    """Bits of the weights, by node: each layer's in the fewest bits that hold them; no biases."""
    return {
        node.name: node.op.weight.size * held_bits(node.op.weight)
        for node in graph.nodes
        if isinstance(node.op, Conv | Dense)
    }


def bit_operations(graph: Graph) -> dict[str, int]:
    """AND gates of the products, each as often as it is used, by node: weights that are not zero *
    output positions * bits of a weight * bits of an input, as `flow.qat.bops` counts them in
    training."""
    bits = given_bits(graph)
    found = {}
    for node in graph.nodes:
        if isinstance(node.op, Conv | Dense):
            products = int(np.count_nonzero(node.op.weight)) * prod(node.output.shape[1:])
            found[node.name] = products * held_bits(node.op.weight) * bits[node.name]
    return found


def given_bits(graph: Graph) -> dict[str, int]:
    """Bits of one input of each node with weights, by node: 1 where they are only -1 and 1."""
    signs: set[str] = set()
    found = {}
    for node in graph.nodes:
        passed = isinstance(node.op, MaxPool | Movement) and not isinstance(node.op, Pad)
        made = isinstance(node.op, Threshold) and node.op.codes.tolist() == [-1, 1]
        if made or (passed and signs.issuperset(node.inputs)):
            signs.add(node.output.name)
        if isinstance(node.op, Conv | Dense):
            source = node.inputs[0]
            found[node.name] = 1 if source in signs else graph.value(source).qtype.bits
    return found


def rounding_bits(graph: Graph) -> dict[str, int]:
    """Half adders that requantizations need in order to round, by node; floor needs none.

    A value that is shifted down is rounded to nearest by adding one to the code or not: the half's
    bit decides, ties look at the bits below it and at the code's last one. The code is clamped
    first, so the incrementer is as wide as the code: one half adder a bit and value. Floor drops
    the bits; that more than truncation costs logic is what AMD's UG1399 says of `AP_RND_CONV`
    against `AP_TRN`. A half adder is an XOR and the AND that `flow.qat.bops` counts.
    """
    return {
        node.name: prod(node.output.shape) * node.op.qtype.bits
        for node in graph.nodes
        if isinstance(node.op, Requant) and _rounds(node.op)
    }


def _rounds(op: Requant) -> bool:
    """Whether some value lies between two codes, and is not simply cut off."""
    whole = all(part.denominator == 1 for part in (*op.scale, *op.offset))
    return op.rounding is not Rounding.FLOOR and not whole
