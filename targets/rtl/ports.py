"""Codes as bits and bytes at the hardware's ports, and the cycles that they take."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.graph import Graph
from flow.ops import IntArray, Shape
from flow.qtype import QType

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Port:
    """Codes of one shape, side by side: entry j (of the flattened shape) is `bits` bits, from bit
    j * bits on, two's complement where `signed`. As bytes the lowest bits come first, and the last
    byte is filled up with zeros."""

    shape: Shape
    bits: int
    signed: bool

    @property
    def total(self) -> int:
        """Bits of all entries."""
        return prod(self.shape) * self.bits

    @property
    def bytes(self) -> int:
        return -(-self.total // 8)

    def pack(self, codes: IntArray) -> Bytes:
        """Codes (n, *shape) as bytes (n, bytes)."""
        flat = codes.reshape(len(codes), -1, 1)
        bits = (flat >> np.arange(self.bits)) & 1
        return np.packbits(bits.reshape(len(codes), -1).astype(np.uint8), axis=1, bitorder="little")

    def unpack(self, data: Bytes) -> IntArray:
        """Bytes (n, bytes) as codes (n, *shape)."""
        bits = np.unpackbits(data, axis=1, count=self.total, bitorder="little").astype(np.int64)
        places = bits.reshape(len(data), -1, self.bits) << np.arange(self.bits)
        codes: IntArray = places.sum(axis=2)
        if self.signed:
            codes -= (codes >> (self.bits - 1)) << self.bits
        return codes.reshape(len(data), *self.shape)

    def to_json(self) -> dict[str, Any]:
        return {
            "shape": list(self.shape),
            "bits": self.bits,
            "signed": self.signed,
            "bytes": self.bytes,
        }


@dataclass(frozen=True)
class Ports:
    inputs: Port
    outputs: Port

    @classmethod
    def of(cls, graph: Graph, names: tuple[str, ...] = ()) -> Ports:
        """The input, and the output in the smallest type of all that it can be; or, behind each
        other in one flat port, the values `names`."""
        ends = [graph.bounds[name] for name in names or (graph.output.name,)]
        least, most = min(int(low.min()) for low, _ in ends), max(int(h.max()) for _, h in ends)
        reached = QType.covering(least, most)
        given = graph.input.qtype
        shape = graph.output.shape
        if names:
            shape = (sum(prod(graph.value(name).shape) for name in names),)
        return cls(
            Port(graph.input.shape, given.bits, given.signed),
            Port(shape, reached.bits, reached.signed),
        )


@dataclass(frozen=True)
class Timing:
    """Cycles that the hardware takes: the only place that knows them.

    The network alone takes `latency` cycles and a new input in each. Through the byte stream, an
    input's first byte to its output's last byte, both counted, takes `stream_latency` cycles, and
    inputs follow each other every `stream_interval` cycles.
    """

    latency: int
    stream_latency: int
    stream_interval: int
    interval: int = 1

    @classmethod
    def of(cls, latency: int, ports: Ports) -> Timing:
        into, out = ports.inputs.bytes, ports.outputs.bytes
        return cls(latency, into + latency + out, max(into, out))
