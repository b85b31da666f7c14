"""QDQ files from Brevitas and from onnxruntime's own quantizer, and QONNX's rarer quantizers.

Everything is compared with the float64 oracle on codes, and with onnxruntime (or qonnx's executor)
from float inputs to float outputs: exactly where all scales are powers of two.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from flow import oracle
from flow.errors import Unsupported
from flow.float_check import compare_all
from flow.float_tools import FloatTool, Runtime
from flow.host import make_host
from flow.importer import Imported, import_qonnx
from flow.interp import Interpreter
from flow.onnx_file import read
from flow.ops import Dense, Requant
from flow.vectors import make_vectors
from tests.network.nets import Net, run_qonnx

Floats = NDArray[np.float32]


def run_onnxruntime(path: Path, x: NDArray[Any]) -> Floats:
    """What the file says, node by node: no fusion, which would round elsewhere."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options)
    name = session.get_inputs()[0].name
    outputs: list[Floats] = [session.run(None, {name: sample[None]})[0] for sample in x]
    return np.concatenate(outputs)


def load(path: Path) -> Imported:
    """Import the file, with the interpreter compared with the oracle on every kind of vector."""
    file = read(path)
    imported = import_qonnx(file, "net")
    codes = make_vectors(imported.graph.input, None)[:300]
    result = oracle.check(file, imported, codes, Interpreter(imported.graph).trace(codes))
    assert result.near_ties == 0
    # The oracle has seen every rounding: nothing that it cannot name stays unchecked.
    rounded = {n.output.name for n in imported.graph.nodes if isinstance(n.op, Requant)}
    assert rounded <= set(imported.origin)
    return imported


def ours(imported: Imported, x: NDArray[Any]) -> NDArray[np.float64]:
    host = make_host(imported.head, imported.tail)
    return host.dequantize(Interpreter(imported.graph).run(host.quantize(x)))


def samples(shape: tuple[int, ...], count: int = 300) -> Floats:
    return np.random.default_rng(5).normal(0.3, 1.2, (count, *shape)).astype(np.float32)


# Brevitas -------------------------------------------------------------------------------------


def brevitas_net(kind: str, *, po2: bool, per_channel: bool) -> tuple[Any, tuple[int, ...]]:
    """An untrained network whose scales have seen data: 4-, 5- and 8-bit quantizers."""
    import torch
    from brevitas import nn as qnn
    from brevitas.quant import fixed_point, scaled_int
    from torch import nn

    suffix, source = ("FixedPoint", fixed_point) if po2 else ("Float", scaled_int)
    weights = {
        "weight_quant": getattr(
            source, f"Int8WeightPer{'Channel' if per_channel else 'Tensor'}{suffix}"
        ),
        "return_quant_tensor": True,
    }
    signed = getattr(source, f"Int8ActPerTensor{suffix}")
    unsigned = {
        "act_quant": getattr(source, f"Uint8ActPerTensor{suffix}"),
        "return_quant_tensor": True,
    }
    bias = {"bias": True, "bias_quant": scaled_int.Int32Bias}
    torch.manual_seed(1)
    first = qnn.QuantIdentity(act_quant=signed, return_quant_tensor=True)
    if kind == "mlp":
        shape: tuple[int, ...] = (12,)
        layers = [
            qnn.QuantLinear(12, 8, weight_bit_width=4, **bias, **weights),
            qnn.QuantReLU(bit_width=5, **unsigned),
            qnn.QuantLinear(8, 4, **bias, **weights),
            qnn.QuantIdentity(act_quant=signed, bit_width=6),
        ]
    else:
        shape = (2, 6, 6)
        layers = [
            qnn.QuantConv2d(2, 4, 3, padding=1, bias=False, **weights),
            qnn.QuantReLU(bit_width=8, **unsigned),
            nn.MaxPool2d(2),
            qnn.QuantConv2d(4, 4, 3, groups=4, **bias, **weights),
            qnn.QuantReLU(bit_width=4, **unsigned),
            nn.Flatten(),
            qnn.QuantLinear(4, 3, **bias, **{**weights, "return_quant_tensor": False}),
        ]
    network = nn.Sequential(first, *layers)
    network.train()
    for _ in range(5):
        network(torch.randn(16, *shape))
    return network.eval(), shape


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("po2", [True, False])
@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_brevitas_qcdq(tmp_path: Path, kind: str, po2: bool, per_channel: bool) -> None:
    torch = pytest.importorskip("torch")
    from brevitas.export import export_onnx_qcdq

    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter, about itself
        network, shape = brevitas_net(kind, po2=po2, per_channel=per_channel)
        export_onnx_qcdq(network, args=torch.randn(1, *shape), export_path=path, dynamo=False)
    assert "Clip" in {node.op_type for node in onnx.load(path).graph.node}  # narrow integers
    imported = load(path)
    x = samples(shape)
    mine, theirs = ours(imported, x), run_onnxruntime(path, x)
    assert len(np.unique(mine)) > 10
    if po2:
        np.testing.assert_array_equal(mine, theirs.astype(np.float64))
    assert check_float(path, imported, x) == 0 or not po2


