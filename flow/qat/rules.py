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
        if self.rounding is ActRounding.FLOOR:
            codes, centred = torch.floor(y), y - 0.5
        else:
            codes, centred = torch.round(y), y
        clipped = torch.clamp(centred, self.low, self.high)
        codes = torch.clamp(codes, self.low, self.high).detach()
        fraction = (clipped - torch.floor(clipped)).detach()
        return _tap(self, _substituted(self, clipped, codes, clipped - codes, fraction))


class RuleSign(nn.Module):
    """Values in units of the range to -1 and 1; 0 becomes 1, as in QONNX's BipolarQuant."""

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
        clipped = torch.clamp(y, -1, 1)
        signs = torch.where(y >= 0, torch.ones_like(y), -torch.ones_like(y)).detach()
        fraction = ((clipped + 1) / 2).detach()
        return _tap(self, _substituted(self, clipped, signs, clipped - signs, fraction))


def fixed_delta(delta: float, levels: int) -> float:
    """EWGS' delta, given for quantized values from 0 to 1, for neighbours that are 1 apart."""
    return delta / (levels - 1)


def _first_delta(rule: Rule, delta: float) -> float:
    return delta if rule is Rule.EWGS else 0.0


def _substituted(
    owner: RuleRound | RuleSign, y: Tensor, codes: Tensor, error: Tensor, fraction: Tensor
) -> Tensor:
    """`codes`, with the gradient that the rule gives to `y`."""
    if owner.rule in (Rule.EWGS, Rule.EWGS_HESSIAN):
        made = _ewgs(y, codes, error.detach(), owner.delta)
    elif owner.rule is Rule.DAQ:
        made = _scaled(y, codes, daq_gain(fraction, TEMPERATURE, owner.width))
    else:
        made = _straight(y, codes)
    return cast(Tensor, made)


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, codes: Tensor) -> Tensor:
        return codes.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _Ewgs(torch.autograd.Function):
    """g * (1 + delta * sign(g) * (y - code)): larger where y lies beyond the code along -g."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, codes: Tensor, error: Tensor, delta: Tensor) -> Tensor:
        ctx.save_for_backward(error, delta)
        return codes.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        error, delta = ctx.saved_tensors
        return gradient * (1 + delta * torch.sign(gradient) * error), None, None, None


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, codes: Tensor, gain: Tensor) -> Tensor:
        ctx.save_for_backward(gain)
        return codes.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (gain,) = ctx.saved_tensors
        return gradient * gain, None, None


# Untyped in torch.
_straight: Any = _Straight.apply
_ewgs: Any = _Ewgs.apply
_scaled: Any = _Scaled.apply


def _tap(owner: RuleRound | RuleSign, codes: Tensor) -> Tensor:
    if owner.tapping:
        owner.tapped = codes
    return codes
