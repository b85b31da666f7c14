"""The closed set of operations of the integer graph: one class per op is one row of the table.

Every op says what shape it gives, which integers it can give (interval arithmetic over its actual
constants), what it computes, and what it costs. Shapes are without the batch, the channel is
axis 0. Activations are int64 arrays (n, *shape); `Bounds` are (low, high) int64 arrays of one entry
per channel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flow.errors import UsageError
from flow.qtype import QType
from flow.requant import Rounding, Rule, Steps

IntArray = NDArray[np.int64]
Shape = tuple[int, ...]
Bounds = tuple[IntArray, IntArray]
Kernel = Callable[[IntArray], IntArray]

# Sums up to these magnitudes are exact in float32 and float64, so BLAS may do them.
_EXACT32, _EXACT64 = 1 << 24, 1 << 53
# Requantizations of shorter accumulator ranges are tabulated.
_TABLE_SPAN = 1 << 16


@dataclass(frozen=True, eq=False)
class Op(ABC):
    """An operation with its constants. `name` is the row's name in the table and in JSON."""

    name: ClassVar[str]

    @abstractmethod
    def output_shape(self, shape: Shape) -> Shape:
        """The output's shape. Raises UsageError, without naming the node, if it does not fit."""

    @abstractmethod
    def bounds(self, shape: Shape, bounds: Bounds) -> Bounds:
        """The integers that the output can hold, per output channel."""

    @abstractmethod
    def kernel(self, shape: Shape, bounds: Bounds) -> Kernel:
        """The reference meaning, as a function of x (n, *shape) with entries inside `bounds`, which
        choose the fastest arithmetic that is exact. What can be done once is done here."""

    def macs(self, shape: Shape) -> int:
        """Multiply-accumulates of one inference; `shape` is the input's."""
        return 0


def _full(values: IntArray, channels: int) -> IntArray:
    return np.broadcast_to(values, (channels,)) if values.size == 1 else values


def _matmul(weight: IntArray, bias: IntArray, limit: int) -> tuple[Kernel, np.dtype[Any]]:
    """x (n, k) to x @ weight.T + bias, exact, and the dtype in which x is best given; no partial
    sum exceeds `limit` in magnitude."""
    dtype = np.dtype(
        np.float32 if limit < _EXACT32 else np.float64 if limit < _EXACT64 else np.int64
    )
    turned: NDArray[Any] = weight.astype(dtype).T
    added: NDArray[Any] = bias.astype(dtype)

    def multiply(x: IntArray) -> IntArray:
        product: IntArray = (x.astype(dtype, copy=False) @ turned + added).astype(np.int64)
        return product

    return multiply, dtype


def _check_accumulator(low: Any, high: Any) -> None:
    if int(min(low)) < -(1 << 62) or int(max(high)) >= 1 << 62:
        raise UsageError(
            "its accumulator needs more than 63 bits; use fewer bits or narrower layers"
        )


def _weighted_bounds(weight: IntArray, low: IntArray, high: IntArray, bias: IntArray) -> Bounds:
    """Bounds of sum_k weight[o, k] * x[k] + bias[o] for low[k] <= x[k] <= high[k]."""
    # Python integers: this is where an overflow would go unseen.
    exact = weight.astype(object)
    upper = np.maximum(exact, 0)
    lower = np.minimum(exact, 0)
    lo, hi = low.astype(object), high.astype(object)
    least = upper @ lo + lower @ hi + bias.astype(object)
    most = upper @ hi + lower @ lo + bias.astype(object)
    _check_accumulator(least, most)
    return least.astype(np.int64), most.astype(np.int64)


def _largest_sum(weight: IntArray, low: IntArray, high: IntArray, bias: IntArray) -> int:
    """An upper bound on the magnitude of every partial sum, in any order."""
    reach = np.maximum(np.abs(low), np.abs(high)).astype(np.float64)
    sums = np.abs(weight).astype(np.float64) @ reach + np.abs(bias)
    return int(sums.max() * (1 + 1e-9)) + 1


@dataclass(frozen=True, eq=False)
class Dense(Op):
    """y[o] = sum_i weight[o, i] * x[i] + bias[o]; weight (out, in), bias (out,)."""

    name = "dense"
    weight: IntArray
    bias: IntArray

    def output_shape(self, shape: Shape) -> Shape:
        if shape != (self.weight.shape[1],):
            raise UsageError(f"its weight takes {self.weight.shape[1]} inputs, not shape {shape}")
        return (self.weight.shape[0],)

    def bounds(self, shape: Shape, bounds: Bounds) -> Bounds:
        low, high = (_full(b, shape[0]) for b in bounds)
        return _weighted_bounds(self.weight, low, high, self.bias)

    def kernel(self, shape: Shape, bounds: Bounds) -> Kernel:
        low, high = (_full(b, shape[0]) for b in bounds)
        limit = _largest_sum(self.weight, low, high, self.bias)
        return _matmul(self.weight, self.bias, limit)[0]

    def macs(self, shape: Shape) -> int:
        return int(self.weight.size)