def check_float(path: Path, imported: Imported, x: NDArray[Any]) -> int:
    """onnxruntime's codes differ from the graph's at near-ties only; gives their number."""
    file = read(path)
    codes = make_host(imported.head, imported.tail).quantize(x)
    tool = FloatTool(Runtime.ONNXRUNTIME, file, imported)
    found = compare_all(file, imported, codes, tool.trace)
    assert found.codes > len(x) and found.aside == 0
    return found.near_ties


# onnxruntime's quantizer ----------------------------------------------------------------------


def float_net(path: Path, kind: str) -> Path:
    """Conv, ReLU, pool, Gemm; "add" with a residual, "average" with a global average."""
    rng = np.random.default_rng(3)
    net = Net((2, 6, 6))

    def layer(op: str, source: str, shape: tuple[int, ...], **attributes: Any) -> str:
        weight = net.constant(rng.normal(0, 0.4, shape))
        bias = net.constant(rng.normal(0, 0.2, shape[0]))
        return net.node(op, [source, weight, bias], **attributes)

    made = layer("Conv", "x", (4, 2, 3, 3), pads=[1] * 4, kernel_shape=[3, 3])
    made = net.node("Relu", [made])
    if kind == "add":
        made = net.node("Add", [made, layer("Conv", made, (4, 4, 1, 1), kernel_shape=[1, 1])])
        made = net.node("Relu", [made])
    made = net.node("MaxPool", [made], kernel_shape=[2, 2], strides=[2, 2])
    if kind == "average":
        made = net.node("GlobalAveragePool", [made])
    made = net.node("Flatten", [made], axis=1)
    made = layer("Gemm", made, (5, 4 if kind == "average" else 36), transB=1)
    if kind == "softmax":
        made = net.node("Softmax", [made], axis=1)
    return net.save(path, made)


