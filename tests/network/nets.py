"""Small QONNX files made by hand, with everything about their quantizers free to choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

DOMAIN = "qonnx.custom_op.general"
_OURS = ("Quant", "BipolarQuant", "MultiThreshold", "Trunc")


class Net:
    """Builds an ONNX graph node by node; every method returns the name of its output tensor."""

    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, name: str | None = None) -> str:
        name = name or f"c{len(self.constants)}"
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, inputs: list[str], name: str = "", **attributes: Any) -> str:
        name = name or f"{op.lower()}{len(self.nodes)}"
        domain = DOMAIN if op in _OURS else ""
        self.nodes.append(
            helper.make_node(op, inputs, [f"{name}.out"], name, domain=domain, **attributes)
        )
        return f"{name}.out"

    def quant(
        self,
        source: str,
        scale: Any,
        bits: float,
        *,
        signed: bool = True,
        narrow: bool = False,
        zero: float = 0.0,
        mode: str = "ROUND",
        name: str = "",
    ) -> str:
        constants = [self.constant(np.float32(v)) for v in (scale, zero, bits)]
        return self.node(
            "Quant",
            [source, *constants],
            name,
            signed=int(signed),
            narrow=int(narrow),
            rounding_mode=mode,
        )

    def save(self, path: Path, output: str, classes: int | None = None) -> Path:
        """Write the network with a batch of 1."""
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *self.shape])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self.constants,
        )
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        path.write_bytes(model.SerializeToString())
        return path


def run_qonnx(path: Path, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Outputs of qonnx's own executor, sample by sample."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    model = ModelWrapper(onnx.load(path)).transform(InferShapes())
    name = model.graph.output[0].name
    return np.concatenate([execute_onnx(model, {"x": sample[None]})[name] for sample in x])


def random_net(rng: np.random.Generator, path: Path, *, po2: bool) -> Path:
    """A random chain of convolutions (or none), pools and dense layers with random quantizers."""

    def scale(low: int, high: int, shape: tuple[int, ...] = ()) -> NDArray[np.float64]:
        exponent = rng.integers(low, high, shape) if po2 else rng.uniform(low, high, shape)
        return np.asarray(2.0**exponent)

    def weight(shape: tuple[int, ...]) -> str:
        per_channel = rng.random() < 0.5
        extents = (shape[0],) + (1,) * (len(shape) - 1) if per_channel else ()
        bits, narrow = int(rng.integers(2, 7)), bool(rng.random() < 0.5)
        step = scale(-6, -3, extents)
        values = rng.normal(0, 3, shape) * step
        return net.quant(net.constant(values), step, bits, narrow=narrow)

    def bias(channels: int, source_scale: float, weight_scale: NDArray[Any]) -> list[str]:
        kind = rng.integers(0, 3)
        if kind == 0:
            return []
        values = rng.normal(0, 0.3, channels)
        if kind == 1:  # float bias, off the accumulator's grid
            return [net.constant(values)]
        grid = (np.float32(source_scale) * weight_scale.reshape(-1)).astype(np.float32)
        return [net.quant(net.constant(values), grid, 16)]

    def activation(source: str) -> tuple[str, float]:
        signed = bool(rng.random() < 0.3)
        if not signed:
            source = net.node("Relu", [source])
        step = float(scale(-4, 0))
        mode = str(rng.choice(["ROUND", "ROUND", "FLOOR", "CEIL", "DOWN"]))
        made = net.quant(
            source, step, int(rng.integers(2, 8)), signed=signed, mode=mode, narrow=signed
        )
        return made, float(np.float32(step))

    def weight_scale() -> NDArray[Any]:
        arrays = {t.name: numpy_helper.to_array(t) for t in net.constants}
        found: NDArray[Any] = arrays[net.nodes[-1].input[1]]
        return found

    image = bool(rng.random() < 0.5)
    shape: tuple[int, ...] = (2, 6, 6) if image else (12,)
    net = Net(shape)
    step = float(scale(-4, -1))
    current = net.quant("x", step, int(rng.integers(2, 9)), signed=bool(rng.random() < 0.5))
    step = float(np.float32(step))
    if image:
        for _ in range(int(rng.integers(1, 3))):
            outs = int(rng.integers(1, 5))
            w = weight((outs, shape[0], 3, 3))
            biases = bias(outs, step, weight_scale())
            pad = int(rng.integers(0, 2))
            current = net.node("Conv", [current, w, *biases], pads=[pad] * 4, kernel_shape=[3, 3])
            shape = (outs, shape[1] - 2 + 2 * pad, shape[2] - 2 + 2 * pad)
            current, step = activation(current)
        current = net.node("MaxPool", [current], kernel_shape=[2, 2], strides=[2, 2])
        shape = (shape[0], shape[1] // 2, shape[2] // 2)
        current = net.node("Flatten", [current], axis=1)
        shape = (int(np.prod(shape)),)
    for _ in range(int(rng.integers(1, 3))):
        outs = int(rng.integers(2, 9))
        w = weight((outs, shape[0]))
        biases = bias(outs, step, weight_scale())
        current = net.node("Gemm", [current, w, *biases], transB=1)
        shape = (outs,)
        current, step = activation(current)
    return net.save(path, current)


def qdq_net(path: Path) -> Path:
    """Conv, ReLU, max-pool and Gemm in QDQ form, with zero-points and a clipped 4-bit weight."""
    rng = np.random.default_rng(0)
    net = Net((2, 4, 4))

    def pair(source: str, scale: float, zero: Any) -> str:
        constants = [net.constant(np.float32(scale)), net.constant(zero)]
        made = net.node("QuantizeLinear", [source, *constants])
        return net.node("DequantizeLinear", [made, *constants])

    def stored(codes: NDArray[Any], scale: Any) -> str:
        clipped = net.node(
            "Clip", [net.constant(codes), net.constant(np.int8(-8)), net.constant(np.int8(7))]
        )
        scales = net.constant(np.asarray(scale, dtype=np.float32))
        return net.node("DequantizeLinear", [clipped, scales], axis=0)

    weight = stored(rng.integers(-8, 8, (3, 2, 3, 3)).astype(np.int8), [0.25, 0.1, 0.5])
    made = net.node("Conv", [pair("x", 0.1, np.uint8(7)), weight], pads=[1] * 4)
    made = pair(net.node("Relu", [made]), 0.3, np.uint8(0))
    made = net.node("MaxPool", [made], kernel_shape=[2, 2], strides=[2, 2])
    made = net.node("Flatten", [made], axis=1)
    weight = stored(rng.integers(-8, 8, (4, 12)).astype(np.int8), 0.5)
    bias = net.constant(rng.integers(-99, 99, 4).astype(np.int32))
    bias = net.node("DequantizeLinear", [bias, net.constant(np.float32(0.15))])
    return net.save(path, pair(net.node("Gemm", [made, weight, bias], transB=1), 1.5, np.int8(3)))
