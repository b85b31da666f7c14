"""The integer graph as a list of hls4ml layers, with an exact precision for every tensor.

Activations travel as integer codes. A Requant that is one shift for all channels costs nothing: the
binary point of the weights moves, and the cast of the result rounds (AP_RND_CONV) and saturates.
Any other Requant becomes a scale layer with a multiplier and an offset that are proven to give the
same codes for every reachable accumulator (flow/requant.py).

hls4ml keeps images channels-last; `Layout` says where each entry of a graph value is found there.
What hls4ml has no layer for is written with those it has, where that is exact: a grouped or dilated
convolution with zeros in its weights, an average pool as a convolution with ones, padding with
another code than 0 between two shifts. The rest is an offence, never left out in silence.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from flow.errors import Offence
from flow.graph import Graph, Node, Value
from flow.ops import (
    Add,
    Concat,
    Conv,
    Dense,
    IntArray,
    MaxPool,
    Movement,
    Mul,
    Pad,
    Relu,
    Requant,
    Shape,
    SumPool,
    Table,
    Threshold,
    Transpose,
    Upsample,
)
from flow.qtype import QType
from flow.requant import Rounding
from targets.hls4ml.layers import Fixed, Kind, Layer, Layout
from targets.hls4ml.rounding import cheapest, saturating, uniform_shift

MAX_CONSTANT_BITS = 53  # hls4ml carries constants as float64
MAX_COMPARATORS = 31  # a step function of more is refused: it is hardware per element


@dataclass(eq=False)
class Lowered:
    """The layers, or the offences that stand in their way."""

    layers: list[Layer] = field(default_factory=list)
    offences: list[Offence] = field(default_factory=list)


class _Refused(Exception):
    """A node that cannot be lowered: why, and what the user can change."""

    def __init__(self, reason: str, fix: str):
        super().__init__(reason)
        self.reason, self.fix = reason, fix


def lower(graph: Graph, *, stream: bool = False) -> Lowered:
    """Lower every node, for io_stream where `stream`; nothing is left out in silence: what has no
    layer is an offence."""
    return _Lowering(graph, stream).run()


class _Lowering:
    """The state of one lowering: the layers so far, and which gives which graph value."""

    def __init__(self, graph: Graph, stream: bool):
        self.graph, self.stream = graph, stream
        self.turned: dict[str, Layout] = {}  # transposed values: where they lie untransposed
        self.result = Lowered()
        self.made: dict[str, Layer] = {}
        self.lost: set[str] = set()  # values whose node was refused, or follows one that was

    def run(self) -> Lowered:
        value = self.graph.input
        self._append(
            Layer(
                Kind.INPUT,
                "input_codes",
                (),
                value.name,
                {"input_shape": _hls_shape(value.shape)},
                {"result": Fixed.of(value.qtype)},
                Layout.of(value.shape),
            )
        )
        for node in self.graph.nodes:
            if node.output.name in self.made:
                continue  # a Requant that its Dense or Conv does already
            if any(name in self.lost for name in node.inputs):
                self.lost.add(node.output.name)
                continue
            try:
                self._lower(node)
            except _Refused as why:
                self.result.offences.append(Offence(node.name, why.reason, why.fix))
                self.lost.add(node.output.name)
        return self.result

    def _append(self, layer: Layer) -> Layer:
        self.result.layers.append(layer)
        if layer.value is not None:
            self.made[layer.value] = layer
        return layer

    def _lower(self, node: Node) -> None:
        op, source = node.op, self.made[node.inputs[0]]
        if isinstance(op, Dense | Conv | SumPool):
            self._multiply(node, op, source)
        elif isinstance(op, Requant):
            self._requant(node, op, source)
        elif isinstance(op, Relu):
            self._relu(node, op, source)
        elif isinstance(op, MaxPool):
            self._max_pool(node, op, source)
        elif isinstance(op, Add):
            self._add(node, op)
        elif isinstance(op, Mul):
            self._mul(node, op)
        elif isinstance(op, Threshold):
            self._threshold(node, op, source)
        elif isinstance(op, Table):
            self._table(node, op, source)
        elif isinstance(op, Movement):
            self._move(node, op)
        else:
            raise _Refused(
                f"hls4ml has no layer that does {op.name} exactly",
                "use another target for this network, or another function there",
            )

    # Products ---------------------------------------------------------------------------------

    def _multiply(self, node: Node, op: Dense | Conv | SumPool, source: Layer) -> None:
        """Dense or Conv, with the Requant behind it where that is one shift for all channels."""
        point, result, form, value = 0, None, "", node.output
        consumers = self.graph.consumers(node.output.name)
        if len(consumers) == 1 and isinstance(consumers[0].op, Requant):
            shift = uniform_shift(self.graph, consumers[0], consumers[0].op)
            if shift is not None:
                point, result = shift
                value, form = consumers[0].output, f"shift {point}, {result.mode.split(',')[0]}"
        if isinstance(op, Dense):
            weight, bias = op.weight, op.bias
            ordered = np.empty_like(weight)
            ordered[:, source.layout.order] = weight
            kind, attributes, data = Kind.DENSE, _dense_attributes(op), ordered.T
        else:
            op, source = self._plain_conv(node, op, source)
            weight, bias = op.weight, op.bias
            given = self.graph.value(node.inputs[0])
            kind, attributes = Kind.CONV, _conv_attributes(op, given, node.output)
            data = weight.transpose(2, 3, 1, 0)  # (kh, kw, in, out)
        unit = 2.0**-point
        attributes |= {"weight_data": data * unit, "bias_data": bias * unit, "use_bias": True}
        accumulator = Fixed.of(self._reachable(node.output), point)
        self._append(
            Layer(
                kind,
                node.name,
                (source.name,),
                value.name,
                attributes,
                {
                    "weight": Fixed.of(_signed_covering(weight), point),
                    "bias": Fixed.of(_signed_covering(bias), point),
                    "accum": accumulator,
                    "result": result or accumulator,
                },
                Layout.of(value.shape),
                form,
                int(np.prod(weight.shape[1:])),
                weight.shape[0],
            )
        )

    def _plain_conv(self, node: Node, op: Conv | SumPool, source: Layer) -> tuple[Conv, Layer]:
        """The same function as a convolution without groups, dilation or odd padding."""
        if isinstance(op, SumPool):
            channels = self.graph.value(node.inputs[0]).shape[0]
            ones = np.ones((1, 1, *op.window), dtype=np.int64)
            weight = np.eye(channels, dtype=np.int64)[:, :, None, None] * ones
            bias = np.zeros(channels, dtype=np.int64)
            op = Conv(weight, bias, op.stride, op.pads, pad_value=op.pad_value)
        weight, bias = _ungrouped(op.weight, op.groups), op.bias
        weight = _undilated(weight, op.dilation)
        if op.pad_value and any(op.pads):
            # conv(x) = conv(x - p) + p * sum(weight), and x - p is padded with 0.
            bias = bias + op.pad_value * weight.sum(axis=(1, 2, 3))
            given = self.graph.value(node.inputs[0])
            low, high = (int(e) - op.pad_value for e in self._ends(given.name))
            source = self._affine(
                f"{node.name}_centre", source, 1, -op.pad_value, min(low, 0), max(high, 0), None
            )
        return Conv(weight, bias, op.stride, op.pads), source

    # Requantization -----------------------------------------------------------------------------

    def _requant(self, node: Node, op: Requant, source: Layer) -> None:
        """A Requant as hls4ml's BatchNormalization: code = cast(acc*scale + bias)."""
        forms = cheapest(self.graph, node, op)
        if forms is None:
            self._comparators(node, op, source)
            return
        mode = "RND_CONV" if forms[0].rounding is Rounding.HALF_EVEN else "TRN"
        result = saturating(self.graph, node, op, mode)
        shift = forms[0].shift
        multipliers = np.array([form.multiplier for form in forms], dtype=object)
        biases = np.array([form.offset for form in forms], dtype=object)
        types = {"scale": _constant_type(multipliers), "bias": _constant_type(biases)}
        for what, qtype in types.items():
            if qtype.bits > MAX_CONSTANT_BITS:
                raise _Refused(
                    f"its {what} needs {qtype.bits} bits, hls4ml carries {MAX_CONSTANT_BITS}",
                    "use fewer output bits or power-of-two scales",
                )
        unit = 2.0**-shift
        clamped = result is not None
        if result is None:
            result = Fixed.of(self._unclamped(node, forms), 0, mode)
        if (multipliers == 1 << shift).all() and not biases.any():
            layer = self._cast(node, source, result, node.output if clamped else None)
            if not clamped:
                self._clamp(node, op, layer)
            return
        layer = self._append(
            Layer(
                Kind.SCALE,
                node.name,
                (source.name,),
                node.output.name if clamped else None,
                self._per_channel(
                    source, multipliers.astype(np.float64) * unit, biases.astype(np.float64) * unit
                ),
                {**{n: Fixed.of(t, shift) for n, t in types.items()}, "result": result},
                Layout(node.output.shape, source.layout.order),
                f"multiplier {max(form.width for form in forms)} bit, shift {shift}, {mode}",
            )
        )
        if not clamped:
            self._clamp(node, op, layer)

    def _cast(self, node: Node, source: Layer, result: Fixed, value: Value | None) -> Layer:
        """The same codes in another type. hls4ml drops scale layers that do nothing, and with them
        their cast; a linear activation keeps it, and goes only where the types are the same."""
        if str(_unrounded(result)) == str(_unrounded(source.precision["result"])):
            if value is None or value.name != self.graph.output.name:
                if value is not None:
                    self.made[value.name] = source
                return source
            result = Fixed(result.bits + 1, result.point, result.signed)  # kept: it is the output
        return self._append(
            Layer(
                Kind.RELU,
                node.name,
                (source.name,),
                None if value is None else value.name,
                {"activation": "linear"},
                {"result": result},
                source.layout,
                "cast",
            )
        )

    def _unclamped(self, node: Node, forms: Any) -> QType:
        """What the forms can give before any clamp."""
        channels = len(forms)
        lows, highs = (np.broadcast_to(b, channels) for b in self.graph.bounds[node.inputs[0]])
        ends = [
            (int(acc) * form.multiplier + form.offset) >> form.shift
            for form, low, high in zip(forms, lows, highs, strict=True)
            for acc in (low, high)
        ]
        return QType.covering(min(ends), max(ends) + 1)  # convergent rounding may go up by one

    def _clamp(self, node: Node, op: Requant, layer: Layer) -> None:
        """clamp(y) by two casts that saturate at 0: b = max(high - y, 0), c = max(span - b, 0),
        which is clamp(y) - low."""
        result = layer.precision["result"]
        least = -(1 << (result.bits - 1)) if result.signed else 0
        span = op.high - op.low
        top = max(op.high - least, 1)
        b = self._affine(f"{node.name}_top", layer, -1, op.high, 0, top, None, "TRN,SAT")
        if op.low == 0:
            self._affine(f"{node.name}_low", b, -1, span, 0, max(span, 1), node.output, "TRN,SAT")
            return
        c = self._affine(f"{node.name}_low", b, -1, span, 0, max(span, 1), None, "TRN,SAT")
        self._affine(f"{node.name}_back", c, 1, op.low, op.low, op.high, node.output)

    def _affine(
        self,
        name: str,
        source: Layer,
        factor: int,
        offset: int | IntArray,
        low: int,
        high: int,
        value: Value | None,
        mode: str = "",
    ) -> Layer:
        """factor*x + offset (one, or one per channel), known to lie in low..high, or saturating to
        that type."""
        return self._append(
            Layer(
                Kind.SCALE,
                name,
                (source.name,),
                None if value is None else value.name,
                self._per_channel(source, factor, offset),
                {
                    "scale": Fixed.of(_constant_type(np.asarray(factor))),
                    "bias": Fixed.of(_constant_type(np.asarray(offset))),
                    "result": Fixed.of(QType.covering(low, high), 0, mode),
                },
                source.layout,
            )
        )

    # Staircases ---------------------------------------------------------------------------------

    def _threshold(self, node: Node, op: Threshold, source: Layer) -> None:
        channels = source.layout.shape[0]
        cuts = np.broadcast_to(op.cuts, (channels, op.cuts.shape[1]))
        firsts = np.full(channels, op.codes[0])
        self._staircase(node, source, cuts, np.diff(op.codes), firsts, np.ones(channels, int))

    def _table(self, node: Node, op: Table, source: Layer) -> None:
        """Any function: it changes at some codes, by some step."""
        low, high = self._ends(node.inputs[0])
        entries = op.entries[low - op.low : high - op.low + 1]
        changes = np.flatnonzero(np.diff(entries))
        channels = source.layout.shape[0]
        cuts = np.broadcast_to(low + 1 + changes, (channels, len(changes)))
        firsts = np.full(channels, entries[0])
        deltas = np.diff(entries)[changes]
        self._staircase(node, source, cuts, deltas, firsts, np.ones(channels, int))

    def _comparators(self, node: Node, op: Requant, source: Layer) -> None:
        """A Requant as its steps themselves, where no multiplier has them."""
        channels = source.layout.shape[0]
        steps = op.steps(channels, self.graph.bounds[node.inputs[0]])
        count = max(len(step.cuts) for step in steps)
        never = 1 + max(abs(end) for end in self._ends(node.inputs[0]))
        cuts = np.full((channels, count), never)
        for row, step in zip(cuts, steps, strict=True):
            row[: len(step.cuts)] = step.cuts
        firsts = np.array([step.first for step in steps])
        signs = np.array([-1 if step.falling else 1 for step in steps])
        self._staircase(node, source, cuts, np.ones(count, int), firsts, signs)

    def _staircase(
        self,
        node: Node,
        source: Layer,
        cuts: IntArray,
        deltas: IntArray,
        firsts: IntArray,
        signs: IntArray,
    ) -> None:
        """first + sum_k deltas[k] * [sign*x >= cuts[channel, k]], with first and sign per channel:
        a comparator a step, and their sum."""
        count = cuts.shape[1]
        limit = 1 if self.stream else MAX_COMPARATORS
        if count > limit:
            raise _Refused(
                f"hls4ml has no layer that does {node.op.name} here, and as {count} comparators it "
                f"is too large (at most {limit} with this io_type)",
                "use fewer bits, power-of-two scales, or io_type=io_parallel",
            )
        total: Layer | None = None
        low = high = 0
        for k, delta in enumerate(int(d) for d in deltas):
            layer = self._comparator(f"{node.name}_step{k}", source, cuts[:, k], signs)
            if delta != 1:
                ends = (min(delta, 0), max(delta, 0))
                layer = self._affine(f"{node.name}_by{k}", layer, delta, 0, *ends, None)
            low, high = low + min(delta, 0), high + max(delta, 0)
            if total is None:
                total = layer
                continue
            total = self._append(
                Layer(
                    Kind.MERGE,
                    f"{node.name}_sum{k}",
                    (total.name, layer.name),
                    None,
                    {"op": "add"},
                    {"result": Fixed.of(QType.covering(low, high))},
                    source.layout,
                )
            )
        if total is None:
            raise _Refused("it is constant", "remove it: its result does not depend on the input")
        ends = (low + int(firsts.min()), high + int(firsts.max()))
        self._affine(node.name, total, 1, firsts, *ends, node.output)

    def _comparator(self, name: str, source: Layer, cuts: IntArray, signs: IntArray) -> Layer:
        """[sign*x >= cut] per channel, as floor((sign*x + 2**shift - cut) / 2**shift), which casts
        to 0 or 1."""
        result = source.precision["result"]
        reach = max(1 << result.bits, int(np.abs(cuts).max()))
        shift = (2 * reach).bit_length()
        unit = 2.0**-shift
        offsets = (1 << shift) - cuts
        return self._append(
            Layer(
                Kind.SCALE,
                name,
                (source.name,),
                None,
                self._per_channel(source, signs * unit, offsets * unit),
                {
                    "scale": Fixed.of(QType(2, signed=True), shift),
                    "bias": Fixed.of(_constant_type(offsets), shift),
                    "result": Fixed(1, 0, False, "TRN,SAT"),
                },
                source.layout,
                f"comparator, shift {shift}",
            )
        )

    @staticmethod
    def _per_channel(source: Layer, scale: Any, bias: Any) -> dict[str, Any]:
        """The attributes of a scale layer; constants per channel (per feature of a vector), in the
        graph's order."""
        shape = source.layout.shape
        vector = len(shape) == 1
        constants = [
            np.broadcast_to(np.asarray(c, dtype=np.float64), shape[:1]) for c in (scale, bias)
        ]
        if vector:
            constants = [source.layout.to_hls(c[None])[0] for c in constants]
        return {
            "n_in": int(np.prod(shape)),
            "n_filt": -1 if vector else shape[0],
            "scale_data": np.ascontiguousarray(constants[0]),
            "bias_data": np.ascontiguousarray(constants[1]),
            "use_gamma": True,
            "use_beta": True,
        }

    def _relu(self, node: Node, op: Relu, source: Layer) -> None:
        if op.zero:
            _, high = self._ends(node.inputs[0])
            top = max(high - op.zero, 1)
            above = self._affine(f"{node.name}_above", source, 1, -op.zero, 0, top, None, "TRN,SAT")
            self._affine(node.name, above, 1, op.zero, op.zero, op.zero + top, node.output)
            return
        self._append(
            Layer(
                Kind.RELU,
                node.name,
                (source.name,),
                node.output.name,
                {"activation": "relu"},
                {"result": Fixed.of(self._reachable(node.output))},
                source.layout,
            )
        )

    # Pools and element-wise sums ----------------------------------------------------------------

    def _max_pool(self, node: Node, op: MaxPool, source: Layer) -> None:
        given, made = self.graph.value(node.inputs[0]), node.output
        height, width = given.shape[1:]
        if self.stream and op.window != op.stride:
            raise _Refused(
                f"hls4ml's io_stream pools need a stride equal to the window, not {op.stride} and "
                f"{op.window}",
                "use io_type=io_parallel, or windows that do not overlap",
            )
        low, high = self._ends(given.name)
        lifted = any(op.pads) and low < 0
        if lifted:  # so that the zeros of the padding never win
            source = self._affine(f"{node.name}_lift", source, 1, -low, 0, high - low, None)
        if any(op.pads):
            source = self._padded(f"{node.name}_pad", source, op.pads, None)
            height, width = source.layout.shape[1:]
        kept = _unrounded(source.precision["result"])
        layer = self._append(
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
                Layout.of(made.shape),
            )
        )
        if lifted:
            self._affine(node.name, layer, 1, low, low, high, made)

    def _add(self, node: Node, op: Add) -> None:
        """Each input on the common grid (a scale layer where its multiplier is not 1), then Merge.
        The bias goes with the first."""
        terms = []
        for place, (name, factor) in enumerate(zip(node.inputs, op.multipliers, strict=True)):
            layer, bias = self.made[name], op.bias if place == 0 else 0
            if factor != 1 or bias:
                if abs(factor).bit_length() > MAX_CONSTANT_BITS:
                    raise _Refused(
                        f"its inputs' common grid needs a {abs(factor).bit_length()}-bit factor",
                        "give both inputs one scale, or scales that are powers of two",
                    )
                ends = [factor * end + bias for end in self._ends(name)]
                layer = self._affine(
                    f"{node.name}_in{place}", layer, factor, bias, min(ends), max(ends), None
                )
            terms.append(layer)
        self._merge(node, "add", terms)

    def _mul(self, node: Node, op: Mul) -> None:
        terms = []
        for place, (name, zero) in enumerate(zip(node.inputs, op.zeros, strict=True)):
            layer = self.made[name]
            if zero:
                low, high = (end - zero for end in self._ends(name))
                layer = self._affine(f"{node.name}_in{place}", layer, 1, -zero, low, high, None)
            terms.append(layer)
        self._merge(node, "multiply", terms)

    def _merge(self, node: Node, kind: str, terms: list[Layer]) -> None:
        if len(terms) != 2 or terms[0] is terms[1]:
            raise _Refused(
                f"it takes {len(terms)} inputs, or one twice; hls4ml merges two different ones",
                "write it as sums of two",
            )
        if not np.array_equal(terms[0].layout.order, terms[1].layout.order):
            raise _Refused("its inputs were flattened differently", "flatten both the same way")
        self._append(
            Layer(
                Kind.MERGE,
                node.name,
                tuple(term.name for term in terms),
                node.output.name,
                {"op": kind},
                {"result": Fixed.of(self._reachable(node.output))},
                Layout(node.output.shape, terms[0].layout.order),
            )
        )

    # Movement -----------------------------------------------------------------------------------

    def _move(self, node: Node, op: Movement) -> None:
        sources = [self.made[name] for name in node.inputs]
        source, made = sources[0], node.output
        if node.inputs[0] in self.turned and len(made.shape) == 1:
            source = replace(source, layout=self.turned[node.inputs[0]])
        if isinstance(op, Concat):
            self._concat(node, op, sources)
        elif isinstance(op, Pad):
            top, left = op.before[-2:]
            bottom, right = op.after[-2:]
            self._pad(node, op.value, source, (top, left, bottom, right))
        elif isinstance(op, Upsample):
            self._upsample(node, source)
        elif self._keeps_order(op, source, made.shape):
            kept = {"result": _unrounded(source.precision["result"])}
            order = source.layout.order[op.index(source.layout.shape).reshape(-1)]
            target = {"target_shape": _hls_shape(made.shape)}
            layout = Layout(made.shape, order)
            self._append(
                Layer(Kind.FLATTEN, node.name, (source.name,), made.name, target, kept, layout)
            )
        elif isinstance(op, Transpose) and len(made.shape) == 3:
            # hls4ml drops a Transpose before a Reshape, which would be another network. A flattened
            # transpose needs no layer: the next weights are read in its order.
            order = source.layout.order[op.index(source.layout.shape).reshape(-1)]
            self.turned[made.name] = Layout(made.shape, order)
            if (
                all(
                    len(user.output.shape) == 1 and isinstance(user.op, Movement)
                    for user in self.graph.consumers(made.name)
                )
                and self.graph.output.name != made.name
            ):
                self.made[made.name] = source
                return
            # Channels-last: axis i of the graph is axis (2, 0, 1)[i] there.
            place = (2, 0, 1)
            axes = [place[op.order[place.index(axis)]] for axis in range(3)]
            self._append(
                Layer(
                    Kind.TRANSPOSE,
                    node.name,
                    (source.name,),
                    made.name,
                    {"perm": axes},
                    {"result": _unrounded(source.precision["result"])},
                    Layout.of(made.shape),
                )
            )
        else:
            raise _Refused(
                f"hls4ml has no layer that does {op.name} here",
                "remove it, or do it on the host before the first or after the last layer",
            )

    @staticmethod
    def _keeps_order(op: Movement, source: Layer, shape: Shape) -> bool:
        """Whether the codes stay where they are in hls4ml's memory: only the shape is new."""
        index = op.index(source.layout.shape).reshape(-1)
        if index.size != source.layout.order.size:
            return False
        if len(shape) == 1:
            return bool((np.sort(index) == np.arange(index.size)).all())
        return np.array_equal(source.layout.order[index], Layout.of(shape).order)

    def _concat(self, node: Node, op: Concat, sources: list[Layer]) -> None:
        if len(sources) != 2 or sources[0] is sources[1]:
            raise _Refused("hls4ml joins two different inputs", "join two at a time")
        made = node.output
        rank = len(made.shape)
        if rank == 1:
            first, second = (source.layout.order for source in sources)
            layout, axis = Layout(made.shape, np.concatenate([first, second + first.size])), 1
        elif rank == 3:
            layout, axis = Layout.of(made.shape), (3, 1, 2)[op.axis]
        else:
            raise _Refused("it joins rows", "join images or vectors")
        self._append(
            Layer(
                Kind.CONCAT,
                node.name,
                tuple(source.name for source in sources),
                made.name,
                {"axis": axis, "op": f"concatenate{rank}d"},
                {"result": Fixed.of(self._reachable(made))},
                layout,
            )
        )

    def _pad(self, node: Node, code: int, source: Layer, pads: tuple[int, int, int, int]) -> None:
        if len(node.output.shape) != 3:
            raise _Refused("it pads what is no image", "pad images")
        if not code:
            self._padded(node.name, source, pads, node.output)
            return
        low, high = (end - code for end in self._ends(node.inputs[0]))
        shifted = self._affine(f"{node.name}_centre", source, 1, -code, low, high, None)
        padded = self._padded(f"{node.name}_pad", shifted, pads, None)
        low, high = self._ends(node.output.name)
        self._affine(node.name, padded, 1, code, low, high, node.output)

    def _padded(
        self, name: str, source: Layer, pads: tuple[int, int, int, int], value: Value | None
    ) -> Layer:
        channels, height, width = source.layout.shape
        top, left, bottom, right = pads
        shape = (channels, height + top + bottom, width + left + right)
        return self._append(
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
                {"result": _unrounded(source.precision["result"])},
                Layout.of(shape),
            )
        )

    def _upsample(self, node: Node, source: Layer) -> None:
        channels, height, width = source.layout.shape
        self._append(
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
                {"result": _unrounded(source.precision["result"])},
                Layout.of(node.output.shape),
            )
        )

    # Ranges -------------------------------------------------------------------------------------

    def _ends(self, name: str) -> tuple[int, int]:
        """The least and the greatest code that a value can hold."""
        low, high = self.graph.bounds[name]
        return int(low.min()), int(high.max())

    def _reachable(self, value: Value) -> QType:
        """The smallest type of everything that the value can be."""
        return QType.covering(*self._ends(value.name))


