"""Pools, and everything that only moves codes or computes with shapes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import UsageError
from flow.importer.lowering import Lowering
from flow.importer.meaning import HostKind, HostStep
from flow.importer.reading import number, whole, wholes, window_of
from flow.importer.tensors import (
    Act,
    Codes,
    FloatInput,
    Quantized,
    Reject,
    Tabulated,
    Tensor,
    shorten,
    spread,
    transposed,
)
from flow.onnx_file import RawNode
from flow.ops import (
    Concat,
    DepthToSpace,
    Flatten,
    MaxPool,
    Pad,
    Reshape,
    Shape,
    Slice,
    SumPool,
    Transpose,
    Upsample,
)

BATCH = 0  # stands for the batch in shape arithmetic; Reshape reads 0 as "as it was"


# Pools ----------------------------------------------------------------------------------------


def max_pool(lowering: Lowering, node: RawNode) -> Tensor:
    act = lowering.activation(node)
    if any(a <= 0 for a in act.a):
        raise Reject("a decreasing scale stands before a max-pool", "use positive BatchNorm scales")
    act, kernel, stride, pads, row = _window(lowering, node, act)
    op = MaxPool(kernel, stride, pads)
    given = lowering.values[act.value]
    value = lowering.emit(node, op, (act.value,), given.scale, given.zero_point)
    return _unrow(lowering, node, replace(act, value=value), row)


def average_pool(lowering: Lowering, node: RawNode) -> Tensor:
    act, kernel, stride, pads, row = _window(lowering, node, lowering.activation(node))
    if any(pads) and not whole(node, "count_include_pad", 0):
        raise Reject(
            "its padding is not counted, so windows at the border divide by another number",
            "use no padding, or count_include_pad=1",
        )
    return _unrow(lowering, node, _average(lowering, node, act, kernel, stride, pads), row)


def global_average(lowering: Lowering, node: RawNode) -> Tensor:
    act = lowering.activation(node)
    shape = lowering.values[act.value].shape
    if len(shape) < 2:
        raise UsageError(f"it averages over the image, but its input is {shape}")
    return _global_average(lowering, node, act)


def _global_average(lowering: Lowering, node: RawNode, act: Act) -> Act:
    act, row = _as_image(lowering, node, act)
    extents = lowering.values[act.value].shape[1:]
    window = (extents[0], extents[1])
    return _unrow(lowering, node, _average(lowering, node, act, window, (1, 1), (0,) * 4), row)


def global_max(lowering: Lowering, node: RawNode) -> Tensor:
    act = lowering.activation(node)
    if any(a <= 0 for a in act.a):
        raise Reject("a decreasing scale stands before a max-pool", "use positive BatchNorm scales")
    act, row = _as_image(lowering, node, act)
    extents = lowering.values[act.value].shape[1:]
    given = lowering.values[act.value]
    op = MaxPool((extents[0], extents[1]), (1, 1))
    value = lowering.emit(node, op, (act.value,), given.scale, given.zero_point)
    return _unrow(lowering, node, replace(act, value=value), row)


def reduce_mean(lowering: Lowering, node: RawNode) -> Tensor:
    """ReduceMean over the whole image: a global average pool."""
    act = lowering.activation(node)
    rank = len(lowering.values[act.value].shape) + 1
    axes = node.attributes.get("axes")
    if len(node.inputs) > 1:
        axes = tuple(int(i) for i in lowering.constant(node, 1, "axes").reshape(-1))
    if not isinstance(axes, tuple) or sorted(int(i) % rank for i in axes) != list(range(2, rank)):
        raise Reject(f"it averages over axes {axes}", "only averages over the whole image are read")
    made = _global_average(lowering, node, act)
    if whole(node, "keepdims", 1):
        return made
    return lowering.move(node, made, Flatten())


def _average(
    lowering: Lowering,
    node: RawNode,
    act: Act,
    window: tuple[int, int],
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
) -> Act:
    """The mean as a sum whose scale is divided by the count."""
    act = lowering.unclipped(node, act)
    given = lowering.values[act.value]
    plain = shorten(tuple(-s * given.zero_point for s in given.scale))
    if any(pads) and (act.a, act.b) != (given.scale, plain):
        raise Reject("it pads a value with a pending float part", "quantize before it")
    count = window[0] * window[1]
    op = SumPool(window, stride, pads, given.zero_point)
    scale = tuple(s / count for s in given.scale)
    value = lowering.emit(node, op, (act.value,), scale, given.zero_point * count)
    # sum(a*q + b)/count = a/count * sum(q) + b
    return Act(value, tuple(a / count for a in act.a), act.b)


def _window(
    lowering: Lowering, node: RawNode, act: Act
) -> tuple[Act, tuple[int, int], tuple[int, int], tuple[int, int, int, int], bool]:
    """(input as an image, window, stride, pads, whether it was a row)."""
    if whole(node, "ceil_mode", 0) or whole(node, "storage_order", 0):
        raise Reject("ceil_mode or storage_order is set", "export without them")
    shape = lowering.values[act.value].shape
    rank = len(shape) - 1
    if rank not in (1, 2):
        raise UsageError(f"a pool needs (C, L) or (C, H, W), not {shape}")
    kernel = wholes(node, "kernel_shape", None)
    dilation = wholes(node, "dilations", (1,) * rank)
    if len(kernel) != rank or any(d != 1 for d in dilation):
        raise Reject(f"its window {kernel} is dilated or does not fit {shape}", "use a plain pool")
    stride, pads = window_of(node, shape[1:], kernel, dilation)
    act, row = _as_image(lowering, node, act)
    if row:
        return act, (1, kernel[0]), (1, stride[0]), (0, pads[0], 0, pads[1]), True
    return act, (kernel[0], kernel[1]), (stride[0], stride[1]), (*pads,), False  # type: ignore[return-value]


def _as_image(lowering: Lowering, node: RawNode, act: Act) -> tuple[Act, bool]:
    """A row (C, L) as an image (C, 1, L); whether it was one."""
    shape = lowering.values[act.value].shape
    if len(shape) == 3:
        return act, False
    if len(shape) != 2:
        raise UsageError(f"it needs (C, L) or (C, H, W), not {shape}")
    return lowering.move(node, act, Reshape((shape[0], 1, shape[1]))), True


def _unrow(lowering: Lowering, node: RawNode, act: Act, row: bool) -> Act:
    if not row:
        return act
    channels, _, length = lowering.values[act.value].shape
    return lowering.move(node, act, Reshape((channels, length)))


# Movement -------------------------------------------------------------------------------------


def flatten(lowering: Lowering, node: RawNode) -> Tensor:
    if whole(node, "axis", 1) != 1:
        raise Reject("axis is not 1", "flatten everything but the batch")
    return _reshape(lowering, node, (BATCH, -1))


def reshape(lowering: Lowering, node: RawNode) -> Tensor:
    target = tuple(int(v) for v in lowering.constant(node, 1, "target shape").reshape(-1))
    return _reshape(lowering, node, target)


def _reshape(lowering: Lowering, node: RawNode, target: tuple[int, ...]) -> Tensor:
    source = lowering.need(node, 0)
    if isinstance(source, np.ndarray):
        kept = [source.shape[i] if v == 0 and i < source.ndim else v for i, v in enumerate(target)]
        try:
            return source.reshape(kept)
        except (ValueError, OverflowError) as error:
            raise UsageError(str(error)) from error
    if isinstance(source, FloatInput):
        shape = _resolved(target, source.shape)
        step = HostStep(HostKind.RESHAPE, tuple(float(v) for v in shape))
        return replace(source, shape=shape, steps=(*source.steps, step))
    act = lowering.activation(node)
    given = lowering.values[act.value].shape
    shape = _resolved(target, given)
    if shape == given:
        return act
    if len(shape) == 1 and len(given) == 3:
        return lowering.move(node, act, Flatten())
    return lowering.move(node, act, Reshape(shape))


def _resolved(target: tuple[int, ...], given: Shape) -> Shape:
    """A Reshape's target without the batch, 0 and -1 resolved."""
    batch = (1, *given)
    shape = [batch[i] if v == 0 and i < len(batch) else v for i, v in enumerate(target)]
    size = prod(given)
    if shape.count(-1) > 1 or any(v < -1 or v == 0 for v in shape) or len(shape) < 2:
        raise Reject(f"it reshapes to {target}", "keep the batch, and at most one -1")
    if shape[0] == -1 and prod(shape[1:]) == size:
        shape[0] = 1
    if -1 in shape:
        known = -prod(shape)
        if size % known:
            raise UsageError(f"{given} cannot be reshaped to {target}")
        shape[shape.index(-1)] = size // known
    if prod(shape) != size:
        raise UsageError(f"{given} cannot be reshaped to {target}")
    if shape[0] != 1:
        raise Reject(f"it reshapes to {target}, mixing batch and samples", "keep the batch first")
    return tuple(shape[1:])


