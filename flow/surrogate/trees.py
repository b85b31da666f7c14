"""Gradient-boosted trees as plain arrays, evaluated with numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.errors import UsageError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MAX_NODES = 1 << 22


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees of up to `n` nodes, (trees, n) each: a row goes to `left` where its entry `feature` is
    at most `threshold`, else to `right`; a leaf goes to itself and adds its `value`."""

    base: float
    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    value: Floats
    depth: int

    def __post_init__(self) -> None:
        shape = self.value.shape
        arrays = (self.feature, self.threshold, self.left, self.right)
        if len(shape) != 2 or any(array.shape != shape for array in arrays):
            raise UsageError("trees must be arrays of one shape (trees, nodes)")
        if self.value.size > MAX_NODES or not 0 <= self.depth <= shape[1]:
            raise UsageError(
                f"trees must have at most {MAX_NODES} nodes and be no deeper than them"
            )
        ends = (array for array in (self.left, self.right) if array.size)
        if any(array.min() < 0 or array.max() >= shape[1] for array in ends):
            raise UsageError("trees must lead to nodes of their own")
        if self.feature.size and self.feature.min() < 0:
            raise UsageError("trees must look at features that there are")
        if not all(np.isfinite(array).all() for array in (self.value, self.threshold)):
            raise UsageError("trees must hold finite numbers")

    def predict(self, rows: Floats) -> Floats:
        """(n,) of rows (n, features)."""
        trees = np.arange(len(self.value))
        node = np.zeros((len(rows), len(trees)), dtype=np.int64)
        which = np.arange(len(rows))[:, None]
        for _ in range(self.depth):
            below = rows[which, self.feature[trees, node]] <= self.threshold[trees, node]
            node = np.where(below, self.left[trees, node], self.right[trees, node])
        found: Floats = self.base + self.value[trees, node].sum(axis=1)
        return found
