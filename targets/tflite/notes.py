"""What is known of single layers: how they round, and the bytes and operators that they take."""

from __future__ import annotations

from flow.graph import Graph
from flow.metric import Kind as Given
from flow.metric import Metric
from flow.ops import Requant
from flow.target import LayerNote, node_of
from targets.tflite.arithmetic import Arithmetic
from targets.tflite.model import Kind, Operator
from targets.tflite.state import Lowered

ACCUMULATOR_BITS = 32  # of every kernel with int8 activations


def notes(graph: Graph, lowered: Lowered, arithmetic: Arithmetic) -> dict[str, LayerNote]:
    """By node: the operators that are called after it."""
    names = {node.name for node in graph.nodes}
    owned: dict[str, list[Operator]] = {name: [] for name in names}
    for operator in lowered.operators:
        if (name := node_of(operator.output, names)) is not None:
            owned[name].append(operator)
    held = {tensor.name: tensor.bytes for tensor in lowered.tensors if tensor.data is not None}
    unproven = {node_of(row.node, names): len(row.channels) for row in lowered.unproven}
    made_by = {node.output.name: node.name for node in graph.nodes}
    found = {}
    for node in graph.nodes:
        constants = {name for operator in owned[node.name] for name in operator.inputs}
        metrics = [
            Metric(
                "constants",
                sum(held.get(name, 0) for name in constants),
                "B",
                Given.MEASURED,
                "weights, biases and shapes of its operators",
            ),
            Metric("operators", len(owned[node.name]), "1", Given.MEASURED, "in the file"),
        ]
        how = ""
        if isinstance(node.op, Requant):
            both = (node.name, made_by.get(node.inputs[0]))  # the kernel of a sum may round it
            kinds = {operator.kind for name in both if name for operator in owned[name]}
            missed = sum(unproven.get(name, 0) for name in both)
            how = _rounding(arithmetic, missed, Kind.GREATER_EQUAL in kinds)
        found[node.name] = LayerNote(how, None, ACCUMULATOR_BITS, tuple(metrics))
    return found


def _rounding(arithmetic: Arithmetic, unproven: int, compared: bool) -> str:
    if compared:
        return "steps compared one by one, in int32"
    kind = "float32" if arithmetic is Arithmetic.XNNPACK else "31-bit"
    proof = f"{unproven} channels not proven" if unproven else "proven"
    return f"{kind} multiplier ({arithmetic.value}), {proof}"
