"""From a trained network to files: the QONNX model, and what it answers on the test split."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import torch
from brevitas.export import export_qonnx
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.infer_shapes import InferShapes
from torch import nn

from flow.artifact import replace_bytes
from flow.qat import data
from flow.qat.network import frozen, input_codes
from flow.qat.recipe import Recipe
from flow.qat.result import MODEL, REFERENCE

INPUT_NAME = "x"
OUTPUT_NAME = "y"
# What follows the value among the inputs of QONNX's Quant, in order.
QUANT_CONSTANTS = ("scale", "zero_point", "bits")


def export(network: nn.Sequential, recipe: Recipe, folder: Path) -> Path:
    """Write `model.onnx` and `reference.npz` into `folder`; returns the model's path.

    The model's input is `x` (1, *input_shape) float32, its output `y` (1, classes) float32; the
    batch is 1 because QONNX's executor refuses a symbolic one (its ChangeBatchSize sets another).
    The same weights give the same bytes. The reference holds the test split: `x`
    (n, *input_shape) float32, `labels` (n,) int64, and `y` (n, classes) float64, the outputs of
    the float32 constants of the file evaluated in float64, behind input codes rounded in float32.

    Args:
        network: what `quantized_network` made, trained; it is not changed.

    Raises:
        FlowError: a scale, weight or bias is not a usable number; the layer is named.
        OSError: the folder cannot be written.
    """
    sample = torch.zeros(1, *recipe.input_shape)
    fixed = frozen(network, sample)
    model = export_qonnx(
        fixed,
        args=sample,
        dynamo=False,  # the other exporter fixes the opset and drops biases
        input_names=[INPUT_NAME],
        output_names=[OUTPUT_NAME],
        keep_initializers_as_inputs=False,
    )
    # Also when exporting to memory Brevitas leaves handlers behind: the reference starts afresh.
    reference = _reference(frozen(network, sample), recipe)
    replace_bytes(folder / MODEL, _tidy(model).SerializeToString(deterministic=True))
    replace_bytes(folder / REFERENCE, reference)
    return folder / MODEL


def _tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Shapes inferred, names made stable and readable, the exporting program's traces removed.

    A layer `fc1` gives nodes `fc1.weight_quant`, `fc1.bias_quant`, `fc1`, `fc1_act.relu` and
    `fc1_act.act_quant`; a Quant's constants are `<node>.scale`, `.zero_point` and `.bits`, one
    initializer each, its weight or bias is `fc1.weight` or `fc1.bias`; a node's output is
    `<node>.out`.
    """
    graph = ModelWrapper(model).transform(InferShapes()).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    renamed = {OUTPUT_NAME: OUTPUT_NAME}
    used: dict[str, onnx.TensorProto] = {}
    nodes = []
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in constants:
            # The exporter shares equal constants this way; here each node gets its own.
            constants[node.output[0]] = constants[node.input[0]]
            continue
        name = _node_name(node)
        inputs = []
        for index, source in enumerate(node.input):
            if source not in constants:
                inputs.append(renamed.get(source, source))
                continue
            named = _constant_name(node, name, index)
            used[named] = onnx.TensorProto()
            used[named].CopyFrom(constants[source])
            used[named].name = named
            inputs.append(named)
        for source in node.output:
            renamed.setdefault(source, f"{name}.out")
        tidied = onnx.NodeProto()
        tidied.CopyFrom(node)
        del tidied.input[:], tidied.output[:], tidied.metadata_props[:]
        tidied.input.extend(inputs)
        tidied.output.extend(renamed[source] for source in node.output)
        tidied.name, tidied.doc_string = name, ""
        nodes.append(tidied)
    shapes = []
    for info in graph.value_info:
        if info.name in renamed:
            info.name = renamed[info.name]
            shapes.append(info)
    tidy = onnx.helper.make_model(
        onnx.helper.make_graph(
            nodes, "bitwright", graph.input, graph.output, list(used.values()), value_info=shapes
        ),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
        producer_name="bitwright",
    )
    onnx.checker.check_model(tidy)
    return tidy


def _constant_name(node: onnx.NodeProto, name: str, index: int) -> str:
    if node.op_type != "Quant":
        return f"{name}.{index}"
    if index == 0:
        return name.removesuffix("_quant")  # fc1.weight_quant quantizes fc1.weight
    return f"{name}.{QUANT_CONSTANTS[index - 1]}"


def _node_name(node: onnx.NodeProto) -> str:
    """From the exporter's `/fc1/weight_quant/export_handler/Quant` to `fc1.weight_quant`."""
    module, *rest = node.name.strip("/").split("/")
    if node.op_type == "Quant":
        return f"{module}.{rest[0]}"
    if node.op_type == "Relu":
        return f"{module}.relu"
    return module


def _reference(fixed: nn.Sequential, recipe: Recipe) -> bytes:
    split = data.load(recipe.data, recipe.input_shape)
    codes, scale = input_codes(fixed, torch.from_numpy(split.test_x))
    with torch.no_grad():
        # Codes come from float32, as the file says; from here on in float64.
        y = fixed.double()(codes.double() * scale.double())
    content = io.BytesIO()
    np.savez(content, x=split.test_x, y=y.numpy(), labels=split.test_y)
    return content.getvalue()
