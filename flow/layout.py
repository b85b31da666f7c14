"""Where the entries of a graph value lie in a device's memory."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.ops import IntArray, Shape


@dataclass(frozen=True, eq=False)
class Layout:
    """Entry j of the flattened graph value is entry order[j] of the flattened device tensor."""

    shape: Shape
    order: IntArray

    @classmethod
    def channels_last(cls, shape: Shape) -> Layout:
        """Channels-last for images and rows, unchanged for vectors."""
        last = np.arange(prod(shape)).reshape(*shape[1:], shape[0])
        return cls(shape, np.moveaxis(last, -1, 0).reshape(-1))

    @property
    def usual(self) -> bool:
        """Whether it is the channels-last layout of its shape."""
        return np.array_equal(self.order, Layout.channels_last(self.shape).order)

    def to_device(self, values: NDArray[Any]) -> NDArray[Any]:
        """(n, *shape) in the graph's layout to (n, size) in the device's."""
        flat = values.reshape(len(values), -1)
        out = np.empty_like(flat)
        out[:, self.order] = flat
        return out

    def to_graph(self, flat: NDArray[Any]) -> NDArray[Any]:
        """(n, size) in the device's layout to (n, *shape) in the graph's."""
        return flat[:, self.order].reshape(len(flat), *self.shape)
