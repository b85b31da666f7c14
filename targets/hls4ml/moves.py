"""Max-pools, sums and products of activations, and everything that only moves codes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flow.graph import Node, Value
from flow.layout import Layout
from flow.ops import (
    Add,
    Concat,
    MaxPool,
    Movement,
    Mul,
    Pad,
    Shape,
    Transpose,
    Upsample,
)
from targets.hls4ml.layers import SIGN, Fixed, Kind, Layer, hls_shape, unrounded
from targets.hls4ml.scale_layer import affine
from targets.hls4ml.state import MAX_CONSTANT_BITS, Refused, State


def max_pool(state: State, node: Node, op: MaxPool, source: Layer) -> None:
    given, made = state.graph.value(node.inputs[0]), node.output
    height, width = given.shape[1:]
    if state.stream and op.window != op.stride:
        raise Refused(
            f"hls4ml's io_stream pools need a stride equal to the window, not {op.stride} and "
            f"{op.window}",
            "use io_type=io_parallel, or windows that do not overlap",
        )
    low, high = state.ends(given.name)
    lifted = any(op.pads) and low < 0 and not source.signs
    if lifted:  # so that the zeros of the padding never win
        source = affine(state, f"{node.name}_lift", source, 1, -low, 0, high - low, None)
    if any(op.pads):
        source = padded(state, f"{node.name}_pad", source, op.pads, None)
        height, width = source.layout.shape[1:]
    kept = unrounded(source.precision["result"])
    layer = state.append(
        Layer(
            Kind.POOL,
            f"{node.name}_max" if lifted else node.name,
            (source.name,),
            None if lifted else made.name,
            {
                "data_format": "channels_last",
                "in_height": height,
                "in_width": width,
                "out_height": made.shape[1],
                "out_width": made.shape[2],
                "n_filt": given.shape[0],
                "pool_height": op.window[0],
                "pool_width": op.window[1],
                "stride_height": op.stride[0],
                "stride_width": op.stride[1],
                "pad_top": 0,
                "pad_bottom": 0,
                "pad_left": 0,
                "pad_right": 0,
                "padding": "valid",
            },
            {"result": kept, "accum": kept},
            Layout.channels_last(made.shape),
        )
    )
    if lifted:
        affine(state, node.name, layer, 1, low, low, high, made)


def add(state: State, node: Node, op: Add) -> None:
    """Each input on the common grid (a scale layer where its multiplier is not 1), then Merge.
    The bias goes with the first."""
    terms = []
    for place, (name, factor) in enumerate(zip(node.inputs, op.multipliers, strict=True)):
        layer, bias = state.made[name], op.bias if place == 0 else 0
        if factor != 1 or bias:
            if abs(factor).bit_length() > MAX_CONSTANT_BITS:
                raise Refused(
                    f"its inputs' common grid needs a {abs(factor).bit_length()}-bit factor",
                    "give both inputs one scale, or scales that are powers of two",
                )
            ends = [factor * end + bias for end in state.ends(name)]
            layer = affine(
                state, f"{node.name}_in{place}", layer, factor, bias, min(ends), max(ends), None
            )
        terms.append(layer)
    merge(state, node, "add", terms)


def mul(state: State, node: Node, op: Mul) -> None:
    terms = []
    for place, (name, zero) in enumerate(zip(node.inputs, op.zeros, strict=True)):
        layer = state.made[name]
        if zero:
            low, high = (end - zero for end in state.ends(name))
            layer = affine(state, f"{node.name}_in{place}", layer, 1, -zero, low, high, None)
        terms.append(layer)
    merge(state, node, "multiply", terms)


def merge(state: State, node: Node, kind: str, terms: list[Layer]) -> None:
    if len(terms) != 2 or terms[0] is terms[1]:
        raise Refused(
            f"it takes {len(terms)} inputs, or one twice; hls4ml merges two different ones",
            "write it as sums of two",
        )
    if not np.array_equal(terms[0].layout.order, terms[1].layout.order):
        raise Refused("its inputs were flattened differently", "flatten both the same way")
    state.append(
        Layer(
            Kind.MERGE,
            node.name,
            tuple(term.name for term in terms),
            node.output.name,
            {"op": kind},
            {"result": Fixed.of(state.reachable(node.output))},
            Layout(node.output.shape, terms[0].layout.order),
        )
    )


def move(state: State, node: Node, op: Movement) -> None:
    sources = [state.made[name] for name in node.inputs]
    source, made = sources[0], node.output
    if node.inputs[0] in state.turned and len(made.shape) == 1:
        source = replace(source, layout=state.turned[node.inputs[0]])
    if isinstance(op, Concat):
        concat(state, node, op, sources)
    elif isinstance(op, Pad):
        top, left = op.before[-2:]
        bottom, right = op.after[-2:]
        pad_image(state, node, op.value, source, (top, left, bottom, right))
    elif isinstance(op, Upsample):
        upsample(state, node, source)
    elif keeps_order(op, source, made.shape):
        kept = {"result": unrounded(source.precision["result"])}
        order = source.layout.order[op.index(source.layout.shape).reshape(-1)]
        target = {"target_shape": hls_shape(made.shape)}
        layout = Layout(made.shape, order)
        state.append(
            Layer(Kind.FLATTEN, node.name, (source.name,), made.name, target, kept, layout)
        )
    elif isinstance(op, Transpose) and len(made.shape) == 3:
        # hls4ml drops a Transpose before a Reshape, which would be another network. A flattened
        # transpose needs no layer: the next weights are read in its order.
        order = source.layout.order[op.index(source.layout.shape).reshape(-1)]
        state.turned[made.name] = Layout(made.shape, order)
        if (
            all(
                len(user.output.shape) == 1 and isinstance(user.op, Movement)
                for user in state.graph.consumers(made.name)
            )
            and state.graph.output.name != made.name
        ):
            state.made[made.name] = source
            return
        if state.stream and not state.facts.stream_transpose:
            raise Refused(
                "hls4ml's headers for this backend transpose no stream",
                "use io_type=io_parallel, backend=Vitis, or do it on the host",
            )
        # Channels-last: axis i of the graph is axis (2, 0, 1)[i] there.
        place = (2, 0, 1)
        axes = [place[op.order[place.index(axis)]] for axis in range(3)]
        state.append(
            Layer(
                Kind.TRANSPOSE,
                node.name,
                (source.name,),
                made.name,
                {"perm": axes},
                {"result": unrounded(source.precision["result"])},
                Layout.channels_last(made.shape),
            )
        )
    else:
        raise Refused(
            f"hls4ml has no layer that does {op.name} here",
            "remove it, or do it on the host before the first or after the last layer",
        )


def keeps_order(op: Movement, source: Layer, shape: Shape) -> bool:
    """Whether the codes stay where they are in hls4ml's memory: only the shape is new."""
    index = op.index(source.layout.shape).reshape(-1)
    if index.size != source.layout.order.size:
        return False
    if len(shape) == 1:
        return bool((np.sort(index) == np.arange(index.size)).all())
    return np.array_equal(source.layout.order[index], Layout.channels_last(shape).order)


