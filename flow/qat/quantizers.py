"""Brevitas quantizers for every format and gradient rule, with scales that start from given values.

`inject` holds what Brevitas' layers take as keyword arguments; a rule travels in the injector, as
Brevitas builds its modules anew whenever a state is loaded.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from brevitas.core.bit_width import BitWidthConst
from brevitas.core.function_wrapper.ops_ste import FloorSte, RoundSte
from brevitas.core.utils import StatelessBuffer
from brevitas.inject.enum import (
    BitWidthImplType,
    FloatToIntImplType,
    QuantType,
    RestrictValueType,
    ScalingImplType,
    ScalingPerOutputType,
    StatsOp,
)
from brevitas.nn import (
    QuantConv2d,
    QuantIdentity,
    QuantLinear,
    QuantReLU,
    QuantSigmoid,
    QuantTanh,
)
from brevitas.quant.fixed_point import (
    Int8ActPerTensorFixedPoint,
    Int8WeightPerChannelFixedPoint,
    Int8WeightPerTensorFixedPoint,
    Uint8ActPerTensorFixedPoint,
)
from brevitas.quant.scaled_int import (
    Int8ActPerTensorFloat,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFloat,
    Uint8ActPerTensorFloat,
)
from brevitas.quant.solver import ActQuantSolver, WeightQuantSolver
from torch import Tensor, nn

from flow.qat.calibrate import (
    Range,
    activation_scale,
    asymmetric_scale,
    input_scale,
    weight_scale,
)
from flow.qat.formats import (
    Activation,
    ActRounding,
    Format,
    Granularity,
    Numbers,
    Rule,
    Scale,
)
from flow.qat.rules import ACT_WIDTH, WEIGHT_WIDTH, RuleRound, RuleSign, fixed_delta

# Where all rules but STE first clip what becomes one bit, in standard deviations.
FIRST_BOUND = 3.0
MOST_VALUES = 1 << 25  # of inputs over which a scale is searched, which takes some copies of them

_WEIGHT_QUANT = {
    (Scale.PO2, Granularity.TENSOR): Int8WeightPerTensorFixedPoint,
    (Scale.PO2, Granularity.CHANNEL): Int8WeightPerChannelFixedPoint,
    (Scale.FLOAT, Granularity.TENSOR): Int8WeightPerTensorFloat,
    (Scale.FLOAT, Granularity.CHANNEL): Int8WeightPerChannelFloat,
}
_ACT_QUANT = {
    (Scale.PO2, False): Uint8ActPerTensorFixedPoint,
    (Scale.FLOAT, False): Uint8ActPerTensorFloat,
    (Scale.PO2, True): Int8ActPerTensorFixedPoint,
    (Scale.FLOAT, True): Int8ActPerTensorFloat,
}


_FUNCTIONS: dict[Activation, Any] = {
    Activation.RELU: QuantReLU,
    Activation.SIGMOID: QuantSigmoid,
    Activation.TANH: QuantTanh,
}


# Learned bit widths, of which these are the least and the most.
_LEARNED: dict[str, Any] = {
    "bit_width_impl_type": BitWidthImplType.PARAMETER,
    "bit_width_offset_min_val": 2,
    "bit_width_offset_max_val": 8,
}


@contextmanager
def quietly() -> Iterator[None]:
    """Evaluate networks without Brevitas' warning that it does not track the zero-points of
    accumulators, which nothing here asks it for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Computing zero point of output accumulator")
        yield


class BinarySigns(nn.Module):
    """Brevitas' `tensor_quant` for one bit: scale * sign(x), with the rule's gradient.

    Rule STE passes gradients where |x| < 1, as XNOR-Net does. The others clip at a learned bound
    that starts at three standard deviations: those of the weights, or 1, as what reaches a binary
    activation comes from a BatchNorm.
    """

    def __init__(
        self,
        scaling_impl: nn.Module,
        rule: Rule,
        rule_delta: float,
        rule_width: float,
        rule_normalized: bool,
    ) -> None:
        super().__init__()
        self.scaling_impl = scaling_impl
        self.sign = RuleSign(rule, rule_delta, rule_width)
        self.bit_width = BitWidthConst(1)
        self.zero_point = StatelessBuffer(torch.tensor(0.0))
        self.normalized = rule_normalized
        self.bound = None if rule is Rule.STE else nn.Parameter(torch.tensor(FIRST_BOUND))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        scale = self.scaling_impl(x)
        y = x if self.bound is None else x / (self.bound.abs() * self._deviation(x))
        return self.sign(y) * scale, scale, self.zero_point(), self.bit_width()

    def _deviation(self, x: Tensor) -> Tensor | float:
        return x.detach().std() if self.normalized else 1.0


class BinaryWeight(WeightQuantSolver):  # type: ignore[misc]
    """Weights of one bit: alpha * sign(w), alpha the mean |w| of the output channel.

    That alpha is the one with the smallest squared error (arXiv 1603.05279, equation 6).
    """

    quant_type = QuantType.BINARY
    tensor_quant = BinarySigns
    bit_width = 1
    bit_width_impl_type = BitWidthImplType.CONST
    narrow_range = True
    signed = True
    scaling_impl_type = ScalingImplType.STATS
    scaling_stats_op = StatsOp.AVE
    scaling_per_output_type = ScalingPerOutputType.CHANNEL
    restrict_scaling_type = RestrictValueType.FP
    scaling_min_val = 1e-10
    float_to_int_impl_type = FloatToIntImplType.ROUND


