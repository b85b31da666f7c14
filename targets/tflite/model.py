"""A .tflite file as data: tensors and operators."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.ops import Shape


class DType(Enum):
    """Types of tensors, by their names in the format's schema."""

    BOOL = "BOOL"
    INT2 = "INT2"
    INT4 = "INT4"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"

    @property
    def bits(self) -> int:
        return 8 if self is DType.BOOL else int(self.value[3:])

    @property
    def storage(self) -> np.dtype[Any]:
        """The numpy type of its unpacked values."""
        return np.dtype(f"int{max(self.bits, 8)}")

    @property
    def number(self) -> int:
        """Its number in the schema, where an operator's options name a type."""
        return _NUMBERS[self.value]

    @property
    def low(self) -> int:
        return -1 << (self.bits - 1)

    @property
    def high(self) -> int:
        return (1 << (self.bits - 1)) - 1

    @property
    def codes(self) -> int:
        return 1 << self.bits


_NUMBERS = {"INT32": 2, "INT64": 4, "BOOL": 6, "INT16": 7, "INT8": 9}


class Kind(Enum):
    """Operators, by their names in the schema, with the name of their options there."""

    ADD = "AddOptions"
    BATCH_MATMUL = "BatchMatMulOptions"
    CAST = "CastOptions"
    CONCATENATION = "ConcatenationOptions"
    CONV_2D = "Conv2DOptions"
    DEPTHWISE_CONV_2D = "DepthwiseConv2DOptions"
    FULLY_CONNECTED = "FullyConnectedOptions"
    GATHER = "GatherOptions"
    GREATER_EQUAL = "GreaterEqualOptions"
    MAXIMUM = "MaximumMinimumOptions"
    MAX_POOL_2D = "Pool2DOptions"
    MUL = "MulOptions"
    PAD = "PadOptions"
    PADV2 = "PadV2Options"
    RESHAPE = "ReshapeOptions"
    SQUEEZE = "SqueezeOptions"
    SUM = "ReducerOptions"


class Activation(Enum):
    """Clamps that an operator does on its own."""

    NONE = 0
    RELU = 1
    RELU_N1_TO_1 = 2
    RELU6 = 3


@dataclass(frozen=True, eq=False)
class Tensor:
    """`shape` is with the batch, which is 1. Without a scale the numbers are plain integers; with
    several, `axis` is theirs. Constants have `data`."""

    name: str
    shape: Shape
    dtype: DType
    scale: tuple[float, ...] = ()
    zero_point: int = 0
    axis: int = 0
    data: NDArray[Any] | None = None

    @property
    def bytes(self) -> int:
        return -(-prod(self.shape) * self.dtype.bits // 8)


@dataclass(frozen=True, eq=False)
class Operator:
    """`options` are the schema's own fields; `version` the operator's."""

    kind: Kind
    inputs: tuple[str, ...]
    output: str
    options: dict[str, Any] = field(default_factory=dict)
    version: int = 1
