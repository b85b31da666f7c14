"""Integer graphs, devices and layers for the tests of the analog target."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from flow.graph import Graph, Node, Value
from flow.ops import Conv, Dense, Flatten, IntArray, Op, Requant
from flow.qtype import QType
from targets.analog.build import equip, map_graph
from targets.analog.device import Device, Kind, device_text, read_device
from targets.analog.engine import Layer
from targets.analog.mapping import Arrays, Scheme

ONE = (Fraction(1),)
IDEAL = read_device("ideal", device_text("ideal"))


def graph_of(qtype: QType, shape: tuple[int, ...], *ops: Op) -> Graph:
    """A chain of operations."""
    values, nodes = [Value("x", shape, qtype, ONE)], []
    for number, op in enumerate(ops, start=1):
        made = op.output_shape(values[-1].shape)
        wide = op.qtype if isinstance(op, Requant) else QType(62, signed=True)
        values.append(Value(f"n{number}", made, wide, ONE))
        nodes.append(Node(f"n{number}", op, (values[-2].name,), values[-1]))
    return Graph.build("net", values[0], tuple(nodes))


def ints(rng: np.random.Generator, shape: tuple[int, ...], most: int) -> IntArray:
    return rng.integers(-most, most, shape, endpoint=True, dtype=np.int64)


def requant(scale: Fraction, bits: int = 4) -> Requant:
    qtype = QType(bits, signed=False)
    return Requant((scale,), (Fraction(0),), qtype, qtype.low, qtype.high)


def dense_net(inputs: int = 24, seed: int = 0) -> Graph:
    """Two dense layers of 4-bit weights and activations."""
    rng = np.random.default_rng(seed)
    return graph_of(
        QType(4, signed=False),
        (inputs,),
        Dense(ints(rng, (10, inputs), 7), ints(rng, (10,), 40)),
        requant(Fraction(1, 32)),
        Dense(ints(rng, (5, 10), 7), ints(rng, (5,), 40)),
    )


def conv_net(groups: int = 1, seed: int = 0) -> Graph:
    """A padded, strided convolution, a depthwise one with a zero-point, and a dense layer."""
    rng = np.random.default_rng(seed)
    first = Conv(ints(rng, (4, 4 // groups, 3, 3), 7), ints(rng, (4,), 40), (2, 1), (1, 0, 1, 1))
    second = Conv(
        ints(rng, (8, 1, 2, 2), 7), ints(rng, (8,), 40), pads=(0, 1, 0, 0), groups=4, pad_value=3
    )
    return graph_of(
        QType(4, signed=True),
        (4, 6, 5),
        replace(first, groups=groups),
        requant(Fraction(1, 32)),
        second,
        requant(Fraction(1, 16)),
        Flatten(),
        Dense(ints(rng, (3, 8 * 2 * 4), 7), ints(rng, (3,), 40)),
    )


def layers_of(
    graph: Graph, device: Device = IDEAL, arrays: Arrays | None = None
) -> tuple[Layer, ...]:
    """The graph on tiles of the device's size with differential cells, or on `arrays`."""
    size = device.tile
    scheme = Scheme.SIGNED if device.kind is Kind.PHOTONIC else Scheme.DIFFERENTIAL
    arrays = arrays or Arrays(size.rows, size.columns, scheme)
    return equip(map_graph(graph, arrays, ()), device, {})


def matrix_layer(
    weights: IntArray, most: int, device: Device, arrays: Arrays | None = None
) -> Layer:
    """One dense layer (outputs, inputs) for codes of -most..most."""
    qtype = QType(QType.covering(-most, most).bits, signed=True, narrow=True)
    graph = graph_of(qtype, (weights.shape[1],), Dense(weights, np.zeros(len(weights), np.int64)))
    (layer,) = layers_of(graph, device, arrays)
    return layer


def codes_of(layer: Layer) -> QType:
    """The type of a `matrix_layer`'s input."""
    return QType(layer.drive.qtype.bits, signed=True, narrow=True)
