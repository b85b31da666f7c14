"""Writing a product with the kernel that gives its codes: the search, and what is done where no
one kernel is proven.

A kernel's steps are evenly spaced but for its rounding. Steps that are not, such as ties to even
where the kernel rounds ties up, are every n-th one evenly spaced: n kernels on the same input, each
with every n-th step, and their codes added, which no runtime rounds where scales are equal.
Where a kernel misses few steps, as on LiteRT with float scales of 8 bits, further rows of the layer
say whether the accumulator has reached the step, and the one that the kernel has instead; a layer
of ones and minus ones adds the differences to the code.
With 16-bit activations there are numbers to spare. Where a kernel's steps are off by a fraction of
an accumulator, as its offset is a whole number, it writes codes that are too high, each channel's
by another whole number, which moves its steps by a fraction; an addition moves them back, and
clamps. LiteRT's dense layers have float64 multipliers: where the 31 or 15 bits of its convolutions
do not do, their windows are gathered, and a dense layer goes over them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from flow.requant import Steps
from targets.tflite.arithmetic import MAX_ACCUMULATOR, MAX_WIDE_ACCUMULATOR, Scales
from targets.tflite.fit import Fitted, begins, fit
from targets.tflite.kernels import (
    Constants,
    Goal,
    Product,
    Representation,
    bases,
    lowest,
    representation,
)
from targets.tflite.model import Activation, DType, Kind, Tensor
from targets.tflite.moves import mixed
from targets.tflite.search import Kernel, best, proven, scales_of, shifted, ways
from targets.tflite.state import (
    Refused,
    Rounded,
    State,
    Stored,
    Unproven,
    device_shape,
    scale_of,
)

_PARTS = (2, 3, 4)  # kernels that may share the steps of one layer
_ROWS = 4  # rows of corrections, at most, for each of the layer's own


def finish(state: State, node: str, made: Product, goal: Goal, every: bool = False) -> Stored:
    """Write the kernel, or the few, that give the goal; channels that are not proven are noted.
    With `every`, all is tried: what needs the network's own scales too.

    Raises:
        Refused: an accumulator does not fit the kernels'.
    """
    kernel = best(state, made, goal)
    missed = {c: f.missed for c, f in enumerate(kernel.fits) if f.missed}
    found = _repaired(state, node, made, goal, kernel) if missed else None
    if found is None and missed and every:
        found = _shifted(state, node, made, goal) or _as_dense(state, node, made, goal)
    if found is None:
        if missed:
            state.result.unproven.append(Unproven(node, tuple(missed), max(missed.values())))
        state.result.rounded[node] = Rounded(kernel.way.arithmetic, kernel.way.bias)
        found = kernel.chosen, _kernel(state, node, made, goal, kernel)
    chosen, output = found
    shaped = state.reshaped(output, device_shape(goal.value.shape), f"{node}_shaped")
    return Stored(shaped, chosen.zero, made.layout)


def _as_dense(
    state: State, node: str, made: Product, goal: Goal
) -> tuple[Representation, Tensor] | None:
    """The goal by a dense layer of the product's windows, where that is proven."""
    if made.dense is None or not state.choices.kernels.dense_is_finer:
        return None
    mark = state.mark()
    dense = made.dense()
    if dense is None:
        return None
    kernel = best(state, dense, goal)
    way = kernel.way
    state.result.rounded[node] = Rounded(way.arithmetic, way.bias)
    if kernel.missed:
        found = _shifted(state, node, dense, goal)
        found = found or _repaired(state, node, dense, goal, kernel)
    else:
        found = kernel.chosen, _kernel(state, node, dense, goal, kernel)
    if found is None:
        state.back_to(mark)
        return None
    state.result.rounded[node] = replace(state.result.rounded[node], dense=True)
    return found


