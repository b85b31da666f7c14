"""Lowers a QONNX file node by node: one method an operation, one table from ONNX names to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import Offence, Unsupported, UsageError
from flow.graph import Graph, Node, Value
from flow.importer.meaning import HostInput, HostOutput, Imported
from flow.importer.reading import first_bad, full_name, layer_name, pair, quad, rounding_of, unique
from flow.importer.tensors import (
    Act,
    Codes,
    FloatInput,
    Poison,
    Quantizer,
    Rationals,
    Reject,
    Tensor,
    broadcast,
    paired,
    per_channel,
    shorten,
    transposed,
)
from flow.onnx_file import OnnxFile, RawNode
from flow.ops import Bounds, Conv, Dense, Flatten, IntArray, MaxPool, Op, Relu, Requant, Shape
from flow.qtype import QType

QONNX_DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
BIAS_TOLERANCE = Fraction(1, 1 << 22)  # float32 scales s_b and s_x*s_w that mean the same grid
MAX_QUANT_BITS = 32
LEAST_SCALE = 2.0**-100  # and its inverse the greatest: beyond them float32 loses digits
ZERO = Fraction(0)


class Lowering:
    def __init__(self, file: OnnxFile, name: str):
        self.file = file
        self.name = name
        self.tensors: dict[str, Tensor] = dict(file.constants)
        self.input: Value | None = None
        self.head: HostInput | None = None
        self.nodes: list[Node] = []
        self.values: dict[str, Value] = {}
        self.bounds: dict[str, Bounds] = {}
        self.names: set[str] = set()
        self.offences: list[Offence] = []

    def run(self) -> Imported:
        if len(self.file.inputs) != 1:
            names = ", ".join(i.name for i in self.file.inputs) or "none"
            raise UsageError(f"{self.file.path}: one input is read, not {names}")
        if len(self.file.outputs) != 1:
            raise UsageError(f"{self.file.path}: one output is read, not {len(self.file.outputs)}")
        self.input_shape = self._input_shape()
        self.tensors[self.file.inputs[0].name] = FloatInput()
        for node in self.file.nodes:
            self._visit(node)
        result = self.tensors[self.file.outputs[0]]
        if not self.offences and not isinstance(result, Act):
            self.offences.append(
                Offence(
                    self.file.outputs[0],
                    "the output is not computed from a quantized input",
                    "quantize the input (Brevitas: QuantIdentity before the first layer)",
                )
            )
        if self.offences:
            raise Unsupported(f"{self.file.path}: cannot be lowered to integers", self.offences)
        assert isinstance(result, Act) and self.input is not None and self.head is not None
        graph = Graph(self.name, self.input, tuple(self.nodes), self.bounds)
        if graph.output.name != result.value:
            raise UsageError(f"{self.file.path}: the output is not the last thing computed")
        tail = HostOutput(result.a, result.b, result.low, result.high, result.softmax)
        return Imported(graph, self.head, tail, dict(self._origin()))

    def _origin(self) -> Iterator[tuple[str, str]]:
        """Graph values whose meaning is exactly one tensor's: no float part is pending."""
        for name, tensor in self.tensors.items():
            if not isinstance(tensor, Act) or tensor.low is not None or tensor.high is not None:
                continue
            value = self.values[tensor.value]
            plain = tuple(-scale * value.zero_point for scale in value.scale)
            if tensor.a == value.scale and shorten(tensor.b) == shorten(plain):
                yield tensor.value, name

    def _input_shape(self) -> Shape:
        source = self.file.inputs[0]
        shape = source.shape[1:]
        if not shape or any(extent is None or extent < 1 for extent in shape):
            raise UsageError(
                f"{self.file.path}: input {source.name!r} must have a batch and then fixed "
                f"dimensions, not {source.shape}; export with a fixed input shape"
            )
        return tuple(int(extent) for extent in shape if extent is not None)

    def _visit(self, node: RawNode) -> None:
        inputs = [self.tensors[name] for name in node.inputs if name]
        out: Tensor
        handler = _HANDLERS.get((node.op, node.domain in QONNX_DOMAINS))
        try:
            if handler is None:
                raise Reject(f"the operation {full_name(node)} is not supported", _SUPPORTED)
            if node.domain and node.domain not in QONNX_DOMAINS:
                raise Reject(f"the domain {node.domain!r} is not known", "use QONNX's own nodes")
            if any(isinstance(tensor, Poison) for tensor in inputs):
                self._check_weight(node)
                out = Poison()
            else:
                out = handler(self, node)
        except Reject as why:
            self.offences.append(Offence(f"{node.name} ({node.op})", why.reason, why.fix))
            out = Poison()
        except UsageError as error:
            raise UsageError(f"{self.file.path}: node {node.name} ({node.op}): {error}") from error
        except IndexError as error:
            raise UsageError(
                f"{self.file.path}: node {node.name} ({node.op}) has too few inputs"
            ) from error
        for name in node.outputs:
            self.tensors[name] = out

    def _check_weight(self, node: RawNode) -> None:
        """Behind a layer that was refused: float weights are still worth listing."""
        if node.op in ("Gemm", "MatMul", "Conv") and len(node.inputs) > 1:
            tensor = self.tensors[node.inputs[1]]
            if isinstance(tensor, np.ndarray):
                self._weight(tensor)

    # Building blocks -------------------------------------------------------------------------

    def _emit(self, node: RawNode, op: Op, source: str, scale: Rationals, zero_point: int) -> str:
        """Append `op` to the graph; its output's type is the smallest that holds its bounds."""
        name = unique(layer_name(node), self.names)
        given = self.values[source]
        shape = op.output_shape(given.shape)
        try:
            low, high = op.bounds(given.shape, self.bounds[source])
            qtype = QType.covering(int(low.min()), int(high.max()))
        except ValueError as error:
            raise UsageError(str(error)) from error
        if isinstance(op, Requant):
            qtype = op.qtype
        value = Value(name, shape, qtype, scale, zero_point)
        self.nodes.append(Node(name, op, source, value))
        self.values[name], self.bounds[name] = value, (low, high)
        return name

    def _plain(self, act: Act, what: str) -> tuple[Act, Fraction, int]:
        """The activation as scale*(code - zero_point) with one scale: what a multiplication needs.
        A pending ReLU becomes a node."""
        if len(set(act.a)) > 1:
            raise Reject(
                f"its {what} has one scale per channel, so one integer sum cannot hold it",
                "quantize activations per tensor",
            )
        scale = act.a[0]
        zero = -act.b[0] / scale if scale else ZERO
        if scale <= 0 or len(set(act.b)) > 1 or zero.denominator != 1 or act.softmax:
            raise Reject(
                f"its {what} is a float result that no quantizer follows",
                "put a quantizer (Brevitas: QuantIdentity or QuantReLU) before this layer",
            )
        if act.high is not None or act.low not in (None, ZERO):
            raise Reject(f"its {what} is clipped but not quantized", "quantize it first")
        return act, scale, int(zero)

    def _constant(self, node: RawNode, index: int, what: str) -> NDArray[Any]:
        tensor = self.tensors[node.inputs[index]] if index < len(node.inputs) else None
        if not isinstance(tensor, np.ndarray):
            raise Reject(f"its {what} is not a constant", f"export with a constant {what}")
        return tensor

    def _weight(self, tensor: Tensor) -> Codes:
        if isinstance(tensor, np.ndarray):
            raise Reject(
                "its weights are float, not quantized",
                "train with quantized weights (Brevitas: weight_quant), then export again",
            )
        if not isinstance(tensor, Codes):
            raise Reject(
                "its second input is computed, not a weight", "only constant weights are supported"
            )
        return tensor

    def _bias(self, tensor: Tensor | None, scale: Rationals) -> tuple[IntArray, Rationals]:
        """A bias as codes on the accumulator's grid, and what of it does not lie on that grid."""
        channels = len(scale)
        if tensor is None:
            return np.zeros(channels, dtype=np.int64), (ZERO,)
        if isinstance(tensor, Codes):
            codes = np.broadcast_to(tensor.codes.reshape(-1), (channels,))
            own = np.broadcast_to(tensor.scale.reshape(-1), (channels,))
            grid = [Fraction(float(s)) for s in own]
            if all(abs(s - g) <= BIAS_TOLERANCE * g for s, g in zip(scale, grid, strict=True)):
                return codes.astype(np.int64), (ZERO,)
            reals = [int(c) * g for c, g in zip(codes, grid, strict=True)]
        elif isinstance(tensor, np.ndarray):
            flat = np.broadcast_to(tensor.reshape(-1), (channels,))
            reals = [Fraction(float(x)) for x in flat]
        else:
            raise Reject("its bias is computed, not a constant", "export with a constant bias")
        exact = [real / s for real, s in zip(reals, scale, strict=True)]
        if all(x.denominator == 1 for x in exact):
            return np.array([int(x) for x in exact], dtype=np.int64), (ZERO,)
        return np.zeros(channels, dtype=np.int64), tuple(reals)

    # Operations -------------------------------------------------------------------------------

    def quant(self, node: RawNode) -> Tensor:
        source = self.tensors[node.inputs[0]]
        if len(node.inputs) < 4:
            raise UsageError("a Quant needs four inputs: x, scale, zero-point, bit width")
        scale = self._constant(node, 1, "scale").astype(np.float32)
        zero = self._constant(node, 2, "zero-point").astype(np.float64)
        bits = self._constant(node, 3, "bit width").astype(np.float64)
        if not (scale.size and (scale >= LEAST_SCALE).all() and (scale <= 1 / LEAST_SCALE).all()):
            raise UsageError(
                f"its scale must be positive and finite (2^-100 to 2^100), not {first_bad(scale)}"
            )
        if bits.size != 1 or float(bits.reshape(-1)[0]) % 1:
            raise UsageError("its bit width must be one whole number")
        if zero.size != 1 or float(zero.reshape(-1)[0]) % 1:
            raise Reject("its zero-point is not one whole number", "use one zero-point per tensor")
        width, signed = int(bits.reshape(-1)[0]), bool(node.attributes.get("signed", 1))
        if not (2 if signed else 1) <= width <= MAX_QUANT_BITS:
            raise Reject(
                f"its bit width is {width}", f"use 2 to {MAX_QUANT_BITS} bits (1 if unsigned)"
            )
        quantizer = Quantizer(
            scale,
            int(zero.reshape(-1)[0]),
            QType(width, signed, bool(node.attributes.get("narrow", 0))),
            rounding_of(node),
        )
        if isinstance(source, np.ndarray):
            return quantizer.codes(source)
        if isinstance(source, FloatInput):
            return self._quantize_input(node, quantizer)
        if isinstance(source, Act):
            return self._requantize(node, source, quantizer)
        raise Reject("it quantizes what is quantized already", "remove one of the two quantizers")

    def _quantize_input(self, node: RawNode, quantizer: Quantizer) -> Act:
        if self.input is not None:
            raise Reject("the input is quantized a second time", "quantize the input once")
        if quantizer.scale.size != 1:
            raise Reject("the input has one scale per channel", "quantize the input per tensor")
        scale = Fraction(float(quantizer.scale.reshape(-1)[0]))
        zero = quantizer.zero
        name = unique(layer_name(node), self.names)
        self.input = Value(name, self.input_shape, quantizer.qtype, (scale,), zero)
        self.values[name] = self.input
        one = np.ones(1, dtype=np.int64)
        self.bounds[name] = one * quantizer.qtype.low, one * quantizer.qtype.high
        self.head = HostInput(float(scale), zero, quantizer.rounding, quantizer.qtype)
        return Act(name, (scale,), (-scale * zero,))

    def _requantize(self, node: RawNode, act: Act, quantizer: Quantizer) -> Act:
        if act.softmax:
            raise Reject("it quantizes a softmax", "leave the softmax to the host, unquantized")
        channels = self.values[act.value].shape[0]
        rank = len(self.values[act.value].shape)
        scales = per_channel(quantizer.scale, channels, rank, axis=1)
        zero, qtype, rounding = quantizer.zero, quantizer.qtype, quantizer.rounding
        a, b = broadcast(act.a, scales), broadcast(act.b, scales)
        low, high = qtype.low, qtype.high
        # A clip before a monotone rounding is a clamp of the codes after it.
        if act.low is not None or act.high is not None:
            if len(set(scales)) > 1:
                raise Reject("a clip before one scale per channel", "quantize per tensor")
            if act.low is not None:
                low = min(max(low, rounding.apply(act.low / scales[0] + zero)), high)
            if act.high is not None:
                high = max(min(high, rounding.apply(act.high / scales[0] + zero)), low)
        op = Requant(
            shorten(tuple(x / s for x, s in paired(a, scales))),
            shorten(tuple(x / s for x, s in paired(b, scales))),
            qtype,
            low,
            high,
            rounding,
            zero,
        )
        name = self._emit(node, op, act.value, scales, zero)
        return Act(name, scales, tuple(-s * zero for s in scales))

    def dense(self, node: RawNode) -> Tensor:
        """MatMul and Gemm; ONNX weights are (in, out) unless transB."""
        source, weight = self.tensors[node.inputs[0]], self.tensors[node.inputs[1]]
        if not isinstance(source, Act):
            raise Reject(*_unquantized_input())
        for name, neutral in (("alpha", 1.0), ("beta", 1.0), ("transA", 0)):
            if node.attributes.get(name, neutral) != neutral:
                raise Reject(f"{name} is {node.attributes[name]}", f"export with {name}={neutral}")
        codes = self._weight(weight)
        if codes.codes.ndim != 2:
            raise Reject(f"its weight has {codes.codes.ndim} dimensions", "use a 2-D weight")
        turned = codes if node.attributes.get("transB", 0) else transposed(codes)
        bias = self.tensors[node.inputs[2]] if len(node.inputs) > 2 else None
        return self._multiply(node, source, turned, bias, lambda w, b, zero: Dense(w, b))

    def conv(self, node: RawNode) -> Tensor:
        source, weight = self.tensors[node.inputs[0]], self.tensors[node.inputs[1]]
        if not isinstance(source, Act):
            raise Reject(*_unquantized_input())
        codes = self._weight(weight)
        if codes.codes.ndim != 4:
            raise Reject(f"its weight has {codes.codes.ndim} dimensions", "use a 2-D convolution")
        if node.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            raise Reject("auto_pad is set", "export with explicit pads")
        stride = pair(node, "strides", (1, 1))
        dilation = pair(node, "dilations", (1, 1))
        pads = quad(node, "pads")
        groups = node.attributes.get("group", 1)
        kernel = node.attributes.get("kernel_shape", codes.codes.shape[2:])
        if kernel != tuple(codes.codes.shape[2:]):
            raise UsageError(f"kernel_shape {kernel} is not its weight's {codes.codes.shape[2:]}")
        if not isinstance(groups, int) or groups < 1:
            raise UsageError(f"group must be a positive whole number, not {groups!r}")
        bias = self.tensors[node.inputs[2]] if len(node.inputs) > 2 and node.inputs[2] else None
        return self._multiply(
            node,
            source,
            codes,
            bias,
            lambda w, b, zero: Conv(w, b, stride, pads, dilation, groups, zero),
        )

    def _multiply(
        self,
        node: RawNode,
        source: Act,
        weight: Codes,
        bias: Tensor | None,
        make: Callable[[IntArray, IntArray, int], Op],
    ) -> Act:
        act, scale, zero = self._plain(source, "input")
        if act.low is not None:
            floor = self._emit(node, Relu(zero), act.value, (scale,), zero)
            act = replace(act, value=floor, low=None)
        outs = weight.codes.shape[0]
        weight_scale = per_channel(weight.scale, outs, weight.codes.ndim - 1, axis=0)
        scales = tuple(scale * s for s in weight_scale)
        # The offset goes with full channels, the scale is shortened again for the value.
        codes, rest = self._bias(bias, scales if len(scales) == outs else scales * outs)
        sums = weight.codes.reshape(outs, -1).sum(axis=1)
        op = make(weight.codes, codes - zero * sums, zero)
        name = self._emit(node, op, act.value, shorten(scales), 0)
        return Act(name, shorten(scales), shorten(rest))

    def relu(self, node: RawNode) -> Tensor:
        act = self._activation(node)
        return replace(act, low=max(act.low, ZERO) if act.low is not None else ZERO)

    def max_pool(self, node: RawNode) -> Tensor:
        act = self._activation(node)
        if any(a <= 0 for a in act.a):
            raise Reject("a decreasing scale stands before a max-pool", "use positive BatchNorm")
        if node.attributes.get("ceil_mode", 0) or node.attributes.get("storage_order", 0):
            raise Reject("ceil_mode or storage_order is set", "export without them")
        if pair(node, "dilations", (1, 1)) != (1, 1):
            raise Reject("it is dilated", "use a pool without dilation")
        if node.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            raise Reject("auto_pad is set", "export with explicit pads")
        kernel = pair(node, "kernel_shape", None)
        op = MaxPool(kernel, pair(node, "strides", (1, 1)), quad(node, "pads"))
        given = self.values[act.value]
        return replace(act, value=self._emit(node, op, act.value, given.scale, given.zero_point))

    def flatten(self, node: RawNode) -> Tensor:
        act = self._activation(node)
        if node.attributes.get("axis", 1) != 1:
            raise Reject("axis is not 1", "flatten everything but the batch")
        return self._flat(node, act)

    def reshape(self, node: RawNode) -> Tensor:
        act = self._activation(node)
        target = self._constant(node, 1, "target shape").reshape(-1).tolist()
        given = self.values[act.value].shape
        if len(target) != 2 or target[1] not in (-1, int(np.prod(given))):
            raise Reject(f"it reshapes to {target}", "only flattening to (batch, features) is read")
        return self._flat(node, act)

    def _flat(self, node: RawNode, act: Act) -> Act:
        given = self.values[act.value]
        if len(given.shape) == 1:
            return act
        repeats = int(np.prod(given.shape[1:]))

        def spread(entries: Rationals) -> Rationals:
            return (
                entries if len(entries) == 1 else tuple(x for x in entries for _ in range(repeats))
            )

        name = self._emit(node, Flatten(), act.value, spread(given.scale), given.zero_point)
        return replace(act, value=name, a=spread(act.a), b=spread(act.b))

    def add(self, node: RawNode) -> Tensor:
        """A constant added to an activation: a bias that stands on its own."""
        act, constant = self._with_constant(node)
        bias, _ = self._reals(constant, act)
        self._need_unclipped(act)
        return replace(act, b=shorten(tuple(x + y for x, y in paired(act.b, bias))))

    def softmax(self, node: RawNode) -> Tensor:
        act = self._activation(node)
        if node.outputs[0] != self.file.outputs[0] or len(self.values[act.value].shape) != 1:
            raise Reject("a softmax inside the network", "only a last softmax is left to the host")
        return replace(act, softmax=True)

    def identity(self, node: RawNode) -> Tensor:
        return self.tensors[node.inputs[0]]

    def transpose(self, node: RawNode) -> Tensor:
        source = self.tensors[node.inputs[0]]
        order = node.attributes.get("perm")
        if not isinstance(source, np.ndarray | Codes):
            raise Reject("it transposes an activation", "only weights are transposed")
        if isinstance(source, np.ndarray):
            return source.transpose([int(i) for i in order] if isinstance(order, tuple) else None)
        if source.codes.ndim != 2:
            raise Reject(
                "it transposes a weight that is not 2-D", "only 2-D weights are transposed"
            )
        return transposed(source)

    def _activation(self, node: RawNode) -> Act:
        source = self.tensors[node.inputs[0]]
        if isinstance(source, FloatInput):
            raise Reject(*_unquantized_input())
        if not isinstance(source, Act):
            raise Reject("its input is a constant", "fold constants before the export")
        if source.softmax:
            raise Reject("it follows a softmax", "only a last softmax is left to the host")
        return source

    def _with_constant(self, node: RawNode) -> tuple[Act, NDArray[Any] | Codes]:
        pair = [self.tensors[name] for name in node.inputs]
        acts = [t for t in pair if isinstance(t, Act)]
        constants = [t for t in pair if isinstance(t, np.ndarray | Codes)]
        if any(isinstance(t, FloatInput) for t in pair):
            raise Reject(*_unquantized_input())
        if len(acts) != 1 or len(constants) != 1:
            raise Reject("both sides are computed", "only a constant can be added here")
        return acts[0], constants[0]

    def _reals(self, constant: NDArray[Any] | Codes, act: Act) -> tuple[Rationals, int]:
        shape = self.values[act.value].shape
        if isinstance(constant, Codes):
            codes, own = np.broadcast_arrays(constant.codes, constant.scale)
            exact = np.array(
                [int(c) * Fraction(float(s)) for c, s in zip(codes.flat, own.flat, strict=True)],
                dtype=object,
            ).reshape(codes.shape)
        else:
            exact = np.array([Fraction(float(x)) for x in constant.flat], dtype=object).reshape(
                constant.shape
            )
        return per_channel(exact, shape[0], len(shape), axis=None), shape[0]

    def _need_unclipped(self, act: Act) -> None:
        if act.low is not None or act.high is not None or act.softmax:
            raise Reject("it follows a clip that no quantizer follows", "quantize before it")


def _unquantized_input() -> tuple[str, str]:
    return (
        "it works on the float input, before any quantizer",
        "quantize the input first (Brevitas: QuantIdentity before the first layer)",
    )


_Handler = Callable[[Lowering, RawNode], Tensor]
_HANDLERS: dict[tuple[str, bool], _Handler] = {
    ("Quant", True): Lowering.quant,
    ("IntQuant", True): Lowering.quant,
    ("Gemm", False): Lowering.dense,
    ("MatMul", False): Lowering.dense,
    ("Conv", False): Lowering.conv,
    ("Add", False): Lowering.add,
    ("Relu", False): Lowering.relu,
    ("MaxPool", False): Lowering.max_pool,
    ("Flatten", False): Lowering.flatten,
    ("Reshape", False): Lowering.reshape,
    ("Transpose", False): Lowering.transpose,
    ("Softmax", False): Lowering.softmax,
    ("Identity", False): Lowering.identity,
    ("Dropout", False): Lowering.identity,
}
_SUPPORTED = "use " + ", ".join(sorted({op for op, _ in _HANDLERS}))
