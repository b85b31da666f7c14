"""Sliding windows over images: extents, padding and views."""

from __future__ import annotations

import numpy as np

from flow.errors import UsageError
from flow.ops.base import IntArray, Shape, check_size


def window_extents(
    shape: Shape,
    kernel: tuple[int, ...],
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
    dilation: tuple[int, int],
) -> tuple[int, int]:
    height, width = (shape[1 + i] + pads[i] + pads[i + 2] for i in range(2))
    check_size((shape[0], height, width))
    extents = []
    for axis in range(2):
        span = (kernel[axis] - 1) * dilation[axis] + 1
        room = shape[1 + axis] + pads[axis] + pads[axis + 2] - span
        if room < 0:
            raise UsageError(f"its window of {span} is larger than its padded input {shape}")
        extents.append(room // stride[axis] + 1)
    return extents[0], extents[1]


def pad(x: IntArray, pads: tuple[int, int, int, int], value: int) -> IntArray:
    if not any(pads):
        return x
    top, left, bottom, right = pads
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def windows_of(
    x: IntArray, kernel: tuple[int, ...], stride: tuple[int, int], dilation: tuple[int, int]
) -> IntArray:
    """All windows of x (n, C, H, W), as a view (n, C, oh, ow, kh, kw)."""
    span = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    view: IntArray = np.lib.stride_tricks.sliding_window_view(x, span, (2, 3))  # type: ignore[call-overload]
    return view[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