def quantized(tmp_path: Path, kind: str, **options: Any) -> Path:
    """The float network through onnxruntime's static quantizer."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rows = iter(samples((2, 6, 6), 16))

        def get_next(self) -> dict[str, Floats] | None:
            return next(({"x": row[None]} for row in self.rows), None)

    path = tmp_path / "quantized.onnx"
    chosen = {"quant_format": QuantFormat.QDQ, **options}
    quantize_static(float_net(tmp_path / "float.onnx", kind), path, Reader(), **chosen)
    return path


def quant_types() -> Any:
    from onnxruntime.quantization import QuantType

    return QuantType


@pytest.mark.parametrize("unsigned", [True, False])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", ["plain", "add", "average"])
def test_onnxruntime_s_quantizer(
    tmp_path: Path, kind: str, per_channel: bool, unsigned: bool
) -> None:
    types = quant_types()
    activations = types.QUInt8 if unsigned else types.QInt8
    path = quantized(tmp_path, kind, per_channel=per_channel, activation_type=activations)
    imported = load(path)
    assert imported.head.zero_point not in (0, 128)
    x = samples((2, 6, 6))
    assert len(np.unique(ours(imported, x))) > 50
    check_float(path, imported, x)


def test_only_what_changes_codes_is_a_requant(tmp_path: Path) -> None:
    """QDQ files quantize again behind every pool and reshape, on the grid that they had."""
    imported = load(quantized(tmp_path, "plain"))
    names = [node.op.name for node in imported.graph.nodes]
    assert names == ["conv", "requant", "max_pool", "flatten", "dense", "requant"]


@pytest.mark.parametrize(
    ("between", "bits"),
    [
        (lambda net, x: net.node("Add", [x, net.constant(np.float32(0.25))]), 4),
        (lambda net, x: net.node("Mul", [x, net.constant(np.float32(0.5))]), 4),
        (lambda net, x: net.node("Clip", [x, "", net.constant(np.float32(1.0))]), 4),
        (lambda net, x: net.node("Relu", [x]), 4),
        (lambda net, x: x, 3),
    ],
    ids=["shifted", "halved", "from above", "from below", "fewer bits"],
)
def test_a_second_requant_that_changes_codes_stays(
    tmp_path: Path, between: Callable[[Net, str], str], bits: int
) -> None:
    net = Net((4,))
    made = net.quant(dense(net, net.quant("x", 0.25, 4), (3, 4), 7), 0.5, 4, zero=1.0)
    made = net.quant(between(net, made), 0.5, bits, zero=1.0)
    path = net.save(tmp_path / "net.onnx", made)
    assert [node.op.name for node in load(path).graph.nodes] == ["dense", "requant", "requant"]


def test_a_clip_narrows_stored_weights(tmp_path: Path) -> None:
    net = Net((3,))
    bounds = [net.constant(np.int8(-7)), net.constant(np.int8(7))]
    codes = net.node("Clip", [net.constant(np.int8([[9, -12, 3]])), *bounds])
    weight = net.node("DequantizeLinear", [codes, net.constant(np.float32(0.5))])
    made = net.node("Gemm", [net.quant("x", 0.5, 4), weight], transB=1)
    op = load(net.save(tmp_path / "net.onnx", made)).graph.nodes[0].op
    assert isinstance(op, Dense) and op.weight.tolist() == [[7, -7, 3]]


@pytest.mark.parametrize(
    "options",
    [
        {"extra_options": {"ActivationSymmetric": True}},
        {"extra_options": {"WeightSymmetric": False}, "per_channel": True},
        {"extra_options": {"AddQDQPairToWeight": True}, "per_channel": True},
        {"extra_options": {"QuantizeBias": False}},
        {"extra_options": {"UseQDQContribOps": True}},
        {"extra_options": {"QDQKeepRemovableActivations": True}},
        {"extra_options": {"OpTypesToExcludeOutputQuantization": ["Conv"]}},
        {"extra_options": {"OpTypesToExcludeOutputQuantization": ["Gemm"]}},
        {"op_types_to_quantize": ["Conv", "Gemm"]},
        {"weight_type": "QInt4"},
        {"activation_type": "QInt16"},
        {"activation_type": "QUInt16", "weight_type": "QUInt8"},
        {"activation_type": "QUInt8", "weight_type": "QUInt8"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_the_quantizer_s_options(tmp_path: Path, options: dict[str, Any]) -> None:
    types = quant_types()
    named = {k: getattr(types, v) if k.endswith("_type") else v for k, v in options.items()}
    path = quantized(tmp_path, "plain", **named)
    imported = load(path)
    x = samples((2, 6, 6))
    check_float(path, imported, x)


def edited(path: Path, change: Callable[[Any], None]) -> Path:
    model = onnx.load(path)
    change(model.graph)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_network_of_integers_from_end_to_end(tmp_path: Path) -> None:
    """The first QuantizeLinear and the last DequantizeLinear cut off, as runtimes want it."""

    def change(graph: Any) -> None:
        first = next(n for n in graph.node if n.op_type == "QuantizeLinear")
        last = next(n for n in graph.node if graph.output[0].name in n.output)
        assert last.op_type == "DequantizeLinear"
        graph.input[0].name = first.output[0]
        graph.input[0].type.tensor_type.elem_type = TensorProto.INT8
        graph.output[0].name = last.input[0]
        graph.output[0].type.tensor_type.elem_type = TensorProto.INT8
        graph.node.remove(first)
        graph.node.remove(last)

    path = edited(quantized(tmp_path, "plain", per_channel=True), change)
    imported = load(path)
    x = np.random.default_rng(0).integers(-128, 128, (300, 2, 6, 6)).astype(np.int8)
    mine, theirs = ours(imported, x), run_onnxruntime(path, x)
    assert theirs.dtype == np.int8 and len(np.unique(theirs)) > 50
    assert (mine != theirs).sum() <= check_float(path, imported, x)


def test_codes_at_the_end_of_a_power_of_two_network(tmp_path: Path) -> None:
    """The output is QuantizeLinear's integers, narrowed by a Clip, zero-point included."""
    net = Net((3,))
    zero = net.constant(np.int8(5))
    step = net.constant(np.float32(0.25))
    x = net.node("QuantizeLinear", ["x", step, zero])
    x = net.node("DequantizeLinear", [x, step, zero])
    weight = net.node("DequantizeLinear", [net.constant(np.int8([[3, -2, 5], [1, 4, -7]])), step])
    made = net.node("Gemm", [x, weight], transB=1)
    made = net.node("QuantizeLinear", [made, net.constant(np.float32(0.0625)), zero])
    made = net.node("Clip", [made, net.constant(np.int8(-16)), net.constant(np.int8(15))])
    path = net.save(tmp_path / "net.onnx", made)
    edited(path, lambda graph: _output_type(graph, TensorProto.INT8))
    imported = load(path)
    x_ = samples((3,))
    mine = ours(imported, x_)
    np.testing.assert_array_equal(mine, run_onnxruntime(path, x_))
    assert mine.min() == -16 and mine.max() == 15 and (mine == 5).any()