def _ungrouped(weight: IntArray, groups: int) -> IntArray:
    """(out, in/groups, kh, kw) as (out, in, kh, kw), zero between groups."""
    if groups == 1:
        return weight
    outs, taken, *taps = weight.shape
    full = np.zeros((outs, taken * groups, *taps), dtype=np.int64)
    per = outs // groups
    for group in range(groups):
        rows = slice(group * per, (group + 1) * per)
        full[rows, group * taken : (group + 1) * taken] = weight[rows]
    return full


def _undilated(weight: IntArray, dilation: tuple[int, int]) -> IntArray:
    """Taps `dilation` apart as a larger kernel with zeros between."""
    if dilation == (1, 1):
        return weight
    height, width = ((k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True))
    full = np.zeros((*weight.shape[:2], height, width), dtype=np.int64)
    full[:, :, :: dilation[0], :: dilation[1]] = weight
    return full


def _signed_covering(values: IntArray) -> QType:
    """A signed type of at least 2 bits: hls4ml has special products for narrower ones."""
    return QType.covering(min(int(values.min()), -2), int(values.max()))


def _constant_type(values: Any) -> QType:
    return QType.covering(min(int(values.min()), -2), max(int(values.max()), 1))


def _unrounded(fixed: Fixed) -> Fixed:
    """The same type without rounding and saturation, for layers that only move codes."""
    return Fixed(fixed.bits, fixed.point, fixed.signed)


def _dense_attributes(op: Dense) -> dict[str, Any]:
    return {"n_in": op.weight.shape[1], "n_out": op.weight.shape[0]}


def _conv_attributes(op: Conv, given: Value, made: Value) -> dict[str, Any]:
    top, left, bottom, right = op.pads
    return {
        "data_format": "channels_last",
        "in_height": given.shape[1],
        "in_width": given.shape[2],
        "n_chan": given.shape[0],
        "out_height": made.shape[1],
        "out_width": made.shape[2],
        "n_filt": made.shape[0],
        "filt_height": op.weight.shape[2],
        "filt_width": op.weight.shape[3],
        "stride_height": op.stride[0],
        "stride_width": op.stride[1],
        "pad_top": top,
        "pad_bottom": bottom,
        "pad_left": left,
        "pad_right": right,
        "padding": "same" if any(op.pads) else "valid",
    }


def _hls_shape(shape: Shape) -> list[int]:
    return [*shape[1:], shape[0]]
