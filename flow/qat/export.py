"""From a trained network to files: the QONNX model, and what it answers on the test split."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import numpy as np
import onnx
import torch
from brevitas.export import export_qonnx
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.infer_shapes import InferShapes

from flow.artifact import replace_bytes
from flow.qat.data import Split
from flow.qat.network import Network, frozen, input_codes
from flow.qat.recipe import INPUT, Recipe
from flow.qat.result import MODEL, REFERENCE

CHUNK = 1000  # samples at a time
INPUT_NAME = "x"
OUTPUT_NAME = "y"
# What follows the value among the inputs of QONNX's Quant, in order; BipolarQuant has the first.
QUANT_CONSTANTS = ("scale", "zero_point", "bits")
QUANTS = ("Quant", "BipolarQuant")


def export(network: Network, recipe: Recipe, split: Split, folder: Path) -> Path:
    """Write `model.onnx` and `reference.npz` into `folder`; returns the model's path.

    The model's input is `x` (1, *input_shape) float32, its output `y` (1, classes) float32; the
    batch is 1 because QONNX's executor refuses a symbolic one (its ChangeBatchSize sets another).
    The same weights give the same bytes. The reference holds the test split: `x`
    (n, *input_shape) float32, `labels` and, where there are such, `recordings` (n,) int64 unless
    the recipe is untrained, and `y`
    (n, classes) float64, the outputs of the float32 constants of the file evaluated in float64,
    behind input codes rounded in float32.

    Args:
        network: what `quantized_network` made, trained; it is not changed.
        split: the data, each sample of the recipe's input shape.

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
    reference = _reference(frozen(network, sample), recipe, split)
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
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in constants:
            # The exporter shares equal constants this way; here each node gets its own.
            constants[node.output[0]] = constants[node.input[0]]
            continue
        name = _node_name(node, {made.name for made in nodes})
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
    if node.op_type not in QUANTS:
        return f"{name}.{index}"
    if index == 0:
        return name.removesuffix("_quant")  # fc1.weight_quant quantizes fc1.weight
    return f"{name}.{QUANT_CONSTANTS[index - 1]}"


def _node_name(node: onnx.NodeProto, taken: set[str]) -> str:
    """From the exporter's `/fc1/weight_quant/export_handler/Quant` to `fc1.weight_quant`; a
    module's first other node has the module's name, the next ones also their operation's."""
    module, *rest = node.name.strip("/").split("/")
    if node.op_type in QUANTS:
        return f"{module}.{rest[0]}"
    if node.op_type in ("Relu", "Sigmoid", "Tanh", "Transpose") or module in taken:
        return f"{module}.{node.op_type.lower()}"
    return module


def _reference(fixed: Network, recipe: Recipe, split: Split) -> bytes:
    outputs = []
    body: Network | None = None
    for x in torch.split(torch.from_numpy(split.test_x), recipe.at_once(CHUNK)):
        codes, scale = input_codes(fixed, x)
        if body is None:
            body = copy.deepcopy(fixed).double()
        with torch.no_grad():
            # Codes come from float32, as the file says, and stay; from here on in float64.
            *_, y = body.values(codes.double() * scale.double(), begin=INPUT).values()
        outputs.append(y)
    content = io.BytesIO()
    arrays = {"x": split.test_x, "y": torch.cat(outputs).numpy()}
    if not recipe.untrained:
        arrays["labels"] = split.test_y
        if split.recordings is not None:
            arrays["recordings"] = split.recordings
    np.savez_compressed(content, **arrays)
    return content.getvalue()
