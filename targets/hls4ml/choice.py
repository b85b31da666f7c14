"""Which of hls4ml's products a layer with signs uses: the cheapest that is exact there."""

from __future__ import annotations

import numpy as np

from flow.errors import Offence
from flow.graph import Node
from flow.ops import Conv, Dense, IntArray
from flow.qtype import QType
from targets.hls4ml.backends import Strategy
from targets.hls4ml.binary import Binary, Choice, Product, is_signs, luts
from targets.hls4ml.layers import Fixed, Kind, Layer
from targets.hls4ml.state import State


def choose(
    state: State, node: Node, source: Layer, weight: IntArray, kind: Kind, *, shifted: bool
) -> Choice | None:
    """How a layer multiplies whose weights or inputs are only -1 and 1; None for others. It is an
    offence where XNOR is asked for and is not exact. `weight` is what hls4ml gets, `shifted`
    whether it carries the binary point of a shift."""
    op = node.op
    signs_in = node.inputs[0] in state.bits.signs
    if not isinstance(op, Dense | Conv) or not (signs_in or is_signs(op.weight)):
        return None
    exact = [Product.SIGN_DATA if source.signs else Product.INTEGER]
    data = state.bits.why_not.get(node.name, "") if signs_in else ""
    weights = weight_obstacle(state, node, weight, kind, source)
    if not weights and source.signs:
        exact.append(Product.XNOR)
    elif not weights and shifted:
        weights = "a shift is part of its weights"
    elif not weights:
        exact.append(Product.SIGN_WEIGHT)
    taken = int(np.prod(weight.shape[1:]))
    given = 2 if signs_in else source.precision["result"].bits
    bits = 1 if source.signs else given, signed_covering(weight).bits
    cost = {product: len(weight) * luts(product, taken, *bits) for product in exact}
    best = min(cost, key=lambda product: cost[product])
    integers = len(weight) * luts(Product.INTEGER, taken, given, bits[1])
    why = "; ".join(dict.fromkeys(reason for reason in (data, weights) if reason))
    asked = state.binary(node.name) is Binary.XNOR and signs_in and is_signs(op.weight)
    if asked and best is not Product.XNOR:  # the layers behind it are looked at all the same
        offence = Offence(
            node.name, f"hls4ml's XNOR is not exact here: {why}", f"set {node.name}.binary=auto"
        )
        state.result.offences.append(offence)
    return Choice(best, cost[best], integers, why)


def weight_obstacle(state: State, node: Node, weight: IntArray, kind: Kind, source: Layer) -> str:
    """Why a layer's weights cannot be bits, or nothing."""
    op = node.op
    assert isinstance(op, Dense | Conv)
    if state.binary(node.name) is Binary.INTEGER:
        return "binary=integer"
    if not is_signs(op.weight):
        return "its weights are no signs"
    if not is_signs(weight):
        return "it is written with zeros in its weights, which have no bit"
    if state.strategy(node.name) is Strategy.DISTRIBUTED_ARITHMETIC:
        return "distributed arithmetic takes the bits for 0 and 1"
    if kind is Kind.CONV and not state.stream and not state.facts.sign_convs:
        return "hls4ml's io_parallel convolution for this backend takes no 1-bit weights"
    if not source.signs:
        return ""
    if kind is Kind.DEPTHWISE:
        return "hls4ml takes the length of a full convolution off a depthwise one's count"
    low, high = state.ends(node.output.name)
    reach = 2 << max((int(np.prod(weight.shape[1:])) - 1).bit_length(), 1)
    if not -reach <= low <= high < reach:
        return "its bias is beyond the type of hls4ml's XNOR"
    return ""


def counted(bias: IntArray, taken: int) -> tuple[IntArray, int, Fixed]:
    """XNOR's result is 2*count - taken: the bias, halved, its binary point, and the type of the
    count that starts with it."""
    point = int((bias % 2).any())
    halves = bias if point else bias // 2
    reach = QType.covering(int(halves.min()), int(halves.max()) + (taken << point))
    return halves, point, Fixed.of(reach, point)


def signed_covering(values: IntArray) -> QType:
    """A signed type of at least 2 bits: hls4ml has special products for narrower ones."""
    return QType.covering(min(int(values.min()), -2), int(values.max()))
