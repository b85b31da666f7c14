"""Writing a product with the kernel that gives its codes: the search, and what is done where no
one kernel is proven.

A kernel's steps are evenly spaced but for its rounding. Steps that are not, such as ties to even
where the kernel rounds ties up, are every n-th one evenly spaced: n kernels on the same input, each
with every n-th step, and their codes added, which no runtime rounds where scales are equal.
Where a kernel misses few steps, as on LiteRT with float scales of 8 bits, further rows of the layer
say whether the accumulator has reached the step, and the one that the kernel has instead; a layer
of ones and minus ones adds the differences to the code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np

from flow.requant import Steps
from targets.tflite.arithmetic import MAX_ACCUMULATOR, Fitted, Scales, begins, fit
from targets.tflite.kernels import Constants, Goal, Product, Representation, representation
from targets.tflite.model import DType, Kind, Tensor
from targets.tflite.moves import mixed
from targets.tflite.search import Fits, best, fits_of, scales_of
from targets.tflite.state import (
    INT8_LOW,
    Refused,
    State,
    Stored,
    Unproven,
    device_shape,
    scale_of,
)

_PARTS = (2, 3, 4)  # kernels that may share the steps of one layer
_ROWS = 4  # rows of corrections, at most, for each of the layer's own


def finish(state: State, node: str, made: Product, goal: Goal) -> Stored:
    """Write the kernel, or the few, that give the goal; channels that are not proven are noted.

    Raises:
        Refused: an accumulator does not fit int32.
    """
    chosen, fits = best(state, made, goal)
    missed = {c: f.missed for c, f in enumerate(fits) if f.missed}
    found = _repaired(state, node, made, goal, chosen, fits) if missed else None
    if found is None and missed:
        state.result.unproven.append(Unproven(node, tuple(missed), max(missed.values())))
    chosen, output = found or (chosen, _kernel(state, node, made, goal, chosen, fits))
    shaped = state.reshaped(output, device_shape(goal.value.shape), f"{node}_shaped")
    return Stored(shaped, chosen.zero, made.layout)


def _repaired(
    state: State, node: str, made: Product, goal: Goal, chosen: Representation, fits: Fits
) -> tuple[Representation, Tensor] | None:
    """The goal by more than one kernel, in the way that computes fewer rows."""
    if not state.choices.shared:
        return None
    fixes = _corrections(state, made, goal, chosen, fits)
    if not fixes or len(fixes) > len(fits):
        if parts := _shared(state, made, goal):
            whole = representation(goal.low, goal.low, goal.high)
            return whole, _added(state, node, made, whole, parts)
    if not fixes:
        return None
    return chosen, _corrected(state, node, made, goal, chosen, fits, fixes)


def _kernel(
    state: State, name: str, made: Product, goal: Goal, chosen: Representation, fits: Fits
) -> Tensor:
    scale = chosen.scale or scale_of(goal.value)
    shape = made.shape or device_shape(goal.value.shape)
    like = Tensor("", (), DType.INT8, (scale,), chosen.base + chosen.zero)
    output = state.tensor(name, shape, like)
    _emit(made, goal.steps, fits, chosen, output)
    return output


def _emit(
    made: Product, steps: Sequence[Steps], fits: Fits, chosen: Representation, output: Tensor
) -> None:
    signs = np.array([-f.gain if s.falling else f.gain for f, s in zip(fits, steps, strict=True)])
    biases = made.bias.astype(object) * signs + np.array([f.offset for f in fits], dtype=object)
    if max(abs(int(b)) for b in biases) > MAX_ACCUMULATOR:
        raise Refused("its bias does not fit int32", "use fewer bits or smaller biases")
    made.emit(
        Constants(
            made.rows * signs[:, None],
            biases.astype(np.int64),
            np.array([f.weight_scale for f in fits], dtype=np.float32),
            chosen.activation,
        ),
        output,
    )


def _added(
    state: State,
    name: str,
    made: Product,
    whole: Representation,
    parts: list[tuple[Goal, Fits]],
) -> Tensor:
    """One kernel for each part, and their codes added; 0 is the whole's lowest code."""
    total: Tensor | None = None
    for number, (part, fits) in enumerate(parts):
        chosen = representation(0, 0, part.high)
        term = _kernel(state, f"{name}_part{number}", made, part, chosen, fits)
        if total is None:
            total = term
            continue
        last = number == len(parts) - 1
        both = state.tensor(
            name if last else f"{name}_sum{number}",
            term.shape,
            term,
            zero_point=whole.base + whole.zero if last else INT8_LOW,
        )
        inputs = (total, term)
        total = state.operator(Kind.ADD, inputs, both, 2, fusedActivationFunction=0)
    assert total is not None
    return total