def _output_type(graph: Any, kind: int) -> None:
    graph.output[0].type.tensor_type.elem_type = kind


@pytest.mark.parametrize(
    ("kind", "options", "place", "message"),
    [
        ("plain", {"op_types_to_quantize": ["Conv"]}, "Gemm", "op_types_to_quantize"),
        ("plain", {"quant_format": "QOperator"}, "QLinearConv", "QuantFormat.QDQ"),
        ("softmax", {}, "DequantizeLinear", "nodes_to_exclude"),
    ],
)
def test_what_the_quantizer_leaves_is_refused_with_its_own_remedy(
    tmp_path: Path, kind: str, options: dict[str, Any], place: str, message: str
) -> None:
    from onnxruntime.quantization import QuantFormat

    if "quant_format" in options:
        options = {"quant_format": QuantFormat.QOperator}
    path = quantized(tmp_path, kind, **options)
    with pytest.raises(Unsupported) as caught:
        import_qonnx(read(path), "net")
    assert place in caught.value.offences[0].node
    assert message in str(caught.value)


def test_a_quantizer_without_zero_point_has_the_type_it_names(tmp_path: Path) -> None:
    net = Net((3,))
    step = net.constant(np.float32(0.5))
    codes = net.node("QuantizeLinear", ["x", step], output_dtype=TensorProto.INT4)
    x = net.node("DequantizeLinear", [codes, step])
    weight = net.node("DequantizeLinear", [net.constant(np.int8([[3, -2, 5]])), step])
    path = net.save(tmp_path / "net.onnx", net.node("Gemm", [x, weight], transB=1))
    assert (load(path).head.qtype.low, load(path).head.qtype.high) == (-8, 7)


# QONNX's Trunc and BipolarQuant ---------------------------------------------------------------


