"""What rounding costs the hardware, counted in the integer graph."""

from __future__ import annotations

from math import prod

from flow.graph import Graph
from flow.ops.pointwise import Requant
from flow.requant import Rounding


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
