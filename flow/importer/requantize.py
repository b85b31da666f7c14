"""A quantizer on a pending activation, as one Requant."""

from __future__ import annotations

from fractions import Fraction

from flow.importer.meaning import Rationals
from flow.importer.tensors import Act, Quantizer, Reject, combine, per_channel
from flow.ops import Requant, Shape


def requant_of(act: Act, shape: Shape, quantizer: Quantizer) -> tuple[Requant, Rationals]:
    """The Requant that gives the quantizer's codes, and the scales of its output.

    Raises:
        Reject: its scale varies inside a channel, or by channel behind a clip.
    """
    scale = quantizer.scale
    # Numpy broadcasting lines up the last axes: the channel is len(shape) axes from the end. A QDQ
    # scale of one dimension was given its axes before.
    place = scale.ndim - len(shape)
    scales = per_channel(scale, shape[0], place if place >= 0 else None)
    low, high = quantizer.qtype.low, quantizer.qtype.high
    # A clip before a monotone rounding is a clamp of the codes after it.
    if act.clipped and len(scales) > 1:
        raise Reject("a clip before one scale per channel", "quantize per tensor")
    if act.low is not None:
        low = min(max(low, _code(act.low / scales[0], quantizer)), high)
    if act.high is not None:
        high = max(min(high, _code(act.high / scales[0], quantizer)), low)
    op = Requant(
        combine(lambda a, s: a / s, act.a, scales),
        combine(lambda b, s: b / s, act.b, scales),
        quantizer.qtype,
        low,
        high,
        quantizer.rounding,
        quantizer.zero,
        quantizer.zero_inside,
    )
    return op, scales


def _code(real: Fraction, quantizer: Quantizer) -> int:
    if quantizer.zero_inside:
        return quantizer.rounding.apply(real + quantizer.zero)
    return quantizer.rounding.apply(real) + quantizer.zero
