"""The integer graph as TFLite operators.

A sum of products is written together with the Requant (or Relu, or Threshold) behind it: that is
one kernel, whose multiplier is proven. A value that is read otherwise is written as it is, int8
where its codes fit, else int32. What TFLite has no exact operator for is an offence.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from flow.errors import Offence
from flow.graph import Graph, Node
from flow.layout import Layout
from flow.ops import MaxPool, Movement, Mul, Relu, Requant, Table, Threshold
from flow.requant import Rounding
from targets.tflite.arithmetic import Scales
from targets.tflite.finish import finish
from targets.tflite.fit import fit
from targets.tflite.kernels import Goal, Product, goal, identity, representation
from targets.tflite.model import DType, Kind, Tensor
from targets.tflite.moves import max_pool, move, relabelled, settled
from targets.tflite.products import aligned, is_product, product
from targets.tflite.state import (
    Choices,
    Lowered,
    Refused,
    Rounded,
    State,
    Stored,
    Unproven,
    device_shape,
    place_of,
    scale_of,
)
from targets.tflite.sums import with_small_factors
from targets.tflite.swap import requants_first
from targets.tflite.tables import table
from targets.tflite.wide import cast, compared, wide

MAX_RANK = 4  # without the batch; the format's kernels take five axes
_LEAST_MUL = 2.0**-16  # XNNPACK's products are scaled by no less


def lower(graph: Graph, choices: Choices) -> Lowered:
    """Lower every node; nothing is left out in silence: what has no exact operator is an
    offence."""
    graph = with_small_factors(requants_first(graph))
    state = State(graph, choices)
    try:
        entry = _input(state)
    except Refused as why:
        return Lowered(offences=[Offence("input", why.reason, why.fix)])
    for node in graph.nodes:
        if any(name in state.lost for name in node.inputs):
            state.lost.add(node.output.name)
            continue
        _attempt(state, node, _lower)
    last = graph.output.name
    if last not in state.lost and graph.nodes:
        _attempt(state, graph.nodes[-1], lambda state, _: _output(state, entry))
    elif not graph.nodes:
        _output(state, entry)
    return state.result


def _attempt(state: State, node: Node, action: Callable[[State, Node], None]) -> None:
    try:
        action(state, node)
    except Refused as why:
        state.result.offences.append(Offence(node.name, why.reason, why.fix))
        state.lost.add(node.output.name)


def _input(state: State) -> Stored:
    value, held = state.graph.input, state.codes
    low, high = value.qtype.low, value.qtype.high
    if high - low >= held.codes:
        wider = ", or activations=int16" if held is DType.INT8 and value.qtype.bits <= 16 else ""
        raise Refused(
            f"it has {value.qtype.bits} bits, TFLite takes {held.bits}",
            f"use input_bits={held.bits}{wider}",
        )
    zero = place_of(held, low, high)
    point = value.zero_point + zero
    label = point if held.low <= point <= held.high else zero
    like = Tensor("", (), held, (scale_of(value),), label if held is DType.INT8 else 0)
    tensor = state.tensor("input", device_shape(value.shape), like)
    state.made[value.name] = Stored(tensor, zero, Layout.channels_last(value.shape))
    return state.made[value.name]


def _output(state: State, entry: Stored) -> None:
    """The output in its usual layout, with its own scale where int8 holds it."""
    value = state.graph.output
    stored = settled(state, "output", _stored(state, value.name))
    point = value.zero_point + stored.zero
    held = state.codes
    sayable = held.low <= point <= held.high if held is DType.INT8 else point == 0
    if stored.tensor.dtype is held and sayable:
        stored = relabelled(state, "output", stored, scale_of(value), point)
    if stored.tensor is entry.tensor:
        shape = state.integers("output_shape", stored.tensor.shape)
        copied = state.tensor("output", stored.tensor.shape, stored.tensor)
        state.operator(Kind.RESHAPE, (stored.tensor, shape), copied)
        stored = Stored(copied, stored.zero, stored.layout)
    state.made[value.name] = stored
    state.result.ends = (entry, stored)


def _lower(state: State, node: Node) -> None:
    op = node.op
    if len(node.output.shape) > MAX_RANK:
        raise Refused(
            f"it has {len(node.output.shape)} axes and a batch, TFLite takes {MAX_RANK + 1}",
            "reshape it to fewer axes",
        )
    if is_product(op) or isinstance(op, Mul):
        state.within[node.output.name] = node  # written when it is known what reads it
    elif isinstance(op, Requant | Relu | Threshold):
        _requantize(state, node)
    elif isinstance(op, Table):
        source = _stored(state, node.inputs[0])
        state.made[node.output.name] = table(state, node, source)
    elif isinstance(op, MaxPool):
        source = _stored(state, node.inputs[0])
        state.made[node.output.name] = max_pool(state, node, op, source)
    elif isinstance(op, Movement):
        sources = [_stored(state, name) for name in node.inputs]
        if len(sources) > 1:
            sources = aligned(state, node, sources)
        state.made[node.output.name] = move(state, node, op, sources)
    else:
        raise Refused(f"TFLite has no operator that does {op.name} exactly", "remove it")


def _stored(state: State, name: str) -> Stored:
    """Where a value is, written now if it is a sum that was put off."""
    if name not in state.made:
        node = state.within[name]
        low, high = state.ends(name)
        sources = [_stored(state, source) for source in node.inputs]
        held = state.codes
        narrow = high - low < held.codes and all(s.tensor.dtype is held for s in sources)
        kept = state.mark()
        if narrow:
            state.made[name] = _kernel(state, node, node, identity(state, node.output))
        if not narrow or state.unproven_since(kept):
            state.back_to(kept)
            state.made[name] = wide(state, node, sources)
    return state.made[name]


def _requantize(state: State, node: Node) -> None:
    name = node.inputs[0]
    before = state.within.get(name)
    low, high = state.ends(node.output.name)
    if isinstance(node.op, Relu) and high - low >= state.codes.codes:
        state.made[node.output.name] = wide(state, node, [_stored(state, name)])
        return
    wanted = goal(state, node)
    read = node.inputs if before is None else before.inputs
    sources = [_stored(state, source) for source in read]
    if any(source.tensor.dtype is not state.codes for source in sources):
        state.made[node.output.name] = _by_steps(state, node, before, wanted)
        return
    kept = state.mark()
    refused: Refused | None = None
    try:
        made = _kernel(state, node, before, wanted)
    except Refused as why:
        refused = why
    if refused or (state.unproven_since(kept) and _needs_proof(state, node, before)):
        state.back_to(kept)
        try:
            made = _by_steps(state, node, before, wanted)
        except Refused as why:
            raise refused or why from None
    state.made[node.output.name] = made


def _needs_proof(state: State, node: Node, before: Node | None) -> bool:
    """Whether the vectors may not decide: where the kernel's rounding is not even meant, a table
    would do, or the user wants all proven."""
    meant = isinstance(node.op, Requant) and node.op.rounding is Rounding.HALF_EVEN
    if before is not None and isinstance(before.op, Mul) and state.codes is DType.INT16:
        return True  # it may be its clamp that there is no kernel for
    return state.choices.proven or before is None or not meant


def _by_steps(state: State, node: Node, before: Node | None, wanted: Goal) -> Stored:
    """A requantization that no multiplier gives: a table of codes, or comparisons."""
    uniform = len({(s.first, s.low, s.high, s.cuts.tobytes()) for s in wanted.steps}) == 1
    narrow = before is None and _stored(state, node.inputs[0]).tensor.dtype is state.codes
    if narrow and uniform:
        return table(state, node, _stored(state, node.inputs[0]))
    if before is None:
        whole = cast(state, node, _stored(state, node.inputs[0]))
    else:
        whole = wide(state, before, [_stored(state, source) for source in before.inputs])
    return compared(state, node.name, whole, wanted)


def _kernel(state: State, node: Node, before: Node | None, wanted: Goal) -> Stored:
    """What `node` wants of the sum `before` it, or of the codes that it reads."""
    if before is not None and isinstance(before.op, Mul):
        return _mul(state, before, before.op, node.name, wanted)

    def sums() -> Product:
        return product(state, node, node.inputs[0]) if before is None else product(state, before)

    kept = state.mark()
    made = finish(state, node.name, sums(), wanted)
    if state.codes is DType.INT8 or not state.unproven_since(kept):
        return made
    state.back_to(kept)
    for name in node.inputs if before is None else before.inputs:
        scale = scale_of(state.graph.value(name))  # clamps dictated another
        state.made[name] = relabelled(state, f"{name}_scaled", state.made[name], scale, 0)
    return finish(state, node.name, sums(), wanted, every=True)


def _centred(state: State, name: str, value: str, source: Stored, zero: int) -> Stored:
    """The value with the code `zero` as the number 0."""
    point = zero + source.zero
    if not point:
        return source
    tensor, held = source.tensor, state.codes
    low, high = state.ends(value)
    if low - zero < held.low or high - zero > held.high or point == held.low:
        raise Refused(
            f"its codes go from {low} to {high} around the zero-point {zero}, which int16 does "
            "not hold",
            "use zero-points inside the codes",
        )
    term = state.constant(f"{name}_point", np.array([-point]), held, scale=tensor.scale)
    made = state.tensor(name, tensor.shape, tensor)
    state.operator(Kind.ADD, (tensor, term), made, 2, fusedActivationFunction=0)
    return Stored(made, source.zero - point, source.layout)


def _mul(state: State, node: Node, op: Mul, name: str, wanted: Goal) -> Stored:
    """Two activations multiplied; the second one's scale is written so that the multiplier is the
    proven one."""
    first, second = (settled(state, node.name, state.made[source]) for source in node.inputs)
    points = [zero + source.zero for zero, source in zip(op.zeros, (first, second), strict=True)]
    held = state.codes
    if held is DType.INT16:  # it has no zero-points
        first, second = (
            _centred(state, f"{name}_in{place}", value, source, zero)
            for place, (value, source, zero) in enumerate(
                zip(node.inputs, (first, second), op.zeros, strict=True)
            )
        )
        points = [0, 0]
    if not all(held.low <= point <= held.high for point in points):
        raise Refused(f"its zero-points {points} do not fit int8", "use zero-points inside int8")
    if len({(id(s), slope) for s, slope in zip(wanted.steps, wanted.slopes, strict=True)}) != 1:
        raise Refused("its requantization differs by channel", "use one scale for the tensor")
    (way,) = state.choices.kernels.ways(Kind.MUL)
    # There is no bias that would move the codes: 0 is the code that the product's 0 has.
    natural = [base for base in wanted.bases if wanted.low <= base <= wanted.high]
    for base in dict.fromkeys((*natural, wanted.low)):
        if held is DType.INT16 and max(base - wanted.low, wanted.high - base) > held.high:
            raise Refused("its codes do not fit int16 around 0", "use 15 bits")
        chosen = representation(base, wanted.low, wanted.high, held)
        scale = chosen.scale or scale_of(wanted.value)
        found = fit(
            wanted.steps[0],
            base,
            wanted.slopes[0],
            Scales(way.arithmetic, 1.0, scale),
            (1,),
            free=False,
            clamped=chosen.clamped,
        )
        if found.proven:
            break
    if not found.proven:
        channels = tuple(range(len(wanted.steps)))
        state.result.unproven.append(Unproven(name, channels, found.missed))
    if wanted.steps[0].falling or float(found.weight_scale) / scale < _LEAST_MUL:
        raise Refused("its scale is negative or below 2**-16", "use a larger output scale")
    left = relabelled(state, f"{name}_left", first, 1.0, points[0])
    right = relabelled(state, f"{name}_right", second, float(found.weight_scale), points[1])
    state.result.rounded[name] = Rounded(way.arithmetic, way.bias)
    like = Tensor("", (), held, (scale,), chosen.base + chosen.zero)
    made = state.tensor(name, device_shape(wanted.value.shape), like)
    activation = chosen.activation.value
    state.operator(
        Kind.MUL, (left.tensor, right.tensor), made, 2, fusedActivationFunction=activation
    )
    return Stored(made, chosen.zero, Layout.channels_last(wanted.value.shape))
