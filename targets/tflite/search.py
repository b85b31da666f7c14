"""The search for a layer's kernels: one multiplier and offset for every channel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from targets.tflite.arithmetic import MAX_ACCUMULATOR, MAX_WIDE_ACCUMULATOR, Scales
from targets.tflite.fit import Fitted, fit, fit_shifted
from targets.tflite.kernels import Goal, Product, Representation, bases, representation
from targets.tflite.model import DType
from targets.tflite.state import Refused, State, scale_of
from targets.tflite.ways import Way

Fits = tuple[Fitted, ...]


@dataclass(frozen=True, eq=False)
class Kernel:
    """What is written of a product: how its codes lie, which kernel it is, each channel's fit."""

    chosen: Representation
    way: Way
    fits: Fits

    @property
    def missed(self) -> int:
        return sum(found.missed for found in self.fits)


def scales_of(made: Product, goal: Goal, chosen: Representation, way: Way) -> Scales:
    """What is fixed before the search."""
    scale = chosen.scale or scale_of(goal.value)
    return Scales(way.arithmetic, made.source.scale[0], scale)


def ways(state: State, made: Product, goal: Goal) -> tuple[Way, ...]:
    """The kernels whose accumulators hold the product.

    Raises:
        Refused: there are none.
    """
    possible = state.choices.kernels.ways(made.kind)
    found = tuple(way for way in possible if way.bias is DType.INT64 or _narrow(made, goal))
    wide = len(found) > 0 and found[-1].bias is DType.INT64
    ends = [end for steps in goal.steps for end in (steps.low, steps.high)]
    most = max(map(abs, ends))
    if not found or most > (MAX_WIDE_ACCUMULATOR if wide else MAX_ACCUMULATOR):
        raise Refused(
            f"its accumulator goes from {min(ends)} to {max(ends)}, more than int32 holds",
            "use fewer bits or narrower layers",
        )
    return found


def _narrow(made: Product, goal: Goal) -> bool:
    """Whether an int32 accumulator holds every channel's sum, and each part of it."""
    if made.source.dtype is DType.INT8:
        return all(max(abs(s.low), abs(s.high)) <= MAX_ACCUMULATOR for s in goal.steps)
    return int(made.spans.max()) <= MAX_ACCUMULATOR


def best(state: State, made: Product, goal: Goal) -> Kernel:
    """The first kernel in which every channel is proven, else the one that misses least."""
    best: Kernel | None = None
    for way in ways(state, made, goal):
        for base in bases(goal, state.codes):
            chosen = representation(base, goal.low, goal.high, state.codes)
            kernel = Kernel(chosen, way, tuple(fits_of(made, goal, chosen, way)))
            if best is None or kernel.missed < best.missed:
                best = kernel
            if not kernel.missed:
                return kernel
    assert best is not None
    return best


def proven(made: Product, goal: Goal, chosen: Representation, way: Way) -> Kernel | None:
    """The kernel of this kind; None where a channel of it is not proven."""
    fits = tuple(takewhile(lambda fitted: fitted.proven, fits_of(made, goal, chosen, way)))
    return Kernel(chosen, way, fits) if len(fits) == len(goal.steps) else None


def shifted(made: Product, goal: Goal, chosen: Representation, way: Way) -> Kernel | None:
    """The kernel of this kind whose codes may lie higher or lower, each channel's by another
    number; None where a channel of it is not proven."""
    scales = Scales(way.arithmetic, made.source.scale[0], scale_of(goal.value))
    held = made.source.dtype
    low, high = goal.low - chosen.base, goal.high - chosen.base
    shifts = range(-held.high - low, held.high - high + 1)
    fits: list[Fitted] = []
    rows = zip(goal.steps, goal.slopes, _rooms(made, way), made.spans.tolist(), strict=True)
    for steps, slope, room, span in rows:
        gains = _gains(room)
        found: Fitted | None = fit(steps, chosen.base, slope, scales, gains)
        assert found is not None
        if not found.proven:
            wide = way.bias is DType.INT64
            limit = MAX_WIDE_ACCUMULATOR if wide else MAX_ACCUMULATOR - span * gains[-1]
            found = fit_shifted(steps, chosen.base, slope, scales, gains, shifts, limit)
        if found is None:
            return None
        fits.append(found)
    return Kernel(chosen, way, tuple(fits))


def _rooms(made: Product, way: Way) -> list[int]:
    """The factor by which each row may be multiplied."""
    most = np.maximum(abs(made.rows).max(axis=1, initial=0), 1)
    rooms = made.room // most
    if made.source.dtype is DType.INT16 and way.bias is DType.INT32:
        rooms = np.minimum(rooms, MAX_ACCUMULATOR // np.maximum(made.spans, 1))
    found: list[int] = rooms.tolist()
    return found


def fits_of(made: Product, goal: Goal, chosen: Representation, way: Way) -> Iterator[Fitted]:
    """Every channel's kernel."""
    scales = scales_of(made, goal, chosen, way)
    kept: dict[tuple[int, float, int], Fitted] = {}  # channels that are alike are searched once
    for steps, slope, room in zip(goal.steps, goal.slopes, _rooms(made, way), strict=True):
        key = (id(steps), slope, room)
        if key not in kept:
            gains = _gains(room)
            kept[key] = fit(steps, chosen.base, slope, scales, gains, clamped=chosen.clamped)
        yield kept[key]


def _gains(room: int) -> tuple[int, ...]:
    """Powers of two up to the room that the weights leave."""
    return tuple(1 << power for power in range(max(room, 1).bit_length()))
