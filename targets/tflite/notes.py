"""What is known of single layers: how they round, and the bytes and operators that they take."""

from __future__ import annotations

from flow.graph import Graph
from flow.metric import Kind as Given
from flow.metric import Metric
from flow.target import LayerNote, node_of
from targets.tflite.model import DType, Operator
from targets.tflite.state import Lowered, Rounded


def notes(graph: Graph, lowered: Lowered) -> dict[str, LayerNote]:
    """By node: the operators that are called after it."""
    names = {node.name for node in graph.nodes}
    owned: dict[str, list[Operator]] = {name: [] for name in names}
    for operator in lowered.operators:
        if (name := node_of(operator.output, names)) is not None:
            owned[name].append(operator)
    held = {tensor.name: tensor.bytes for tensor in lowered.tensors if tensor.data is not None}
    unproven = {node_of(row.node, names): len(row.channels) for row in lowered.unproven}
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
        rounded = lowered.rounded.get(node.name)
        how = "" if rounded is None else _rounding(rounded, unproven.get(node.name, 0))
        # A sum is computed by the kernel of what rounds it.
        bits = [
            lowered.rounded[user.name].bias.bits
            for user in (node, *graph.consumers(node.output.name))
            if user.name in lowered.rounded
        ]
        found[node.name] = LayerNote(how, None, min(bits, default=DType.INT32.bits), tuple(metrics))
    return found


def _rounding(rounded: Rounded, unproven: int) -> str:
    if rounded.arithmetic is None:
        return rounded.instead
    parts = [rounded.arithmetic.shown]
    if rounded.dense:
        parts.append("by a dense layer of its windows")
    if rounded.shifted:
        parts.append("an addition moves its codes")
    if rounded.kernels > 1:
        parts.append(f"{rounded.kernels} kernels share the steps")
    if rounded.corrections:
        parts.append(f"{rounded.corrections} further rows correct single steps")
    return ", ".join([*parts, f"{unproven} channels not proven" if unproven else "proven"])
