"""The structure of hls4ml's layers, in closed form: reuse factors, cycles, multipliers, memories.

The formulas were held against reports of Vitis HLS on single dense layers with 16-bit activations
(wa-hls4ml-search, Apache-2.0) and of Vivado HLS (N-TORC, MIT); each says where it was exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import numpy as np

from flow.metric import Interval
from flow.outline import Role, Step
from flow.surrogate.structure import Range
from flow.surrogate.trees import Floats

FULL_PRODUCT = 8  # bits of a weight from which on a product with 16 bits takes a DSP
NO_PRODUCT = 4  # bits of a weight up to which it takes none
WIDE = 16  # bits of activations that this is known of
NARROW_DSP = 18, 27  # bits that the multiplier of AMD's DSP48E2 takes, signed (UG579)
PORT, DEPTH = 36, 512  # a block RAM of 18 Kbit at its widest (UG573)
Counts = TypeVar("Counts", int, Floats)  # of one design, or (n,) of n


def valid_reuse_factors(inputs: int, outputs: int) -> list[int]:
    """Reuse factors of hls4ml's resource strategy for an inputs x outputs matrix, ascending.

    Source: hls4ml documentation of the resource strategy; a factor must divide inputs*outputs, be
    below `inputs` or a multiple of it, and share the multipliers evenly among the outputs.
    """
    total = inputs * outputs
    return [
        factor
        for factor in _divisors(total)
        if (factor % inputs == 0 if factor >= inputs else True)
        and (factor >= inputs or math.ceil(total / min(inputs, factor)) % outputs == 0)
    ]


def _divisors(total: int) -> list[int]:
    low = [factor for factor in range(1, math.isqrt(total) + 1) if total % factor == 0]
    return sorted({*low, *(total // factor for factor in low)})


def nearest_reuse(valid: Sequence[int], asked: int) -> int:
    """The one that hls4ml takes: of two that are as near the smaller one."""
    return min(valid, key=lambda factor: (abs(factor - asked), factor))


@dataclass(frozen=True)
class Reused:
    """A matrix of `inputs` x `outputs` weights in hls4ml's resource strategy, whose multipliers
    each do `reuse` products, one a cycle. The reuse factor must be a valid one."""

    inputs: int
    outputs: int
    reuse: int
    weight_bits: int
    given_bits: int = WIDE

    @property
    def multipliers(self) -> int:
        return -(-self.inputs * self.outputs // self.reuse)

    @property
    def dsps(self) -> Range:
        """Exact in all 747 designs of wa-hls4ml-search with a reuse factor above 1 and weights of 8
        bits or more, or of 4 or less, in C synthesis; between these it may be anything up to one a
        product, and so with narrower activations, or with constants in the place of a memory."""
        count = self.multipliers
        if self.weight_bits <= NO_PRODUCT:
            return Range.exactly(0)
        if max(self.weight_bits, self.given_bits) > NARROW_DSP[1] or (
            min(self.weight_bits, self.given_bits) > NARROW_DSP[0]
        ):
            return Range(0, count, 4 * count)
        certain = self.weight_bits >= FULL_PRODUCT and self.given_bits >= WIDE and self.reuse > 1
        return Range.exactly(count) if certain else Range(0, count, count)

    @property
    def memory(self) -> tuple[int, int]:
        """(bits of a word, words): the weights are read `multipliers` at a time."""
        return self.multipliers * self.weight_bits, self.reuse

    @property
    def block_rams(self) -> int:
        """Halves of block RAM that the memory takes at least, in the widest form; constants, with
        a reuse factor of 1, take none."""
        width, words = self.memory
        return 0 if self.reuse == 1 else -(-width // PORT) * -(-words // DEPTH)

    @property
    def steering(self) -> int:
        """Legs of the multiplexers, of all multipliers together, that lead a product to its sum.

        A multiplier adds to reuse/inputs sums one after the other. Of one or two, HLS tells which
        is which; of more it keeps the number of an output, and chooses among all that this can be.
        """
        sums = max(self.reuse // self.inputs, 1)
        return self.multipliers * (sums if sums <= 2 else 1 << (self.outputs - 1).bit_length())

    @property
    def latency(self) -> tuple[int, int]:
        """Cycles of the layer alone, (best, worst): exact in all 871 designs of wa-hls4ml-search
        with a reuse factor above 1. One less where products of few bits need no DSP and each
        multiplier adds to two sums. Unrolled whole, a layer is one or two."""
        if self.reuse == 1:
            return 0, 1
        short = self.reuse == 2 * self.inputs and self.weight_bits <= NO_PRODUCT
        return self.reuse + 1 - short, self.reuse + 2 - short


def cycles(total: Counts, layers: int, scales: int = 0) -> tuple[Counts, Counts, Counts]:
    """Cycles of networks of so many dense layers, whose reuse factors add up to `total`: at least,
    likely, and at most.

    sum + 2L - 1, at most L more: held in 109 of 109 designs of two and three layers (Vitis 2023.2).
    An activation that is fused into a layer was a layer there, hence the lower end; `scales` are
    layers that only scale.
    """
    latency = total + 2 * layers - 1
    return total + layers - 1, latency, latency + layers + scales


def interval(reuse: Sequence[int]) -> Interval:
    """Cycles from one input to the next: exact in all 871 designs of wa-hls4ml-search with a reuse
    factor above 1; unrolled whole, 30 of 35 took a second one."""
    most = max(reuse, default=1)
    return Interval(most, most + 1, 0.95)


def matrix(step: Step) -> tuple[int, int]:
    """(inputs, outputs) of the matrix that hls4ml makes of a layer with weights: that of a
    depthwise convolution is reckoned as a full one's."""
    inputs = step.taken * (step.channels if step.role is Role.DEPTHWISE else 1)
    return inputs, step.channels


class Way(Enum):
    """How a dense layer is done: estimates of the one tell nothing of the other."""

    REUSED = "reused"  # multipliers that take weights from a memory
    UNROLLED = "unrolled"  # a product of a constant each


FEATURES = ("inputs", "outputs", "reuse factor", "sums a multiplier", "weight bits", "input bits")
SIZES = 4  # of the features, the first: in which layers may be larger than all that were seen


def features(made: Sequence[Reused]) -> Floats:
    """(n, FEATURES), of sizes the binary logarithms."""
    return np.array(
        [
            [
                math.log2(each.inputs),
                math.log2(each.outputs),
                math.log2(each.reuse),
                math.log2(max(each.reuse / each.inputs, 1)),
                each.weight_bits,
                each.given_bits,
            ]
            for each in made
        ]
    )


def terms(made: Sequence[Reused], way: Way) -> Floats:
    """(n, t): what logic, registers and memory go with, of whatever factor."""
    return np.array([_reused(each) if way is Way.REUSED else _unrolled(each) for each in made])


def _reused(made: Reused) -> list[float]:
    """Choosing inputs and holding them, sums, multipliers, their words, leading products to sums,
    counting, and block RAM."""
    count, bits = made.multipliers, made.weight_bits
    parts = 1, made.inputs, made.outputs, count, count * bits, made.steering
    return [*map(float, parts), math.log2(made.reuse), float(made.block_rams)]


def _unrolled(made: Reused) -> list[float]:
    """Products by adders, which grow with the bits until a DSP takes their place; sums."""
    count, bits = made.inputs * made.outputs, made.weight_bits
    few = min(bits, FULL_PRODUCT)
    many = max(bits - FULL_PRODUCT, 0)
    return [1.0, float(made.outputs), float(count), float(count * few), count / (1 + many)]
