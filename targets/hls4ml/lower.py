"""The integer graph as a list of hls4ml layers, with an exact precision for every tensor.

Activations travel as integer codes. A Requant that is one shift for all channels costs nothing: the
binary point of the weights moves, and the cast of the result rounds (AP_RND_CONV) and saturates.
Any other Requant becomes a scale layer with a multiplier and an offset that are proven to give the
same codes for every reachable accumulator (flow/requant.py).

hls4ml keeps images channels-last; `Layout` says where each entry of a graph value is found there.
What hls4ml has no layer for is written with those it has, where that is exact: a grouped or dilated
convolution with zeros in its weights, an average pool as a convolution with ones, padding with
another code than 0 between two shifts. The rest is an offence, never left out in silence.
"""

from __future__ import annotations

from collections.abc import Callable

from flow.errors import Offence
from flow.graph import Graph, Node
from flow.layout import Layout
from flow.ops import (
    Add,
    Conv,
    Dense,
    MaxPool,
    Movement,
    Mul,
    Relu,
    Requant,
    SumPool,
    Table,
    Threshold,
)
from targets.hls4ml.backends import FACTS, Backend, Strategy
from targets.hls4ml.binary import Binary
from targets.hls4ml.layers import Fixed, Kind, Layer, hls_shape
from targets.hls4ml.moves import add, max_pool, move, mul
from targets.hls4ml.products import multiply
from targets.hls4ml.requants import relu, requant
from targets.hls4ml.staircases import table, threshold
from targets.hls4ml.state import Lowered, Refused, State


def lower(
    graph: Graph,
    *,
    stream: bool = False,
    backend: Backend = Backend.VITIS,
    strategy: Callable[[str], Strategy] = lambda layer: Strategy.LATENCY,
    binary: Callable[[str], Binary] = lambda layer: Binary.AUTO,
) -> Lowered:
    """Lower every node, for io_stream where `stream`, with the strategy and the products of signs
    that each layer has; nothing is left out in silence: what has no layer is an offence."""
    return _run(State(graph, stream, FACTS[backend], strategy, binary))


def _run(state: State) -> Lowered:
    value = state.graph.input
    state.append(
        Layer(
            Kind.INPUT,
            "input_codes",
            (),
            value.name,
            {"input_shape": hls_shape(value.shape)},
            {"result": Fixed.of(value.qtype)},
            Layout.channels_last(value.shape),
        )
    )
    for node in state.graph.nodes:
        if node.output.name in state.made:
            continue  # a Requant that its Dense or Conv does already
        if any(name in state.lost for name in node.inputs):
            state.lost.add(node.output.name)
            continue
        try:
            _lower(state, node)
        except Refused as why:
            state.result.offences.append(Offence(node.name, why.reason, why.fix))
            state.lost.add(node.output.name)
    return state.result


def _lower(state: State, node: Node) -> None:
    op, source = node.op, state.made[node.inputs[0]]
    if isinstance(op, Dense | Conv | SumPool):
        multiply(state, node, op, source)
    elif isinstance(op, Requant):
        requant(state, node, op, source)
    elif isinstance(op, Relu):
        relu(state, node, op, source)
    elif isinstance(op, MaxPool):
        max_pool(state, node, op, source)
    elif isinstance(op, Add):
        add(state, node, op)
    elif isinstance(op, Mul):
        mul(state, node, op)
    elif isinstance(op, Threshold):
        threshold(state, node, op, source)
    elif isinstance(op, Table):
        table(state, node, op, source)
    elif isinstance(op, Movement):
        move(state, node, op)
    else:
        raise Refused(
            f"hls4ml has no layer that does {op.name} exactly",
            "use another target for this network, or another function there",
        )
