"""What a processor has to do for each layer of a network: the numbers that latency follows from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from flow.graph import Graph, Node
from flow.ops import Conv, Dense, MaxPool, Movement, SumPool
from flow.outline import INPUT, WEIGHTED, Outline, Role, Step

CALL = "call"  # what a runtime takes once an inference, whatever the network: a layer of its own
GATHER = "gather"  # a convolution's patches, which are brought together before they are multiplied
PIXEL = "pixel"  # what a convolution takes once for each of its positions, whatever it multiplies
BLOCK, LANES = 8, 16  # channels that kernels take at a time, of matrices and of depthwise layers


@dataclass(frozen=True)
class LayerWork:
    """One operator call: its kind, its multiply-accumulates with those of channels that only fill
    up a block, and the bytes of weights, inputs and outputs that it touches, each once. The part
    of a convolution's kind GATHER has bytes alone, that of PIXEL positions in place of products."""

    kind: str
    macs: int
    bytes: int

    def __post_init__(self) -> None:
        if not self.kind or self.macs < 0 or self.bytes < 0:
            raise ValueError(f"a layer's work must have a kind and no negative numbers, not {self}")


Network = tuple[LayerWork, ...]


def network_work(graph: Graph) -> Network:
    """The operator calls of a network in order, after the call itself.

    Element-wise nodes behind a layer with weights, or behind one another, are part of the call
    before them, as runtimes fuse clamps and requantizations; so are reshapes, which move nothing.
    Codes of up to 8 bits take a byte, of up to 16 two, others four, as in a .tflite file.
    """
    calls: list[LayerWork] = [LayerWork(CALL, 0, 0)]
    for node in graph.nodes:
        kind = _kind(node)
        if kind is not None:
            calls.append(LayerWork(kind, _products(graph, node), _bytes(graph, node)))
        if isinstance(node.op, Conv):
            calls += _around(graph, node, node.op)
    return tuple(calls)


def _products(graph: Graph, node: Node) -> int:
    """Multiply-accumulates as kernels do them, who take channels in blocks."""
    op, macs = node.op, node.op.macs(*graph.shapes(node))
    if not isinstance(op, Conv | Dense):
        return macs
    outs, ins = op.weight.shape[:2]
    if _kind(node) == "depthwise":
        return macs * _filled(outs, LANES) // outs
    return macs * _filled(outs, BLOCK) * _filled(ins, BLOCK) // (outs * ins)


def _filled(channels: int, block: int) -> int:
    return -(-channels // block) * block


def _around(graph: Graph, node: Node, op: Conv) -> list[LayerWork]:
    """What a convolution takes besides products."""
    found = [LayerWork(PIXEL, prod(node.output.shape[1:]), 0)]
    if _kind(node) == "conv" and prod(op.weight.shape[2:]) > 1:
        patches = op.macs(*graph.shapes(node)) // op.weight.shape[0]
        found.append(LayerWork(GATHER, 0, patches))
    return found


def _kind(node: Node) -> str | None:
    op = node.op
    if isinstance(op, Dense):
        return "dense"
    if isinstance(op, Conv):
        return "depthwise" if op.depthwise else "conv"
    if isinstance(op, MaxPool | SumPool):
        return "pool"
    if len(node.inputs) > 1:
        return "join"
    if isinstance(op, Movement) and op.name not in ("reshape", "flatten"):
        return "move"
    return None


def _bytes(graph: Graph, node: Node) -> int:
    values = [graph.value(name) for name in node.inputs]
    moved = sum(prod(value.shape) * _size(value.qtype.bits) for value in values)
    moved += prod(node.output.shape) * _size(_stored_bits(graph, node))
    if isinstance(node.op, Conv | Dense):
        moved += node.op.weight.size + 4 * node.op.bias.size
    return moved


def _stored_bits(graph: Graph, node: Node) -> int:
    """Of what is written to memory: the code behind the requantization that the call ends with."""
    value = node.output
    while len(readers := graph.consumers(value.name)) == 1 and _kind(readers[0]) is None:
        value = readers[0].output
    return value.qtype.bits


def _size(bits: int) -> int:
    return 1 if bits <= 8 else 2 if bits <= 16 else 4


_KINDS: dict[Role, str] = {
    Role.DENSE: "dense",
    Role.CONV: "conv",
    Role.DEPTHWISE: "depthwise",
    Role.MAX_POOL: "pool",
    Role.SUM_POOL: "pool",
    Role.ADD: "join",
    Role.MUL: "join",
    Role.MOVE: "move",
}


def outline_work(network: Outline) -> Network:
    """As `network_work`, of a network by its shapes and bits, with or without weights. What nothing
    is known of is a call of the kind unknown."""
    calls: list[LayerWork] = [LayerWork(CALL, 0, 0)]
    held = {INPUT: network.inputs * _size(network.input_bits)}
    readers: dict[str, list[Step]] = {}
    for step in network.steps:
        held[step.name] = step.outputs * _size(step.made_bits)
        for source in step.sources:
            readers.setdefault(source, []).append(step)
    for step in network.steps:
        kind = "unknown" if step.role is Role.UNKNOWN else _KINDS.get(step.role)
        if kind is None:
            continue
        last = step
        while len(after := readers.get(last.name, [])) == 1 and _fused(after[0]):
            last = after[0]
        moved = sum(held[source] for source in step.sources) + step.outputs * _size(last.made_bits)
        if step.role in WEIGHTED:
            moved += step.weights + 4 * step.channels
        calls.append(LayerWork(kind, _step_products(step), moved))
        if step.role in (Role.CONV, Role.DEPTHWISE):
            calls.append(LayerWork(PIXEL, step.positions, 0))
        if step.role is Role.CONV and step.window > 1:
            calls.append(LayerWork(GATHER, 0, step.taken * step.positions))
    return tuple(calls)


def _step_products(step: Step) -> int:
    if step.role not in WEIGHTED:
        return 0
    outs, ins = step.channels, step.taken // step.window
    if step.role is Role.DEPTHWISE:
        return step.taken * _filled(outs, LANES) * step.positions
    return step.window * _filled(ins, BLOCK) * _filled(outs, BLOCK) * step.positions


def _fused(step: Step) -> bool:
    return step.role not in _KINDS and step.role is not Role.UNKNOWN


def totals(network: Network) -> Mapping[str, tuple[int, int, int]]:
    """(calls, multiply-accumulates, bytes) by kind."""
    found: dict[str, tuple[int, int, int]] = {}
    for layer in network:
        calls, macs, moved = found.get(layer.kind, (0, 0, 0))
        found[layer.kind] = calls + 1, macs + layer.macs, moved + layer.bytes
    return found