def transpose(lowering: Lowering, node: RawNode) -> Tensor:
    source = lowering.need(node, 0)
    if isinstance(source, np.ndarray | Codes):
        rank = source.ndim if isinstance(source, np.ndarray) else source.codes.ndim
        order = wholes(node, "perm", tuple(reversed(range(rank))), least=0)
        if sorted(order) != list(range(rank)):
            raise UsageError(f"perm {order} does not fit {rank} dimensions")
        return (
            source.transpose(order) if isinstance(source, np.ndarray) else transposed(source, order)
        )
    if isinstance(source, FloatInput):
        order = _order(node, len(source.shape) + 1)
        step = HostStep(HostKind.TRANSPOSE, tuple(float(v) for v in order))
        shape = tuple(source.shape[i - 1] for i in order[1:])
        return replace(source, shape=shape, steps=(*source.steps, step))
    act = lowering.activation(node)
    order = _order(node, len(lowering.values[act.value].shape) + 1)
    if order == tuple(range(len(order))):
        return act
    return lowering.move(node, act, Transpose(tuple(i - 1 for i in order[1:])))


def _order(node: RawNode, rank: int) -> tuple[int, ...]:
    order = wholes(node, "perm", tuple(reversed(range(rank))), least=0)
    if sorted(order) != list(range(rank)):
        raise UsageError(f"perm {order} does not fit {rank} dimensions")
    if order[0] != 0:
        raise Reject(f"it moves the batch: perm {order}", "leave the batch first")
    return order