def save_with_opset(net: Net, path: Path, output: str, opset: int) -> Path:
    """QONNX's executor chooses the form of Trunc by its domain's version."""
    net.save(path, output)
    model = onnx.load(path)
    model.opset_import[1].version = opset
    path.write_bytes(model.SerializeToString())
    return path


def dense(net: Net, source: str, shape: tuple[int, int], seed: int) -> str:
    values = np.random.default_rng(seed).normal(0, 2, shape)
    return net.node("Gemm", [source, net.quant(net.constant(values), 0.5, 4)], transB=1)


@pytest.mark.parametrize("mode", ["FLOOR", "ROUND", "CEIL"])
@pytest.mark.parametrize("zero", [0.0, 8.0])
@pytest.mark.parametrize("opset", [1, 2])
def test_trunc_is_qonnx_s(tmp_path: Path, opset: int, zero: float, mode: str) -> None:
    net = Net((4,))
    x = net.quant("x", 0.25, 8, zero=zero)
    constants = [np.float32(v) for v in (0.25, zero, 8.0)]
    constants += [np.float32(v) for v in ((5.0,) if opset == 1 else (2.0, 4.0))]
    made = net.node("Trunc", [x, *(net.constant(c) for c in constants)], rounding_mode=mode)
    made = net.quant(dense(net, made, (3, 4), 7), 0.5, 8)
    path = save_with_opset(net, tmp_path / "net.onnx", made, opset)
    imported = load(path)
    x_ = samples((4,), 60) * 8  # to both ends of the quantizer
    mine = ours(imported, x_)
    assert len(np.unique(mine)) > 20
    np.testing.assert_array_equal(mine, run_qonnx(path, x_).astype(np.float64))


@pytest.mark.parametrize("signed", [0, 1])
def test_trunc_clamps(tmp_path: Path, signed: int) -> None:
    """Opset 2 clamps to its output's type: here two bits fewer than the shift leaves."""
    net = Net((4,))
    x = net.quant("x", 0.25, 8, signed=bool(signed))
    constants = [np.float32(v) for v in (0.25, 0.0, 8.0, 1.0, 4.0)]
    inputs = [x, *(net.constant(c) for c in constants)]
    made = net.node("Trunc", inputs, rounding_mode="FLOOR", signed=signed, narrow=0)
    path = save_with_opset(net, tmp_path / "net.onnx", made, 2)
    imported = load(path)
    x_ = samples((4,), 60) * 16
    mine = ours(imported, x_)
    np.testing.assert_array_equal(mine, run_qonnx(path, x_).astype(np.float64))
    assert mine.max() == (7 if signed else 15)


@pytest.mark.parametrize("seed", range(4))
def test_bipolar_networks_are_qonnx_s(tmp_path: Path, seed: int) -> None:
    """Binary input, weights (one scale per channel) and activations, two layers deep."""
    rng = np.random.default_rng(seed)
    net = Net((6,))

    def bipolar(source: str, scale: Any) -> str:
        return net.node("BipolarQuant", [source, net.constant(np.float32(scale))])

    def layer(source: str, outs: int, ins: int) -> str:
        scale = 2.0 ** rng.integers(-2, 2, (outs, 1))
        weight = bipolar(net.constant(rng.normal(0, 1, (outs, ins))), scale)
        bias = net.quant(net.constant(rng.normal(0, 1, outs)), 0.125, 8)
        return net.node("Gemm", [source, weight, bias], transB=1)

    made = layer(bipolar("x", 1.0 if seed % 2 else 0.5), 8, 6)
    made = layer(bipolar(made, 0.25), 5, 8)
    path = net.save(tmp_path / "net.onnx", made)
    imported = load(path)
    x = samples((6,), 100)
    x[:5, 0] = 0.0  # a zero counts as positive
    mine = ours(imported, x)
    assert len(np.unique(mine)) > 10
    np.testing.assert_array_equal(mine, run_qonnx(path, x).astype(np.float64))
