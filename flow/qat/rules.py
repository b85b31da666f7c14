"""Gradient rules: how a quantizer's rounding passes a gradient on.

Forward every rule computes the same integers. They differ in what multiplies the gradient, a
function of how far a value lies from the integer that it becomes.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from flow.qat.formats import ActRounding, Rule

# DAQ's temperature and the width of its kernel: those of the authors' 1-bit configuration.
TEMPERATURE = 2.0
WEIGHT_WIDTH = 1.0
ACT_WIDTH = 2.0


def daq_gain(fraction: Tensor, temperature: float, width: float) -> Tensor:
    """What DAQ multiplies a gradient by, for values `fraction` (0 to 1) of the way between levels.

    The closed form of its soft assignment: with levels 0 and 1, d_q = exp(-|f-q|), kernel
    k_q = exp(-(q-q*)^2 / width^2) about the nearest level q*, temperature T / |d_0 k_0 - d_1 k_1|
    held constant, softmax over the two, and levels spread so that the result is q*. Its forward is
    therefore rounding itself. Steepest, and infinite for an infinite width, half-way.
    """
    height = temperature / (2 * math.sinh(temperature))
    return height / torch.tanh(((1 - 2 * fraction).abs() + width**-2) / 2)


class RuleRound(nn.Module):
    """Brevitas' `float_to_int_impl`: values in units of the scale to integers from low to high.

    The arguments are named as Brevitas' injectors give them.

    Args:
        rule: not STE, which is Brevitas' own.
        rule_rounding: a value of that enum; floor is rounding shifted by a half.
        rule_low, rule_high: the codes that are clipped to.
        rule_delta: of EWGS, for values in units of the scale; the Hessian's starts at 0.
        rule_width: of DAQ's kernel.
    """

    delta: Tensor
    tapped: Tensor | None

    def __init__(
        self,
        rule: Rule,
        rule_rounding: ActRounding,
        rule_low: int,
        rule_high: int,
        rule_delta: float,
        rule_width: float,
    ) -> None:
        super().__init__()
        self.rule = rule
        self.rounding = rule_rounding
        self.low, self.high = rule_low, rule_high
        self.width = rule_width
        self.register_buffer("delta", torch.tensor(_first_delta(rule, rule_delta)))
        self.tapping = False
        self.tapped = None

    def forward(self, y: Tensor) -> Tensor:
        return _tapped(self, y)

    def codes(self, y: Tensor) -> Tensor:
        """What `y` becomes."""
        floors = self.rounding is ActRounding.FLOOR
        return torch.clamp(torch.floor(y) if floors else torch.round(y), self.low, self.high)

    def centred(self, y: Tensor) -> Tensor:
        """`y` moved so that it becomes the nearest code."""
        return y - 0.5 if self.rounding is ActRounding.FLOOR else y

    def fraction(self, clipped: Tensor) -> Tensor:
        """How far (0 to 1) a centred value from low to high lies from one code to the next."""
        return clipped - torch.floor(clipped)


class RuleSign(nn.Module):
    """Values in units of the range to -1 and 1; 0 becomes 1, as in QONNX's BipolarQuant."""

    low, high = -1, 1
    delta: Tensor
    tapped: Tensor | None

    def __init__(self, rule: Rule, rule_delta: float, rule_width: float) -> None:
        super().__init__()
        self.rule = rule
        self.width = rule_width
        self.register_buffer("delta", torch.tensor(_first_delta(rule, rule_delta)))
        self.tapping = False
        self.tapped = None

    def forward(self, y: Tensor) -> Tensor:
        return _tapped(self, y)

    def codes(self, y: Tensor) -> Tensor:
        """What `y` becomes."""
        return torch.where(y >= 0, 1.0, -1.0).to(y.dtype)

    def centred(self, y: Tensor) -> Tensor:
        """`y`, which becomes the nearest code as it is."""
        return y

    def fraction(self, clipped: Tensor) -> Tensor:
        """How far (0 to 1) a value from -1 to 1 lies from the one to the other."""
        return (clipped + 1) / 2


def fixed_delta(delta: float, levels: int) -> float:
    """EWGS' delta, given for quantized values from 0 to 1, for neighbours that are 1 apart."""
    return delta / (levels - 1)


def _first_delta(rule: Rule, delta: float) -> float:
    return delta if rule is Rule.EWGS else 0.0


class _Substituted(torch.autograd.Function):
    """The codes of y, with the gradient that the owner's rule gives to y.

    One function: as many small ones each of them reads and writes all values once more.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, owner: RuleRound | RuleSign) -> Tensor:
        codes = owner.codes(y)
        ctx.save_for_backward(y, codes, owner.delta)
        ctx.owner = owner
        return codes

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        y, codes, delta = (tensor.detach() for tensor in ctx.saved_tensors)
        owner: RuleRound | RuleSign = ctx.owner
        centred = owner.centred(y)
        inside = (centred >= owner.low) & (centred <= owner.high)
        if owner.rule in (Rule.EWGS, Rule.EWGS_HESSIAN):
            # Larger where y lies beyond the code along -gradient.
            error = torch.clamp(centred, owner.low, owner.high) - codes
            gradient = gradient * (1 + delta * torch.sign(gradient) * error)
        elif owner.rule is Rule.DAQ:
            fraction = owner.fraction(torch.clamp(centred, owner.low, owner.high))
            gradient = gradient * daq_gain(fraction, TEMPERATURE, owner.width)
        return torch.where(inside, gradient, 0.0), None


def _tapped(owner: RuleRound | RuleSign, y: Tensor) -> Tensor:
    codes = cast(Tensor, _Substituted.apply(y, owner))  # type: ignore[no-untyped-call]
    if owner.tapping:
        owner.tapped = codes
    return codes