def pad(lowering: Lowering, node: RawNode) -> Tensor:
    act = lowering.unclipped(node, lowering.activation(node))
    rank = len(lowering.values[act.value].shape)
    if str(node.attributes.get("mode", "constant")) != "constant":
        raise Reject(f"its mode is {node.attributes['mode']}", "pad with a constant")
    if len(node.inputs) > 3 and node.inputs[3]:
        raise Reject("it pads chosen axes", "give pads for every axis")
    pads = node.attributes.get("pads")
    value = Fraction(number(node, "value", 0.0))
    if len(node.inputs) > 1:
        pads = tuple(int(v) for v in lowering.constant(node, 1, "pads").reshape(-1))
    given = lowering.tensor(node, 2)
    if given is not None:
        value = Fraction(float(lowering.constant(node, 2, "value").reshape(-1)[0]))
    if not isinstance(pads, tuple) or len(pads) != 2 * (rank + 1):
        raise UsageError(f"pads {pads} do not fit {rank + 1} dimensions")
    sides = tuple(int(v) for v in pads)
    before, after = sides[1 : rank + 1], sides[rank + 2 :]
    if sides[0] or sides[rank + 1] or any(not 0 <= v < 1 << 12 for v in sides):
        raise Reject(f"it pads by {sides}", "pad images only, by 0 to 4,095")
    if before[0] or after[0] or len(act.a) > 1 or len(act.b) > 1:
        raise Reject("it pads channels, or a per-channel value", "pad images quantized per tensor")
    code = (value - act.b[0]) / act.a[0]
    if code.denominator != 1 or abs(code) >= 1 << 62:
        raise Reject(f"{float(value)} is no code of its input", "pad with 0")
    return lowering.move(node, act, Pad(before, after, int(code)))


