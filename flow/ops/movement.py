"""Ops that only move codes: each is an index map, so one base class says what all of them do."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from math import prod

import numpy as np

from flow.errors import UsageError
from flow.ops.base import Bounds, IntArray, Kernel, Op, Shape, check_size, full

FILLED = -1  # in an index map: the entry is `fill`, not one of the input


@dataclass(frozen=True, eq=False)
class Movement(Op):
    """y.flat[j] = x.flat[index[j]], where x holds all inputs, flattened, one after the other."""

    @abstractmethod
    def index(self, *shapes: Shape) -> IntArray:
        """The map, in the output's shape; FILLED marks padding. Raises UsageError."""

    @property
    def fill(self) -> int:
        """The code of padding."""
        return 0

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.index(*shapes).shape

    def bounds(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Bounds:
        index = self.index(*shapes)
        low, high = (
            self._take(
                np.concatenate([_spread(b[end], s) for b, s in zip(bounds, shapes, strict=True)]),
                index,
            )
            for end in (0, 1)
        )
        channels = index.shape[0]
        return low.reshape(channels, -1).min(axis=1), high.reshape(channels, -1).max(axis=1)

    def kernel(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Kernel:
        index = self.index(*shapes)
        if len(shapes) == 1 and np.array_equal(index.reshape(-1), np.arange(prod(shapes[0]))):
            return lambda x: x.reshape(len(x), *index.shape)

        def move(*xs: IntArray) -> IntArray:
            flat = np.concatenate([x.reshape(len(x), -1) for x in xs], axis=1)
            return self._take(flat, index)

        return move

    def _take(self, flat: IntArray, index: IntArray) -> IntArray:
        taken: IntArray = flat[..., index]
        return np.where(index == FILLED, self.fill, taken) if (index == FILLED).any() else taken


def _spread(values: IntArray, shape: Shape) -> IntArray:
    """One entry per channel to one per element."""
    return full(values, shape[0]).repeat(int(np.prod(shape[1:])))


def _places(shape: Shape) -> IntArray:
    check_size(shape)
    return np.arange(prod(shape), dtype=np.int64).reshape(shape)


@dataclass(frozen=True, eq=False)
class Reshape(Movement):
    """The same codes in the same order under another shape."""

    name = "reshape"
    shape: Shape

    def index(self, *shapes: Shape) -> IntArray:
        (shape,) = shapes
        if prod(shape) != prod(self.shape) or not self.shape:
            raise UsageError(f"{shape} cannot be reshaped to {self.shape}")
        return _places(shape).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Flatten(Movement):
    """(C, H, W) to (C*H*W,), channel first."""

    name = "flatten"

    def index(self, *shapes: Shape) -> IntArray:
        (shape,) = shapes
        return _places(shape).reshape(-1)


@dataclass(frozen=True, eq=False)
class Transpose(Movement):
    """Axes in another order; `order` counts without the batch."""

    name = "transpose"
    order: tuple[int, ...]

    def index(self, *shapes: Shape) -> IntArray:
        (shape,) = shapes
        if sorted(self.order) != list(range(len(shape))):
            raise UsageError(f"the order {self.order} does not fit the shape {shape}")
        return _places(shape).transpose(self.order)


@dataclass(frozen=True, eq=False)
class Pad(Movement):
    """`before` and `after` codes of `value` on every axis."""

    name = "pad"
    before: tuple[int, ...]
    after: tuple[int, ...]
    value: int = 0

    @property
    def fill(self) -> int:
        return self.value

    def index(self, *shapes: Shape) -> IntArray:
        (shape,) = shapes
        if not len(self.before) == len(self.after) == len(shape):
            raise UsageError(f"the padding {self.before}, {self.after} does not fit {shape}")
        pairs = list(zip(self.before, self.after, strict=True))
        check_size(tuple(e + b + a for e, (b, a) in zip(shape, pairs, strict=True)))
        return np.pad(_places(shape), pairs, constant_values=FILLED)


@dataclass(frozen=True, eq=False)
class Slice(Movement):
    """start:stop:step on every axis."""

    name = "slice"
    starts: tuple[int, ...]
    stops: tuple[int, ...]
    steps: tuple[int, ...]

    def index(self, *shapes: Shape) -> IntArray:
        (shape,) = shapes
        if not len(self.starts) == len(self.stops) == len(self.steps) == len(shape):
            raise UsageError(f"the slice {self.starts}, {self.stops} does not fit {shape}")
        taken = _places(shape)[
            tuple(slice(*t) for t in zip(self.starts, self.stops, self.steps, strict=True))
        ]
        if taken.size == 0:
            raise UsageError(f"the slice {self.starts}..{self.stops} of {shape} is empty")
        return taken


@dataclass(frozen=True, eq=False)
class Upsample(Movement):
    """Nearest neighbour by whole factors: (C, H, W) to (C, fh*H, fw*W)."""

    name = "upsample"
    factors: tuple[int, int]

    def index(self, *shapes: Shape) -> IntArray:
        (shape,) = shapes
        if len(shape) != 3:
            raise UsageError(f"upsampling needs a (C, H, W) input, not shape {shape}")
        check_size((shape[0], shape[1] * self.factors[0], shape[2] * self.factors[1]))
        return _places(shape).repeat(self.factors[0], axis=1).repeat(self.factors[1], axis=2)


@dataclass(frozen=True, eq=False)
class DepthToSpace(Movement):
    """(C*b*b, H, W) to (C, H*b, W*b); `column_first` is ONNX's mode CRD, otherwise DCR."""

    name = "depth_to_space"
    block: int
    column_first: bool = False

    def index(self, *shapes: Shape) -> IntArray:
        (shape,) = shapes
        block = self.block
        if len(shape) != 3 or shape[0] % (block * block):
            raise UsageError(f"depth-to-space by {block} does not fit the shape {shape}")
        channels, height, width = shape[0] // (block * block), shape[1], shape[2]
        places = _places(shape)
        if self.column_first:
            parts = places.reshape(channels, block, block, height, width).transpose(0, 3, 1, 4, 2)
        else:
            parts = places.reshape(block, block, channels, height, width).transpose(2, 3, 0, 4, 1)
        return parts.reshape(channels, height * block, width * block)


@dataclass(frozen=True, eq=False)
class Concat(Movement):
    """Inputs one after the other along `axis`, which counts without the batch."""

    name = "concat"
    axis: int = 0

    def index(self, *shapes: Shape) -> IntArray:
        if len({len(shape) for shape in shapes}) != 1 or not 0 <= self.axis < len(shapes[0]):
            raise UsageError(f"shapes {shapes} cannot be joined along axis {self.axis}")
        check_size((sum(prod(shape) for shape in shapes),))
        places, start = [], 0
        for shape in shapes:
            places.append(_places(shape) + start)
            start += int(np.prod(shape))
        try:
            return np.concatenate(places, axis=self.axis)
        except ValueError as error:
            raise UsageError(f"shapes {shapes} cannot be joined: {error}") from error