def _shared(state: State, made: Product, goal: Goal) -> list[tuple[Goal, Fits]]:
    """The fewest parts that are all proven; none where there are none."""
    for count in _PARTS:
        if goal.high - goal.low < count:
            break
        found: list[tuple[Goal, Fits]] = []
        for part in (_part(goal, count, number) for number in range(count)):
            searched = fits_of(state, made, part, representation(0, 0, part.high))
            fits = tuple(takewhile(lambda fitted: fitted.proven, searched))
            if len(fits) < len(part.steps):
                break
            found.append((part, fits))
        if len(found) == count:
            return found
    return []


def _part(goal: Goal, count: int, number: int) -> Goal:
    """Every `count`-th step, counted from 0."""
    mine = np.arange(goal.low + 1, goal.high + 1) % count == number
    most = int(mine.sum())
    made = []
    for steps in goal.steps:
        first, last = steps.first - goal.low, steps.last - goal.low
        reached = int(mine[:first].sum())
        cuts = steps.cuts[mine[first:last]]
        made.append(Steps(steps.falling, reached, cuts, steps.low, steps.high, 0, most))
    slopes = tuple(slope / count for slope in goal.slopes)
    return Goal(goal.value, tuple(made), slopes, 0, most)


@dataclass(frozen=True)
class _Fix:
    """A kernel of one step: adds `sign` to the code of `channel` where it is reached."""

    channel: int
    sign: int
    steps: Steps
    fitted: Fitted


def _corrections(
    state: State, made: Product, goal: Goal, chosen: Representation, fits: Fits
) -> list[_Fix]:
    """All that the kernels miss; none where it is too much, or the product has fixed rows."""
    if made.depthwise:
        return []
    scales = scales_of(state, made, goal, chosen)
    fixes: list[_Fix] = []
    for channel, (steps, fitted) in enumerate(zip(goal.steps, fits, strict=True)):
        if fitted.proven:
            continue
        for sign, cut in _differences(steps, fitted, chosen.base, scales):
            step = Steps(steps.falling, 0, np.array([cut]), steps.low, steps.high, 0, 1)
            found = fit(step, 0, 1.0, scales, (1,))
            if not found.proven or len(fixes) >= _ROWS * len(fits):
                return []
            fixes.append(_Fix(channel, sign, step, found))
    return fixes


def _differences(
    steps: Steps, fitted: Fitted, base: int, scales: Scales
) -> Iterator[tuple[int, int]]:
    """(1, where a code should begin) and (-1, where it does), for the codes where they differ."""
    codes = np.arange(steps.floor + 1, steps.ceiling + 1)
    wanted = np.full(len(codes), steps.high + 1)
    wanted[: steps.first - steps.floor] = steps.low
    wanted[steps.first - steps.floor : steps.last - steps.floor] = steps.cuts
    for cut, begin in zip(wanted, begins(codes - base, steps, fitted, scales), strict=True):
        if cut != begin:
            yield from ((s, int(c)) for s, c in ((1, cut), (-1, begin)) if c <= steps.high)


def _corrected(
    state: State,
    name: str,
    made: Product,
    goal: Goal,
    chosen: Representation,
    fits: Fits,
    fixes: list[_Fix],
) -> Tensor:
    """The kernel, and what it misses added to its codes."""
    plain = _kernel(state, f"{name}_nearly", made, goal, chosen, fits)
    channels = np.array([fix.channel for fix in fixes])
    scale = plain.scale[0]
    one = representation(0, 0, 1)
    inner = Tensor("", (), DType.INT8, (scale,), one.base + one.zero)
    flags = state.tensor(f"{name}_flags", (*plain.shape[:-1], len(fixes)), inner)
    part = replace(made, rows=made.rows[channels], bias=made.bias[channels])
    steps = [fix.steps for fix in fixes]
    _emit(part, steps, tuple(fix.fitted for fix in fixes), one, flags)
    matrix = np.zeros((len(fits), len(fixes)), dtype=np.int64)
    matrix[channels, np.arange(len(fixes))] = [fix.sign for fix in fixes]
    like = Tensor("", (), DType.INT8, (scale,), 0)
    missing = state.tensor(f"{name}_missing", plain.shape, like)
    mixed(state, flags, matrix, missing)
    both = state.tensor(name, plain.shape, plain)
    return state.operator(Kind.ADD, (plain, missing), both, 2, fusedActivationFunction=0)
