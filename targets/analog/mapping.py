"""Integer matrices on arrays of devices: which weight lies where, at which level, and how the
array's readings become the integer sum again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from flow.errors import Offence
from flow.ops import IntArray
from flow.qtype import QType
from targets.analog.products import Product

FloatArray = NDArray[np.float64]
Columns = slice | IntArray
EXACT_BITS = 42  # of a sum of |product|: float64 holds it with a fraction that is rounded off


class Scheme(Enum):
    """How a signed weight becomes levels from 0 to 1, of which devices can hold no negative ones.

    `differential`: two columns, one of which is at 0; their currents are subtracted. `offset`: one
    column, with all weights shifted up, and a column of each tile at the level that stands for 0,
    whose current is subtracted from the others'. `bit_sliced`: `slice_bits` of the magnitude in a
    differential pair each; the readings are shifted and added digitally. `signed`: devices that
    hold levels from -1 to 1 themselves.
    """

    DIFFERENTIAL = "differential"
    OFFSET = "offset"
    BIT_SLICED = "bit_sliced"
    SIGNED = "signed"


_PAIRS = (Scheme.DIFFERENTIAL, Scheme.BIT_SLICED)


@dataclass(frozen=True)
class Arrays:
    """The tiles that there are, as many as are needed: `rows` inputs by `columns` devices. With
    `by_column` the largest weight of every output, not of the layer, is at full level."""

    rows: int
    columns: int
    scheme: Scheme
    slice_bits: int = 2
    by_column: bool = False


@dataclass(frozen=True)
class Tile:
    """Part of a layer's columns of devices, for some of a group's inputs; `readings` are the
    numbers of the differences that it gives."""

    group: int
    rows: slice
    columns: slice
    readings: slice


@dataclass(frozen=True, eq=False)
class Mapped:
    """A layer on tiles.

    `levels` (groups, inputs, columns) are what the devices shall hold. Reading r is the sum over a
    row block's inputs of code * (level of column plus[r] - that of minus[r]) * unit[group, r], an
    integer but for the devices' error; output o is the digital sum over row blocks and slices s of
    reading o * slices + s, times factors[s].
    """

    product: Product
    arrays: Arrays
    levels: FloatArray
    plus: Columns
    minus: Columns | None
    unit: FloatArray
    factors: IntArray
    row_blocks: tuple[slice, ...]
    column_blocks: tuple[tuple[slice, slice], ...]

    @property
    def name(self) -> str:
        return self.product.node.name

    @property
    def groups(self) -> int:
        return self.levels.shape[0]

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """In order of groups, row blocks, column blocks: the numbers that random draws are of."""
        return tuple(
            Tile(group, rows, columns, readings)
            for group in range(self.groups)
            for rows in self.row_blocks
            for columns, readings in self.column_blocks
        )

    @property
    def shares(self) -> bool:
        """Whether readings subtract one and the same column."""
        return self.arrays.scheme is Scheme.OFFSET

    @property
    def utilization(self) -> float:
        """The share (0 to 1) of the tiles' devices that the layer uses."""
        return self.levels.size / (len(self.tiles) * self.arrays.rows * self.arrays.columns)

    @cached_property
    def digits(self) -> IntArray:
        """The integers that the readings multiply by: (groups, inputs, readings)."""
        return _digits(self.product.weights, self.arrays, len(self.factors))

    def sums(self, low: IntArray, high: IntArray) -> tuple[IntArray, IntArray]:
        """The least and the most (row blocks, groups, readings) that a reading can be, without
        noise, for inputs in low..high (groups, inputs)."""
        up, down = np.maximum(self.digits, 0), np.minimum(self.digits, 0)
        least = up * low[..., None] + down * high[..., None]
        most = up * high[..., None] + down * low[..., None]
        starts = [block.start for block in self.row_blocks]
        ends = (np.add.reduceat(part, starts, axis=1) for part in (least, most))
        first, last = (np.moveaxis(end, 1, 0) for end in ends)
        return first, last

    def lossless(self, low: IntArray, high: IntArray) -> QType:
        """The fewest bits of an ADC, one for all readings of the layer, that loses nothing, for
        inputs in low..high (groups, inputs)."""
        least, most = self.sums(low, high)
        return QType.covering(min(int(least.min()), 0), max(int(most.max()), 0))


def largest(product: Product) -> float:
    """What no sum of |code * weight|, or of twice that for weights that are shifted up, exceeds."""
    reach = np.maximum(np.abs(product.low), np.abs(product.high)).astype(np.float64)
    span = float(np.abs(product.weights).max(initial=0)) * 2
    return float(reach.sum(axis=1).max(initial=0) * span)


