"""The search for a layer's kernels: one multiplier and offset for every channel."""

from __future__ import annotations

from collections.abc import Iterator

from targets.tflite.arithmetic import MAX_ACCUMULATOR, Fitted, Scales, fit
from targets.tflite.kernels import Goal, Product, Representation, representation
from targets.tflite.state import Refused, State, scale_of

Fits = tuple[Fitted, ...]


def scales_of(state: State, made: Product, goal: Goal, chosen: Representation) -> Scales:
    """What is fixed before the search."""
    arithmetic = state.choices.arithmetic
    return Scales(
        arithmetic.elementwise if made.depthwise else arithmetic,
        made.source.scale[0],
        chosen.scale or scale_of(goal.value),
    )


def best(state: State, made: Product, goal: Goal) -> tuple[Representation, Fits]:
    """The first representation in which every channel is proven, else the one that misses least."""
    best: tuple[Representation, Fits] | None = None
    for chosen in _representations(goal):
        fits = tuple(fits_of(state, made, goal, chosen))
        if best is None or _missed(fits) < _missed(best[1]):
            best = chosen, fits
        if not _missed(fits):
            break
    assert best is not None
    return best


def _representations(goal: Goal) -> Iterator[Representation]:
    tried = [base for base in goal.bases if goal.low <= base <= goal.high]
    for base in dict.fromkeys((*tried, goal.low)):
        yield representation(base, goal.low, goal.high)


def _missed(fits: Fits) -> int:
    return sum(found.missed for found in fits)


def fits_of(state: State, made: Product, goal: Goal, chosen: Representation) -> Iterator[Fitted]:
    """Every channel's kernel."""
    scales = scales_of(state, made, goal, chosen)
    kept: dict[tuple[int, float, int], Fitted] = {}  # channels that are alike are searched once
    most = abs(made.rows).max(axis=1, initial=0)
    for steps, slope, weight in zip(goal.steps, goal.slopes, most.tolist(), strict=True):
        if max(abs(steps.low), abs(steps.high)) > MAX_ACCUMULATOR:
            raise Refused(
                f"its accumulator goes from {steps.low} to {steps.high}, more than int32 holds",
                "use fewer bits or narrower layers",
            )
        key = (id(steps), slope, weight)
        if key not in kept:
            gains = _gains(made.room // max(weight, 1))
            kept[key] = fit(steps, chosen.base, slope, scales, gains)
        yield kept[key]


def _gains(room: int) -> tuple[int, ...]:
    """Powers of two up to the room that the weights leave."""
    return tuple(1 << power for power in range(max(room, 1).bit_length()))
