"""Step functions that no multiplier has, as comparators and their sum."""

from __future__ import annotations

import numpy as np

from flow.graph import Node, Value
from flow.ops import (
    IntArray,
    Requant,
    Table,
    Threshold,
)
from flow.qtype import QType
from targets.hls4ml.layers import SIGN, Fixed, Kind, Layer, constant_type
from targets.hls4ml.scale_layer import affine, per_channel
from targets.hls4ml.state import Refused, State

MAX_COMPARATORS = 31  # a step function of more is refused: it is hardware per element


def threshold(state: State, node: Node, op: Threshold, source: Layer) -> None:
    channels = source.layout.shape[0]
    cuts = np.broadcast_to(op.cuts, (channels, op.cuts.shape[1]))
    firsts = np.full(channels, op.codes[0])
    staircase(state, node, source, cuts, np.diff(op.codes), firsts, np.ones(channels, int))


def table(state: State, node: Node, op: Table, source: Layer) -> None:
    """Any function: it changes at some codes, by some step."""
    low, high = state.ends(node.inputs[0])
    entries = op.entries[low - op.low : high - op.low + 1]
    changes = np.flatnonzero(np.diff(entries))
    channels = source.layout.shape[0]
    cuts = np.broadcast_to(low + 1 + changes, (channels, len(changes)))
    firsts = np.full(channels, entries[0])
    deltas = np.diff(entries)[changes]
    staircase(state, node, source, cuts, deltas, firsts, np.ones(channels, int))


def comparators(state: State, node: Node, op: Requant, source: Layer) -> None:
    """A Requant as its steps themselves, where no multiplier has them."""
    channels = source.layout.shape[0]
    steps = op.steps(channels, state.graph.bounds[node.inputs[0]])
    count = max(len(step.cuts) for step in steps)
    never = 1 + max(abs(end) for end in state.ends(node.inputs[0]))
    cuts = np.full((channels, count), never)
    for row, step in zip(cuts, steps, strict=True):
        row[: len(step.cuts)] = step.cuts
    firsts = np.array([step.first for step in steps])
    signs = np.array([-1 if step.falling else 1 for step in steps])
    staircase(state, node, source, cuts, np.ones(count, int), firsts, signs)


def staircase(
    state: State,
    node: Node,
    source: Layer,
    cuts: IntArray,
    deltas: IntArray,
    firsts: IntArray,
    signs: IntArray,
) -> None:
    """first + sum_k deltas[k] * [sign*x >= cuts[channel, k]], with first and sign per channel:
    a comparator a step, and their sum; the comparator alone where the value travels as bits."""
    count = cuts.shape[1]
    if node.output.name in state.bits.carried:
        comparator(state, node.name, source, cuts[:, 0], signs, node.output)
        return
    limit = 1 if state.stream else MAX_COMPARATORS
    if count > limit:
        raise Refused(
            f"hls4ml has no layer that does {node.op.name} here, and as {count} comparators it "
            f"is too large (at most {limit} with this io_type)",
            "use fewer bits, power-of-two scales, or io_type=io_parallel",
        )
    if count == 1 and len(set(firsts.tolist())) == 1:
        layer = comparator(state, f"{node.name}_step0", source, cuts[:, 0], signs)
        first, delta = int(firsts[0]), int(deltas[0])
        low, high = sorted((first, first + delta))
        affine(state, node.name, layer, delta, first, low, high, node.output)
        return
    total: Layer | None = None
    low = high = 0
    for k, delta in enumerate(int(d) for d in deltas):
        layer = comparator(state, f"{node.name}_step{k}", source, cuts[:, k], signs)
        if delta != 1:
            ends = (min(delta, 0), max(delta, 0))
            layer = affine(state, f"{node.name}_by{k}", layer, delta, 0, *ends, None)
        low, high = low + min(delta, 0), high + max(delta, 0)
        if total is None:
            total = layer
            continue
        total = state.append(
            Layer(
                Kind.MERGE,
                f"{node.name}_sum{k}",
                (total.name, layer.name),
                None,
                {"op": "add"},
                {"result": Fixed.of(QType.covering(low, high))},
                source.layout,
            )
        )
    if total is None:
        raise Refused("it is constant", "remove it: its result does not depend on the input")
    ends = (low + int(firsts.min()), high + int(firsts.max()))
    affine(state, node.name, total, 1, firsts, *ends, node.output)


def comparator(
    state: State,
    name: str,
    source: Layer,
    cuts: IntArray,
    signs: IntArray,
    value: Value | None = None,
) -> Layer:
    """[sign*x >= cut] per channel, as floor((sign*x + 2**shift - cut) / 2**shift), which casts
    to 0 or 1: to the bits of `value` where that is given."""
    result = source.precision["result"]
    reach = max(1 << result.bits, int(np.abs(cuts).max()))
    shift = (2 * reach).bit_length()
    unit = 2.0**-shift
    offsets = (1 << shift) - cuts
    return state.append(
        Layer(
            Kind.SCALE,
            name,
            (source.name,),
            None if value is None else value.name,
            per_channel(source, signs * unit, offsets * unit),
            {
                "scale": Fixed.of(QType(2, signed=True), shift),
                "bias": Fixed.of(constant_type(offsets), shift),
                # The cast gives 0 or 1 in each type: `reach` bounds sign*x - cut.
                "result": Fixed(1 if state.facts.narrow else 2, 0, False, "TRN,SAT")
                if value is None
                else SIGN,
            },
            source.layout,
            f"comparator, shift {shift}",
        )
    )
