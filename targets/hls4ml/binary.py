"""Layers whose weights or activations are only -1 and 1: 1-bit products of hls4ml, or integers.

hls4ml has three products with 1-bit types, in which 0 stands for -1. With a bit on both sides
(XNOR) it counts equal bits and makes 2*count - n of them; with one bit it adds or subtracts the
other side. There is no bit for 0: where padding adds zeros, activations stay integers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from flow.graph import Graph, Node
from flow.ops import Conv, Dense, IntArray, MaxPool, Movement, Pad, Threshold
from targets.hls4ml.backends import Facts, Strategy


class Binary(Enum):
    """What is asked for layers of binary weights and activations."""

    AUTO = "auto"
    XNOR = "xnor"
    INTEGER = "integer"


class Product(Enum):
    """How a layer multiplies; the values are for reports."""

    INTEGER = "integers"
    XNOR = "XNOR"
    SIGN_WEIGHT = "1-bit weights, integer activations"
    SIGN_DATA = "1-bit activations, integer weights"


@dataclass(frozen=True)
class Bits:
    """`signs` are the values that are only -1 and 1, `carried` those of them that travel as bits;
    `why_not` says of a layer that is fed with signs why it cannot take bits."""

    signs: frozenset[str]
    carried: frozenset[str]
    why_not: dict[str, str]


@dataclass(frozen=True)
class Choice:
    """How a layer multiplies by signs; the LUTs of it and of the same with integers, see `luts`,
    and why it is not XNOR."""

    product: Product
    luts: int
    integers: int
    why_not: str


def luts(product: Product, inputs: int, data: int, weight: int) -> int:
    """One LUT for every bit of every product, and of every sum in the balanced tree that adds
    them: an upper count where constants are folded, for comparing products with each other."""
    width = {
        Product.INTEGER: data + weight,
        Product.XNOR: 1,
        Product.SIGN_WEIGHT: data + 1,
        Product.SIGN_DATA: weight + 1,
    }[product]
    total, terms = inputs * width, inputs
    while terms > 1:
        width += 1
        total += terms // 2 * width
        terms -= terms // 2
    return total


def is_signs(weight: IntArray) -> bool:
    return bool((np.abs(weight) == 1).all())


def carried_bits(
    graph: Graph,
    facts: Facts,
    strategy: Callable[[str], Strategy],
    binary: Callable[[str], Binary],
) -> Bits:
    """Which values travel as bits: those that are only -1 and 1, where all their readers take
    bits."""
    signs: set[str] = set()
    for node in graph.nodes:
        if makes_signs(node) or (passes_signs(node) and signs.issuperset(node.inputs)):
            signs.add(node.output.name)
    why_not = {}
    for node in graph.nodes:
        if isinstance(node.op, Dense | Conv) and node.inputs[0] in signs:
            reason = obstacle(node.op, facts, strategy(node.name))
            if binary(node.name) is Binary.INTEGER:
                reason = "binary=integer"
            if reason:
                why_not[node.name] = reason
    carried = set(signs)
    while wrong := {name for name in carried if _reader(graph, name, carried, why_not)}:
        carried -= wrong
    for node in graph.nodes:
        if isinstance(node.op, Dense | Conv) and node.inputs[0] in signs - carried:
            reader = _reader(graph, node.inputs[0], carried, why_not)
            why_not.setdefault(node.name, f"its input goes to {reader} too, which takes no bits")
    return Bits(frozenset(signs), frozenset(carried), why_not)


def makes_signs(node: Node) -> bool:
    return isinstance(node.op, Threshold) and node.op.codes.tolist() == [-1, 1]


def passes_signs(node: Node) -> bool:
    """Whether it gives some of its inputs, unchanged; hls4ml pads with 0, which is the bit of -1,
    so that padding never wins a maximum of bits."""
    return isinstance(node.op, MaxPool | Movement) and not isinstance(node.op, Pad)


def obstacle(op: Dense | Conv, facts: Facts, strategy: Strategy) -> str:
    """Why a layer cannot take bits, or nothing."""
    if isinstance(op, Conv) and any(op.pads):
        return "its padding adds zeros, which have no bit"
    if not facts.sign_bits:
        return "hls4ml's headers for this backend cast no sum to a bit"
    if strategy is Strategy.DISTRIBUTED_ARITHMETIC:
        return "distributed arithmetic takes the bits for 0 and 1"
    return ""


def _reader(graph: Graph, name: str, carried: set[str], why_not: dict[str, str]) -> str:
    """Who cannot take the value as bits, or nothing."""
    if name == graph.output.name:
        return "the host"
    for node in graph.nodes:
        if name == node.output.name and passes_signs(node) and not carried.issuperset(node.inputs):
            return node.name
    for node in graph.consumers(name):
        takes = isinstance(node.op, Dense | Conv) and node.name not in why_not
        if not takes and not (passes_signs(node) and node.output.name in carried):
            return node.name
    return ""