@dataclass(frozen=True, eq=False)
class Conv(Op):
    """2-D convolution (cross-correlation, as ONNX Conv).

    Weight is (out, in/groups, kh, kw), bias (out,), `pads` (top, left, bottom, right); padding
    holds the integer `pad_value`, which stands for 0.
    """

    name = "conv"
    weight: IntArray
    bias: IntArray
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    pad_value: int = 0

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 3:
            raise UsageError(f"a convolution needs a (C, H, W) input, not shape {shape}")
        outs, ins = self.weight.shape[:2]
        if shape[0] != ins * self.groups or outs % self.groups:
            raise UsageError(
                f"its weight {self.weight.shape} with {self.groups} groups does not fit {shape}"
            )
        height, width = _window_extents(
            shape, self.weight.shape[2:], self.stride, self.pads, self.dilation
        )
        return (outs, height, width)

    def bounds(self, shape: Shape, bounds: Bounds) -> Bounds:
        low, high = (_full(b, shape[0]) for b in bounds)
        if any(self.pads):
            low, high = np.minimum(low, self.pad_value), np.maximum(high, self.pad_value)
        lows, highs = [], []
        for weight, lo, hi, bias in self._groups(low, high):
            least, most = _weighted_bounds(weight, lo, hi, bias)
            lows.append(least)
            highs.append(most)
        return np.concatenate(lows), np.concatenate(highs)

    def kernel(self, shape: Shape, bounds: Bounds) -> Kernel:
        outs, height, width = self.output_shape(shape)
        low, high = (_full(b, shape[0]) for b in bounds)
        low, high = np.minimum(low, self.pad_value), np.maximum(high, self.pad_value)
        groups = self._groups(low, high)
        limit = max(_largest_sum(weight, lo, hi, bias) for weight, lo, hi, bias in groups)
        multiplies = [_matmul(weight, bias, limit) for weight, _, _, bias in groups]
        dtype, taken = multiplies[0][1], shape[0] // self.groups

        def convolve(x: IntArray) -> IntArray:
            padded = _pad(x.astype(dtype), self.pads, self.pad_value)
            windows = _windows(padded, self.weight.shape[2:], self.stride, self.dilation)
            columns = windows.transpose(0, 2, 3, 1, 4, 5)  # (n, oh, ow, C, kh, kw)
            parts = [
                multiply(columns[:, :, :, i * taken : (i + 1) * taken].reshape(-1, len_in))
                for i, ((multiply, _), len_in) in enumerate(
                    zip(multiplies, [w.shape[1] for w, _, _, _ in groups], strict=True)
                )
            ]
            out = np.concatenate(parts, axis=1).reshape(len(x), height, width, outs)
            return np.ascontiguousarray(out.transpose(0, 3, 1, 2))

        return convolve

    def macs(self, shape: Shape) -> int:
        _, height, width = self.output_shape(shape)
        return int(self.weight.size) * height * width

    def _groups(
        self, low: IntArray, high: IntArray
    ) -> list[tuple[IntArray, IntArray, IntArray, IntArray]]:
        """Per group: weight as (out, in*kh*kw), bounds of each of those inputs, bias."""
        taps = self.weight.shape[2] * self.weight.shape[3]
        return [
            (weight.reshape(len(weight), -1), np.repeat(lo, taps), np.repeat(hi, taps), bias)
            for weight, lo, hi, bias in zip(
                np.split(self.weight, self.groups),
                np.split(low, self.groups),
                np.split(high, self.groups),
                np.split(self.bias, self.groups),
                strict=True,
            )
        ]


@dataclass(frozen=True, eq=False)
class MaxPool(Op):
    """2-D max-pool; `pads` is (top, left, bottom, right), padding never wins."""

    name = "max_pool"
    window: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 3:
            raise UsageError(f"max-pool needs a (C, H, W) input, not shape {shape}")
        if max(self.pads) >= min(self.window):
            raise UsageError(
                f"its padding {self.pads} must be smaller than its window {self.window}"
            )
        extents = _window_extents(shape, self.window, self.stride, self.pads, (1, 1))
        return (shape[0], *extents)

    def bounds(self, shape: Shape, bounds: Bounds) -> Bounds:
        return bounds

    def kernel(self, shape: Shape, bounds: Bounds) -> Kernel:
        lowest = int(np.iinfo(np.int64).min)

        def pool(x: IntArray) -> IntArray:
            windows = _windows(_pad(x, self.pads, lowest), self.window, self.stride, (1, 1))
            return np.ascontiguousarray(windows.max(axis=(4, 5)))

        return pool


