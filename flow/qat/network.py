"""The two networks of a recipe: the float twin, and the Brevitas network that starts from it.

Both are flat `Sequential`s whose module names carry the recipe's layer names: `fc1`, `fc1_bn`,
`fc1_act`; the input's quantizer is `input`. The quantized network holds no BatchNorm: it is merged
into weights and bias before quantization, so that what is trained is what is exported.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from brevitas.core.function_wrapper.ops_ste import RoundSte
from brevitas.inject.enum import RestrictValueType, ScalingImplType
from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear, QuantReLU
from brevitas.quant.fixed_point import (
    Int8WeightPerChannelFixedPoint,
    Int8WeightPerTensorFixedPoint,
    Uint8ActPerTensorFixedPoint,
)
from brevitas.quant.scaled_int import (
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFloat,
    Int32Bias,
    Uint8ActPerTensorFloat,
)
from torch import Tensor, nn

from flow.errors import FlowError, UsageError
from flow.qat.calibrate import Range, activation_scale, input_scale, weight_scale
from flow.qat.recipe import Conv, Dense, Flatten, Granularity, MaxPool, Recipe, Scale

INPUT = "input"

_WEIGHT_QUANT = {
    (Scale.PO2, Granularity.TENSOR): Int8WeightPerTensorFixedPoint,
    (Scale.PO2, Granularity.CHANNEL): Int8WeightPerChannelFixedPoint,
    (Scale.FLOAT, Granularity.TENSOR): Int8WeightPerTensorFloat,
    (Scale.FLOAT, Granularity.CHANNEL): Int8WeightPerChannelFloat,
}
_ACT_QUANT = {Scale.PO2: Uint8ActPerTensorFixedPoint, Scale.FLOAT: Uint8ActPerTensorFloat}


def float_network(recipe: Recipe) -> nn.Sequential:
    """The float twin, randomly initialised from torch's current generator.

    Input (n, *recipe.input_shape) float, output (n, classes) float.

    Raises:
        UsageError: the layers do not fit each other, two modules would share a name, or the last
            layer is not Dense.
    """
    if not recipe.layers or not isinstance(recipe.layers[-1], Dense):
        raise UsageError(
            f"model {recipe.name}: the last layer must be Dense, with one output per class"
        )
    rows = {row.name: row for row in recipe.summary()}
    network = nn.Sequential()
    shape = recipe.input_shape
    for index, layer in enumerate(recipe.layers):
        last = index == len(recipe.layers) - 1
        if isinstance(layer, Dense | Conv):
            # BatchNorm has its own offset, so a bias before it would be dead weight.
            _add(network, layer.name, _float_layer(layer, shape[0], bias=last))
            if not last:
                width = rows[layer.name].output_shape[0]
                norm = nn.BatchNorm2d(width) if isinstance(layer, Conv) else nn.BatchNorm1d(width)
                _add(network, _norm_name(layer.name), norm)
                _add(network, _act_name(layer.name), nn.ReLU())
        else:
            _add(network, layer.name, _shape_layer(layer))
        shape = rows[layer.name].output_shape
    return network


def quantized_network(recipe: Recipe, twin: nn.Sequential, x: Tensor) -> nn.Sequential:
    """The Brevitas network, with weights, biases and scales that start from the float twin.

    Args:
        twin: what `float_network(recipe)` made, trained; it is not changed.
        x: (n, *recipe.input_shape), samples from which the input's and activations' ranges come.

    Returns:
        A network with the same input and output as the twin.

    Raises:
        UsageError: the layers do not fit each other, or two modules would share a name.
    """
    merged = merge_batchnorm(recipe, twin)
    network = nn.Sequential()
    _add(network, INPUT, _input_quantizer(recipe, x))
    with torch.no_grad():
        for index, layer in enumerate(recipe.layers):
            module = merged.get_submodule(layer.name)
            x = module(x)
            if not isinstance(layer, Dense | Conv):
                _add(network, layer.name, _shape_layer(layer))
                continue
            _add(network, layer.name, _quantized_layer(recipe, layer, module))
            if index < len(recipe.layers) - 1:
                x = torch.relu(x)
                _add(network, _act_name(layer.name), _activation(recipe, layer.name, x))
    return network


def merge_batchnorm(recipe: Recipe, twin: nn.Sequential) -> nn.Sequential:
    """A copy of the float twin in eval mode with every BatchNorm merged into its layer.

    Module names are the twin's; the merged network has no BatchNorm modules, every weighted layer
    has a bias. Same function up to float32 rounding.
    """
    merged = nn.Sequential()
    for layer in recipe.layers:
        module: Any = twin.get_submodule(layer.name)
        norm: Any = getattr(twin, _norm_name(layer.name), None)
        if norm is None or not isinstance(layer, Dense | Conv):
            _add(merged, layer.name, copy.deepcopy(module))
            continue
        # float64, so that merging adds no error beyond one final rounding.
        gain = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
        weight = module.weight.detach().double()
        fused: Any = _float_layer(layer, module.weight.shape[1], bias=True)
        with torch.no_grad():
            fused.weight.copy_(weight * gain.reshape(-1, *[1] * (weight.ndim - 1)))
            fused.bias.copy_(norm.bias.double() - norm.running_mean.double() * gain)
        _add(merged, layer.name, fused)
        _add(merged, _act_name(layer.name), nn.ReLU())
    return merged.eval()


def frozen(network: nn.Sequential, x: Tensor) -> nn.Sequential:
    """A copy in eval mode whose constants are exactly what a file can hold.

    Every scale becomes a float32 constant, and every weight and bias the float32 value of
    code * scale. In float32 the copy computes what the original computes; in float64 it computes
    what those float32 constants mean.

    Args:
        network: what `quantized_network` made, trained; it is not changed.
        x: one or more samples (n, *input_shape) float32; only their shape matters.

    Raises:
        FlowError: a scale or a bias is not a usable number; the layer is named.
    """
    copied = copy.deepcopy(network).eval()
    signal: Any = x
    module: Any
    with torch.no_grad():
        for name, module in copied.named_children():
            quantizer = _tensor_quant(module)
            if quantizer is not None:
                quantizer.scaling_impl = _FixedScale(_scale_of(name, module))
            if isinstance(module, QuantLinear | QuantConv2d):
                weight = module.quant_weight()
                module.weight.copy_(weight.value)
                module.bias.copy_(module.bias_quant(module.bias, signal, weight).value)
                _require_finite(name, "weights", module.weight)
                _require_finite(name, "bias", module.bias)
            signal = module(signal)
    return copied


def input_codes(network: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
    """The codes of samples x (n, *input_shape) float32, as int64 of that shape, and their scale.

    `network` is a `frozen` one; the codes are what its input quantizer computes in float32.
    """
    with torch.no_grad():
        quantized = network.get_submodule(INPUT)(x)
    return quantized.int(float_datatype=False).long(), quantized.scale


def _tensor_quant(module: Any) -> Any | None:
    """Brevitas' module that holds the scale of a layer's weights, or of an activation."""
    if isinstance(module, QuantLinear | QuantConv2d):
        return module.weight_quant.tensor_quant
    if isinstance(module, QuantIdentity | QuantReLU):
        return module.act_quant.fused_activation_quant_proxy.tensor_quant
    return None


def _scale_of(name: str, module: Any) -> Tensor:
    weighted = isinstance(module, QuantLinear | QuantConv2d)
    proxy = module.weight_quant if weighted else module.act_quant
    scale: Tensor = proxy.scale().detach().clone()
    if not bool((scale > 0).all()):
        raise FlowError(_diverged(name, "scale"))
    _require_finite(name, "scale", scale)
    return scale


def _require_finite(layer: str, what: str, value: Tensor) -> None:
    if not bool(torch.isfinite(value).all()):
        raise FlowError(_diverged(layer, what))


def _diverged(layer: str, what: str) -> str:
    return (
        f"layer {layer}: training left a {what} that is not a usable number; "
        f"try a lower learning_rate"
    )


class _FixedScale(nn.Module):
    """Stands where Brevitas computes a scale: returns one that no longer changes."""

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor, threshold: Tensor | None = None) -> Tensor:
        return self.scale


def _add(network: nn.Sequential, name: str, module: nn.Module) -> None:
    if name in dict(network.named_children()):
        raise UsageError(
            f"layer {name}: two modules of the network would have this name; rename the layer "
            f"(every layer X also uses X_bn and X_act, the input uses {INPUT!r})"
        )
    network.add_module(name, module)


def _norm_name(layer: str) -> str:
    return f"{layer}_bn"


def _act_name(layer: str) -> str:
    return f"{layer}_act"


def _float_layer(layer: Dense | Conv, width: int, bias: bool) -> nn.Linear | nn.Conv2d:
    if isinstance(layer, Dense):
        return nn.Linear(width, layer.features, bias=bias)
    return nn.Conv2d(width, layer.channels, layer.kernel, layer.stride, layer.padding, bias=bias)


def _shape_layer(layer: MaxPool | Flatten) -> nn.Module:
    if isinstance(layer, MaxPool):
        return nn.MaxPool2d(layer.kernel)
    return nn.Flatten()


def _log_scaling(scale: Scale) -> RestrictValueType:
    # A float scale is trained by its logarithm too: it cannot reach zero or change sign.
    return RestrictValueType.POWER_OF_TWO if scale is Scale.PO2 else RestrictValueType.LOG_FP


def _input_quantizer(recipe: Recipe, x: Tensor) -> nn.Module:
    limits = Range(recipe.input_bits, signed=False)
    module: nn.Module = QuantIdentity(
        act_quant=_ACT_QUANT[recipe.scale],
        bit_width=recipe.input_bits,
        scaling_impl_type=ScalingImplType.CONST,
        scaling_init=input_scale(x, limits, recipe.scale) * limits.divisor(recipe.scale),
        return_quant_tensor=True,
    )
    return module


def _activation(recipe: Recipe, layer: str, y: Tensor) -> nn.Module:
    bits = recipe.bits(layer, "act_bits")
    limits = Range(bits, signed=False)
    module: nn.Module = QuantReLU(
        act_quant=_ACT_QUANT[recipe.scale],
        bit_width=bits,
        scaling_impl_type=ScalingImplType.PARAMETER,
        restrict_scaling_type=_log_scaling(recipe.scale),
        restrict_value_float_to_int_impl=RoundSte,
        scaling_init=activation_scale(y, limits, recipe.scale) * limits.divisor(recipe.scale),
        return_quant_tensor=True,
    )
    return module


def _quantized_layer(recipe: Recipe, layer: Dense | Conv, source: Any) -> nn.Module:
    bits = recipe.bits(layer.name, "weight_bits")
    limits = Range(bits, signed=True)
    scale = weight_scale(source.weight.detach(), limits, recipe.scale, recipe.granularity)
    settings: dict[str, Any] = {
        "bias": True,
        "weight_quant": _WEIGHT_QUANT[recipe.scale, recipe.granularity],
        "weight_bit_width": bits,
        "weight_scaling_impl_type": ScalingImplType.PARAMETER,
        "weight_restrict_scaling_type": _log_scaling(recipe.scale),
        "weight_restrict_value_float_to_int_impl": RoundSte,
        "weight_scaling_init": scale * limits.divisor(recipe.scale),
        "bias_quant": Int32Bias,
        "bias_bit_width": recipe.bits(layer.name, "bias_bits"),
    }
    module: Any
    if isinstance(layer, Dense):
        module = QuantLinear(source.in_features, source.out_features, **settings)
    else:
        module = QuantConv2d(
            source.in_channels,
            source.out_channels,
            source.kernel_size,
            stride=source.stride,
            padding=source.padding,
            **settings,
        )
    with torch.no_grad():
        module.weight.copy_(source.weight)
        module.bias.copy_(source.bias)
    return module  # type: ignore[no-any-return]
