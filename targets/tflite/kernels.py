"""A kernel is a product and the requantization behind it: its constants, found and proven."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from flow.graph import Node, Value
from flow.layout import Layout
from flow.ops import IntArray, Relu, Requant, Shape, Threshold
from flow.ops.base import full
from flow.requant import Rounding, Rule, Steps
from targets.tflite.model import Activation, Tensor
from targets.tflite.state import (
    INT8_HIGH,
    INT8_LOW,
    Refused,
    State,
)

MAX_WEIGHT = 127  # the format leaves out -128, so that kernels may add two products in 16 bits
CODES = 256


@dataclass(frozen=True, eq=False)
class Constants:
    """What a kernel gets besides its input, one row or entry per output channel."""

    weight: IntArray
    bias: IntArray
    scale: NDArray[np.float32]
    activation: Activation


@dataclass(frozen=True, eq=False)
class Product:
    """sum_k rows[c, k] * (number[k] - zero-point) + bias[c] is the graph's accumulator of channel
    c, whose entries lie in the result as `layout` says; `emit` writes the operator that gives
    `output` with the constants it is given. `room` bounds the weights that it may get."""

    rows: IntArray
    bias: IntArray
    source: Tensor
    layout: Layout
    emit: Callable[[Constants, Tensor], None]
    room: int = MAX_WEIGHT
    shape: Shape | None = None  # of the operator's result, where it is not the value's
    depthwise: bool = False  # one row for each channel, and the arithmetic of such operators


@dataclass(frozen=True, eq=False)
class Goal:
    """The codes low..high that a kernel has to give: per channel the steps, and the nominal codes
    per accumulator. `bases` are codes that the kernel's 0 may stand for, the natural one first."""

    value: Value
    steps: tuple[Steps, ...]
    slopes: tuple[float, ...]
    low: int
    high: int
    bases: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Representation:
    """How codes low..high lie in int8 so that the kernel's own clamp is theirs: number = code +
    zero; the kernel's 0 is the code `base`."""

    base: int
    zero: int
    activation: Activation
    scale: float | None  # of the output, where the clamp dictates it


def representation(base: int, low: int, high: int) -> Representation:
    """Codes low..high with `base` (one of them) for the kernel's 0.

    One end is held by int8's own end. The other is held by RELU, which clamps at the zero-point, or
    by RELU_N1_TO_1, whose 1 is `reach` codes with an output scale of 1/reach.
    """
    if high - low == CODES - 1:
        return Representation(base, INT8_LOW - low, Activation.NONE, None)
    if base == low:
        return Representation(base, INT8_HIGH - high, Activation.RELU, None)
    upper = 2 * base >= low + high
    reach = base - low if upper else high - base
    zero = INT8_HIGH - high if upper else INT8_LOW - low
    return Representation(base, zero, Activation.RELU_N1_TO_1, float(np.float32(1 / reach)))


def goal(state: State, node: Node) -> Goal:
    """What a Requant, Relu or Threshold wants of the kernel before it.

    Raises:
        Refused: more than 256 codes.
    """
    source = state.graph.value(node.inputs[0])
    channels, op = source.shape[0], node.op
    bounds = state.graph.bounds[source.name]
    if isinstance(op, Requant):
        low, high = op.low, op.high
        if high - low >= CODES:  # the clamp may be wider than what is reached
            low, high = state.ends(node.output.name)
        op = replace(op, low=low, high=high)
        steps = op.steps(channels, bounds)
        slopes = tuple(abs(float(s)) for s in (op.scale * channels)[:channels])
        natural = (op.zero_point,) if not op.zero_inside else ()
        made = Goal(node.output, steps, slopes, low, high, (*natural, 0))
    elif isinstance(op, Relu):
        made = _ramp(state, node.output, source.name)
    else:
        assert isinstance(op, Threshold)
        made = _staircase(node, op, channels, bounds)
    _check_codes(made)
    return made


def identity(state: State, value: Value) -> Goal:
    """The codes of a value themselves."""
    made = _ramp(state, value, value.name)
    _check_codes(made)
    return made


def aligned_goal(state: State, value: Value, low: int, high: int) -> Goal:
    """The codes of a value in the representation of codes low..high."""
    return replace(_ramp(state, value, value.name, (low, high)), bases=(low,))


def _ramp(state: State, value: Value, source: str, clamp: tuple[int, int] | None = None) -> Goal:
    """Codes that are the accumulators, clamped to what the value can be."""
    low, high = clamp or state.ends(value.name)
    rule = Rule(Fraction(1), Fraction(0), Rounding.FLOOR, 0, True, low, high)
    channels = value.shape[0]
    lows, highs = (full(b, channels) for b in state.graph.bounds[source])
    if high - low >= CODES:
        raise _too_many(low, high)
    kept: dict[tuple[int, int], Steps] = {}
    for pair in zip(lows.tolist(), highs.tolist(), strict=True):
        if pair not in kept:
            kept[pair] = rule.steps(*pair)
    steps = tuple(kept[pair] for pair in zip(lows.tolist(), highs.tolist(), strict=True))
    return Goal(value, steps, (1.0,) * channels, low, high)


def _staircase(node: Node, op: Threshold, channels: int, bounds: tuple[IntArray, IntArray]) -> Goal:
    low, high = int(op.codes[0]), int(op.codes[-1])
    lows, highs = (full(b, channels) for b in bounds)
    steps, slopes = [], []
    for channel, (least, most) in enumerate(zip(lows.tolist(), highs.tolist(), strict=True)):
        cuts = op.cuts[channel if len(op.cuts) > 1 else 0]
        every = np.repeat(cuts, np.diff(op.codes))
        reached = every[(every > least) & (every <= most)]
        first = low + int((every <= least).sum())
        steps.append(Steps(False, first, reached, least, most, low, high))
        spread = int(every[-1] - every[0]) if len(every) else 0
        slopes.append((len(every) - 1) / spread if spread else float(max(len(every), 1)))
    return Goal(node.output, tuple(steps), tuple(slopes), low, high, (low,))


def _check_codes(made: Goal) -> None:
    if made.high - made.low >= CODES:
        raise _too_many(made.low, made.high)


def _too_many(low: int, high: int) -> Refused:
    return Refused(
        f"its codes go from {low} to {high}, int8 holds {CODES}",
        "quantize it to 8 bits or fewer, or let it be the network's output",
    )
