"""First scales of quantizers: those with the smallest squared error on given values.

Training moves them; a good start saves epochs and keeps power-of-two scales from jumping late.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flow.qat.formats import Granularity, Scale

_FRACTIONS = 80  # float candidates: this many steps down from the range that clips nothing
_OCTAVES = 4  # power-of-two candidates: this many halvings below it


@dataclass(frozen=True)
class Range:
    """Codes of a quantizer: 0 to 2^bits-1, or, when signed, -2^(bits-1) to 2^(bits-1)-1; `narrow`
    leaves out the lowest, so that the range is symmetric."""

    bits: int
    signed: bool
    narrow: bool = False

    @property
    def highest(self) -> int:
        """The largest code."""
        return (1 << (self.bits - 1 if self.signed else self.bits)) - 1

    @property
    def lowest(self) -> int:
        """The smallest code."""
        return -self.highest - (not self.narrow) if self.signed else 0

    def divisor(self, kind: Scale) -> int:
        """What Brevitas divides its threshold by to get the scale."""
        return self.highest + 1 if kind is Scale.PO2 else max(self.highest, -self.lowest)


def weight_scale(weight: Tensor, limits: Range, kind: Scale, granularity: Granularity) -> Tensor:
    """The scale of `weight` (out, in, ...): shape (), or (out, 1, ...) per channel; all positive.

    A channel that is all zeros gets the scale of the whole tensor, as any scale serves it.
    """
    if granularity is Granularity.TENSOR:
        return _best_scale(weight.reshape(1, -1), limits, kind).reshape(())
    rows = weight.flatten(1)
    whole = _best_scale(weight.reshape(1, -1), limits, kind)
    scale = torch.where(rows.abs().amax(1) > 0, _best_scale(rows, limits, kind), whole)
    return scale.reshape(-1, *[1] * (weight.ndim - 1))


def activation_scale(y: Tensor, limits: Range, kind: Scale) -> Tensor:
    """The scale, shape (), for samples of any shape; y >= 0 unless the codes are signed."""
    return _best_scale(y.reshape(1, -1), limits, kind).reshape(())


def asymmetric_scale(
    y: Tensor, limits: Range, kind: Scale, clip: bool = True
) -> tuple[Tensor, int]:
    """Scale, shape (), and zero-point of unsigned codes for samples y of any shape and sign.

    The least squared error, or, without `clip`, the smallest scale that clips no sample by more
    than the zero-point's rounding, which is at most half a step.
    """
    bottom, top = min(float(y.min()), 0.0), max(float(y.max()), 0.0)
    span = torch.tensor([[top - bottom]])
    row = y.reshape(-1).double()
    best, zero, least = torch.ones(()), 0, math.inf
    for shrink in _shrinks(kind) if clip else [1.0]:
        scale = float(_widest_scale(span, limits, kind)) * shrink
        offset = min(round(-bottom / scale), limits.highest)
        codes = torch.clamp(torch.round(row / scale) + offset, 0, limits.highest)
        error = float((((codes - offset) * scale - row) ** 2).sum())
        if error < least:
            best, zero, least = torch.tensor(scale), offset, error
    return best, zero


def input_scale(x: Tensor, limits: Range, kind: Scale) -> Tensor:
    """The smallest scale, shape (), that clips no network input of any shape."""
    return _widest_scale(x.reshape(1, -1), limits, kind).float().reshape(())


def _widest_scale(rows: Tensor, limits: Range, kind: Scale) -> Tensor:
    """The smallest scale that clips nothing, float64, for each row of (n, m).

    A row of zeros is taken as if its largest value were 1.
    """
    top = rows.abs().amax(1).double()
    scale = torch.where(top > 0, top, torch.ones_like(top)) / limits.highest
    return scale if kind is Scale.FLOAT else torch.exp2(torch.ceil(torch.log2(scale)))


def _shrinks(kind: Scale) -> list[float]:
    """Candidates for a scale, in widest scales."""
    if kind is Scale.PO2:
        return [2.0**-step for step in range(_OCTAVES)]
    return [1.0 - step / (_FRACTIONS * 1.25) for step in range(_FRACTIONS)]


def _best_scale(rows: Tensor, limits: Range, kind: Scale) -> Tensor:
    """The scale with the smallest squared error, float32, for each row of (n, m)."""
    widest = _widest_scale(rows, limits, kind)
    best = widest.clone()
    least = torch.full_like(widest, math.inf)
    for shrink in _shrinks(kind):
        scale = widest * shrink
        codes = torch.clamp(torch.round(rows / scale[:, None]), limits.lowest, limits.highest)
        error = ((codes * scale[:, None] - rows) ** 2).sum(1)
        better = error < least
        best = torch.where(better, scale, best)
        least = torch.where(better, error, least)
    return best.float()