def _shifted(
    state: State, node: str, made: Product, goal: Goal
) -> tuple[Representation, Tensor] | None:
    """The goal by a kernel whose codes lie higher, and an addition that moves them back."""
    chosen = representation(bases(goal, state.codes)[0], goal.low, goal.high, state.codes)
    if state.codes is not DType.INT16 or chosen.scale is None:
        return None
    every = (shifted(made, goal, chosen, way) for way in ways(state, made, goal))
    kernel = next((kernel for kernel in every if kernel is not None), None)
    if kernel is None:
        return None
    way = kernel.way
    state.result.rounded[node] = Rounded(way.arithmetic, way.bias, shifted=True)
    plain = replace(kernel, chosen=replace(chosen, activation=Activation.NONE, scale=None))
    moved = _kernel(state, f"{node}_moved", made, goal, plain)
    scale = (chosen.scale,)
    moved = state.reshaped(moved, moved.shape, f"{node}_same", scale=scale)
    order = slice(None) if made.place is None else made.place
    back = -np.array([fitted.shift for fitted in kernel.fits])[order]
    shape = (*(1 for _ in moved.shape[1:]), len(back))
    term = state.constant(f"{node}_back", back.reshape(shape), state.codes, scale=scale)
    output = state.tensor(node, moved.shape, moved)
    fused = chosen.activation.value
    state.operator(Kind.ADD, (moved, term), output, 2, fusedActivationFunction=fused)
    return chosen, output


def _repaired(
    state: State, node: str, made: Product, goal: Goal, kernel: Kernel
) -> tuple[Representation, Tensor] | None:
    """The goal by more than one kernel, in the way that computes fewer rows."""
    if not state.choices.shared:
        return None
    fixes = _corrections(made, goal, kernel)
    if not fixes or len(fixes) > len(kernel.fits):
        if parts := _shared(state, made, goal):
            way = parts[0][1].way
            state.result.rounded[node] = Rounded(way.arithmetic, way.bias, kernels=len(parts))
            whole = representation(lowest(goal, state.codes), goal.low, goal.high, state.codes)
            return whole, _added(state, node, made, whole, parts)
    if not fixes:
        return None
    way = kernel.way
    state.result.rounded[node] = Rounded(way.arithmetic, way.bias, corrections=len(fixes))
    return kernel.chosen, _corrected(state, node, made, goal, kernel, fixes)


def _kernel(state: State, name: str, made: Product, goal: Goal, kernel: Kernel) -> Tensor:
    chosen = kernel.chosen
    scale = chosen.scale or scale_of(goal.value)
    shape = made.shape or device_shape(goal.value.shape)
    like = Tensor("", (), state.codes, (scale,), chosen.base + chosen.zero)
    output = state.tensor(name, shape, like)
    _emit(made, goal.steps, kernel, output)
    return output


def _emit(made: Product, steps: Sequence[Steps], kernel: Kernel, output: Tensor) -> None:
    fits, bias_type = kernel.fits, kernel.way.bias
    signs = np.array([-f.gain if s.falling else f.gain for f, s in zip(fits, steps, strict=True)])
    biases = made.bias.astype(object) * signs + np.array([f.offset for f in fits], dtype=object)
    room = MAX_ACCUMULATOR if bias_type is DType.INT32 else MAX_WIDE_ACCUMULATOR
    if max(abs(int(b)) for b in biases) > room:
        raise Refused("its bias does not fit int32", "use fewer bits or smaller biases")
    made.emit(
        Constants(
            made.rows * signs[:, None],
            biases.astype(np.int64),
            np.array([f.weight_scale for f in fits], dtype=np.float32),
            kernel.chosen.activation,
            bias_type,
        ),
        output,
    )


def _added(
    state: State,
    name: str,
    made: Product,
    whole: Representation,
    parts: list[tuple[Goal, Kernel]],
) -> Tensor:
    """One kernel for each part, and their codes added; 0 is the whole's lowest code."""
    total: Tensor | None = None
    for number, (part, kernel) in enumerate(parts):
        term = _kernel(state, f"{name}_part{number}", made, part, kernel)
        if total is None:
            total = term
            continue
        if term.scale != total.scale:  # a clamp dictated it
            same = f"{name}_same{number}"
            term = state.reshaped(term, term.shape, same, scale=total.scale)
        last = number == len(parts) - 1
        point = whole.base + whole.zero if last else state.codes.low
        both = state.tensor(
            name if last else f"{name}_sum{number}",
            term.shape,
            term,
            zero_point=point if state.codes is DType.INT8 else 0,
        )
        inputs = (total, term)
        total = state.operator(Kind.ADD, inputs, both, 2, fusedActivationFunction=0)
    assert total is not None
    return total