class BinaryAct(ActQuantSolver):  # type: ignore[misc]
    """Activations of one bit: -1 and 1."""

    quant_type = QuantType.BINARY
    tensor_quant = BinarySigns
    bit_width = 1
    bit_width_impl_type = BitWidthImplType.CONST
    narrow_range = True
    signed = True
    scaling_impl_type = ScalingImplType.CONST
    scaling_per_output_type = ScalingPerOutputType.TENSOR
    restrict_scaling_type = RestrictValueType.FP
    scaling_init = 1.0
    float_to_int_impl_type = FloatToIntImplType.ROUND


class SetZeroPoint(nn.Module):
    """Brevitas' `zero_point_impl`: one that training does not move."""

    zero_point: Tensor

    def __init__(self, set_zero_point: int) -> None:
        super().__init__()
        self.register_buffer("zero_point", torch.tensor(float(set_zero_point)))

    def forward(self, x: Tensor, scale: Tensor, bit_width: Tensor) -> Tensor:
        return self.zero_point


class Clamp(nn.Module):
    """Brevitas' `tensor_clamp_impl`: the same values and gradients as its own TensorClamp, which
    reads and writes all activations twice."""

    def __init__(self) -> None:  # Brevitas' injectors read its arguments
        super().__init__()

    def forward(self, x: Tensor, min_val: Tensor, max_val: Tensor) -> Tensor:
        return torch.clamp(x, min_val, max_val)


class Signs(nn.Module):
    """-1 below 0, else 1."""

    def forward(self, x: Tensor) -> Tensor:
        values = x if isinstance(x, Tensor) else x.value
        return torch.where(values >= 0, 1.0, -1.0).to(values.dtype)


def for_inference(network: nn.Module) -> None:
    """Put what Brevitas' `quant_inference_mode` can evaluate in the place of rules and binary
    quantizers, in place: the same values, no gradient rules.

    That mode refuses roundings that it does not know, and all binary quantizers, Brevitas' own too:
    binary weights become the values that they stand for, binary activations a sign function. A
    layer of binary weights with a bias must be frozen (`flow.qat.network.frozen`) before.
    """
    for module in list(network.modules()):
        inner: Any = getattr(module, "float_to_int_impl", None)
        if isinstance(inner, RuleRound):
            floors = inner.rounding is ActRounding.FLOOR
            cast(Any, module).float_to_int_impl = FloorSte() if floors else RoundSte()
        for name, child in list(module.named_children()):
            layer: Any = child
            if isinstance(child, QuantIdentity) and _is_binary(layer.act_quant):
                setattr(module, name, Signs())
            elif isinstance(child, QuantLinear | QuantConv2d) and _is_binary(layer.weight_quant):
                with torch.no_grad():
                    layer.weight.copy_(layer.quant_weight().value)
                layer.weight_quant.disable_quant = True
                if layer.bias_quant is not None:
                    layer.bias_quant.disable_quant = True


def _is_binary(proxy: Any) -> bool:
    fused = getattr(proxy, "fused_activation_quant_proxy", proxy)
    return isinstance(fused.tensor_quant, BinarySigns)


def weight_settings(numbers: Numbers, weight: Tensor) -> dict[str, Any]:
    """Keyword arguments of a Brevitas layer that quantize weights (out, in, ...) like `weight`."""
    if numbers.format is Format.BINARY:
        return {
            "weight_quant": BinaryWeight,
            "weight_rule": numbers.rule,
            "weight_rule_delta": fixed_delta(numbers.ewgs_delta, 2) / 2,  # -1 and 1 are 2 apart
            "weight_rule_width": WEIGHT_WIDTH,
            "weight_rule_normalized": True,
        }
    limits = Range(numbers.bits, signed=True, narrow=numbers.format is not Format.FIXED)
    if numbers.format is Format.FIXED:
        step = _fixed_step(numbers, weight)
        settings: dict[str, Any] = {
            "weight_quant": Int8WeightPerTensorFixedPoint,
            "weight_narrow_range": False,
            "weight_scaling_impl_type": ScalingImplType.CONST,
            "weight_scaling_init": step * 2 ** (numbers.bits - 1),
            "weight_bit_width": numbers.bits,
        }
    else:
        scale = weight_scale(weight.detach(), limits, numbers.scale, numbers.granularity)
        settings = {
            "weight_quant": _WEIGHT_QUANT[numbers.scale, numbers.granularity],
            "weight_bit_width": numbers.bits,
            "weight_scaling_impl_type": ScalingImplType.PARAMETER,
            "weight_restrict_scaling_type": _log_scaling(numbers.scale),
            "weight_restrict_value_float_to_int_impl": RoundSte,
            "weight_scaling_init": scale * limits.divisor(numbers.scale),
        }
        if numbers.learned:
            settings |= {f"weight_{name}": value for name, value in _LEARNED.items()}
    rule = _rounding_settings(numbers, limits, WEIGHT_WIDTH, ActRounding.HALF_EVEN)
    return settings | {f"weight_{name}": value for name, value in rule.items()}


