"""What comes out of an import: integers in the middle, the host's part at both ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from flow.features_snippet import FrontEnd
from flow.graph import Graph
from flow.qtype import QType
from flow.requant import Rounding

Rationals = tuple[Fraction, ...]


class HostKind(Enum):
    """A float operation that the host does before the first quantizer."""

    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    DIV = "div"
    RESHAPE = "reshape"
    TRANSPOSE = "transpose"


@dataclass(frozen=True)
class HostStep:
    """One float32 operation with its constant: `values` in C order under `shape` (arithmetic), or
    whole numbers (RESHAPE: the new shape without the batch; TRANSPOSE: the order with it)."""

    kind: HostKind
    values: tuple[float, ...]
    shape: tuple[int, ...] = ()


class HostFunction(Enum):
    """A float function of the output, left to the host."""

    SOFTMAX = "softmax"
    LOG_SOFTMAX = "log_softmax"
    SIGMOID = "sigmoid"
    TANH = "tanh"
    ARGMAX = "argmax"


@dataclass(frozen=True)
class HostInput:
    """How the host makes the input's codes: `steps` first, then, in float32 as QONNX says,
    clamp(round(x / scale + zero_point)); a bipolar input is +1 where x >= 0, else -1.

    `shape` is the input's own, without the batch; after the zero-point is added inside the rounding
    (QONNX) or after it (`zero_inside` False: QDQ files). `front_end` makes the input of sound.
    """

    shape: tuple[int, ...]
    steps: tuple[HostStep, ...]
    scale: float
    zero_point: int
    zero_inside: bool
    rounding: Rounding
    qtype: QType
    bipolar: bool = False
    front_end: FrontEnd | None = None


@dataclass(frozen=True)
class HostOutput:
    """What the output's codes mean: real = clip(scale*code + offset, low, high) per channel (one
    entry, or one per channel), then `functions` in order. With `reconstructs` they are the input
    again."""

    scale: Rationals
    offset: Rationals
    low: Fraction | None
    high: Fraction | None
    functions: tuple[HostFunction, ...]
    reconstructs: bool = False


@dataclass(frozen=True, eq=False)
class Imported:
    """A network as read from a file: integers in the middle, the host's part at both ends.

    `source` is the file's tensor that the graph's input stands for. `origin` says which of the
    file's tensors a graph value stands for, where its real values are that tensor's.
    """

    graph: Graph
    head: HostInput
    tail: HostOutput
    source: str
    origin: Mapping[str, str]