def slice_(lowering: Lowering, node: RawNode) -> Tensor:
    source = lowering.need(node, 0)
    parts = [
        [int(v) for v in lowering.constant(node, i, what).reshape(-1)]
        if lowering.tensor(node, i) is not None
        else None
        for i, what in enumerate(("starts", "ends", "axes", "steps"), start=1)
    ]
    starts = parts[0] if parts[0] is not None else list(wholes(node, "starts", None, -(1 << 62)))
    ends = parts[1] if parts[1] is not None else list(wholes(node, "ends", None, -(1 << 62)))
    axes = parts[2] if parts[2] is not None else list(range(len(starts)))
    steps = parts[3] if parts[3] is not None else [1] * len(starts)
    if isinstance(source, np.ndarray):
        rank, full_shape = source.ndim, source.shape
    else:
        given = lowering.values[lowering.activation(node).value].shape
        rank, full_shape = len(given) + 1, (1, *given)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise UsageError("starts, ends, axes and steps are not as many")
    cut = [slice(None)] * rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if not -rank <= axis < rank or step < 1:
            raise Reject(f"it slices axis {axis} by step {step}", "slice forward, inside the rank")
        cut[axis % rank] = slice(start, end, step)
    if isinstance(source, np.ndarray):
        return source[tuple(cut)]
    whole_cut = [s.indices(full_shape[i]) for i, s in enumerate(cut)]
    if whole_cut[0] != (0, 1, 1):
        raise Reject("it slices the batch", "slice samples only")
    places = [tuple(c[i] for c in whole_cut[1:]) for i in range(3)]
    return lowering.move(node, lowering.activation(node), Slice(*places))


def concat(lowering: Lowering, node: RawNode) -> Tensor:
    tensors = [lowering.need(node, i) for i in range(len(node.inputs))]
    axis = node.attributes.get("axis")
    if not isinstance(axis, int):
        raise UsageError("it has no axis")
    if all(isinstance(t, np.ndarray) for t in tensors):
        try:
            return np.concatenate([np.atleast_1d(t) for t in tensors], axis=axis)  # type: ignore[arg-type]
        except ValueError as error:
            raise UsageError(str(error)) from error
    acts = [lowering.unclipped(node, lowering.activation(node, i)) for i in range(len(tensors))]
    rank = len(lowering.values[acts[0].value].shape) + 1
    axis = axis % rank - 1
    if axis < 0:
        raise Reject("it joins along the batch", "join channels or images")
    meanings = {(act.a, act.b) for act in acts}
    sources = tuple(act.value for act in acts)
    first = lowering.values[acts[0].value]
    if len(meanings) == 1 and (len(acts[0].a) == 1 and len(acts[0].b) == 1):
        zero = first.zero_point if first.scale == acts[0].a else 0
        name = lowering.emit(node, Concat(axis), sources, acts[0].a, zero)
        return replace(acts[0], value=name)
    if axis != 0:
        raise Reject(
            "it joins images of different scales", "give both inputs one scale (Brevitas: QuantCat)"
        )
    counts = [lowering.values[act.value].shape[0] for act in acts]
    a = tuple(e for act, n in zip(acts, counts, strict=True) for e in spread(act.a, n))
    b = tuple(e for act, n in zip(acts, counts, strict=True) for e in spread(act.b, n))
    zeros = {lowering.values[act.value].zero_point for act in acts}
    name = lowering.emit(node, Concat(0), sources, a, zeros.pop() if len(zeros) == 1 else 0)
    return Act(name, shorten(a), shorten(b))


def resize(lowering: Lowering, node: RawNode) -> Tensor:
    """Resize and Upsample, nearest neighbour by whole factors."""
    act = lowering.activation(node)
    given = lowering.values[act.value].shape
    if str(node.attributes.get("mode", "nearest")) != "nearest" or len(given) != 3:
        raise Reject("it is not a nearest-neighbour resize of an image", "use mode nearest")
    manner = str(node.attributes.get("coordinate_transformation_mode", "half_pixel"))
    rounding = str(node.attributes.get("nearest_mode", "round_prefer_floor"))
    exact_pairs = {
        ("asymmetric", "floor"),
        ("half_pixel", "round_prefer_floor"),
        ("half_pixel", "round_prefer_ceil"),
        ("pytorch_half_pixel", "round_prefer_floor"),
    }
    if node.op == "Resize" and (manner, rounding) not in exact_pairs:
        raise Reject(
            f"its coordinates are {manner} with {rounding}",
            "use asymmetric with nearest_mode floor",
        )
    sizes = lowering.tensor(node, 3)
    if sizes is not None:
        wanted = [int(v) for v in lowering.constant(node, 3, "sizes").reshape(-1)]
        if len(wanted) != 4 or wanted[1] != given[0]:
            raise Reject(f"its sizes are {wanted} for {given}", "size height and width only")
        factors = [Fraction(w, extent) for w, extent in zip(wanted[2:], given[1:], strict=True)]
    else:
        place = 1 if node.op == "Upsample" else 2
        scales = lowering.constant(node, place, "scales").reshape(-1)
        if scales.size != 4 or (scales[:2] != 1).any():
            raise Reject(f"its scales are {scales.tolist()}", "scale height and width only")
        factors = [Fraction(float(s)) for s in scales[2:]]
    if any(f.denominator != 1 or not 1 <= f < 1 << 10 for f in factors):
        raise Reject(f"its factors are {[float(f) for f in factors]}", "use whole factors")
    return lowering.move(node, act, Upsample((int(factors[0]), int(factors[1]))))


