"""Small recipes and ways to run them, shared by the tests of training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.change_batchsize import ChangeBatchSize
from qonnx.transformation.infer_shapes import InferShapes

from flow.qat.recipe import (
    Add,
    Conv,
    Dense,
    Depthwise,
    Flatten,
    GlobalPool,
    Granularity,
    MaxPool,
    Recipe,
    Scale,
)

SHORT = {"float_epochs": 2, "epochs": 2, "augment": 0.5}

MLP = Recipe(
    name="small_mlp",
    data="digits",
    input_shape=(64,),
    layers=(Dense("fc1", 12), Dense("fc2", 10)),
    overrides=(("fc2", "weight_bits", 6), ("fc1", "act_bits", 3), ("fc1", "bias_bits", 12)),
    **SHORT,  # type: ignore[arg-type]
)
CNN = Recipe(
    name="small_cnn",
    data="digits",
    input_shape=(1, 8, 8),
    layers=(
        Conv("conv1", 4, kernel=3, padding=1),
        MaxPool("pool", 2),
        Conv("conv2", 6, kernel=3, stride=2, padding=1),
        Flatten("flatten"),
        Dense("fc", 10),
    ),
    input_bits=6,
    **SHORT,  # type: ignore[arg-type]
)
RESNET = Recipe(
    name="small_resnet",
    data="digits",
    input_shape=(1, 8, 8),
    layers=(
        Conv("conv1", 4, kernel=3, stride=2),
        Conv("conv2", 4, kernel=3, padding=1, relu=False),
        Add("add1", other="conv1"),
        Conv("conv3", 6, kernel=3, stride=2, padding=1, relu=False),
        Conv("shortcut", 6, kernel=1, stride=2, relu=False, source="add1"),
        Add("add2", other="conv3"),
        GlobalPool("pool"),
        Dense("fc", 10),
    ),
    overrides=(("add1", "act_bits", 3), ("conv3", "act_bits", 7), ("pool", "act_bits", 6)),
    **SHORT,  # type: ignore[arg-type]
)
SEPARABLE = Recipe(
    name="small_separable",
    data="digits",
    input_shape=(1, 8, 8),
    layers=(
        Conv("conv1", 6, kernel=(5, 2), stride=(2, 1), padding=(2, 1)),
        Depthwise("dw", kernel=3, padding=1),
        Conv("pw", 8, kernel=1),
        Depthwise("narrow", kernel=(1, 3), stride=(1, 2), padding=(0, 1)),
        GlobalPool("pool"),
        Dense("fc", 10),
    ),
    overrides=(("dw", "weight_bits", 6), ("narrow", "act_bits", 4)),
    **SHORT,  # type: ignore[arg-type]
)


def variant(recipe: Recipe, scale: Scale, granularity: Granularity, **more: Any) -> Recipe:
    """The recipe with another kind of scales."""
    return dataclasses.replace(recipe, scale=scale, granularity=granularity, **more)


def run_qonnx(path: Path, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Outputs of QONNX's own executor for samples x (n, ...)."""
    model = ModelWrapper(str(path)).transform(ChangeBatchSize(len(x))).transform(InferShapes())
    y: NDArray[np.float32] = execute_onnx(model, {"x": x})["y"]
    return y


def quantizers(path: Path) -> dict[str, dict[str, Any]]:
    """Per Quant node, by name: scale, zero_point, bits (arrays), signed, narrow, rounding_mode."""
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type != "Quant":
            continue
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        scale, zero_point, bits = (constants[name] for name in node.input[1:])
        found[node.name] = {
            "scale": scale,
            "zero_point": zero_point,
            "bits": bits,
            "signed": attributes["signed"],
            "narrow": attributes["narrow"],
            "rounding_mode": attributes["rounding_mode"],
            "value": constants.get(node.input[0]),
        }
    return found