def activation(
    numbers: Numbers, y: Tensor, function: Activation | None = Activation.RELU
) -> nn.Module:
    """The module that turns pre-activations into codes; `y` are samples after the float function.

    Of formats INTEGER and FIXED it holds the function where there is one.
    """
    if numbers.format is Format.BINARY:
        module: nn.Module = QuantIdentity(
            act_quant=BinaryAct,
            rule=numbers.rule,
            rule_delta=fixed_delta(numbers.ewgs_delta, 2) / 2,
            rule_width=ACT_WIDTH,
            rule_normalized=False,
            return_quant_tensor=True,
        )
        return module
    limits = Range(numbers.bits, numbers.signed, narrow=numbers.format is Format.TERNARY)
    settings: dict[str, Any] = {
        "bit_width": numbers.bits,
        "tensor_clamp_impl": Clamp,
        "scaling_impl_type": ScalingImplType.PARAMETER,
        "restrict_scaling_type": _log_scaling(numbers.scale),
        "restrict_value_float_to_int_impl": RoundSte,
    }
    kind = numbers.scale
    if numbers.format is Format.FIXED:
        kind = Scale.PO2
        step = _fixed_step(numbers, y)
        settings |= {"scaling_impl_type": ScalingImplType.CONST}
    elif numbers.format is Format.ASYMMETRIC:
        step, zero = asymmetric_scale(y, limits, kind)
        settings |= {"zero_point_impl": SetZeroPoint, "set_zero_point": zero}
    else:
        step = activation_scale(y, limits, kind)
        settings |= {"narrow_range": limits.narrow}
        if numbers.learned:
            settings |= _LEARNED
    settings |= _rounding_settings(numbers, limits, ACT_WIDTH, numbers.rounding)
    layer = QuantIdentity
    if function is not None and numbers.format in (Format.INTEGER, Format.FIXED):
        layer = _FUNCTIONS[function]
    made: nn.Module = layer(
        act_quant=_ACT_QUANT[kind, numbers.signed],
        scaling_init=step * limits.divisor(kind),
        return_quant_tensor=True,
        **settings,
    )
    return made


def input_quantizer(numbers: Numbers, x: Tensor) -> nn.Module:
    """The quantizer of a network's input x (n, ...); an unsigned one clips no sample. The scale of
    a signed one is the best for samples that are spread over x, where that is very large."""
    limits = Range(numbers.bits, numbers.signed)
    settings: dict[str, Any] = {}
    if numbers.format is Format.ASYMMETRIC:
        step, zero = asymmetric_scale(x, limits, numbers.scale, clip=False)
        settings = {"zero_point_impl": SetZeroPoint, "set_zero_point": zero}
    else:
        # Standardized features have long tails: clipping the far ends costs less than coarse steps.
        if numbers.signed:
            some = x[:: math.ceil(x.numel() / MOST_VALUES)]
            step = activation_scale(some, limits, numbers.scale)
        else:
            step = input_scale(x, limits, numbers.scale)
    module: nn.Module = QuantIdentity(
        act_quant=_ACT_QUANT[numbers.scale, numbers.signed],
        bit_width=numbers.bits,
        scaling_impl_type=ScalingImplType.CONST,
        scaling_init=step * limits.divisor(numbers.scale),
        return_quant_tensor=True,
        **settings,
    )
    return module


def _rounding_settings(
    numbers: Numbers, limits: Range, width: float, rounding: ActRounding
) -> dict[str, Any]:
    floors = rounding is ActRounding.FLOOR
    kind = FloatToIntImplType.FLOOR if floors else FloatToIntImplType.ROUND
    if numbers.rule is Rule.STE:
        return {"float_to_int_impl_type": kind}
    return {
        "float_to_int_impl_type": kind,  # what the export reads
        "float_to_int_impl": RuleRound,
        "tensor_clamp_impl": Clamp,
        "rule": numbers.rule,
        "rule_rounding": rounding,
        "rule_low": limits.lowest,
        "rule_high": limits.highest,
        "rule_delta": fixed_delta(numbers.ewgs_delta, limits.highest - limits.lowest + 1),
        "rule_width": width,
    }


def _fixed_step(numbers: Numbers, values: Tensor) -> Tensor:
    """The step of a Q-format, moved by the power of two that `values` need to fill but not leave it
    where the recipe asks for that; shape ()."""
    step = torch.tensor(2.0 ** (numbers.integer_bits - numbers.bits))
    if not numbers.auto_scale:
        return step
    limits = Range(numbers.bits, signed=True)
    return input_scale(values.detach().abs(), limits, Scale.PO2).to(step)


def _log_scaling(scale: Scale) -> RestrictValueType:
    # A float scale is trained by its logarithm too: it cannot reach zero or change sign.
    return RestrictValueType.POWER_OF_TWO if scale is Scale.PO2 else RestrictValueType.LOG_FP
