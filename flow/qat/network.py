"""The two networks of a recipe: the float twin, and the Brevitas network that starts from it.

Module names carry the recipe's layer names: `fc1`, `fc1_bn`, `fc1_act`; the input's quantizer is
`input`. In the quantized network a BatchNorm is merged into weights and bias before quantization,
so that what is trained is what is exported; only before a sign and behind binary weights it stays.
There the block order is XNOR-Net's: BatchNorm, sign, binary layer, pool.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from brevitas.core.bit_width import BitWidthConst, BitWidthParameter
from brevitas.nn import (
    QuantConv2d,
    QuantIdentity,
    QuantLinear,
    QuantReLU,
    QuantSigmoid,
    QuantTanh,
)
from brevitas.quant.scaled_int import Int32Bias
from torch import Tensor, nn

from flow.errors import FlowError, UsageError
from flow.qat.formats import Activation, ActRounding, Format
from flow.qat.modules import Mean, Standardize, Sum
from flow.qat.quantizers import activation, input_quantizer, weight_settings
from flow.qat.recipe import (
    INPUT,
    Add,
    Conv,
    Dense,
    Depthwise,
    Flatten,
    GlobalPool,
    Layer,
    MaxPool,
    Recipe,
    Weighted,
)

STANDARDIZE = "standardize"
CALIBRATION = 2048  # samples from which the ranges of input and activations come

Before = Callable[[str, nn.Module, tuple[Any, ...]], None]


class Network(nn.Module):
    """Modules in order, each on the outputs of those that it names."""

    def __init__(self) -> None:
        super().__init__()
        self._sources: dict[str, tuple[str, ...]] = {}
        self._ends: dict[str, str] = {}

    def append(self, layer: str, name: str, module: nn.Module, *sources: str) -> None:
        """Add `module` as `name`, now the last one of the layer `layer`. Its inputs are the outputs
        of the layers `sources`; none for the network's own input.

        Raises:
            UsageError: the name is taken.
        """
        if name in self._sources:
            raise UsageError(
                f"layer {layer}: two modules of the network would be called {name}; rename the "
                f"layer (every layer X also uses X_bn and X_act, the input uses {INPUT!r} and "
                f"{STANDARDIZE!r})"
            )
        self._sources[name] = tuple(self._ends[source] for source in sources)
        self._ends[layer] = name
        self.add_module(name, module)

    def replace(self, name: str, module: nn.Module) -> None:
        """Put `module` in the place of the one called `name`."""
        setattr(self, name, module)

    def remove(self, name: str) -> None:
        """Take out a module with one input: what took its output takes its input."""
        delattr(self, name)
        (source,) = self._sources.pop(name)
        for other, sources in self._sources.items():
            self._sources[other] = tuple(source if s == name else s for s in sources)
        for layer, end in self._ends.items():
            if end == name:
                self._ends[layer] = source

    def sources(self, name: str) -> tuple[str, ...]:
        """The modules whose outputs the module `name` takes."""
        return self._sources[name]

    def forward(self, x: Tensor) -> Tensor:
        """Output (n, classes) for samples x (n, *input_shape)."""
        *_, y = self.values(x).values()
        return y  # type: ignore[no-any-return]

    def values(
        self, x: Any, before: Before = lambda *_: None, begin: str | None = None
    ) -> dict[str, Any]:
        """Every module's output by its name, in order; `before` sees each module's name, the module
        and its inputs before it runs. With `begin`, x is the input of that module, and what stands
        before it does not run."""
        found: dict[str, Any] = {}
        for name, module in self.named_children():
            if begin is not None and begin not in found and name != begin:
                continue
            sources = () if name == begin else self._sources[name]
            inputs = tuple(found[source] for source in sources) or (x,)
            before(name, module, inputs)
            found[name] = module(*inputs)
        return found


def float_network(recipe: Recipe, standardize: Standardize | None = None) -> Network:
    """The float twin, randomly initialised from torch's current generator.

    Input (n, *recipe.input_shape) float, output (n, classes) float. `standardize` is needed where
    the recipe asks for it.

    Raises:
        UsageError: the layers do not fit each other, two modules would share a name, or the last
            layer is not Dense.
    """
    if not recipe.layers or not isinstance(recipe.layers[-1], Dense):
        raise UsageError(
            f"model {recipe.name}: the last layer must be Dense, with one output per class"
        )
    shapes = {INPUT: recipe.input_shape}
    network = Network()
    _begin(network, recipe, standardize)
    for layer, row in zip(recipe.layers, recipe.summary(), strict=True):
        sources = recipe.sources(layer)
        width = shapes[sources[0]][0]
        shapes[layer.name] = row.output_shape
        last = layer is recipe.layers[-1]
        if isinstance(layer, Weighted):
            # BatchNorm has its own offset, so a bias before it would be dead weight.
            module: nn.Module = _float_layer(layer, width, bias=last)
        else:
            module = _plain_layer(layer)
        network.append(layer.name, layer.name, module, *sources)
        for owner in _ending(recipe, layer):
            if isinstance(owner, Weighted) and owner is not recipe.layers[-1]:
                norm = nn.BatchNorm1d if isinstance(owner, Dense) else nn.BatchNorm2d
                made = norm(row.output_shape[0])
                network.append(layer.name, _norm_name(owner.name), made, layer.name)
            act = _float_act(recipe, owner)
            if act is not None:
                network.append(layer.name, _act_name(owner.name), act, layer.name)
    return network


def quantized_network(recipe: Recipe, twin: Network, x: Tensor) -> Network:
    """The Brevitas network, with weights, biases and scales that start from the float twin.

    Args:
        twin: what `float_network(recipe)` made, trained; it is not changed.
        x: (n, *recipe.input_shape), samples from which the input's and activations' ranges come;
            the first CALIBRATION of them (of large networks fewer) are used, and all of them for
            the input's.

    Returns:
        A network with the same input and output as the twin.

    Raises:
        UsageError: the layers do not fit each other, or two modules would share a name.
    """
    merged = merge_batchnorm(recipe, twin)
    standardize = getattr(merged, STANDARDIZE, None)
    network: Any = Network()
    with torch.no_grad():
        outputs = merged.values(x[: recipe.at_once(CALIBRATION)])
        start = x if standardize is None else standardize(x)
        _begin(network, recipe, standardize, input_quantizer(recipe.inputs, start))
        for layer in recipe.layers:
            sources = recipe.sources(layer)
            if isinstance(layer, Weighted):
                module = _quantized_layer(recipe, layer, merged.get_submodule(layer.name))
            else:
                module = _plain_layer(layer)
            network.append(layer.name, layer.name, module, *sources)
            for owner in _ending(recipe, layer):
                act, norm = _act_name(owner.name), _norm_name(owner.name)
                y = outputs[act if act in outputs else owner.name]
                made: Any = activation(recipe.activations(owner.name), y, _function(recipe, owner))
                # No layer behind the output asks for its scale.
                made.return_quant_tensor = owner is not recipe.layers[-1]
                offset = getattr(network, owner.name)
                if hasattr(merged, norm):
                    offset = copy.deepcopy(getattr(merged, norm))
                    network.append(layer.name, norm, offset, layer.name)
                network.append(layer.name, act, made, layer.name)
                if recipe.rounding is ActRounding.FLOOR and hasattr(offset, "bias"):
                    _raise_half(offset, made)
    return network  # type: ignore[no-any-return]


def _raise_half(offset: Any, act: Any) -> None:
    """Rounding to nearest is a floor half a step higher; a sign rounds nothing."""
    if act.act_quant.bit_width() > 1:
        offset.bias += act.act_quant.scale() / 2


def merge_batchnorm(recipe: Recipe, twin: Network) -> Network:
    """A copy of the float twin in eval mode with BatchNorms merged into their layers.

    Module names are the twin's. Weighted layers whose BatchNorm is merged have a bias; where
    `recipe.keeps_norm` the layer and its BatchNorm stay. Same function up to float32 rounding.
    """
    merged = copy.deepcopy(twin)
    for layer in recipe.layers:
        norm: Any = getattr(twin, _norm_name(layer.name), None)
        if norm is None or not isinstance(layer, Weighted) or recipe.keeps_norm(layer.name):
            continue
        module: Any = twin.get_submodule(layer.name)
        # float64, so that merging adds no error beyond one final rounding.
        gain = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
        weight = module.weight.detach().double()
        width = module.in_features if isinstance(layer, Dense) else module.in_channels
        fused: Any = _float_layer(layer, width, bias=True)
        with torch.no_grad():
            fused.weight.copy_(weight * gain.reshape(-1, *[1] * (weight.ndim - 1)))
            fused.bias.copy_(norm.bias.double() - norm.running_mean.double() * gain)
        merged.replace(layer.name, fused)
        merged.remove(_norm_name(layer.name))
    return merged.eval()


def frozen(network: Network, x: Tensor) -> Network:
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
    with torch.no_grad():
        copied.values(x, _freeze)
    return copied


def _freeze(name: str, module: Any, inputs: tuple[Any, ...]) -> None:
    quantizer = _tensor_quant(module)
    if quantizer is not None:
        quantizer.scaling_impl = _FixedScale(_scale_of(name, module))
        bits = getattr(quantizer, "msb_clamp_bit_width_impl", None)
        if isinstance(bits, BitWidthParameter):
            quantizer.msb_clamp_bit_width_impl = BitWidthConst(round(bits().item()))
    if isinstance(module, QuantLinear | QuantConv2d):
        weight = module.quant_weight()
        module.weight.copy_(weight.value)
        _require_finite(name, "weights", module.weight)
        if module.bias is not None:
            module.bias.copy_(module.bias_quant(module.bias, inputs[0], weight).value)
            _require_finite(name, "bias", module.bias)


def input_codes(network: Network, x: Tensor) -> tuple[Tensor, Tensor]:
    """The codes of samples x (n, *input_shape) float32, as int64 of that shape with the zero-point
    taken off, and their scale.

    `network` is a `frozen` one; the codes are what its input quantizer computes in float32.
    """
    standardize = getattr(network, STANDARDIZE, None)
    with torch.no_grad():
        quantized = network.get_submodule(INPUT)(x if standardize is None else standardize(x))
    codes = quantized.int(float_datatype=False).long()
    return codes - quantized.zero_point.long(), quantized.scale


def _tensor_quant(module: Any) -> Any | None:
    """Brevitas' module that holds the scale of a layer's weights, or of an activation."""
    if isinstance(module, QuantLinear | QuantConv2d):
        return module.weight_quant.tensor_quant
    if isinstance(module, QuantIdentity | QuantReLU | QuantSigmoid | QuantTanh):
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


def _begin(
    network: Network,
    recipe: Recipe,
    standardize: Standardize | None,
    quantizer: nn.Module | None = None,
) -> None:
    """What stands before the first layer; the float twin has no quantizer there."""
    if recipe.standardize != (standardize is not None):
        raise ValueError(f"standardize={recipe.standardize}, but {standardize} was given")
    if standardize is not None:
        network.append(INPUT, STANDARDIZE, copy.deepcopy(standardize))
    source = () if standardize is None else (INPUT,)
    network.append(INPUT, INPUT, quantizer or nn.Identity(), *source)


def _norm_name(layer: str) -> str:
    return f"{layer}_bn"


def _act_name(layer: str) -> str:
    return f"{layer}_act"


def _ending(recipe: Recipe, layer: Layer) -> list[Layer]:
    """The layers whose BatchNorm and activation stand behind `layer`."""
    return [o for o in recipe.layers if recipe.quantizes(o) and recipe.end(o) == layer.name]


def _float_act(recipe: Recipe, layer: Layer) -> nn.Module | None:
    """What the layer's activation is without quantization, of a BatchNorm's output."""
    form = recipe.format(layer.name, "act_format")
    if form in (Format.BINARY, Format.TERNARY):
        return nn.Hardtanh()
    function = _function(recipe, layer)
    if function is None:
        return None
    if form is Format.ASYMMETRIC:
        return nn.Threshold(-1.0, -1.0)  # a ReLU that bends a standard deviation lower
    if function is Activation.RELU:
        return nn.ReLU()
    return nn.Tanh() if function is Activation.TANH else nn.Sigmoid()


def _function(recipe: Recipe, layer: Layer) -> Activation | None:
    """What stands before the layer's own quantizer, None where it takes the sums as they are."""
    if layer is recipe.layers[-1]:
        return None
    has = isinstance(layer, Dense | Depthwise | Add) or (isinstance(layer, Conv) and layer.relu)
    return recipe.activation if has else None


def _float_layer(layer: Weighted, width: int, bias: bool) -> nn.Linear | nn.Conv2d:
    if isinstance(layer, Dense):
        return nn.Linear(width, layer.features, bias=bias)
    return nn.Conv2d(
        width,
        layer.channels if isinstance(layer, Conv) else width,
        layer.kernel,
        layer.stride,
        layer.padding,
        groups=width if isinstance(layer, Depthwise) else 1,
        bias=bias,
    )


def _plain_layer(layer: Add | MaxPool | GlobalPool | Flatten) -> nn.Module:
    if isinstance(layer, Add):
        return Sum()
    if isinstance(layer, GlobalPool):
        return Mean()
    if isinstance(layer, MaxPool):
        return nn.MaxPool2d(layer.kernel)
    return nn.Flatten()


def _quantized_layer(recipe: Recipe, layer: Weighted, source: Any) -> nn.Module:
    settings = weight_settings(recipe.weights(layer.name), source.weight)
    settings |= {
        "bias": source.bias is not None,
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
            groups=source.groups,
            **settings,
        )
    with torch.no_grad():
        module.weight.copy_(source.weight)
        if source.bias is not None:
            module.bias.copy_(source.bias)
    return module  # type: ignore[no-any-return]