@dataclass(frozen=True, eq=False)
class Flatten(Op):
    """(C, H, W) to (C*H*W,), channel first."""

    name = "flatten"

    def output_shape(self, shape: Shape) -> Shape:
        return (int(np.prod(shape)),)

    def bounds(self, shape: Shape, bounds: Bounds) -> Bounds:
        repeats = int(np.prod(shape[1:]))
        low, high = (_full(b, shape[0]).repeat(repeats) for b in bounds)
        return low, high

    def kernel(self, shape: Shape, bounds: Bounds) -> Kernel:
        return lambda x: x.reshape(len(x), -1)


@dataclass(frozen=True, eq=False)
class Relu(Op):
    """max(x, zero), for a ReLU that no quantizer follows; the integer `zero` stands for 0."""

    name = "relu"
    zero: int = 0

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def bounds(self, shape: Shape, bounds: Bounds) -> Bounds:
        low, high = bounds
        return np.maximum(low, self.zero), np.maximum(high, self.zero)

    def kernel(self, shape: Shape, bounds: Bounds) -> Kernel:
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

    def output_shape(self, shape: Shape) -> Shape:
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
        low, high = (_full(b, channels) for b in bounds)
        return tuple(
            rule.steps(int(lo), int(hi))
            for rule, lo, hi in zip(self.rules(channels), low, high, strict=True)
        )

    def bounds(self, shape: Shape, bounds: Bounds) -> Bounds:
        low, high = (_full(b, shape[0]) for b in bounds)
        ends = [
            (rule.code(int(lo)), rule.code(int(hi)))
            for rule, lo, hi in zip(self.rules(shape[0]), low, high, strict=True)
        ]
        return (
            np.array([min(pair) for pair in ends], dtype=np.int64),
            np.array([max(pair) for pair in ends], dtype=np.int64),
        )

    def kernel(self, shape: Shape, bounds: Bounds) -> Kernel:
        low, high = (_full(b, shape[0]) for b in bounds)
        steps = self.steps(shape[0], bounds)
        if int((high - low).max()) < _TABLE_SPAN:
            return _table_kernel(steps, low, high)

        def count(x: IntArray) -> IntArray:
            out = np.empty_like(x)
            for channel, step in enumerate(steps):
                out[:, channel] = step.apply(x[:, channel])
            return out

        return count


def _table_kernel(steps: tuple[Steps, ...], low: IntArray, high: IntArray) -> Kernel:
    """Requantization by one look-up, for accumulators of a short range."""
    span = int((high - low).max()) + 1
    table = np.zeros((len(steps), span), dtype=np.int64)
    for channel, step in enumerate(steps):
        reachable = np.arange(low[channel], high[channel] + 1)
        table[channel, : len(reachable)] = step.apply(reachable)
    flat, start = table.reshape(-1), np.arange(len(steps)) * span - low

    def look_up(x: IntArray) -> IntArray:
        return flat[x + start.reshape(-1, *[1] * (x.ndim - 2))]

    return look_up


OPS: dict[str, type[Op]] = {op.name: op for op in (Dense, Conv, MaxPool, Flatten, Relu, Requant)}


def _window_extents(
    shape: Shape,
    kernel: tuple[int, ...],
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
    dilation: tuple[int, int],
) -> tuple[int, int]:
    extents = []
    for axis in range(2):
        span = (kernel[axis] - 1) * dilation[axis] + 1
        room = shape[1 + axis] + pads[axis] + pads[axis + 2] - span
        if room < 0:
            raise UsageError(f"its window of {span} is larger than its padded input {shape}")
        extents.append(room // stride[axis] + 1)
    return extents[0], extents[1]


def _pad(x: IntArray, pads: tuple[int, int, int, int], value: int) -> IntArray:
    if not any(pads):
        return x
    top, left, bottom, right = pads
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def _windows(
    x: IntArray, kernel: tuple[int, ...], stride: tuple[int, int], dilation: tuple[int, int]
) -> IntArray:
    """All windows of x (n, C, H, W), as a view (n, C, oh, ow, kh, kw)."""
    span = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    view: IntArray = np.lib.stride_tricks.sliding_window_view(x, span, (2, 3))  # type: ignore[call-overload]
    return view[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
