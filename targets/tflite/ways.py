"""Which kernels a runtime has for an operator: how they requantize, and the type of their bias."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from targets.tflite.arithmetic import Arithmetic
from targets.tflite.model import DType, Kind


@dataclass(frozen=True)
class Way:
    """One kernel of an operator."""

    arithmetic: Arithmetic
    bias: DType = DType.INT32


class Kernels(Enum):
    """The kernels that run a file, by runtime and type of the activations.

    With int16 activations the runtimes choose a kernel by the type of the bias. Int32 is the fast
    one (20 times, for a convolution of 16 channels on x86-64); int64 has other roundings.
    """

    XNNPACK = "XNNPACK"
    DEFAULT = "tflite-runtime"
    LITERT_16 = "LiteRT, int16x8"
    DEFAULT_16 = "tflite-runtime, int16x8"

    @property
    def activations(self) -> DType:
        return DType.INT16 if self in (Kernels.LITERT_16, Kernels.DEFAULT_16) else DType.INT8

    def ways(self, kind: Kind) -> tuple[Way, ...]:
        """Those of an operator that rounds, the preferred one first."""
        if self is Kernels.XNNPACK:
            return (Way(Arithmetic.XNNPACK),)
        elementwise = kind in (Kind.MUL, Kind.DEPTHWISE_CONV_2D)
        if self is Kernels.DEFAULT:
            return (Way(Arithmetic.GEMMLOWP if elementwise else Arithmetic.RUY),)
        if kind is Kind.MUL:
            return (Way(Arithmetic.GEMMLOWP),)
        wide = Way(Arithmetic.REDUCED, DType.INT64)
        if kind is Kind.DEPTHWISE_CONV_2D:
            return (wide,)
        if kind is Kind.FULLY_CONNECTED and self is Kernels.LITERT_16:
            wide = Way(Arithmetic.FLOAT64, DType.INT64)
        return Way(Arithmetic.RUY), wide

    @property
    def dense_is_finer(self) -> bool:
        """Whether a dense layer can have steps that a convolution cannot."""
        return self is Kernels.LITERT_16

    def version(self, kind: Kind, bias: DType | None) -> tuple[int | None, dict[str, int]]:
        """The version of an operator on int16, and options that it needs then; None: the same as on
        int8. Source: op_version.cc of LiteRT."""
        if self is Kernels.LITERT_16 and bias is DType.INT32 and kind in _BIASED:
            # Without the option LiteRT's convolution reads an int32 bias as int64.
            return _BIASED[kind], {"quantizedBiasType": DType.INT32.number}
        more = {"potScaleInt16": 0} if kind is Kind.ADD else {}
        return _VERSIONS.get(kind), more


_BIASED = {Kind.CONV_2D: 8, Kind.FULLY_CONNECTED: 11}
_VERSIONS = {
    Kind.ADD: 3,
    Kind.CONCATENATION: 3,
    Kind.CONV_2D: 4,
    Kind.DEPTHWISE_CONV_2D: 5,
    Kind.FULLY_CONNECTED: 7,
    Kind.GATHER: 4,
    Kind.MAX_POOL_2D: 3,
    Kind.MUL: 4,
    Kind.PAD: 3,
    Kind.PADV2: 3,
}
