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
from targets.tflite.model import Activation, DType, Kind, Tensor
from targets.tflite.state import Refused, State

MAX_WEIGHT = 127  # the format leaves out -128, so that kernels may add two products in 16 bits


@dataclass(frozen=True, eq=False)
class Constants:
    """What a kernel gets besides its input, one row or entry per output channel."""

    weight: IntArray
    bias: IntArray
    scale: NDArray[np.float32]
    activation: Activation
    bias_type: DType


@dataclass(frozen=True, eq=False)
class Product:
    """sum_k rows[c, k] * (number[k] - zero-point) + bias[c] is the graph's accumulator of channel
    c, whose entries lie in the result as `layout` says; `emit` writes the operator that gives
    `output`, of this `kind`, with the constants it is given. `room` bounds the weights that it may
    get. `dense` gives the same sums as a dense layer, None where that would be too large."""

    rows: IntArray
    bias: IntArray
    source: Tensor
    layout: Layout
    emit: Callable[[Constants, Tensor], None]
    kind: Kind
    largest: int  # magnitude of the numbers that it takes
    room: int = MAX_WEIGHT
    shape: Shape | None = None  # of the operator's result, where it is not the value's
    dense: Callable[[], Product | None] | None = None
    place: IntArray | None = None  # the order of channels in the result, where it is not theirs

    @property
    def spans(self) -> IntArray:
        """What each row's sum, and any part of it, may reach in magnitude."""
        spans: IntArray = abs(self.rows).sum(axis=1) * self.largest + abs(self.bias)
        return spans


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
    """How codes low..high lie in a tensor: number = code + zero; the kernel's 0 is the code `base`.
    If `clamped`, the kernel's own clamp is theirs."""

    base: int
    zero: int
    activation: Activation
    scale: float | None  # of the output, where the clamp dictates it
    clamped: bool = True


def representation(base: int, low: int, high: int, held: DType) -> Representation:
    """Codes low..high with `base` (one of them) for the kernel's 0.

    In int8 one end is held by int8's own end. The other is held by RELU, which clamps at the
    zero-point, or by RELU_N1_TO_1, whose 1 is `reach` codes with an output scale of 1/reach.
    """
    if held is DType.INT16:
        return _representation16(base, base - low, high - base)
    if high - low == held.codes - 1:
        return Representation(base, held.low - low, Activation.NONE, None)
    if base == low:
        return Representation(base, held.high - high, Activation.RELU, None)
    upper = 2 * base >= low + high
    reach = base - low if upper else high - base
    zero = held.high - high if upper else held.low - low
    return Representation(base, zero, Activation.RELU_N1_TO_1, float(np.float32(1 / reach)))


def _representation16(base: int, down: int, up: int) -> Representation:
    """`base`, and how many codes there are below and above it. Int16 tensors have no zero-point, so
    that the kernel's 0 is the number 0: RELU6 clamps at it and above it, RELU_N1_TO_1 as far from
    it on either side. What none of them is cannot be clamped, which mostly need not be."""
    held = DType.INT16
    if (down, up) == (-held.low, held.high):
        return Representation(base, -base, Activation.NONE, None)
    if down == 0 < up <= held.high:
        return Representation(base, -base, Activation.RELU6, float(np.float32(6 / up)))
    if down == up > 0:
        return Representation(base, -base, Activation.RELU_N1_TO_1, float(np.float32(1 / up)))
    return Representation(base, -base, Activation.NONE, None, clamped=False)


def bases(goal: Goal, held: DType) -> tuple[int, ...]:
    """Codes that the kernel's 0 may stand for, the preferred first."""
    natural = [base for base in goal.bases if goal.low <= base <= goal.high]
    last = lowest(goal, held)
    if last != goal.low:
        return (last,)
    clamped = [b for b in natural if representation(b, goal.low, goal.high, held).clamped]
    return tuple(dict.fromkeys((*clamped, last)))


def lowest(goal: Goal, held: DType) -> int:
    """The least code that the kernel's 0 may stand for: int16 has as many numbers below it as
    above."""
    wide = held is DType.INT16 and goal.high - goal.low > held.high
    return goal.low - held.low if wide else goal.low


def goal(state: State, node: Node) -> Goal:
    """What a Requant, Relu or Threshold wants of the kernel before it.

    Raises:
        Refused: more codes than the activations' type holds.
    """
    source = state.graph.value(node.inputs[0])
    channels, op = source.shape[0], node.op
    bounds = state.graph.bounds[source.name]
    if isinstance(op, Requant):
        low, high = op.low, op.high
        if high - low >= state.codes.codes:  # the clamp may be wider than what is reached
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
    _check_codes(state, made)
    return made


def identity(state: State, value: Value) -> Goal:
    """The codes of a value themselves."""
    made = _ramp(state, value, value.name)
    _check_codes(state, made)
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
    if high - low >= state.codes.codes:
        raise _too_many(state.codes, low, high)
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


def _check_codes(state: State, made: Goal) -> None:
    if made.high - made.low >= state.codes.codes:
        raise _too_many(state.codes, made.low, made.high)


def _too_many(held: DType, low: int, high: int) -> Refused:
    wider = ", set activations=int16" if held is DType.INT8 and high - low < 1 << 16 else ""
    return Refused(
        f"its codes go from {low} to {high}, int{held.bits} holds {held.codes}",
        f"quantize it to {held.bits} bits or fewer{wider}, or let it be the network's output",
    )
