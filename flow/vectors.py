"""Test vectors: the data's own samples, the corners of the input's range, and random codes."""

from __future__ import annotations

import numpy as np

from flow.graph import Value
from flow.ops import IntArray

RANDOM = 64  # beside a data set; without one, WITHOUT_DATA
WITHOUT_DATA = 1000
SEED = 0


def corners(value: Value) -> IntArray:
    """Lowest, highest, zero, and lowest and highest in turn: they reach the accumulators' ends."""
    low, high = value.qtype.low, value.qtype.high
    zero = min(max(value.zero_point, low), high)
    size = int(np.prod(value.shape))
    turn = np.where(np.arange(size) % 2, low, high)
    rows = [np.full(size, code) for code in (low, high, zero)] + [turn, low + high - turn]
    stacked: IntArray = np.stack(rows).astype(np.int64)
    return stacked.reshape(-1, *value.shape)


def make_vectors(value: Value, data: IntArray | None) -> IntArray:
    """Codes (n, *shape): `data` first, so that its numbering is the user's, then the rest."""
    rng = np.random.default_rng(SEED)
    count = WITHOUT_DATA if data is None else RANDOM
    random = rng.integers(
        value.qtype.low, value.qtype.high, (count, *value.shape), endpoint=True, dtype=np.int64
    )
    parts = [] if data is None else [data]
    return np.concatenate([*parts, corners(value), random])
