"""What comes out of an import: integers in the middle, the host's part at both ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from flow.graph import Graph
from flow.qtype import QType
from flow.requant import Rounding

Rationals = tuple[Fraction, ...]


@dataclass(frozen=True)
class HostInput:
    """How the host makes the input's codes, in float32 as QONNX says:
    clamp(round(x / scale + zero_point))."""

    scale: float
    zero_point: int
    rounding: Rounding
    qtype: QType


@dataclass(frozen=True)
class HostOutput:
    """What the output's codes mean: real = clip(scale*code + offset, low, high) per channel (one
    entry, or one per channel), then softmax where `softmax`."""

    scale: Rationals
    offset: Rationals
    low: Fraction | None
    high: Fraction | None
    softmax: bool


@dataclass(frozen=True, eq=False)
class Imported:
    """A network as read from a file: integers in the middle, the host's part at both ends.

    `origin` says which of the file's tensors a graph value stands for, where its real values are
    that tensor's.
    """

    graph: Graph
    head: HostInput
    tail: HostOutput
    origin: Mapping[str, str]
