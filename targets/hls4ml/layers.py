"""What an hls4ml layer is: its kind, its types, and where a graph value lies in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from flow.layout import Layout
from flow.ops import Shape
from flow.qtype import QType
from flow.target import Matrix
from targets.hls4ml.binary import Choice


class Kind(Enum):
    """hls4ml's layer classes."""

    INPUT = "InputLayer"
    DENSE = "Dense"
    CONV = "Conv2D"
    DEPTHWISE = "DepthwiseConv2D"
    SCALE = "BatchNormalization"
    POOL = "MaxPooling2D"
    FLATTEN = "Reshape"
    RELU = "Activation"
    MERGE = "Merge"
    CONCAT = "Concatenate"
    PAD = "ZeroPadding2D"
    RESIZE = "Resize"
    TRANSPOSE = "Transpose"


@dataclass(frozen=True)
class Fixed:
    """An ap_fixed type: `bits` in all, of which `point` are right of the binary point (may be
    negative, or more than `bits`). `sign` makes it hls4ml's XNOR type: one bit, 0 for -1."""

    bits: int
    point: int
    signed: bool
    mode: str = ""
    sign: bool = False

    @classmethod
    def of(cls, qtype: QType, point: int = 0, mode: str = "") -> Fixed:
        return cls(qtype.bits, point, qtype.signed, mode)

    def __str__(self) -> str:
        sign = "" if self.signed else "u"
        mode = f",{self.mode}" if self.mode else ""
        return "xnor" if self.sign else f"{sign}fixed<{self.bits},{self.bits - self.point}{mode}>"


SIGN = Fixed(1, 0, signed=False, sign=True)


@dataclass(frozen=True, eq=False)
class Layer:
    """One hls4ml layer. `value` is the graph value that it gives, None where it is only a step on
    the way; `attributes` are hls4ml's own. `form` says how a Requant inside it is done; `inputs`
    and `outputs` are its matrix's extents; `choice` is how it multiplies by signs."""

    kind: Kind
    name: str
    sources: tuple[str, ...]
    value: str | None
    attributes: dict[str, Any]
    precision: dict[str, Fixed]
    layout: Layout
    form: str = ""
    inputs: int = 0
    outputs: int = 0
    choice: Choice | None = None

    @property
    def signs(self) -> bool:
        """Whether its codes are bits that stand for -1 and 1."""
        return self.precision["result"].sign

    @property
    def matrix(self) -> Matrix:
        return Matrix(self.inputs, self.outputs, self.kind is not Kind.DENSE)

    @property
    def products(self) -> int:
        """Multiplications for one position of the output: hls4ml reckons a depthwise convolution's
        matrix as a full one's."""
        return self.inputs * (1 if self.kind is Kind.DEPTHWISE else self.outputs)


def constant_type(values: Any) -> QType:
    return QType.covering(min(int(values.min()), -2), max(int(values.max()), 1))


def unrounded(fixed: Fixed) -> Fixed:
    """The same type without rounding and saturation, for layers that only move codes."""
    return replace(fixed, mode="")


def hls_shape(shape: Shape) -> list[int]:
    return [*shape[1:], shape[0]]
