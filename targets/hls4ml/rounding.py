"""How hls4ml does a Requant: a cast that rounds and saturates, or a proven multiplier before it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flow.graph import Graph, Node
from flow.ops import Requant
from flow.qtype import QType
from flow.requant import Form, Rounding, common_forms, exact_form
from targets.hls4ml.layers import Fixed


def uniform_shift(
    graph: Graph, node: Node, op: Requant, *, narrow: bool
) -> tuple[int, Fixed] | None:
    """(binary point, result type) where the Requant divides every channel by one power of two."""
    if len(set(op.scale)) > 1 or any(op.offset) or op.zero_point:
        return None
    form = exact_form(op.rules(1)[0])
    if form is None or form.width != 1 or form.multiplier < 0:
        return None
    mode = "RND_CONV" if form.rounding is Rounding.HALF_EVEN else "TRN"
    result = saturating(graph, node, op, mode, narrow=narrow)
    point = form.shift - (form.multiplier.bit_length() - 1)
    return None if result is None else (point, result)


def saturating(graph: Graph, node: Node, op: Requant, mode: str, *, narrow: bool) -> Fixed | None:
    """The type whose saturation is the Requant's clamp, or None where no ap_fixed has it, or one
    of 1 bit unless `narrow`."""
    low, high = op.low, op.high
    typed = narrow or high - low > 1
    if typed and low == 0 and high & (high + 1) == 0 and high:
        return Fixed(high.bit_length(), 0, False, f"{mode},SAT")
    signed = QType(high.bit_length() + 1, signed=True)
    if typed and (low, high) == (signed.low, signed.high):
        return Fixed.of(signed, 0, f"{mode},SAT")
    if (low, high) == (signed.low + 1, signed.high) and high:
        return Fixed.of(signed, 0, f"{mode},SAT_SYM")
    # An odd clamp does no harm where the reachable accumulators never run into it.
    reach = _unclamped(graph, node, op)
    if low <= reach[0] and reach[1] <= high:
        reached = QType.covering(*reach)
        bits = reached.bits if narrow else max(reached.bits, 2)
        return Fixed(bits, 0, reached.signed, f"{mode},SAT")
    return None


def _unclamped(graph: Graph, node: Node, op: Requant) -> tuple[int, int]:
    """Codes that the Requant would reach without its clamp, over the reachable accumulators."""
    wide = replace(op, low=-(1 << 62), high=1 << 62)
    channels = graph.value(node.inputs[0]).shape[0]
    lows, highs = (np.broadcast_to(b, channels) for b in graph.bounds[node.inputs[0]])
    ends = [
        rule.code(int(acc))
        for rule, low, high in zip(wide.rules(channels), lows, highs, strict=True)
        for acc in (low, high)
    ]
    return min(ends), max(ends)


def cheapest(graph: Graph, node: Node, op: Requant) -> tuple[Form, ...] | None:
    """Per channel the form of a scale layer, all with one shift and one rounding: the exact scale
    where it is a fraction over a power of two, or a proven floor form, whichever is narrower."""
    channels = graph.value(node.inputs[0]).shape[0]
    rules = op.rules(channels)
    steps = op.steps(channels, graph.bounds[node.inputs[0]])
    floors = common_forms(steps, [rule.scale for rule in rules])
    exact = _aligned([exact_form(rule) for rule in rules])
    candidates = [forms for forms in (floors, exact) if forms is not None]
    if not candidates:
        return None
    best = min(candidates, key=lambda forms: max(form.width for form in forms))
    unproven = [c for c, (f, s) in enumerate(zip(best, steps, strict=True)) if not f.proven(s)]
    if unproven:
        raise AssertionError(f"{node.name}: channels {unproven}: the chosen form is not proven")
    return best


def _aligned(forms: list[Form | None]) -> tuple[Form, ...] | None:
    """The forms with their largest shift, where all exist and round alike."""
    found = [form for form in forms if form is not None]
    if len(found) != len(forms) or len({form.rounding for form in found}) != 1:
        return None
    shift = max(form.shift for form in found)
    return tuple(
        Form(
            form.multiplier << (shift - form.shift),
            form.offset << (shift - form.shift),
            shift,
            form.rounding,
        )
        for form in found
    )
