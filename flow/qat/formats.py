"""What a recipe can choose for its numbers: formats, roundings, gradient rules; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Scale(Enum):
    """What values a quantizer's scale may take."""

    PO2 = "po2"  # powers of two: requantization is a shift
    FLOAT = "float"  # any positive float32


class Granularity(Enum):
    """How many scales a weight tensor has."""

    TENSOR = "tensor"
    CHANNEL = "channel"  # one per output channel


class Rule(Enum):
    """What stands for the gradient of rounding, which is zero almost everywhere.

    All but the first do as the papers: they clip to the quantizer's range, then round, and give no
    gradient outside that range.
    """

    STE = "ste"  # straight through, as Brevitas does it: weights learn outside the range too
    STE_CLIPPED = "ste_clipped"  # straight through inside the range
    EWGS = "ewgs"  # element-wise gradient scaling with one fixed delta (arXiv 2104.00903)
    EWGS_HESSIAN = "ewgs_hessian"  # the same, delta from the Hessian's trace
    DAQ = "daq"  # distance-aware quantization with adaptive temperature (arXiv 2108.06983)


class Format(Enum):
    """What numbers a quantizer's codes stand for, besides their scale."""

    INTEGER = "integer"  # weights -(2^(b-1)-1)..2^(b-1)-1 and activations 0..2^b-1, after a ReLU
    FIXED = "fixed"  # Q-format: two's complement with a set number of integer bits
    ASYMMETRIC = "asymmetric"  # activations from a learned lowest value on, with a zero-point
    TERNARY = "ternary"  # -1, 0, 1
    BINARY = "binary"  # -1, 1


WEIGHT_FORMATS = (Format.INTEGER, Format.FIXED, Format.TERNARY, Format.BINARY)
ACT_FORMATS = (Format.INTEGER, Format.FIXED, Format.ASYMMETRIC, Format.TERNARY, Format.BINARY)


class Activation(Enum):
    """The function between a layer's sums and its quantizer."""

    RELU = "relu"
    SIGMOID = "sigmoid"
    TANH = "tanh"


class ActRounding(Enum):
    """How activations become codes; floor costs hardware no adder, its half sits in the bias."""

    HALF_EVEN = "half_even"
    FLOOR = "floor"


@dataclass(frozen=True)
class Numbers:
    """Everything that decides one quantizer, of a layer's weights or of its activations.

    `bits` is what the hardware holds: 2 for ternary, 1 for binary. `scale` and `granularity` do not
    apply to binary weights, whose scale is the mean absolute weight of each output channel, nor to
    `FIXED`, whose step is 2^(integer_bits - bits), times a power of two per tensor with
    `auto_scale`. `ewgs_delta` is EWGS' fixed delta, for quantized values from 0 to 1. With
    `learned` training moves the bits of an INTEGER, from `bits` on.
    """

    format: Format
    bits: int
    signed: bool
    scale: Scale
    granularity: Granularity = Granularity.TENSOR
    rule: Rule = Rule.STE
    ewgs_delta: float = 0.0
    rounding: ActRounding = ActRounding.HALF_EVEN
    integer_bits: int = 2
    auto_scale: bool = True
    learned: bool = False