def trouble(product: Product, arrays: Arrays) -> Offence | None:
    """Why a product cannot be mapped."""
    name = product.node.name
    if largest(product) >= 1 << EXACT_BITS or np.abs(product.bias).max(initial=0) >= 1 << 50:
        return Offence(
            name,
            f"its sums may need more than {EXACT_BITS} bits, which are not simulated exactly",
            f"use fewer bits, or digital_layers={name}",
        )
    needed = 2 * _slices(product.weights, arrays) if arrays.scheme in _PAIRS else 1
    if needed > arrays.columns:
        return Offence(
            name,
            f"one of its weights takes {needed} devices of a row, the tiles have {arrays.columns}",
            f"use wider tiles, fewer bits, or digital_layers={name}",
        )
    return None


def mapped(product: Product, arrays: Arrays) -> Mapped:
    """The layer's levels; there must be no `trouble`."""
    weights = product.weights
    groups, inputs, outputs = weights.shape
    slices = _slices(weights, arrays)
    most = np.abs(weights).max(axis=1 if arrays.by_column else (0, 1, 2), initial=0, keepdims=True)
    unit = np.maximum(most, 1)
    per_tile = _outputs_per_tile(arrays, slices)
    bounds = [*range(0, outputs, per_tile), outputs]
    readings = [slice(a * slices, b * slices) for a, b in pairwise(bounds)]
    digits = _digits(weights, arrays, slices).astype(np.float64)
    if arrays.scheme is Scheme.OFFSET:
        low, high = min(int(weights.min()), 0), max(int(weights.max()), 0)
        unit = np.full((1, 1, 1), max(high - low, 1))
        zero = _full(digits, -low / unit)
        parts = [[(digits[..., part] - low) / unit, zero] for part in readings]
    elif arrays.scheme is Scheme.SIGNED:
        parts = [[(digits / unit)[..., part]] for part in readings]
    else:
        if arrays.scheme is Scheme.BIT_SLICED:
            unit = np.full((1, 1, 1), (1 << arrays.slice_bits) - 1)
        scaled = digits / unit
        parts = [
            [np.maximum(scaled[..., part], 0), np.maximum(-scaled[..., part], 0)]
            for part in readings
        ]
    plus, minus, columns, start = [], [], [], 0
    for part, (first, *second) in zip(readings, parts, strict=True):
        width = first.shape[-1]
        plus.append(start + np.arange(width))
        if second:
            minus.append(start + width + np.arange(width) % second[0].shape[-1])
        size = width + sum(piece.shape[-1] for piece in second)
        columns.append((slice(start, start + size), part))
        start += size
    rows = [*range(0, inputs, arrays.rows), inputs]
    return Mapped(
        product,
        arrays,
        np.concatenate([piece for pieces in parts for piece in pieces], axis=2),
        _simple(np.concatenate(plus)),
        _simple(np.concatenate(minus)) if minus else None,
        np.broadcast_to(unit[:, 0], (groups, outputs * slices)).astype(np.float64),
        1 << (arrays.slice_bits * np.arange(slices, dtype=np.int64)),
        tuple(slice(a, b) for a, b in pairwise(rows)),
        tuple(columns),
    )


def _full(like: FloatArray, value: FloatArray) -> FloatArray:
    """One column of that value."""
    return np.broadcast_to(value, (*like.shape[:2], 1)).astype(np.float64)


def _slices(weights: IntArray, arrays: Arrays) -> int:
    """How many devices, or pairs, hold the magnitude of one weight."""
    if arrays.scheme is not Scheme.BIT_SLICED:
        return 1
    bits = max(int(np.abs(weights).max(initial=0)).bit_length(), 1)
    return -(-bits // arrays.slice_bits)


def _outputs_per_tile(arrays: Arrays, slices: int) -> int:
    """Outputs whose columns a tile has room for."""
    if arrays.scheme in _PAIRS:
        return arrays.columns // (2 * slices)
    return arrays.columns - (arrays.scheme is Scheme.OFFSET)


def _digits(weights: IntArray, arrays: Arrays, slices: int) -> IntArray:
    """Weights (groups, inputs, outputs) as their slices with their sign: (groups, inputs, outputs *
    slices), lowest slice first."""
    if arrays.scheme is not Scheme.BIT_SLICED:
        return weights
    shifts = arrays.slice_bits * np.arange(slices, dtype=np.int64)
    magnitude = np.abs(weights)[..., None] >> shifts & (1 << arrays.slice_bits) - 1
    signed: IntArray = np.sign(weights)[..., None] * magnitude
    return signed.reshape(*weights.shape[:2], -1)


def _simple(columns: IntArray) -> Columns:
    """As a slice, which copies nothing, where it is one; one column for all broadcasts."""
    first, count = int(columns[0]), len(columns)
    if (columns == first).all():
        return slice(first, first + 1)
    return slice(first, first + count) if (np.diff(columns) == 1).all() else columns
