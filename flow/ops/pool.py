"""Pools over windows of an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flow.errors import UsageError
from flow.ops.base import Bounds, IntArray, Kernel, Op, Shape, check_accumulator, full
from flow.ops.windows import pad, window_extents, windows_of


@dataclass(frozen=True, eq=False)
class _Pool(Op):
    """`pads` is (top, left, bottom, right)."""

    window: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    def output_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        if len(shape) != 3:
            raise UsageError(f"a pool needs a (C, H, W) input, not shape {shape}")
        if any(pad >= size for pad, size in zip(self.pads, self.window * 2, strict=True)):
            raise UsageError(
                f"its padding {self.pads} must be smaller than its window {self.window}"
            )
        return (shape[0], *window_extents(shape, self.window, self.stride, self.pads, (1, 1)))


@dataclass(frozen=True, eq=False)
class MaxPool(_Pool):
    """The largest of each window; padding never wins."""

    name = "max_pool"

    def bounds(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Bounds:
        return bounds[0]

    def kernel(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Kernel:
        lowest = int(np.iinfo(np.int64).min)

        def pool(x: IntArray) -> IntArray:
            windows = windows_of(pad(x, self.pads, lowest), self.window, self.stride, (1, 1))
            return np.ascontiguousarray(windows.max(axis=(4, 5)))

        return pool


@dataclass(frozen=True, eq=False)
class SumPool(_Pool):
    """The sum of each window: an average pool whose division is left to the next Requant. Padding
    holds `pad_value`, which stands for 0."""

    name = "sum_pool"
    pad_value: int = 0

    def bounds(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Bounds:
        low, high = (full(b, shapes[0][0]).astype(object) for b in bounds[0])
        if any(self.pads):
            low, high = np.minimum(low, self.pad_value), np.maximum(high, self.pad_value)
        count = self.window[0] * self.window[1]
        check_accumulator(low * count, high * count)
        return (low * count).astype(np.int64), (high * count).astype(np.int64)

    def kernel(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Kernel:
        def pool(x: IntArray) -> IntArray:
            padded = pad(x, self.pads, self.pad_value)
            windows = windows_of(padded, self.window, self.stride, (1, 1))
            return np.ascontiguousarray(windows.sum(axis=(4, 5)))

        return pool
