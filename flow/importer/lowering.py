"""Lowers a file node by node: what the operations share. The operations themselves are functions
(lowering, node) -> tensor in the modules beside this one, found through `operations.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.errors import Offence, Unsupported, UsageError
from flow.graph import Graph, Node, Value
from flow.host_snippet import round_float
from flow.importer.meaning import HostInput, HostOutput, Imported, Rationals
from flow.importer.reading import full_name, integer_type, layer_name, unique
from flow.importer.requantize import requant_of
from flow.importer.tensors import (
    Act,
    Codes,
    FloatInput,
    Poison,
    Quantized,
    Quantizer,
    Reject,
    Tabulated,
    Tensor,
    shorten,
)
from flow.onnx_file import OnnxFile, RawNode
from flow.ops import Bounds, Movement, Op, Relu, Requant, Shape, Table, Threshold
from flow.ops.base import check_size
from flow.qtype import QType
from flow.requant import MAX_STEPS

QONNX_DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
MAX_TABLE = 1 << 16  # codes of a value whose function is tabulated
ZERO = Fraction(0)
FLOAT_WEIGHTS = (
    "its weights are float, not quantized",
    "train with quantized weights (Brevitas: weight_quant), or quantize this operation too "
    "(onnxruntime: op_types_to_quantize, nodes_to_exclude), then export again",
)
_INTEGER_OPS = (
    "QLinearConv",
    "QLinearMatMul",
    "QLinearAdd",
    "QLinearMul",
    "QLinearConcat",
    "QLinearAveragePool",
    "QLinearGlobalAveragePool",
    "QLinearSigmoid",
    "QLinearLeakyRelu",
    "QLinearSoftmax",
    "QGemm",
    "ConvInteger",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "DynamicQuantizeLinear",
    "DynamicQuantizeMatMul",
)
_QDQ_INSTEAD = (
    "quantize statically and in the QDQ format (onnxruntime: quantize_static with QuantFormat.QDQ)"
)

Handler = Callable[["Lowering", RawNode], Tensor]


class Lowering:
    """The state of one import: what each tensor is, and the graph so far."""

    def __init__(
        self,
        file: OnnxFile,
        name: str,
        operations: Mapping[tuple[str, bool], Handler],
        given: Quantizer | None,
    ):
        self.file, self.name, self.operations, self.given = file, name, operations, given
        self.tensors: dict[str, Tensor] = dict(file.constants)
        self.input: Value | None = None
        self.head: HostInput | None = None
        self.source = ""
        self.nodes: list[Node] = []
        self.values: dict[str, Value] = {}
        self.bounds: dict[str, Bounds] = {}
        self.names: set[str] = set()
        self.offences: list[Offence] = []

    def run(self) -> Imported:
        """Lower every node. Raises UsageError, Unsupported."""
        if len(self.file.inputs) != 1:
            names = ", ".join(i.name for i in self.file.inputs) or "none"
            raise UsageError(f"{self.file.path}: one input is read, not {names}")
        if len(self.file.outputs) != 1:
            raise UsageError(
                f"{self.file.path}: one output is read, not {len(self.file.outputs)} "
                f"({', '.join(self.file.outputs[:6])}); export with one output (Brevitas: "
                f"return_quant_tensor=False in the last layer)"
            )
        given = self.file.inputs[0]
        codes = integer_type(given.dtype)
        if codes is None and given.dtype not in ("float32", "float64"):
            raise UsageError(
                f"{self.file.path}: input {given.name!r} is of type {given.dtype}; export with a "
                f"float32 or an integer input"
            )
        self.tensors[given.name] = FloatInput(self.input_shape(), codes=codes)
        for node in self.file.nodes:
            self._visit(node)
        return self._finish(self.tensors[self.file.outputs[0]])

    def _finish(self, result: Tensor) -> Imported:
        if isinstance(result, Tabulated) and result.host is not None:
            result = result.host
        if not self.offences and not isinstance(result, Act):
            self.offences.append(
                Offence(
                    self.file.outputs[0],
                    "the output is not computed from a quantized input by what integers can do",
                    "quantize the input (Brevitas: QuantIdentity before the first layer), and "
                    "quantize float functions at the end",
                )
            )
        if self.offences:
            raise Unsupported(f"{self.file.path}: cannot be lowered to integers", self.offences)
        assert isinstance(result, Act)
        assert self.input is not None
        assert self.head is not None
        nodes = self._needed(result.value)
        bounds = {
            name: self.bounds[name] for name in (self.input.name, *(n.output.name for n in nodes))
        }
        graph = Graph(self.name, self.input, nodes, bounds)
        tail = HostOutput(result.a, result.b, result.low, result.high, result.functions)
        # Of several tensors the first: what its quantizer itself gives.
        origin = {k: v for k, v in reversed(list(self._origin())) if k in bounds}
        return Imported(graph, self.head, tail, self.source, origin)

    def _needed(self, output: str) -> tuple[Node, ...]:
        """The nodes that the output depends on, the output's own last."""
        needed, kept = {output}, []
        for node in reversed(self.nodes):
            if node.output.name in needed:
                needed.update(node.inputs)
                kept.append(node)
        return tuple(reversed(kept))

    def _origin(self) -> Iterator[tuple[str, str]]:
        """Graph values whose meaning is exactly one tensor's: no float part is pending."""
        for name, tensor in self.tensors.items():
            if not isinstance(tensor, Act) or tensor.clipped or tensor.functions:
                continue
            value = self.values[tensor.value]
            plain = tuple(-scale * value.zero_point for scale in value.scale)
            if tensor.a == value.scale and shorten(tensor.b) == shorten(plain):
                yield tensor.value, name

    def input_shape(self) -> Shape:
        """The shape of one input. Raises UsageError where it is not fixed."""
        source = self.file.inputs[0]
        shape = source.shape[1:]
        if not shape or any(extent is None or extent < 1 for extent in shape):
            raise UsageError(
                f"{self.file.path}: input {source.name!r} must have a batch and then fixed "
                f"dimensions, not {source.shape}; export with a fixed input shape"
            )
        fixed = tuple(int(extent) for extent in shape if extent is not None)
        try:
            check_size(fixed)
        except UsageError as error:
            raise UsageError(f"{self.file.path}: input {source.name!r}: {error}") from error
        return fixed

    def _visit(self, node: RawNode) -> None:
        inputs = [self.tensors[name] for name in node.inputs if name]
        handler = self.operations.get((node.op, node.domain in QONNX_DOMAINS))
        out: Tensor
        try:
            if handler is None or (node.domain and node.domain not in QONNX_DOMAINS):
                raise Reject(
                    f"the operation {full_name(node)} is not supported",
                    _QDQ_INSTEAD
                    if node.op in _INTEGER_OPS
                    else "replace it by operations that are read (`make list` shows them)",
                )
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
        for name in node.outputs:
            self.tensors[name] = out

    def _check_weight(self, node: RawNode) -> None:
        """Behind a layer that was refused: float weights are still worth listing."""
        if node.op in ("Gemm", "MatMul", "Conv") and isinstance(self.tensor(node, 1), np.ndarray):
            raise Reject(*FLOAT_WEIGHTS)

    # Inputs of a node ---------------------------------------------------------------------------

    def tensor(self, node: RawNode, index: int) -> Tensor | None:
        """The node's input at that place, None where it is left out."""
        if index >= len(node.inputs) or not node.inputs[index]:
            return None
        return self.tensors[node.inputs[index]]

    def need(self, node: RawNode, index: int) -> Tensor:
        """The node's input at that place. Raises UsageError where it is left out."""
        found = self.tensor(node, index)
        if found is None:
            raise UsageError(f"it has no input {index}")
        return found

    def constant(self, node: RawNode, index: int, what: str) -> NDArray[Any]:
        """A constant input. Raises Reject where it is computed, UsageError where it is left out."""
        tensor = self.need(node, index)
        if not isinstance(tensor, np.ndarray):
            raise Reject(f"its {what} is not a constant", f"export with a constant {what}")
        return tensor

    def activation(self, node: RawNode, index: int = 0) -> Act:
        """An activation that integers hold. Raises Reject."""
        tensor = self.need(node, index)
        if isinstance(tensor, FloatInput):
            tensor = self.take_input(node, tensor)
        if isinstance(tensor, Tabulated):
            raise Reject("its input is a float function", "put a quantizer before it")
        if isinstance(tensor, Quantized):
            raise Reject("its input is not dequantized", "put a DequantizeLinear before it")
        if not isinstance(tensor, Act):
            raise Reject("its input is a constant", "fold constants before the export")
        if tensor.functions:
            raise Reject(
                f"it follows a {tensor.functions[-1].value}", "leave that to the end of the network"
            )
        return tensor

    def take_input(self, node: RawNode, tensor: FloatInput) -> Act:
        """The float input as codes, with the quantizer that the user gave. Raises Reject."""
        if self.given is None:
            raise Reject(
                "it works on the float input, before any quantizer",
                "quantize the input (Brevitas: QuantIdentity before the first layer), or say what "
                'it is: OPTS="input=fixed<8,3>"',
            )
        if self.head is not None:
            return self.tensors_of_input()
        return self.quantize_input(node, tensor, self.given)

    def tensors_of_input(self) -> Act:
        """The input that was quantized already."""
        assert self.input is not None
        (scale,) = self.input.scale
        return Act(self.input.name, (scale,), (-scale * self.input.zero_point,))

    def quantize_input(self, node: RawNode, tensor: FloatInput, quantizer: Quantizer) -> Act:
        """Make the float input the graph's input. Raises Reject."""
        if self.head is not None:
            raise Reject("the input is quantized a second time", "quantize the input once")
        if quantizer.scale.size != 1:
            raise Reject("the input has one scale per channel", "quantize the input per tensor")
        step = float(quantizer.scale.reshape(-1)[0])
        self.head = HostInput(
            self.input_shape(),
            tensor.steps,
            step,
            quantizer.zero,
            quantizer.zero_inside,
            quantizer.rounding,
            quantizer.qtype,
        )
        return self.start(node, tensor.shape, quantizer.qtype, Fraction(step), quantizer.zero)

    def start(self, node: RawNode, shape: Shape, qtype: QType, scale: Fraction, zero: int) -> Act:
        """Make the graph's input value."""
        given_here = any(isinstance(self.tensors[name], FloatInput) for name in node.inputs if name)
        quantizes = node.op in ("Quant", "IntQuant", "BipolarQuant", "DequantizeLinear")
        name = unique(layer_name(node) if quantizes else "input", self.names)
        self.source = node.outputs[0] if quantizes or not given_here else node.inputs[0]
        self.input = Value(name, shape, qtype, (scale,), zero)
        self.values[name] = self.input
        one = np.ones(1, dtype=np.int64)
        self.bounds[name] = one * qtype.low, one * qtype.high
        return self.tensors_of_input()

    # Building the graph -------------------------------------------------------------------------

    def emit(
        self, node: RawNode, op: Op, sources: tuple[str, ...], scale: Rationals, zero_point: int
    ) -> str:
        """Append `op` to the graph; its output's type is the smallest that holds its bounds.

        Raises:
            UsageError: a shape does not fit, or 63 bits do not hold the result.
        """
        name = unique(layer_name(node), self.names)
        shapes = tuple(self.values[source].shape for source in sources)
        shape = op.output_shape(*shapes)
        if 0 in shape:
            raise UsageError(f"its output {shape} is empty")
        check_size(shape)
        try:
            low, high = op.bounds(shapes, tuple(self.bounds[source] for source in sources))
            qtype = QType.covering(int(low.min()), int(high.max()))
        except ValueError as error:
            raise UsageError(str(error)) from error
        if isinstance(op, Requant):
            qtype = op.qtype
            if int((high - low).max()) > MAX_STEPS:
                raise Reject(
                    f"it can give {int((high - low).max()) + 1} different codes",
                    f"quantize to at most {MAX_STEPS.bit_length() - 1} bits",
                )
        value = Value(name, shape, qtype, scale, zero_point)
        self.nodes.append(Node(name, op, sources, value))
        self.values[name], self.bounds[name] = value, (low, high)
        return name

    def move(self, node: RawNode, act: Act, op: Movement) -> Act:
        """Move codes; the pending meaning goes along where it varies by channel.

        Raises:
            Reject: channels with different meanings would share one afterwards.
        """
        given = self.values[act.value]
        scale, a, b = (self._moved(e, given.shape, op) for e in (given.scale, act.a, act.b))
        name = self.emit(node, op, (act.value,), scale, given.zero_point)
        return replace(act, value=name, a=a, b=b)

    @staticmethod
    def _moved(entries: Rationals, shape: Shape, op: Movement) -> Rationals:
        if len(entries) == 1:
            return entries
        index = op.index(shape)
        channel = index.reshape(len(index), -1) // int(np.prod(shape[1:]))
        if (channel != channel[:, :1]).any():
            raise Reject(
                "it mixes channels that have different scales", "quantize per tensor before it"
            )
        return shorten(tuple(entries[int(c)] for c in channel[:, 0]))

    def plain(self, node: RawNode, act: Act, what: str) -> tuple[str, Fraction, int]:
        """(value, scale, zero-point) of an activation that is scale*(code - zero-point): what a
        product needs. A pending ReLU becomes a node. Raises Reject."""
        if len(act.a) > 1:
            raise Reject(
                f"its {what} has one scale per channel, so one integer sum cannot hold it",
                "quantize activations per tensor",
            )
        scale = act.a[0]
        zero = -act.b[0] / scale if scale else ZERO
        if scale <= 0 or len(act.b) > 1 or zero.denominator != 1:
            raise Reject(
                f"its {what} is a float result that no quantizer follows",
                "put a quantizer (Brevitas: QuantIdentity or QuantReLU) before it",
            )
        if abs(zero) >= 1 << 60:
            raise Reject(f"its {what} has a zero-point beyond 60 bits", "use larger scales")
        if act.high is not None or act.low not in (None, ZERO):
            raise Reject(f"its {what} is clipped but not quantized", "quantize it first")
        value = act.value
        if act.low is not None:
            value = self.emit(node, Relu(int(zero)), (value,), (scale,), int(zero))
        return value, scale, int(zero)

    def unclipped(self, node: RawNode, act: Act) -> Act:
        """The activation with a pending ReLU made a node. Raises Reject for any other clip."""
        if not act.clipped:
            return act
        value, scale, zero = self.plain(node, act, "input")
        return Act(value, (scale,), (-scale * zero,))

    def tabulate(self, node: RawNode, tensor: Tensor) -> Tabulated:
        """The tensor as real values, one per code of its graph value. Raises Reject."""
        if isinstance(tensor, Tabulated):
            return tensor
        if isinstance(tensor, FloatInput):
            tensor = self.take_input(node, tensor)
        if not isinstance(tensor, Act):
            raise Reject("it is a function of a constant", "fold constants before the export")
        low, high = (
            int(f(b)) for f, b in zip((np.min, np.max), self.bounds[tensor.value], strict=True)
        )
        if len(tensor.a) > 1 or len(tensor.b) > 1 or tensor.functions:
            raise Reject("it is a float function of a per-channel value", "quantize before it")
        if high - low >= MAX_TABLE:
            return Tabulated(tensor.value, 0, np.empty(0), tensor)  # for the host only
        a, b = tensor.a[0], tensor.b[0]
        reals = np.array([float(a * code + b) for code in range(low, high + 1)])
        if tensor.low is not None:
            reals = np.maximum(reals, float(tensor.low))
        if tensor.high is not None:
            reals = np.minimum(reals, float(tensor.high))
        return Tabulated(tensor.value, low, reals, tensor)

    def requantize(self, node: RawNode, tensor: Act | Tabulated, quantizer: Quantizer) -> Act:
        """A quantizer on an activation: a Requant, or a Table behind a float function."""
        if isinstance(tensor, Tabulated):
            return self._table(node, tensor, quantizer)
        if tensor.functions:
            raise Reject(
                f"it quantizes a {tensor.functions[-1].value}",
                "leave that to the host, unquantized (onnxruntime: nodes_to_exclude)",
            )
        given = self.values[tensor.value]
        op, scales = requant_of(tensor, given.shape, quantizer)
        if self._changes_nothing(op, scales, given):
            return Act(given.name, scales, shorten(tuple(-s * quantizer.zero for s in scales)))
        name = self.emit(node, op, (tensor.value,), scales, quantizer.zero)
        return Act(name, scales, shorten(tuple(-s * quantizer.zero for s in scales)))

    def _changes_nothing(self, op: Requant, scales: Rationals, given: Value) -> bool:
        """QDQ files quantize again, on the same grid, behind every op that only moves codes."""
        low, high = self.bounds[given.name]
        return (
            bool(self.nodes)
            and (given.scale, given.zero_point) == (scales, op.zero_point)
            and op.scale == (Fraction(1),)
            and op.offset == (Fraction(-op.zero_point),)
            and op.low <= int(low.min())
            and int(high.max()) <= op.high
        )

    def _table(self, node: RawNode, tensor: Tabulated, quantizer: Quantizer) -> Act:
        if not tensor.reals.size:
            raise Reject(
                f"it is a float function of more than {MAX_TABLE} codes",
                "quantize the function's input to fewer bits",
            )
        if quantizer.scale.size != 1:
            raise Reject("a float function quantized per channel", "quantize it per tensor")
        scale = Fraction(float(quantizer.scale.reshape(-1)[0]))
        real, zero = tensor.reals / float(scale), quantizer.zero
        mode = quantizer.rounding.value
        inside = quantizer.zero_inside
        codes = round_float(real + zero, mode) if inside else round_float(real, mode) + zero
        entries = np.clip(codes, quantizer.qtype.low, quantizer.qtype.high).astype(np.int64)
        op = Table(entries, tensor.first)
        name = self.emit(node, op, (tensor.value,), (scale,), zero)
        return Act(name, (scale,), (-scale * zero,))

    def threshold(
        self, node: RawNode, act: Act, levels: NDArray[Any], codes: NDArray[np.int64]
    ) -> str:
        """A step function: codes[number of levels (Fractions, (1 or channels, k)) that are at most
        the activation's real value]. Raises Reject."""
        if any(a <= 0 for a in act.a) or act.clipped:
            raise Reject(
                "thresholds behind a decreasing or clipped value", "quantize before the thresholds"
            )
        channels = self.values[act.value].shape[0]
        rows = max(len(levels), len(act.a), len(act.b))
        if rows not in (1, channels):
            raise UsageError(f"{len(levels)} rows of thresholds for {channels} channels")
        cuts = [
            [
                _within(-(-(level - act.b[row % len(act.b)]) // act.a[row % len(act.a)]))
                for level in levels[row % len(levels)]
            ]
            for row in range(rows)
        ]
        op = Threshold(np.array(cuts, dtype=np.int64).reshape(rows, -1), codes)
        return self.emit(node, op, (act.value,), (Fraction(1),), 0)


def _within(cut: int) -> int:
    """The cut, or the nearest integer that is beyond every accumulator as well."""
    return min(max(cut, -(1 << 62)), 1 << 62)


def is_constant(tensor: Tensor | None) -> bool:
    """Whether the tensor is known before any input is."""
    return isinstance(tensor, np.ndarray | Codes)
