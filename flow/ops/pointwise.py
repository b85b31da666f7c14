"""One code to one code: ReLU, requantization, thresholds and tables."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import UsageError
from flow.ops.base import Bounds, IntArray, Kernel, Op, Shape, full, uniform
from flow.qtype import QType
from flow.requant import Rounding, Rule, Steps

# Functions of accumulators with a shorter range are tabulated.
_TABLE_SPAN = 1 << 16
_TABLE_ENTRIES = 1 << 22  # of all channels together: 32 MiB


@dataclass(frozen=True, eq=False)
class Relu(Op):
    """max(x, zero), for a ReLU that no quantizer follows; the integer `zero` stands for 0."""

    name = "relu"
    zero: int = 0

    def output_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        return shape

    def bounds(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Bounds:
        low, high = bounds[0]
        return np.maximum(low, self.zero), np.maximum(high, self.zero)

    def kernel(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Kernel:
        return lambda x: np.maximum(x, self.zero)


@dataclass(frozen=True, eq=False)
class Requant(Op):
    """clamp(round(acc*scale + offset)) to low..high; `scale`, `offset` have one entry, or one per
    channel. See `flow.requant` for the exact meaning."""

    name = "requant"
    scale: tuple[Fraction, ...]
    offset: tuple[Fraction, ...]
    qtype: QType
    low: int
    high: int
    rounding: Rounding = Rounding.HALF_EVEN
    zero_point: int = 0
    zero_inside: bool = True

    def output_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        for what, values in (("scale", self.scale), ("offset", self.offset)):
            if len(values) not in (1, shape[0]):
                raise UsageError(f"it has {len(values)} {what}s for {shape[0]} channels")
        if not self.qtype.low <= self.low <= self.high <= self.qtype.high:
            raise UsageError(f"its clamp {self.low}..{self.high} is not inside {self.qtype}")
        return shape

    def rules(self, channels: int) -> tuple[Rule, ...]:
        """The exact rule of every channel."""
        scales = self.scale if len(self.scale) == channels else self.scale * channels
        offsets = self.offset if len(self.offset) == channels else self.offset * channels
        return tuple(
            Rule(
                scale, offset, self.rounding, self.zero_point, self.zero_inside, self.low, self.high
            )
            for scale, offset in zip(scales, offsets, strict=True)
        )

    def steps(self, channels: int, bounds: Bounds) -> tuple[Steps, ...]:
        """The steps of every channel over its own reachable accumulators."""
        low, high = (full(b, channels) for b in bounds)
        if self._uniform(bounds):
            return (self.rules(1)[0].steps(int(low[0]), int(high[0])),) * channels
        return tuple(
            rule.steps(int(lo), int(hi))
            for rule, lo, hi in zip(self.rules(channels), low, high, strict=True)
        )

    def bounds(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Bounds:
        low, high = (full(b, shapes[0][0]) for b in bounds[0])
        if self._uniform(bounds[0]):
            rule = self.rules(1)[0]
            pair = sorted(rule.code(int(end)) for end in (low[0], high[0]))
            return np.full(len(low), pair[0]), np.full(len(low), pair[1])
        ends = [
            (rule.code(int(lo)), rule.code(int(hi)))
            for rule, lo, hi in zip(self.rules(shapes[0][0]), low, high, strict=True)
        ]
        return (
            np.array([min(pair) for pair in ends], dtype=np.int64),
            np.array([max(pair) for pair in ends], dtype=np.int64),
        )

    def _uniform(self, bounds: Bounds) -> bool:
        """Whether all channels are the same function, as behind a Flatten."""
        return len(self.scale) == 1 and len(self.offset) == 1 and uniform(bounds)

    def kernel(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Kernel:
        low, high = (full(b, shapes[0][0]) for b in bounds[0])
        steps = self.steps(shapes[0][0], bounds[0])
        span = int((high - low).max()) + 1
        if self._uniform(bounds[0]):
            if span <= _TABLE_SPAN:
                return _table_kernel(steps[:1], low[:1], high[:1])
            return steps[0].apply
        if span <= _TABLE_SPAN and span * len(steps) <= _TABLE_ENTRIES:
            return _table_kernel(steps, low, high)

        def count(x: IntArray) -> IntArray:
            out = np.empty_like(x)
            for channel, step in enumerate(steps):
                out[:, channel] = step.apply(x[:, channel])
            return out

        return count


def _narrow(values: IntArray) -> NDArray[np.signedinteger[Any]]:
    """The same integers in the fewest bytes."""
    for kind in (np.int8, np.int16, np.int32):
        held = np.iinfo(kind)
        if held.min <= values.min() and values.max() <= held.max:
            return values.astype(kind)
    return values


def _table_kernel(steps: tuple[Steps, ...], low: IntArray, high: IntArray) -> Kernel:
    """Requantization by one look-up, for accumulators of a short range."""
    span = int((high - low).max()) + 1
    table = np.zeros((len(steps), span), dtype=np.int64)
    for channel, step in enumerate(steps):
        reachable = np.arange(low[channel], high[channel] + 1)
        table[channel, : len(reachable)] = step.apply(reachable)
    flat = _narrow(table.reshape(-1))  # so that the processor's cache holds it
    start = np.arange(len(steps)) * span - low

    def look_up(x: IntArray) -> IntArray:
        return flat.take(x + start.reshape(-1, *[1] * (x.ndim - 2))).astype(np.int64)

    return look_up


@dataclass(frozen=True, eq=False)
class Threshold(Op):
    """y = codes[number of cuts that are at most x], per channel: any increasing step function.

    `cuts` is (1, k) or (channels, k), ascending along k; `codes` is (k + 1,), ascending.
    """

    name = "threshold"
    cuts: IntArray
    codes: IntArray

    def output_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        if self.cuts.ndim != 2 or len(self.cuts) not in (1, shape[0]):
            raise UsageError(f"its thresholds {self.cuts.shape} are not per tensor or channel")
        if self.codes.shape != (self.cuts.shape[1] + 1,):
            raise UsageError(f"{self.cuts.shape[1]} thresholds need one code more than they are")
        if (np.diff(self.cuts, axis=1) < 0).any() or (np.diff(self.codes) < 0).any():
            raise UsageError("its thresholds and codes must ascend")
        return shape

    def bounds(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Bounds:
        low, high = (full(b, shapes[0][0])[None] for b in bounds[0])
        step = self.kernel(shapes, bounds)
        return step(low)[0], step(high)[0]

    def kernel(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Kernel:
        if len(self.cuts) == 1:
            return lambda x: self._at(0, x)

        def step(x: IntArray) -> IntArray:
            out = np.empty_like(x)
            for channel in range(x.shape[1]):
                out[:, channel] = self._at(channel, x[:, channel])
            return out

        return step

    def _at(self, channel: int, x: IntArray) -> IntArray:
        found: IntArray = self.codes[np.searchsorted(self.cuts[channel], x, side="right")]
        return found


@dataclass(frozen=True, eq=False)
class Table(Op):
    """y = entries[x - low]: any function of few bits; `entries` (k,) covers every reachable x."""

    name = "table"
    entries: IntArray
    low: int

    def output_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        return shape

    def bounds(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Bounds:
        ends = []
        channels = shapes[0][0]
        same = uniform(bounds[0])
        pairs = [b[:1] if same else b for b in bounds[0]]
        for low, high in zip(*pairs, strict=True):
            reached = self.entries[int(low) - self.low : int(high) - self.low + 1]
            if int(low) < self.low or len(reached) != int(high) - int(low) + 1:
                raise UsageError(f"its table does not cover the reachable {low}..{high}")
            ends.append((reached.min(), reached.max()))
        least, most = np.array([e[0] for e in ends]), np.array([e[1] for e in ends])
        return full(least, channels), full(most, channels)

    def kernel(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Kernel:
        return lambda x: self.entries[x - self.low]