def depth_to_space(lowering: Lowering, node: RawNode) -> Tensor:
    block = whole(node, "blocksize", 0)
    mode = str(node.attributes.get("mode", "DCR"))
    if block < 1 or mode not in ("DCR", "CRD"):
        raise UsageError(f"blocksize {block}, mode {mode!r} are not ONNX's")
    return lowering.move(node, lowering.activation(node), DepthToSpace(block, mode == "CRD"))


# Shape arithmetic -----------------------------------------------------------------------------


def shape_of(lowering: Lowering, node: RawNode) -> Tensor:
    source = lowering.need(node, 0)
    if isinstance(source, np.ndarray):
        return np.array(source.shape, dtype=np.int64)
    if isinstance(source, FloatInput):
        return np.array([BATCH, *source.shape], dtype=np.int64)
    if isinstance(source, Act | Tabulated):
        return np.array([BATCH, *lowering.values[source.value].shape], dtype=np.int64)
    raise Reject("it asks for the shape of something quantized twice", "export fixed shapes")


def gather(lowering: Lowering, node: RawNode) -> Tensor:
    data, index = (lowering.constant(node, i, "input") for i in (0, 1))
    try:
        taken = np.take(data, index.astype(np.int64), axis=whole(node, "axis", 0))
        return np.asarray(taken)  # numpy gives a scalar where the index is one
    except (IndexError, ValueError) as error:
        raise UsageError(str(error)) from error


def unsqueeze(lowering: Lowering, node: RawNode) -> Tensor:
    data, axes = lowering.constant(node, 0, "input"), _axes(lowering, node)
    try:
        return np.expand_dims(data, axes)
    except (ValueError, IndexError) as error:
        raise UsageError(str(error)) from error


def squeeze(lowering: Lowering, node: RawNode) -> Tensor:
    source = lowering.need(node, 0)
    axes = _axes(lowering, node)
    if isinstance(source, np.ndarray):
        try:
            return np.squeeze(source, axes or None)
        except (ValueError, IndexError) as error:
            raise UsageError(str(error)) from error
    act = lowering.activation(node)
    given = lowering.values[act.value].shape
    chosen = {a % (len(given) + 1) - 1 for a in axes} or {i for i, e in enumerate(given) if e == 1}
    if any(i < 0 or given[i] != 1 for i in chosen):
        raise UsageError(f"axes {axes} of {given} are not of extent 1")
    kept = tuple(extent for i, extent in enumerate(given) if i not in chosen)
    return lowering.move(node, act, Reshape(kept or (1,)))


def _axes(lowering: Lowering, node: RawNode) -> tuple[int, ...]:
    if len(node.inputs) > 1:
        return tuple(int(v) for v in lowering.constant(node, 1, "axes").reshape(-1))
    axes = node.attributes.get("axes", ())
    return tuple(int(v) for v in axes) if isinstance(axes, tuple) else ()


def cast(lowering: Lowering, node: RawNode) -> Tensor:
    """A cast of a constant; of an activation only to a float type, where it means nothing."""
    source = lowering.need(node, 0)
    kind = _CASTS.get(whole(node, "to", 0))
    if kind is None:
        raise Reject("it casts to a type that is not read", "cast to float32 or int64")
    if isinstance(source, np.ndarray):
        converted: NDArray[Any] = source.astype(kind)
        return converted
    if kind in ("float32", "float64") and not isinstance(source, Quantized):
        return replace(source, codes=None) if isinstance(source, FloatInput) else source
    raise Reject("it casts an activation to integers", "use a quantizer instead")


_CASTS = {1: "float32", 6: "int32", 7: "int64", 11: "float64"}


def identity(lowering: Lowering, node: RawNode) -> Tensor:
    return lowering.need(node, 0)
