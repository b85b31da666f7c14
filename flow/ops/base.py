"""What every op has to say, and the arithmetic that several share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flow.errors import UsageError

IntArray = NDArray[np.int64]
Shape = tuple[int, ...]
Bounds = tuple[IntArray, IntArray]
Kernel = Callable[..., IntArray]
MAX_ELEMENTS = 1 << 24  # of one value, for one sample: index maps of it take 128 MiB


@dataclass(frozen=True, eq=False)
class Op(ABC):
    """An operation with its constants. `name` is the row's name in the table and in JSON.

    `shapes` and `bounds` are those of the inputs, in order; most ops have one.
    """

    name: ClassVar[str]

    @abstractmethod
    def output_shape(self, *shapes: Shape) -> Shape:
        """The output's shape. Raises UsageError, without naming the node, if one does not fit."""

    @abstractmethod
    def bounds(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Bounds:
        """The integers that the output can hold, per output channel."""

    @abstractmethod
    def kernel(self, shapes: tuple[Shape, ...], bounds: tuple[Bounds, ...]) -> Kernel:
        """The reference meaning, as a function of the inputs (n, *shape) with entries inside
        `bounds`, which choose the fastest arithmetic that is exact. What can be done once is done
        here."""

    def macs(self, *shapes: Shape) -> int:
        """Multiply-accumulates of one inference."""
        return 0


def check_size(shape: Shape) -> None:
    """Raises UsageError, before anything is allocated, where a value would not fit the memory."""
    if prod(shape) > MAX_ELEMENTS:
        raise UsageError(
            f"{' x '.join(map(str, shape))} is more than {MAX_ELEMENTS} numbers; use smaller "
            f"images or fewer channels"
        )


def uniform(bounds: Bounds) -> bool:
    """Whether all channels have the same bounds."""
    return all(b.size == 1 or bool((b == b[0]).all()) for b in bounds)


def full(values: IntArray, channels: int) -> IntArray:
    """One entry per channel."""
    return np.broadcast_to(values, (channels,)) if values.size == 1 else values


def check_accumulator(low: Any, high: Any) -> None:
    """Raises UsageError where Python integers would not fit int64."""
    if int(np.min(low)) < -(1 << 62) or int(np.max(high)) >= 1 << 62:
        raise UsageError(
            "its accumulator needs more than 63 bits; use fewer bits or narrower layers"
        )