def concat(state: State, node: Node, op: Concat, sources: list[Layer]) -> None:
    if len(sources) != 2 or sources[0] is sources[1]:
        raise Refused("hls4ml joins two different inputs", "join two at a time")
    made = node.output
    rank = len(made.shape)
    if rank == 1 and state.stream and not state.facts.stream_join_vectors:
        raise Refused(
            "hls4ml's headers for this backend join vectors wrongly in io_stream",
            "use io_type=io_parallel, or backend=Vitis",
        )
    if rank == 1:
        first, second = (source.layout.order for source in sources)
        layout, axis = Layout(made.shape, np.concatenate([first, second + first.size])), 1
    elif rank == 3:
        layout, axis = Layout.channels_last(made.shape), (3, 1, 2)[op.axis]
    else:
        raise Refused("it joins rows", "join images or vectors")
    state.append(
        Layer(
            Kind.CONCAT,
            node.name,
            tuple(source.name for source in sources),
            made.name,
            {"axis": axis, "op": f"concatenate{rank}d"},
            {"result": SIGN if sources[0].signs else Fixed.of(state.reachable(made))},
            layout,
        )
    )


def pad_image(
    state: State, node: Node, code: int, source: Layer, pads: tuple[int, int, int, int]
) -> None:
    if len(node.output.shape) != 3:
        raise Refused("it pads what is no image", "pad images")
    if not code:
        padded(state, node.name, source, pads, node.output)
        return
    low, high = (end - code for end in state.ends(node.inputs[0]))
    shifted = affine(state, f"{node.name}_centre", source, 1, -code, low, high, None)
    wider = padded(state, f"{node.name}_pad", shifted, pads, None)
    low, high = state.ends(node.output.name)
    affine(state, node.name, wider, 1, code, low, high, node.output)


def padded(
    state: State, name: str, source: Layer, pads: tuple[int, int, int, int], value: Value | None
) -> Layer:
    channels, height, width = source.layout.shape
    top, left, bottom, right = pads
    shape = (channels, height + top + bottom, width + left + right)
    return state.append(
        Layer(
            Kind.PAD,
            name,
            (source.name,),
            None if value is None else value.name,
            {
                "data_format": "channels_last",
                "in_height": height,
                "in_width": width,
                "out_height": shape[1],
                "out_width": shape[2],
                "n_chan": channels,
                "pad_top": top,
                "pad_bottom": bottom,
                "pad_left": left,
                "pad_right": right,
            },
            {"result": unrounded(source.precision["result"])},
            Layout.channels_last(shape),
        )
    )


def upsample(state: State, node: Node, source: Layer) -> None:
    channels, height, width = source.layout.shape
    state.append(
        Layer(
            Kind.RESIZE,
            node.name,
            (source.name,),
            node.output.name,
            {
                "data_format": "channels_last",
                "in_height": height,
                "in_width": width,
                "out_height": node.output.shape[1],
                "out_width": node.output.shape[2],
                "n_chan": channels,
                "algorithm": "nearest",
            },
            {"result": unrounded(source.precision["result"])},
            Layout.channels_last(node.output.shape),
        )
    )
