"""Sums of products: dense, convolution, addition and multiplication of activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import UsageError
from flow.ops.base import Bounds, IntArray, Kernel, Op, Shape, check_accumulator, full
from flow.ops.windows import pad, window_extents, windows_of

# Sums up to these magnitudes are exact in float32 and float64, so BLAS may do them.
_EXACT32, _EXACT64 = 1 << 24, 1 << 53


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


def _weighted_bounds(weight: IntArray, low: IntArray, high: IntArray, bias: IntArray) -> Bounds:
    """Bounds of sum_k weight[o, k] * x[k] + bias[o] for low[k] <= x[k] <= high[k]."""
    # Python integers: this is where an overflow would go unseen.
    exact = weight.astype(object)
    upper = np.maximum(exact, 0)
    lower = np.minimum(exact, 0)
    lo, hi = low.astype(object), high.astype(object)
    least = upper @ lo + lower @ hi + bias.astype(object)
    most = upper @ hi + lower @ lo + bias.astype(object)
    check_accumulator(least, most)
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

    def output_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        if shape != (self.weight.shape[1],):
            raise UsageError(f"its weight takes {self.weight.shape[1]} inputs, not shape {shape}")
        return (self.weight.shape[0],)

    def bounds(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Bounds:
        low, high = (full(b, shapes[0][0]) for b in bounds[0])
        return _weighted_bounds(self.weight, low, high, self.bias)

    def kernel(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Kernel:
        low, high = (full(b, shapes[0][0]) for b in bounds[0])
        limit = _largest_sum(self.weight, low, high, self.bias)
        return _matmul(self.weight, self.bias, limit)[0]

    def macs(self, *shapes: Shape) -> int:
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

    @property
    def depthwise(self) -> bool:
        """Whether each output sees one channel of several, whose outputs may be more than one."""
        return self.groups > 1 and self.weight.shape[1] == 1

    def ungrouped(self) -> IntArray:
        """The weight as that of one group, (out, in, kh, kw), zero between groups."""
        if self.groups == 1:
            return self.weight
        outs, taken, *taps = self.weight.shape
        whole = np.zeros((outs, taken * self.groups, *taps), dtype=np.int64)
        each = outs // self.groups
        for group in range(self.groups):
            rows = slice(group * each, (group + 1) * each)
            whole[rows, group * taken : (group + 1) * taken] = self.weight[rows]
        return whole

    def output_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        if len(shape) != 3:
            raise UsageError(f"a convolution needs a (C, H, W) input, not shape {shape}")
        outs, ins = self.weight.shape[:2]
        if shape[0] != ins * self.groups or outs % self.groups:
            raise UsageError(
                f"its weight {self.weight.shape} with {self.groups} groups does not fit {shape}"
            )
        height, width = window_extents(
            shape, self.weight.shape[2:], self.stride, self.pads, self.dilation
        )
        return (outs, height, width)

    def bounds(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Bounds:
        low, high = (full(b, shapes[0][0]) for b in bounds[0])
        if any(self.pads):
            low, high = np.minimum(low, self.pad_value), np.maximum(high, self.pad_value)
        lows, highs = [], []
        for weight, lo, hi, bias in self._groups(low, high):
            least, most = _weighted_bounds(weight, lo, hi, bias)
            lows.append(least)
            highs.append(most)
        return np.concatenate(lows), np.concatenate(highs)

    def kernel(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Kernel:
        outs, height, width = self.output_shape(*shapes)
        low, high = (full(b, shapes[0][0]) for b in bounds[0])
        low, high = np.minimum(low, self.pad_value), np.maximum(high, self.pad_value)
        groups = self._groups(low, high)
        limit = max(_largest_sum(weight, lo, hi, bias) for weight, lo, hi, bias in groups)
        multiplies = [_matmul(weight, bias, limit) for weight, _, _, bias in groups]
        dtype, taken = multiplies[0][1], shapes[0][0] // self.groups

        def convolve(x: IntArray) -> IntArray:
            padded = pad(x.astype(dtype), self.pads, self.pad_value)
            windows = windows_of(padded, self.weight.shape[2:], self.stride, self.dilation)
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

    def macs(self, *shapes: Shape) -> int:
        _, height, width = self.output_shape(*shapes)
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
class Add(Op):
    """y = sum_i multipliers[i] * x_i + bias, element by element: activations on one common grid."""

    name = "add"
    multipliers: tuple[int, ...]
    bias: int = 0

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) != len(self.multipliers) or len(set(shapes)) != 1:
            raise UsageError(
                f"it adds {len(self.multipliers)} inputs of one shape, not "
                f"{', '.join(map(str, shapes))}"
            )
        return shapes[0]

    def bounds(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Bounds:
        low = high = np.full(shapes[0][0], self.bias, dtype=object)
        for factor, pair in zip(self.multipliers, bounds, strict=True):
            ends = [full(b, shapes[0][0]).astype(object) * factor for b in pair]
            low, high = low + np.minimum(*ends), high + np.maximum(*ends)
        check_accumulator(low, high)
        return low.astype(np.int64), high.astype(np.int64)

    def kernel(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Kernel:
        def add(*xs: IntArray) -> IntArray:
            total: IntArray = np.full_like(xs[0], self.bias)
            for factor, x in zip(self.multipliers, xs, strict=True):
                total += factor * x
            return total

        return add


@dataclass(frozen=True, eq=False)
class Mul(Op):
    """y = (x_0 - zeros[0]) * (x_1 - zeros[1]), element by element."""

    name = "mul"
    zeros: tuple[int, int] = (0, 0)

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) != 2 or shapes[0] != shapes[1]:
            raise UsageError(
                f"it multiplies two inputs of one shape, not {', '.join(map(str, shapes))}"
            )
        return shapes[0]

    def bounds(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Bounds:
        (a, b), (c, d) = (
            [full(end, shapes[0][0]).astype(object) - zero for end in pair]
            for pair, zero in zip(bounds, self.zeros, strict=True)
        )
        products = np.array([a * c, a * d, b * c, b * d])
        low, high = products.min(axis=0), products.max(axis=0)
        check_accumulator(low, high)
        return low.astype(np.int64), high.astype(np.int64)

    def kernel(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Kernel:
        first, second = self.zeros
        return lambda x, y: (x - first) * (y - second)

    def macs(self, *shapes: Shape) -> int:
        return int(np.prod(shapes[0]))