def _shared(state: State, made: Product, goal: Goal) -> list[tuple[Goal, Kernel]]:
    """The fewest parts that are all proven; none where there are none."""
    if state.codes is DType.INT16 and state.codes.high < goal.high - goal.low < 0xFFFF:
        return []  # whose sum nothing clamps
    for way in ways(state, made, goal):
        for count in _PARTS:
            if goal.high - goal.low < count:
                break
            found: list[tuple[Goal, Kernel]] = []
            for number in range(count):
                part = _part(goal, count, number)
                kernel = proven(made, part, _clamp(state, goal, part, count), way)
                if kernel is None:
                    break
                found.append((part, kernel))
            if len(found) == count:
                return found
    return []


def _clamp(state: State, goal: Goal, part: Goal, count: int) -> Representation:
    """How a part's codes 0..high lie. Where the whole has all of int16's codes, its parts lie
    around 0, and their sum from the lowest number on. One of them may then go on by a code behind
    the whole's last step; there the addition clamps."""
    if goal.high - goal.low <= state.codes.high or state.codes is DType.INT8:
        return representation(0, 0, part.high, state.codes)
    middle = (1 << state.codes.bits - 1) // count
    scale = float(np.float32(1 / middle))
    return Representation(middle, -middle, Activation.RELU_N1_TO_1, scale)


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


def _corrections(made: Product, goal: Goal, kernel: Kernel) -> list[_Fix]:
    """All that the kernels miss; none where it is too much, or the product has fixed rows."""
    if made.kind is Kind.DEPTHWISE_CONV_2D or not kernel.chosen.clamped:
        return []
    scales = scales_of(made, goal, kernel.chosen, kernel.way)
    flags = replace(scales, s_out=_flag(made.source.dtype).scale or scales.s_out)
    fixes: list[_Fix] = []
    for channel, (steps, fitted) in enumerate(zip(goal.steps, kernel.fits, strict=True)):
        if fitted.missed > _ROWS * len(kernel.fits):
            return []
        if fitted.proven:
            continue
        for sign, cut in _differences(steps, fitted, kernel.chosen.base, scales):
            step = Steps(steps.falling, 0, np.array([cut]), steps.low, steps.high, 0, 1)
            found = fit(step, 0, 1.0, flags, (1,))
            if not found.proven or len(fixes) >= _ROWS * len(kernel.fits):
                return []
            fixes.append(_Fix(channel, sign, step, found))
    return fixes


def _flag(held: DType) -> Representation:
    return representation(0, 0, 1, held)


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
    state: State, name: str, made: Product, goal: Goal, kernel: Kernel, fixes: list[_Fix]
) -> Tensor:
    """The kernel, and what it misses added to its codes."""
    plain = _kernel(state, f"{name}_nearly", made, goal, kernel)
    channels = np.array([fix.channel for fix in fixes])
    scale, one = plain.scale[0], _flag(state.codes)
    inner = Tensor("", (), state.codes, (one.scale or scale,), one.base + one.zero)
    flags = state.tensor(f"{name}_flags", (*plain.shape[:-1], len(fixes)), inner)
    part = replace(made, rows=made.rows[channels], bias=made.bias[channels])
    fits = tuple(fix.fitted for fix in fixes)
    _emit(part, [fix.steps for fix in fixes], Kernel(one, kernel.way, fits), flags)
    if flags.scale != plain.scale:  # a clamp dictated it
        flags = state.reshaped(flags, flags.shape, f"{name}_same", scale=plain.scale)
    matrix = np.zeros((len(kernel.fits), len(fixes)), dtype=np.int64)
    matrix[channels, np.arange(len(fixes))] = [fix.sign for fix in fixes]
    like = Tensor("", (), state.codes, (scale,), 0)
    missing = state.tensor(f"{name}_missing", plain.shape, like)
    mixed(state, flags, matrix, missing)
    both = state.tensor(name, plain.shape, plain)
    return state.operator(Kind.ADD, (plain, missing), both, 2, fusedActivationFunction=0)
